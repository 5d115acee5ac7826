"""Cell strengths from corrections: Bradley-Terry with ties as half a win each way, shrunk toward the prior (step 7).

Maximises  sum_ij w_ij log sigmoid(s_i - s_j) - k/8 sum_i (s_i - prior_i)^2  by Newton's method. A comparison at even
odds carries Fisher information 1/4, half of it for each side, so that k counts how many comparisons the configured
strength is worth. Bradley & Terry, Biometrika 39 (1952), 324-345.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tso.errors import InternalError


def fit(
    names: Sequence[str],
    prior: Mapping[str, float],
    wins: Mapping[tuple[str, str], float],
    prior_weight: float,
) -> dict[str, tuple[float, float]]:
    """(strength, standard error) by cell. wins[i, j]: how often i beat j; a tie is 0.5 in both directions.

    Every name needs a prior; wins of unknown names raise KeyError.
    """
    index = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for (winner, loser), count in wins.items():
        table[index[winner], index[loser]] += count
    centre = np.array([prior[name] for name in names], dtype=float)
    weight = prior_weight / 4.0
    s = centre.copy()
    for _ in range(100):
        gradient, information = _slope(s, table, centre, weight)
        step = np.linalg.solve(information, gradient)
        s = s + step * min(1.0, 2.0 / max(np.abs(step).max(initial=0.0), 1e-12))  # at most 2 a step: no overshoot
        if np.abs(step).max(initial=0.0) < 1e-10:
            errors = np.sqrt(np.diag(np.linalg.inv(information)))
            return {name: (float(s[i]), float(errors[i])) for name, i in index.items()}
    raise InternalError("the fit of cell strengths did not converge; please report this with the run's store")


def _slope(s: np.ndarray, table: np.ndarray, centre: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and negative Hessian of the penalised log-likelihood at strengths `s`."""
    p = 1.0 / (1.0 + np.exp(s[None, :] - s[:, None]))  # p[i, j]: i beats j
    met = table + table.T
    gradient = (table - met * p).sum(axis=1) - weight * (s - centre)
    curvature = met * p * p.T
    information = np.diag(curvature.sum(axis=1) + weight) - curvature
    return gradient, information
