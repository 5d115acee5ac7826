"""The pairs that a budget is spent on: against the definition, repeatable, resumable, and better than chance on planted errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.correct import budget
from tso.correct.contests import Match, contest, matches
from tso.correct.strengths import fit
from tso.records import Label, Pair

PRIOR = {"small": 0.0, "mid": 0.5, "large": 2.0}
MATCHES = st.lists(st.tuples(st.permutations(sorted(PRIOR)), st.floats(-3, 3), st.booleans()), max_size=40).map(
    lambda rows: [Match(f"p{i}", f"q{i}", a, b, x, sure) for i, ((a, b, _), x, sure) in enumerate(rows)]
)


def spend(pairs, ask, total, seed=0):
    """All rounds of a budget; ask: pair ids -> verdicts."""
    verdicts = {}
    while wanted := budget.next_round(pairs, verdicts, total, PRIOR, 4.0, seed=seed):
        verdicts |= ask(wanted)
    return verdicts


@settings(deadline=None)
@given(MATCHES, st.integers(0, 45), st.integers(0, 3))
def test_the_first_are_those_that_the_fit_doubts_most(pairs, number, seed):
    fitted = fit(PRIOR, [], 4.0)

    def doubt(m):
        return 1 - fitted.chance([m.first], [m.second], [m.excess])[0] if m.decided else 0.5

    by_id = {m.pair_id: m for m in pairs}
    chosen = budget.most_doubtful(pairs, fitted, number, seed=seed)
    assert len(chosen) == len(set(chosen)) == min(number, len(pairs))
    left = by_id.keys() - set(chosen)
    assert not (chosen and left) or min(doubt(by_id[p]) for p in chosen) >= max(doubt(by_id[p]) for p in left) - 1e-12
    shuffled = budget.most_doubtful(pairs[::-1], fitted, number, seed=seed)
    assert chosen == shuffled  # the order of the input decides nothing


@settings(deadline=None)
@given(MATCHES, st.integers(0, 45), st.integers(0, 45), st.integers(0, 3))
def test_the_random_twin_is_nested(pairs, some, more, seed):
    few, many = sorted([some, more])
    assert budget.at_random(pairs, few, seed=seed) == budget.at_random(pairs, many, seed=seed)[:few]


def planted(number):
    """Pairs whose labels are wrong more often the shorter the chosen side is, and between the two closest cells."""
    random = np.random.default_rng(0)
    pairs, wrong = [], set()
    for i in range(number):
        low, high = [("small", "mid"), ("mid", "large"), ("small", "large")][i % 3]
        x = random.normal()
        pairs.append(Match(f"p{i}", f"q{i // 3}", high, low, x))
        if random.random() > 1 / (1 + math.exp(-(PRIOR[high] - PRIOR[low]) - 1.5 * x)):
            wrong.add(f"p{i}")
    return pairs, wrong


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_it_finds_planted_errors_oftener_than_chance(share):
    pairs, wrong = planted(600)
    total = int(share * len(pairs))
    found = spend(pairs, lambda ids: {p: float(p not in wrong) for p in ids}, total)
    assert len(found) == total
    assert len(wrong & found.keys()) > 1.5 * len(wrong & set(budget.at_random(pairs, total)))


def test_a_round_that_was_interrupted_is_finished_as_it_was_begun():
    pairs, wrong = planted(300)

    def ask(ids):
        return {p: None if p == "p7" else float(p not in wrong) for p in ids}

    whole = spend(pairs, ask, 90)
    for cut in (1, 17, 18, 40, 89):
        verdicts = dict(list(whole.items())[:cut])
        while wanted := budget.next_round(pairs, verdicts, 90, PRIOR, 4.0):
            verdicts |= ask(wanted[:5])  # ... and again
        assert list(verdicts.items()) == list(whole.items())


def test_a_budget_beyond_the_pairs_takes_them_all_and_the_empty_one_none():
    pairs, _ = planted(50)
    assert len(spend(pairs, lambda ids: dict.fromkeys(ids, 1.0), 500)) == 50
    assert spend(pairs, lambda ids: dict.fromkeys(ids, 1.0), 0) == {}
    assert budget.next_round([], {}, 5, PRIOR, 4.0) == []


def test_pairs_become_matches_by_the_label_in_force():
    cells = {1: "small", 2: "large", 3: "small", 4: "large", 5: "large"}
    tokens = {1: 9, 2: 19, 3: 39, 4: 19, 5: 19}
    pairs = [
        Pair("pa", 1, "q0", 1, 2, 0.0, Label("prior", 2, 1, 0.7, 1.0)),
        Pair("pb", 1, "q1", 3, 4, 0.0, Label("prior", None, None, 0.5, 1.0)),
        Pair("pc", 1, "q1", 4, 5, 0.0, Label("prior", 4, 5, 0.6, 1.0)),  # one cell
    ]
    found = matches(pairs, cells, tokens)
    assert [(m.pair_id, m.first, m.second, m.decided) for m in found] == [
        ("pa", "large", "small", True),
        ("pb", "small", "large", False),
    ]
    # small's answers are of 20 tokens in the geometric mean, large's too.
    assert [m.excess for m in found] == pytest.approx([math.tanh(math.log(2))] * 2)
    assert contest(found[1], 0.5).outcome == 0.5
    assert contest(found[1], 0.5).prompt == "q1"
