"""Votes of a judge in both orders become one verdict on a pair: only what survives the swap counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Vote = str | None  # first, second, tie or both_bad, as the answers were shown; None: a failed call


@dataclass(frozen=True, slots=True)
class Finding:
    """What the votes on one pair come to.

    verdict: a, b, tie or both_bad; None where too many calls failed. by_place: both orders preferred the same place.
    agreeing of `votes` readable votes say what the verdict says.
    """

    verdict: str | None
    by_place: bool
    agreeing: int
    votes: int

    @property
    def confidence(self) -> float:
        """How sure the verdict is: Laplace's rule of succession, (agreeing + 1) / (votes + 2).

        Laplace, Essai philosophique sur les probabilites (1814). Two votes that agree give 3/4, six of six 7/8.
        """
        return (self.agreeing + 1) / (self.votes + 2)


def settle(a_first: Sequence[Vote], b_first: Sequence[Vote]) -> Finding:
    """The verdict on answers a and b from the votes with a in the first place, and those with b in it."""
    said = majority(a_first), majority(b_first)
    votes = [meant(v, True) for v in a_first if v] + [meant(v, False) for v in b_first if v]
    if said[0] is None or said[1] is None:
        return Finding(None, False, 0, len(votes))
    by_place = said[0] == said[1] and said[0] in ("first", "second")
    one, other = meant(said[0], True), meant(said[1], False)
    verdict = one if one == other else "tie"
    return Finding(verdict, by_place, votes.count(verdict), len(votes))


def meant(vote: str, a_first: bool) -> str:
    """a, b, tie or both_bad: what a vote on places says of the answers."""
    if vote not in ("first", "second"):
        return vote
    return "a" if (vote == "first") == a_first else "b"


def majority(votes: Sequence[Vote]) -> Vote:
    """What more than half of the readable votes say, or a tie where they are split.

    None where half of all votes or more failed: what is left would speak for the whole.
    """
    readable = [v for v in votes if v is not None]
    if 2 * len(readable) <= len(votes):
        return None
    verdict, most = Counter(readable).most_common(1)[0]
    return verdict if 2 * most > len(readable) else "tie"


def reinforced(label: float, judge: float) -> float:
    """Confidence of a label that an independent judge confirms: the odds of both multiply, so that it rises."""
    both = label * judge
    return both / (both + (1 - label) * (1 - judge)) if both else 0.0
