"""Draws to which a server that is well has no answer: which are kept as such, and when the fault is the cell's.

A filter refuses some prompts, and others do not fit: such a draw has an empty answer, which leaves the line with what
the server said. But where a cell has none for the first of several prompts, its settings or its model are wrong, and
the run stops. Only the outcomes of the first draw of each of those prompts decide, in the order of the plan, so that
it does not matter which came first. Until one of them is answered no such draw is kept, nor the batch that it is in,
and a run that goes on with a mended server asks for them again. All draws of one prompt say nothing of a cell: a
filter may refuse that prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tso._core import Plan
from tso.errors import ModelError
from tso.records import Draw
from tso.sample.arrivals import Arrivals

MANY = 8  # prompts, or all where there are fewer


class Doubts:
    """Outcomes of one plan's draws from servers."""

    def __init__(self, arrivals: Arrivals, plan: Plan, cells: Iterable[str]):
        self.arrivals = arrivals
        self.first = _first(plan, set(cells))
        asked = {draw for draws in self.first.values() for draw in draws}
        refused = arrivals.unanswered().keys()
        self.without = refused & asked
        self.trusted = {cell for cell, draws in self.first.items() if arrivals.among(draws) - refused or not draws}
        self.held: dict[str, list[tuple[Draw, str]]] = defaultdict(list)

    def answered(self, draw: Draw) -> None:
        if draw.id in self.first[draw.cell]:
            self.trusted.add(draw.cell)
            self._keep(draw.cell)

    def unanswered(self, draw: Draw, why: str) -> None:
        """Raises ModelError when it is one too many."""
        self.held[draw.cell].append((draw, why))
        if draw.cell in self.trusted:
            self._keep(draw.cell)
        elif draw.id in self.first[draw.cell]:
            self.without.add(draw.id)
            if self.first[draw.cell] <= self.without:
                raise ModelError(self._told(draw.cell, why))

    def _keep(self, cell: str) -> None:
        for draw, why in self.held.pop(cell, []):
            self.arrivals.keep_unanswered(draw, why)

    def _told(self, cell: str, why: str) -> str:
        return (
            f"cell {cell!r}: the server has no answer to any of its first {len(self.first[cell])} prompts; "
            f"the last: {why}; mend what it says at the server and run again, or choose another run.output_dir for other "
            "settings of the cell"
        )


def _first(plan: Plan, cells: set[str]) -> dict[str, set[int]]:
    """Of each cell the first draw for each of its first prompts, by the plan; none where it has but one prompt."""
    found: dict[str, dict[str, int]] = {cell: {} for cell in cells}
    for batch in range(plan.batches):
        if all(len(draws) == MANY for draws in found.values()):
            break
        for row in plan.batch(batch):
            draw = Draw(*row)
            if len(found.get(draw.cell, range(MANY))) < MANY:
                found[draw.cell].setdefault(draw.prompt_id, draw.id)
    return {cell: set(draws.values()) if len(draws) > 1 else set() for cell, draws in found.items()}


def counted(arrivals: Arrivals, draws: Iterable[Draw]) -> list[str]:
    """For each cell with such draws among `draws`, how many, and what the server said to the last."""
    why = arrivals.unanswered()
    listed = list(draws)
    of_cell = Counter(d.cell for d in listed)
    last = {d.cell: why[d.id] for d in listed if d.id in why}
    number = Counter(d.cell for d in listed if d.id in why)
    return [
        f"cell {cell!r}: the server has no answer to {n} of {of_cell[cell]} draws, which are dropped; "
        f"the last: {last[cell]}"
        for cell, n in sorted(number.items())
    ]
