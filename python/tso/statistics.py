"""Shares and agreements with their intervals, by formulas that are named where they stand. Knows no store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054  # of the normal law's middle 95 %


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`, and the 95 % interval of the share behind them."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """nan where there is nothing to take a share of."""
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212: the shares whose test at 5 % the observed one passes."""
        if not self.total:
            return 0.0, 1.0
        n, p = self.total, self.value
        centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        reach = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        # At the ends the bound is the end itself, which rounding would miss.
        return max(0.0, centre - reach) if self.hits else 0.0, min(1.0, centre + reach) if self.hits < n else 1.0


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa of `pairs` items with its 95 % interval; `agreement` is the share that both call the same."""

    value: float
    low: float
    high: float
    agreement: float
    pairs: int


def kappa(counts: Sequence[Sequence[int]]) -> Kappa | None:
    """Agreement of two raters beyond chance, from counts [K, K]: items that one put into row i, the other into column j.

    J. Cohen, Educ. Psychol. Meas. 20 (1960), 37-46. The interval is kappa and 1.96 standard errors to each side, by the
    large-sample variance of J. L. Fleiss, J. Cohen & B. S. Everitt, Psychol. Bull. 72 (1969), 323-327, equation 13. None
    where chance leaves nothing to explain: there are no items, or both put all of them into one and the same class.
    """
    table = np.asarray(counts, dtype=float)
    total = table.sum()
    if not total:
        return None
    p = table / total
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    agreed, chance = float(np.trace(p)), float(rows @ columns)
    if chance > 1 - 1e-12:
        return None
    value = (agreed - chance) / (1 - chance)
    rest = 1 - value
    on = float((np.diag(p) * (1 - (rows + columns) * rest) ** 2).sum())
    crossed = p * (columns[:, None] + rows[None, :]) ** 2
    off = rest**2 * float(crossed.sum() - np.trace(crossed))
    variance = (on + off - (value - chance * rest) ** 2) / ((1 - chance) ** 2 * total)
    reach = Z * math.sqrt(max(variance, 0.0))
    return Kappa(value, max(-1.0, value - reach), min(1.0, value + reach), agreed, int(total))
