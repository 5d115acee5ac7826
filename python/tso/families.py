"""Sizes say which model is stronger within one family only; a matrix that would compare them across families is refused.

Knows cells as configured, and nothing of strengths.
"""

from __future__ import annotations

from collections.abc import Iterable

from tso.config import CellSection, Config
from tso.errors import ConfigError


def check_own(cells: Iterable[CellSection]) -> None:
    """Raises ConfigError for a cell that gives a size or family to the run's own model, at whatever stage, or to people.

    The same weights under another decoding would otherwise count as another model, of another strength.
    """
    for cell in cells:
        given = [name for name in ("scale", "family") if getattr(cell, name) is not None]
        if given:
            whose = "people have none" if cell.model == "human" else f"it is the run's own model: set model.{given[0]}"
            raise ConfigError(f"cell {cell.name!r} has a {given[0]}, and {whose}; leave it out")


def check_sizes(config: Config, others: Iterable[CellSection]) -> None:
    """Raises ConfigError for a cell whose prior would come from its size, though it is not of the start model's family.

    others: the cells of other models than the run's own. One whose family is not told counts as of another.
    """
    if config.matrix.compare_families:
        return
    own = config.model.family
    for cell in others:
        if cell.scale is None or cell.prior is not None or (own is not None and cell.family == own):
            continue
        told = f"family {cell.family!r}" if cell.family else "no family"
        start = f"the start model's is {own!r}" if own else "model.family is not set"
        raise ConfigError(
            f"cell {cell.name!r} has a scale and {told} ({start}): sizes do not compare across families, where a small model "
            "often answers better than a large one. Give the cell a prior (log-odds over the start model; 0: no opinion), "
            "leave out its scale, set model.family and the cell's family to one name if they are one, or set "
            "matrix.compare_families=true"
        )
