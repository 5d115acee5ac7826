"""Label noise from agreement: known rates are found again, and what nothing was held against has none."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.correct.noise import LEAST, MOST, Look, against, alike, error_rates, looks, noise_of, of_majority
from tso.records import Correction


def said(source, verdict, author="x"):
    return Correction("p", source, author, verdict, 1.0)


def simulated(raters, number=6000):
    """Looks of raters [(source, error)] at pairs of which the first label is right."""
    lots = random.Random(0)
    return [[Look(s, -1 if lots.random() < e else 1) for s, e in raters] for _ in range(number)]


@given(st.floats(0, 0.49), st.floats(0, 0.45))
def test_the_formulas_invert_the_agreement(x, h):
    assert alike((1 - x) ** 2 + x**2) == pytest.approx(x, abs=1e-6)
    assert against((1 - x) * (1 - h) + x * h, h) == pytest.approx(x, abs=1e-9)


@pytest.mark.parametrize(
    ("raters", "expected"),
    [
        ([("human", 0.2), ("human", 0.2)], {"human": 0.2}),
        ([("human", 0.1), ("human", 0.1), ("judge", 0.3), ("rule", 0.4)], {"human": 0.1, "judge": 0.3, "rule": 0.4}),
        ([("human", 0.0), ("judge", 0.25)], {"judge": 0.25}),
        ([("judge", 0.15), ("judge", 0.15)], {"judge": 0.15}),
        ([("judge", 0.2), ("rule", 0.2)], {"judge": 0.2, "rule": 0.2}),
        ([("rule", 0.3)], {}),
        ([("human", 0.5), ("human", 0.5)], {"human": MOST}),
        ([("human", 0.5), ("human", 0.5), ("judge", 0.1)], {"human": MOST}),  # who are no measure of the judge
        ([("human", 0.5), ("human", 0.5), ("judge", 0.1), ("judge", 0.1)], {"human": MOST, "judge": 0.1}),
    ],
)
def test_planted_errors_are_found(raters, expected):
    assert error_rates(simulated(raters)) == pytest.approx(expected, abs=0.06)


def test_too_few_comparisons_say_nothing():
    assert error_rates(simulated([("human", 0.2)] * 2, LEAST - 1)) == {}
    assert error_rates(simulated([("human", 0.0)] * 2, LEAST))["human"] > 0  # agreed so far is not certain


@given(st.floats(0.01, 0.45), st.lists(st.sampled_from([1, -1]), min_size=1, max_size=7))
def test_a_majority_is_wrong_as_often_as_by_bayes(rate, voices):
    """The slow twin: both truths, equally likely beforehand, and the chance of just these voices."""

    def chance(truth):
        return _product(1 - rate if v == truth else rate for v in voices)

    up, down = chance(1), chance(-1)
    assert of_majority(rate, voices) == pytest.approx(min(MOST, min(up, down) / (up + down)))


def _product(values):
    return list(itertools.accumulate(values, lambda a, b: a * b))[-1]


def test_verdicts_become_looks():
    given_ = [
        said("rule", "keep"),
        said("judge", "flip"),
        said("human", "keep", "ann"),
        said("human", "flip", "bob"),
        said("human", "tie", "eve"),
    ]
    # People saw the pair as the judge had turned it.
    assert looks(given_) == [Look("rule", 1), Look("judge", -1), Look("human", -1), Look("human", 1)]
    assert looks([said("rule", "tie"), said("human", "flip")]) == [Look("human", -1)]
    assert looks([said("human", "keep", "ann"), said("human", "flip", "ann")]) == [Look("human", -1)]


def test_the_noise_of_a_label_is_its_sources():
    rates = {"human": 0.2, "judge": 0.3}
    people = [Look("human", 1), Look("human", 1), Look("judge", -1)]
    assert noise_of("human", people, rates) == pytest.approx(0.04 / (0.64 + 0.04))
    assert noise_of("judge", people, rates) == 0.3
    assert noise_of("rule", people, rates) is None
