"""Intervals and agreement against statsmodels and scikit-learn where they are installed, and against published numbers."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.statistics import Share, kappa

TABLES = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 40), min_size=k, max_size=k), min_size=k, max_size=k)
)


def test_nothing_to_take_a_share_of():
    assert math.isnan(Share(0, 0).value)
    assert Share(0, 0).interval == (0.0, 1.0)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_holds_what_the_test_does_not_refuse(counts):
    share = Share(*counts)
    low, high = share.interval
    assert 0 <= low <= share.value <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:  # there the distance from the observed share is 1.96 standard errors
            assert abs(share.value - bound) / math.sqrt(bound * (1 - bound) / share.total) == pytest.approx(
                1.96, abs=1e-3
            )


@settings(deadline=None)  # the first call imports the library
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_that_of_statsmodels(counts):
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="statsmodels is not installed")
    assert Share(*counts).interval == pytest.approx(proportion.proportion_confint(*counts, method="wilson"), abs=1e-9)


@settings(deadline=None)
@given(TABLES)
def test_kappa_is_that_of_statsmodels(table):
    module = pytest.importorskip("statsmodels.stats.inter_rater", reason="statsmodels is not installed")
    found = kappa(table)
    if found is not None:
        there = module.cohens_kappa(table)
        assert found.value == pytest.approx(there.kappa, abs=1e-9)
        # Where the variance is 0, theirs may be a rounding below it, and has no root.
        if found.low > -1 and found.high < 1 and not math.isnan(there.kappa_low):
            assert (found.low, found.high) == pytest.approx((there.kappa_low, there.kappa_upp), abs=1e-6)


@settings(deadline=None)
@given(TABLES)
def test_kappa_is_that_of_scikit_learn(table):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    found = kappa(table)
    if found is not None:
        cells = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
        assert found.value == pytest.approx(metrics.cohen_kappa_score(*zip(*cells, strict=True)), abs=1e-9)


@given(TABLES)
def test_kappa_by_counting_items_one_by_one(table):
    """The definition: how much of what chance leaves is agreed on, with chance as the agreement of all with all."""
    items = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    found = kappa(table)
    agreed = sum(i == j for i, j in items)
    left, right = ([item[side] for item in items] for side in (0, 1))
    by_chance = sum(left.count(c) * right.count(c) for c in range(len(table)))
    if not items or by_chance == len(items) ** 2:
        assert found is None
        return
    chance = by_chance / len(items) ** 2
    assert found.value == pytest.approx((agreed / len(items) - chance) / (1 - chance), abs=1e-9)
    assert (found.agreement, found.pairs) == (pytest.approx(agreed / len(items)), len(items))
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Two raters who each see the truth 4 times in 5: among many samples, about 19 intervals in 20 hold the kappa."""
    draw, held, trials = random.Random(0), 0, 400
    truth = 1 - 2 * (2 * 0.8 * 0.2)  # for balanced classes: 1 less twice the chance to differ
    for _ in range(trials):
        table = [[0, 0], [0, 0]]
        for _ in range(300):
            coin = draw.random() < 0.5
            first, second = (coin ^ (draw.random() < 0.2) for _ in "ab")
            table[first][second] += 1
        found = kappa(table)
        held += found.low <= truth <= found.high
    assert 0.92 <= held / trials <= 0.98
