"""Pairs as contests between cells: who meets whom, and how much longer one answer is than usual.

Lengths are compared with what is usual for the two cells, so that a strength is that of a cell's answers as they are,
long or short, and the excess tells of this pair alone. It levels off at about a factor of e: a line through pairs that
were chosen for their extreme lengths would otherwise be too flat for the rest, and tilt the strengths.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tso.correct.base import directed
from tso.correct.strengths import Contest
from tso.records import Pair


@dataclass(frozen=True, slots=True)
class Match:
    """A pair with a label as a contest still to be judged; `first` is the cell of the chosen side."""

    pair_id: str
    prompt_id: str
    first: str
    second: str
    excess: float  # tanh of (natural log of the first side's length to the second's, less its mean for these cells)
    decided: bool = True  # False: no label yet; the first side is response_a


def matches(pairs: Sequence[Pair], cells: Mapping[int, str], tokens: Mapping[int, int]) -> list[Match]:
    """`pairs` by the label in force, without those that compare a cell with itself.

    cells, tokens: the cell of a response, and its number of tokens, by response id; both sides of every pair are needed.
    """
    sides = {side for p in pairs for side in directed(p)}
    usual = _usual({i: cells[i] for i in sides}, tokens)
    found = []
    for pair in pairs:
        first, second = directed(pair)
        a, b = cells[first], cells[second]
        if a != b:
            gap = _size(tokens[first]) - _size(tokens[second]) - (usual[a] - usual[b])
            found.append(Match(pair.id, pair.prompt_id, a, b, math.tanh(gap), pair.label.chosen is not None))
    return found


def contest(match: Match, outcome: float) -> Contest:
    """A match with its verdict. outcome: 1 the first side is better, 0 the second is, 0.5 neither."""
    return Contest(match.first, match.second, outcome, match.excess, match.prompt_id)


def _usual(cells: Mapping[int, str], tokens: Mapping[int, int]) -> dict[str, float]:
    """Mean log length of each cell's answers."""
    sizes: dict[str, list[float]] = defaultdict(list)
    for response, cell in sorted(cells.items()):
        sizes[cell].append(_size(tokens[response]))
    return {cell: math.fsum(values) / len(values) for cell, values in sizes.items()}


def _size(tokens: int) -> float:
    return math.log(tokens + 1)
