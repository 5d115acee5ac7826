"""How a budget is spent: draws among cells, by the arithmetic of Rust (`tso._core.allot`), and a judge's pairs.

Does not know where weights come from: yields, strengths or a person's choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from tso._columns import as_count
from tso._core import allot
from tso.errors import DataError

_ANY = -(2**63)  # whole numbers that are too small are refused in Rust


def budgets(total: int, weights: Mapping[str, float], floor: int | Mapping[str, int] = 0) -> dict[str, int]:
    """Divide `total` draws among cells in proportion to `weights`, with at least `floor` for each.

    A cell whose share would lie below its floor gets the floor, and the others share what is left, again in proportion.
    Shares are rounded by largest remainder (Hamilton's method), ties going to the cell that comes first; the sum is
    `total` exactly. `floor` is one number for every cell, or a number by cell, 0 for those it leaves out. Numbers of
    draws are below 2**32.

    Raises DataError when the floors add up to more than the total, for weights that are negative, not finite or all 0,
    and for a floor of a cell without a weight.
    """
    by_cell = floor if isinstance(floor, Mapping) else dict.fromkeys(weights, floor)
    if unknown := [cell for cell in by_cell if cell not in weights]:
        raise DataError(f"cell {unknown[0]!r} has a floor but no weight; give it one, or leave it out")
    for cell, weight in weights.items():
        if not _is_number(weight) or not 0 <= weight < math.inf:
            raise DataError(f"the weight of cell {cell!r} is {weight!r}; give a number of at least 0")
    floors = [as_count(f"the floor of cell {cell!r}", by_cell.get(cell, 0), _ANY) for cell in weights]
    shares = allot(as_count("total", total, _ANY), [float(weight) for weight in weights.values()], floors)
    return dict(zip(weights, shares, strict=True))


def _is_number(value: object) -> bool:
    """NumPy's numbers too."""
    return isinstance(value, Real) and not isinstance(value, bool)


def allowed(pairs: int, budget: float | None) -> int:
    """How many of so many pairs a budget allows: None all, up to 1 a share, rounded up, and above a number."""
    if budget is None:
        return pairs
    return min(pairs, math.ceil(budget * pairs - 1e-9) if budget <= 1 else int(budget))
