"""Cell strengths from verdicts: Bradley-Terry with ties, shrunk toward the configured prior (step 7).

With d = s_i - s_j + w x, the log-odds that i's answer beats j's where one of them is better,

    P(i better) = e^(d/2) / Z,  P(j better) = e^(-d/2) / Z,  P(tie) = v / Z,  Z = e^(d/2) + e^(-d/2) + v.

This is Davidson's model of ties (JASA 65 (1970), 317-328); without a tie among the verdicts, v is 0 and it is Bradley
and Terry's (Biometrika 39 (1952), 324-345). x is how much longer i's answer is than usual against j's. It keeps the
strengths unmoved by which pairs a judge was shown: verdicts on pairs that were chosen for their lengths would
otherwise tell of the choice. Knows cells by name, and neither pairs nor the store.

The priors are normal. A comparison at even odds carries Fisher information 1/4, half of it for each side, so precision
k/4 of a cell's strength says that the configured one is worth k comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso.errors import DataError, InternalError

Floats = NDArray[np.float64]

LENGTH_SPREAD = 1.0  # prior standard deviation of w: log-odds for an excess of 1
TIE_SPREAD = 2.0  # prior standard deviation of log v, around v = 1: one verdict in three is a tie at equal strength
COVERED = (0.025, 0.975)  # quantiles of an interval


@dataclass(frozen=True, slots=True)
class Contest:
    """A verdict on answers of two cells. outcome: 1 the first is better, 0 the second is, 0.5 neither."""

    first: str
    second: str
    outcome: float
    excess: float = 0.0  # x above, as `contests` measures it
    prompt: str = ""  # verdicts on one prompt are not independent, and are resampled together


@dataclass(frozen=True, slots=True)
class Strengths:
    """A fit. `value` and `covariance` are of the cells in order, then w, then log v (0 and certain without a tie)."""

    cells: tuple[str, ...]
    value: Floats  # [cells + 2], log-odds
    covariance: Floats  # [cells + 2, cells + 2]
    ties: bool

    def of(self, cell: str) -> tuple[float, float]:
        """(strength, standard error) in log-odds."""
        i = self.cells.index(cell)
        return float(self.value[i]), math.sqrt(self.covariance[i, i])

    def chance(self, first: Sequence[str], second: Sequence[str], excess: Sequence[float]) -> Floats:
        """Probability [n] that the first is the better one where one of them is, uncertainty of the fit included.

        The mean of a logistic function under a normal distribution, by MacKay's approximation (Neural Computation 4
        (1992), 720-736): what is uncertain is close to one half.
        """
        index = {name: i for i, name in enumerate(self.cells)}
        a, b = (np.array([index[name] for name in names], dtype=int) for names in (first, second))
        x, c, w = np.asarray(excess, dtype=float), self.covariance, len(self.cells)
        mean = self.value[a] - self.value[b] + self.value[w] * x
        spread = c[a, a] + c[b, b] - 2 * c[a, b] + 2 * x * (c[a, w] - c[b, w]) + x * x * c[w, w]
        odds: Floats = mean / np.sqrt(1 + math.pi / 8 * np.maximum(spread, 0.0))
        return 1 / (1 + np.exp(-np.clip(odds, -700, 700)))


@dataclass(frozen=True, slots=True)
class _Table:
    """Contests as columns."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    excess: Floats
    side: Floats  # outcome - 1/2
    tie: Floats  # 1 where neither was better


def fit(prior: Mapping[str, float], contests: Sequence[Contest], prior_weight: float) -> Strengths:
    """The most likely strengths of the cells in `prior` (log-odds) under its priors, and how sure they are.

    Raises DataError for a contest of a cell without a prior, of a cell with itself, or with an impossible outcome.
    """
    table = _table(prior, contests)
    centre, precision = _priors(prior, prior_weight)
    value, information = _newton(table, np.ones(len(contests)), centre, precision, centre.copy())
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    return Strengths(tuple(prior), value, covariance, bool(table.tie.any()))


def intervals(
    prior: Mapping[str, float], contests: Sequence[Contest], prior_weight: float, *, seed: int, resamples: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the strengths by cell, by a bootstrap over prompts.

    Each replicate takes as many prompts with replacement, and also draws the centres of the priors from them: without
    that, a cell that nobody compared would be taken for certain. The same seed gives the same intervals.
    Raises DataError as `fit` does.
    """
    table = _table(prior, contests)
    centre, precision = _priors(prior, prior_weight)
    start, _ = _newton(table, np.ones(len(contests)), centre, precision, centre.copy())
    known: dict[str, int] = {}
    prompt = np.array([known.setdefault(c.prompt, len(known)) for c in contests], dtype=int)
    random = np.random.default_rng(seed)
    found = np.empty((resamples, len(prior)))
    for i in range(resamples):
        counts = np.bincount(random.integers(len(known), size=len(known)), minlength=len(known)) if known else prompt
        drawn = centre + random.standard_normal(len(centre)) / np.sqrt(precision)
        found[i] = _newton(table, counts[prompt].astype(float), drawn, precision, start)[0][: len(prior)]
    low, high = np.quantile(found, COVERED, axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(prior)}


def _table(prior: Mapping[str, float], contests: Sequence[Contest]) -> _Table:
    index = {name: i for i, name in enumerate(prior)}
    for c in contests:
        if c.first not in index or c.second not in index:
            raise DataError(
                f"a verdict is on cells {c.first!r} and {c.second!r}, and one of them has no prior strength"
            )
        if c.first == c.second or c.outcome not in (0, 0.5, 1) or not math.isfinite(c.excess):
            raise DataError(f"{c} is no contest: it needs two cells, an outcome of 0, 0.5 or 1, and a finite excess")
    outcome = np.array([c.outcome for c in contests], dtype=float)
    return _Table(
        np.array([index[c.first] for c in contests], dtype=int),
        np.array([index[c.second] for c in contests], dtype=int),
        np.array([c.excess for c in contests], dtype=float),
        outcome - 0.5,
        (outcome == 0.5).astype(float),
    )


def _priors(prior: Mapping[str, float], prior_weight: float) -> tuple[Floats, Floats]:
    """Centres and precisions of cells, w and log v."""
    centre = np.array([*prior.values(), 0.0, 0.0], dtype=float)
    return centre, np.array([prior_weight / 4] * len(prior) + [LENGTH_SPREAD**-2, TIE_SPREAD**-2])


def _newton(table: _Table, counts: Floats, centre: Floats, precision: Floats, value: Floats) -> tuple[Floats, Floats]:
    """(maximum of the penalised log-likelihood, information there). counts: how often each contest is taken."""
    for _ in range(200):
        gradient, information = _slope(table, counts, value)
        gradient = gradient - precision * (value - centre)
        information = information + np.diag(precision)
        step = np.linalg.solve(information, gradient)
        longest = np.abs(step).max()
        value = value + step * min(1.0, 2.0 / max(longest, 1e-12))  # at most 2 a step: no overshoot
        if longest < 1e-10:
            return value, information
    raise InternalError("the fit of cell strengths did not converge; please report this with the run's store")


def _slope(table: _Table, counts: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Gradient and negative Hessian of the log-likelihood. Sums go in the order of the contests, on one thread."""
    size = len(value)
    d = value[table.first] - value[table.second] + value[size - 2] * table.excess
    win, lose, tie = _chances(d, value[size - 1] if table.tie.any() else -math.inf)
    lead = (win - lose) / 2
    # The three derivatives of the log-normaliser: by d twice, by d and log v, by log v twice.
    dd, dv, vv = counts * ((win + lose) / 4 - lead**2), counts * -tie * lead, counts * tie * (1 - tie)
    gradient = _spread(table, counts * (table.side - lead), size)
    gradient[-1] = (counts * (table.tie - tie)).sum()
    information = np.zeros((size, size))
    pairs = np.bincount(table.first * size + table.second, dd, size * size).reshape(size, size)
    information -= pairs + pairs.T
    information[np.diag_indices(size)] += pairs.sum(0) + pairs.sum(1)
    along = _spread(table, dd * table.excess, size)
    information[-2, :] = information[:, -2] = along
    information[-1, :] = information[:, -1] = _spread(table, dv, size)
    information[-1, -1] = vv.sum()
    return gradient, information


def _spread(table: _Table, amount: Floats, size: int) -> Floats:
    """Sums of a derivative by d, handed to what d is made of: the two cells, and w."""
    total: Floats = np.zeros(size)
    total += np.bincount(table.first, amount, size)
    total -= np.bincount(table.second, amount, size)
    total[size - 2] = (amount * table.excess).sum()
    return total


def _chances(d: Floats, log_v: float) -> tuple[Floats, Floats, Floats]:
    """P(first better), P(second better), P(tie)."""
    top = np.maximum(np.abs(d) / 2, log_v)
    win, lose, tie = np.exp(d / 2 - top), np.exp(-d / 2 - top), np.exp(log_v - top)
    total = win + lose + tie
    return win / total, lose / total, tie / total
