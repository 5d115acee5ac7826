"""tso.parts in one process against `dedup_texts`: the same rows stay, for the same reasons, in the same clusters."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso import _core, parts
from tso.dedup import dedup_texts
from tso.errors import DataError
from tso.parts import compare, search
from tso.parts.work import near_rows

from tests.planted import assert_same, crowd, cut, planted


class Here:
    """A pool without machines: work is done when it is asked for, and a handle is the value."""

    def start(self, work, *args, returns=1):
        found = list(work(*args))
        assert len(found) == returns
        return found

    def fetch(self, handles):
        return list(handles)

    def share(self, value):
        return value


def gathered(blocks):
    return parts.Blocks.gather(Here(), [parts.read_block(block) for block in blocks])


def check(rows, blocks, **options):
    ours = parts.dedup_blocks(Here(), gathered(blocks), **options)
    local = dedup_texts(rows, threads=1, **options)
    assert_same(ours, local, options.get("link", "component"))
    return ours


rows_of_tokens = st.lists(st.none() | st.lists(st.integers(0, 3), max_size=8), max_size=14)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_random_rows_in_random_blocks(data):
    rows = data.draw(rows_of_tokens)
    column = st.lists(st.integers(-1, 1), min_size=len(rows), max_size=len(rows))
    check(
        rows,
        cut(rows, data.draw(st.lists(st.integers(0, 5), max_size=4))),
        ngram=data.draw(st.integers(1, 3)),
        threshold=data.draw(st.sampled_from([0.3, 0.5, 0.8, 1.0])),
        link=data.draw(st.sampled_from(["component", "star"])),
        keep=data.draw(st.sampled_from(["first", "longest"]) | column),
        groups=data.draw(st.none() | column),
    )


@pytest.mark.parametrize("link", ["component", "star"])
@pytest.mark.parametrize("keep", ["first", "longest", "score"])
@pytest.mark.parametrize("grouped", [False, True])
def test_planted_copies(link, keep, grouped):
    rng = np.random.default_rng(5)
    rows = planted(rng, 120, 5)
    scores = rng.integers(0, 3, len(rows)).astype(float)
    found = check(
        rows,
        cut(rows, [100, 0, 1, 250]),
        link=link,
        keep=scores if keep == "score" else keep,
        groups=rng.integers(0, 2, len(rows)) if grouped else None,
    )
    assert 0.2 < found.keep.mean() < 0.9


@pytest.mark.parametrize("link", ["component", "star"])
@pytest.mark.parametrize(("partition", "at_once"), [(1 << 24, 1 << 20), (100, 700)])
def test_crowds_of_more_than_a_window(link, partition, at_once, monkeypatch):
    monkeypatch.setattr(search, "PARTITION", partition)  # several partitions a band
    monkeypatch.setattr(compare, "AT_ONCE", at_once)  # several tasks a block
    rng = np.random.default_rng(6)
    rows = [*crowd(rng, 700, 0), *planted(rng, 30, 3), *crowd(rng, 200, 100)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    found = check(rows, cut(rows, [300, 10, 400]), link=link, groups=rng.integers(0, 2, len(rows)) // 2)
    assert found.uncompared > 0
    check(rows, cut(rows, [300, 10, 400]), link=link, groups=rng.integers(0, 2, len(rows)))


def test_a_crowd_of_copies_is_not_compared_with_itself():
    text = list(range(200))
    rows = [[*text[:i], 999, *text[i + 1 :]] for i in range(150)]
    seen = []

    class Counts(Here):
        def start(self, work, *args, returns=1):
            if work is near_rows:
                seen.append(len(args[2]))
            return super().start(work, *args, returns=returns)

    found = parts.dedup_blocks(Counts(), gathered([rows]))
    assert found.cluster.tolist() == [0] * 150
    assert sum(seen) < 150 * 150 / 4


def test_a_hash_of_few_bits_merges_nothing(monkeypatch):
    """Rows that share a hash are compared: with hashes of two bits nearly all do."""
    rng = np.random.default_rng(7)
    rows = [rng.integers(0, 3, 3).tolist() for _ in range(150)]
    blocks = gathered(cut(rows, [60, 60]))
    blind = parts.Blocks(blocks.handles, blocks.starts, blocks.hashes & np.uint64(3), blocks.lengths)
    ours, local = parts.dedup_blocks(Here(), blind), dedup_texts(rows)
    assert np.array_equal(ours.cluster, local.cluster)
    assert np.array_equal(ours.reason, local.reason)


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint32()])
def test_columns_of_any_kind(kind):
    rows = [[1, 2, 3], None, [], [1, 2, 3], [4]]
    whole = pa.array([[9], *rows, [8]], pa.list_(kind)).slice(1, 5)
    chunks = pa.chunked_array([whole.slice(0, 2), whole.slice(2)])
    for column in (whole, chunks, pa.array(whole, pa.large_list(kind))):
        block, (_, lengths) = parts.read_block(column)
        assert block.equals(pa.array(rows, pa.large_list(pa.uint32())))
        assert lengths.tolist() == [3, -1, 0, 3, 1]


def test_nothing_at_all():
    assert len(parts.dedup_blocks(Here(), gathered([])).keep) == 0
    assert len(parts.dedup_blocks(Here(), gathered([[], []])).keep) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngram": 0}, "ngram has to be at least 1"),
        ({"threshold": 0}, "threshold has to lie in (0, 1]"),
        ({"link": "chain"}, "link has to be 'component' or 'star'"),
        ({"keep": "last"}, "keep has to be 'first', 'longest'"),
        ({"keep": [1.0]}, "1 entries for 2 rows"),
        ({"keep": [1.0, float("nan")]}, "scores have to be finite"),
        ({"groups": [1]}, "groups has 1 entries for 2 rows"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    """Before any work is sent out."""

    class Idle(Here):
        def start(self, work, *args, returns=1):
            raise AssertionError(work)

    blocks = gathered([[[1], [2]]])
    with pytest.raises(DataError, match=re.escape(message)):
        parts.dedup_blocks(Idle(), blocks, **options)


def test_more_rows_than_can_be_numbered_are_refused():
    none = np.zeros(0, np.uint64)
    many = parts.Blocks([], np.zeros(1, np.int64), none, np.broadcast_to(np.int64(0), 2**31))
    with pytest.raises(DataError, match="too many rows: 2,147,483,648"):
        parts.dedup_blocks(Here(), many)


def test_the_native_parts_refuse_what_contradicts_itself():
    def column(*values):
        return np.array(values, dtype=np.int64)

    def settle(owners, i, j, similarity=(1.0,)):
        return _core._settle(column(*owners), column(*i), column(*j), np.array(similarity), "component", None, 0)

    for owners, i, j, message in [
        ((1, 1), (), (), "row 0 cannot be a copy of row 1"),
        ((0, 0, 1), (), (), "row 2 cannot be a copy of row 1"),
        ((0, -2), (), (), "row 1 cannot be a copy of row -2"),
        ((0, 0), (0,), (1,), "a link to row 1, which is no first row"),
        ((0, -1), (0,), (1,), "a link to row 1, which is no first row"),
        ((0, 1), (1,), (1,), "a link from row 1 to row 1"),
        ((0, 1), (0,), (9,), "a link to row 9"),
        ((0, 1), (-1,), (1,), "-1 is no row"),
        ((0, 1), (0,), (), "columns of 1 and 0 entries"),
    ]:
        with pytest.raises(DataError, match=re.escape(message)):
            settle(owners, i, j, [1.0] * len(i))
    rows = pa.array([[1]], pa.list_(pa.uint32()))
    with pytest.raises(DataError, match="no rows 0 and 1 in blocks of 1 and 1 rows"):
        _core._same(rows, rows, column(0), column(1))
    with pytest.raises(DataError, match="reach has to be 'neighbours' or 'others' or 'all', got 'none'"):
        _core._couple(np.zeros(0, np.uint32), 0, None, "none")
    with pytest.raises(DataError, match="labels has 1 entries for 0 rows"):
        _core._couple(np.zeros(0, np.uint32), 0, column(1), "all")
