"""The length gap against a plain count; the warning at its bound; pairs of like length."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso import lengths
from tso.config import PairSection
from tso.pair import make_pairs, tell_lengths
from tso.progress import Face
from tso.records import Cell, Decoding, Label, Pair
from tso.store import RunStore
from tso.store_rows import cell_rows

from tests.stores import prompts


class Heard(Face):
    def __init__(self):
        super().__init__(quiet=True)
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def pair(number, source="prior", decided=True):
    sides = (2 * number, 2 * number + 1) if decided else (None, None)
    return Pair(f"p{number}", 1, "q", 2 * number, 2 * number + 1, 0.0, Label(source, *sides, 0.7, 1.0))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["prior", "rule"])), max_size=30))
def test_gaps_are_plain_means_by_source(rows):
    pairs = [pair(i, source) for i, (_, _, source) in enumerate(rows)]
    tokens = {2 * i + j: row[j] for i, row in enumerate(rows) for j in (0, 1)}
    found = lengths.gaps([*pairs, pair(99, decided=False)], tokens)
    for source in ("prior", "rule", "all"):
        mine = [(a, b) for a, b, s in rows if source in ("all", s)]
        if not mine:
            assert source not in found
            continue
        assert found[source].pairs == len(mine)
        assert found[source].tokens == pytest.approx(np.mean([a - b for a, b in mine]))
        assert found[source].longer == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in mine]))


@pytest.mark.parametrize(
    ("longer", "number", "side"),
    [(0.7, 100, None), (0.71, 100, "chosen"), (0.3, 100, None), (0.29, 100, "rejected"), (1.0, 9, None)],
)
def test_a_warning_where_one_side_is_longer_in_more_than_70_percent(longer, number, side):
    gap = lengths.Gap(number, 5.0, longer)
    said = lengths.warning({"all": gap, "prior": gap})
    assert (said is None) == (side is None)
    assert said is None or (f"the {side} side" in said and f"prior {longer:.0%} of {number}" in said)
    assert lengths.warning({}) is None


@given(st.integers(0, 500), st.integers(0, 500), st.floats(1, 10))
def test_a_cap_is_a_ratio_of_tokens(a, b, ratio):
    shorter, longer = sorted([max(a, 1), max(b, 1)])
    assert lengths.within(a, b, ratio) == lengths.within(b, a, ratio) == (longer <= ratio * shorter)
    assert 0 < lengths.likeness(a, b) <= 1
    assert lengths.likeness(a, a) == 1


@pytest.fixture
def store(tmp_path):
    """Twelve prompts; the strong cell's answers are of 40 tokens, those of two weak cells of 10 and 36."""
    with RunStore.open_or_create(tmp_path, {}) as opened:
        sizes = {"strong": 40, "short": 10, "long": 36}
        prior = {"strong": 2.0, "short": 0.0, "long": 0.1}
        cells = [Cell(n, n, n, n, "base", 1.0, Decoding(), prior[n], prior[n], 1) for n in sizes]
        opened.commit(0, "start", prompts(12))
        opened.commit(1, "choose", cell_rows(1, cells))
        plan = opened.plan(1, "train", 0, [f"p{i}" for i in range(12)], cells, 64)
        for batch in range(plan.batches):
            draws = [(row[1], row[2]) for row in plan.batch(batch)]
            ids = [[sum(map(ord, p + c)) * 50 + i + 10 for i in range(sizes[c])] + [3] for p, c in draws]
            opened.record(1, "train", batch, [(" ".join(map(str, x)), x, "stop") for x in ids])
        yield opened


def made(store, **options):
    make_pairs(store, replace(PairSection(max_pairs=1), **options), 1)
    cells = dict(store.query("SELECT response_id, cell FROM responses"))
    store.balance(1)
    return [{cells[p.response_a], cells[p.response_b]} for p in store.pairs(1)]


def test_without_control_the_surest_pair_is_taken_however_long(store):
    assert made(store) == [{"strong", "short"}] * 12


def test_matched_pairs_are_of_like_length(store):
    assert made(store, length="match") == [{"strong", "long"}] * 12


def test_a_cap_leaves_out_what_lies_beyond_it(store):
    found = made(store, length="cap", length_ratio=2.0, max_pairs=3)
    assert found == [{"strong", "long"}] * 12
    assert {r for (r,) in store.query("SELECT reason FROM drops WHERE kind = 'response'")} == {"not_picked"}


def test_the_gap_is_in_the_store_and_told_once(store):
    made(store)
    face = Heard()
    tell_lengths(store, 1, face)
    tell_lengths(store, 1, face)
    metrics = dict(store.query("SELECT name, value FROM metrics WHERE name LIKE 'data/length/%'"))
    assert metrics == {
        "data/length/chosen_longer/all": 1.0,
        "data/length/chosen_longer/prior": 1.0,
        "data/length/gap/all": 30.0,
        "data/length/gap/prior": 30.0,
    }
    assert len(face.warned) == 1
    assert "the chosen side is the longer one in 100% of the pairs" in face.warned[0]
