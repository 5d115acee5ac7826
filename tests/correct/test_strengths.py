"""Bradley-Terry with ties: against a slow twin, known solutions and choix; intervals cover; the choice of pairs is moot."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.correct.strengths import LENGTH_SPREAD, TIE_SPREAD, Contest, fit, intervals
from tso.errors import DataError

PRIOR = {"a": 0.0, "b": 1.0, "c": -0.5}
CELLS = st.sampled_from(sorted(PRIOR))
CONTESTS = st.lists(
    st.builds(Contest, CELLS, CELLS, st.sampled_from([0, 0.5, 1]), st.floats(-3, 3)).filter(
        lambda c: c.first != c.second
    ),
    max_size=30,
)


def strengths(fitted):
    return {cell: fitted.of(cell)[0] for cell in fitted.cells}


def repeated(first, second, wins, losses, ties=0):
    return [Contest(first, second, o) for o, n in ((1, wins), (0, losses), (0.5, ties)) for _ in range(n)]


def penalised(s, w, log_v, contests, weight, ties):
    """The slow twin: the definition, a contest at a time."""
    total = -sum(weight / 8 * (s[n] - PRIOR[n]) ** 2 for n in PRIOR) - (w / LENGTH_SPREAD) ** 2 / 2
    total -= (log_v / TIE_SPREAD) ** 2 / 2
    for c in contests:
        d = s[c.first] - s[c.second] + w * c.excess
        v = math.exp(log_v) if ties else 0.0
        z = math.exp(d / 2) + math.exp(-d / 2) + v
        total += math.log({1: math.exp(d / 2), 0: math.exp(-d / 2), 0.5: v}[c.outcome] / z)
    return total


@settings(deadline=None)
@given(CONTESTS, st.floats(0.1, 20))
def test_no_step_from_the_answer_is_better_by_the_slow_twin(contests, weight):
    fitted = fit(PRIOR, contests, weight)
    s, (w, log_v) = strengths(fitted), fitted.value[-2:]
    best = penalised(s, w, log_v, contests, weight, fitted.ties)
    for step in (-1e-3, 1e-3):
        for name in PRIOR:
            assert penalised({**s, name: s[name] + step}, w, log_v, contests, weight, fitted.ties) <= best + 1e-9
        assert penalised(s, w + step, log_v, contests, weight, fitted.ties) <= best + 1e-9
        assert penalised(s, w, log_v + step, contests, weight, fitted.ties) <= best + 1e-9


@settings(deadline=None)
@given(CONTESTS, st.floats(0.1, 20))
def test_turning_a_contest_round_changes_nothing(contests, weight):
    turned = [Contest(c.second, c.first, 1 - c.outcome, -c.excess) for c in contests]
    assert strengths(fit(PRIOR, turned, weight)) == pytest.approx(strengths(fit(PRIOR, contests, weight)), abs=1e-8)


def test_without_contests_the_prior_stays_with_its_own_uncertainty():
    fitted = fit(PRIOR, [], 4.0)
    assert strengths(fitted) == pytest.approx(PRIOR)
    assert fitted.of("a")[1] == pytest.approx(1.0)
    found = intervals(PRIOR, [], 4.0, seed=0, resamples=2000)
    assert found["b"] == pytest.approx((1 - 1.96, 1 + 1.96), abs=0.2)


def test_many_contests_outweigh_the_prior():
    fitted = fit(PRIOR, repeated("a", "b", 900, 100), 4.0)
    assert fitted.of("a")[0] - fitted.of("b")[0] == pytest.approx(math.log(9), abs=0.05)
    assert fitted.of("a")[1] < fitted.of("c")[1]


def test_davidsons_known_solution_for_two_cells():
    """Without a prior, two cells have s_a - s_b = log(wins / losses) and v = ties / sqrt(wins losses)."""
    fitted = fit({"a": 0.0, "b": 0.0}, repeated("a", "b", 4000, 1000, 3000), 1e-6)
    assert fitted.of("a")[0] - fitted.of("b")[0] == pytest.approx(math.log(4), abs=2e-3)
    assert math.exp(fitted.value[-1]) == pytest.approx(3000 / math.sqrt(4000 * 1000), rel=2e-3)


def test_equal_to_choix_where_there_are_no_ties():
    choix = pytest.importorskip("choix")
    random = np.random.default_rng(3)
    names = [f"c{i}" for i in range(5)]
    drawn = [tuple(random.choice(5, 2, replace=False)) for _ in range(200)]
    fitted = fit(dict.fromkeys(names, 0.0), [Contest(names[i], names[j], 1) for i, j in drawn], 8 * 0.3)
    # choix takes alpha |s|^2 off its log-likelihood; k/8 is our factor.
    theirs = choix.opt_pairwise(5, drawn, alpha=0.3, tol=1e-12)
    assert list(strengths(fitted).values()) == pytest.approx(list(theirs), abs=1e-4)


def simulated(random, truth, number, tie=0.7, length=0.0):
    names = list(truth)
    made = []
    for i in range(number):
        a, b = random.choice(len(names), 2, replace=False)
        x = random.normal() if length else 0.0
        d = truth[names[a]] - truth[names[b]] + length * x
        weights = np.array([math.exp(d / 2), math.exp(-d / 2), tie])
        outcome = random.choice([1, 0, 0.5], p=weights / weights.sum())
        made.append(Contest(names[a], names[b], outcome, x, f"p{i // 2}"))
    return made


def test_intervals_are_seeded_and_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    inside = total = 0
    for _ in range(60):
        truth = {n: random.normal(0, 1) for n in "abcd"}  # as a prior of weight 4 at 0 expects
        contests = simulated(random, truth, 80)
        found = intervals(dict.fromkeys(truth, 0.0), contests, 4.0, seed=5, resamples=100)
        inside += sum(found[n][0] <= truth[n] <= found[n][1] for n in truth)
        total += len(truth)
    assert 0.88 <= inside / total <= 0.99
    again = intervals(dict.fromkeys(truth, 0.0), contests, 4.0, seed=5, resamples=100)
    assert again == found
    assert intervals(dict.fromkeys(truth, 0.0), contests, 4.0, seed=6, resamples=100) != found


def test_strengths_do_not_tell_which_pairs_were_shown():
    """Shown only the pairs where the weaker cell's answer is the longer one, the judge prefers the weaker one mostly."""
    truth = {"a": 0.4, "b": -0.4}
    all_of = simulated(np.random.default_rng(2), truth, 12000, length=1.5)
    shown = [c for c in all_of if (c.excess if c.first == "b" else -c.excess) > 0.7]
    won = [c.outcome == (c.first == "a") for c in shown if c.outcome != 0.5]
    assert np.mean(won) < 0.45
    prior = dict.fromkeys(truth, 0.0)
    fitted = fit(prior, shown, 1.0)
    assert fitted.of("a")[0] - fitted.of("b")[0] == pytest.approx(0.8, abs=0.3)
    blind = fit(prior, [Contest(c.first, c.second, c.outcome) for c in shown], 1.0)
    assert blind.of("a")[0] < blind.of("b")[0]


@settings(deadline=None)
@given(CONTESTS, st.floats(0.5, 20), st.floats(-3, 3))
def test_the_chance_is_the_mean_over_the_fits_uncertainty(contests, weight, excess):
    fitted = fit(PRIOR, contests, weight)
    random = np.random.default_rng(0)
    drawn = random.multivariate_normal(fitted.value, fitted.covariance, 20000, method="eigh")
    d = drawn[:, 0] - drawn[:, 1] + drawn[:, 3] * excess
    slow = (1 / (1 + np.exp(-d))).mean()
    assert fitted.chance(["a"], ["b"], [excess])[0] == pytest.approx(slow, abs=0.03)


@pytest.mark.parametrize(
    "contest", [Contest("a", "x", 1), Contest("a", "a", 1), Contest("a", "b", 0.3), Contest("a", "b", 1, math.nan)]
)
def test_what_is_no_contest_is_refused(contest):
    with pytest.raises(DataError):
        fit(PRIOR, [contest], 4.0)
