"""How likely a label is wrong, from how often its source agrees with others: the e of the loss (step 8).

Raters are taken to err independently of one another. Two that are wrong equally often, with probability e, agree on
(1 - e)^2 + e^2 of the pairs; one that is wrong with probability x agrees with one of error h on (1 - x)(1 - h) + x h.
What nothing was held against has no estimate. Pure functions; the unit that writes their result is in `learn.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tso.correct.base import RANK, strongest
from tso.records import Correction

LEAST = 10  # comparisons, below which an agreement says too little
UNSURE = 0.3  # raters that err more often agree little more than by chance, and tell nothing of others
MOST = 0.49  # a label that is more likely wrong than right would have to be turned round, not trained on


@dataclass(frozen=True, slots=True)
class Look:
    """What one rater said of a pair's order. side: 1 as the first label has it, -1 the other way round."""

    source: str
    side: int


def looks(given: Sequence[Correction]) -> list[Look]:
    """Verdicts on one pair as looks at its order; ties, both bad and edits say nothing of it.

    A rule's and a judge's keep and flip are about the first label, a person's about what rules and judges made of it.
    Of several verdicts of one author the last counts.
    """
    last = {(c.source, c.author): c for c in given}
    machines = [c for c in last.values() if c.source != "human"]
    shown = _sign(strongest(machines)) or 1 if machines else 1
    found = [(c.source, _sign(c) * (shown if c.source == "human" else 1)) for c in last.values()]
    return [Look(source, side) for source, side in found if side]


def error_rates(pairs: Sequence[Sequence[Look]]) -> dict[str, float]:
    """Chance that a source is wrong about a pair, for every source that something can be said of, people first.

    pairs: the looks at each pair. A source is held against people where both judged enough of the same pairs, people
    and what has no better source against their own kind (two authors), and else against a source below, taken to be
    as good. People's own error counts as 0 where they never judged the same pair; those who disagree among themselves
    nearly as by chance (UNSURE) are no measure.
    """
    rates: dict[str, float] = {}
    for source in sorted(RANK, key=lambda name: -RANK[name]):
        others = [name for name in RANK if RANK[name] > RANK[source]]
        for other in (*others, source, *(name for name in RANK if RANK[name] < RANK[source])):
            agreed = _agreement(pairs, source, other)
            if agreed is None or (source == "human" and other != "human"):
                continue
            above = RANK[other] > RANK[source]
            if above and rates.get(other, 0.0) > UNSURE:
                continue
            rates[source] = against(agreed, rates.get(other, 0.0)) if above else alike(agreed)
            break
    return rates


def alike(agreed: float) -> float:
    """e of two raters that are wrong equally often, by the share of pairs that they agree on; at most MOST."""
    return min(MOST, (1 - math.sqrt(max(2 * agreed - 1, 0.0))) / 2)


def against(agreed: float, error: float) -> float:
    """x of a rater that agrees on this share of the pairs with one of this `error`; within 0 and MOST."""
    return min(MOST, max(0.0, (1 - error - agreed) / (1 - 2 * error)))


def of_majority(rate: float, voices: Sequence[int]) -> float:
    """Chance that the larger part of `voices` (1 and -1) is wrong, each being wrong with probability `rate`."""
    lead = abs(sum(voices))
    odds = (rate / (1 - rate)) ** lead
    return min(MOST, odds / (1 + odds))


def noise_of(source: str, given: Sequence[Look], rates: Mapping[str, float]) -> float | None:
    """Chance that the label in force is wrong, which `source` decided; None where nothing was held against the source."""
    if source not in rates:
        return None
    if source == "human":
        return of_majority(rates[source], [look.side for look in given if look.source == source])
    return rates[source]


def _agreement(pairs: Sequence[Sequence[Look]], source: str, other: str) -> float | None:
    """Share of alike looks, one more of either kind added so that a few looks never say 0; None for too few."""
    counts: dict[bool, int] = defaultdict(int)
    for given in pairs:
        for a, b in combinations(given, 2):
            if {a.source, b.source} == {source, other}:
                counts[a.side == b.side] += 1
    total = counts[True] + counts[False]
    return (counts[True] + 1) / (total + 2) if total >= LEAST else None


def _sign(correction: Correction) -> int:
    return {"keep": 1, "flip": -1}.get(correction.verdict, 0)
