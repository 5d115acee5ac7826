"""What several people say of one pair: each has one voice, a majority decides, and without one they disagree.

Knows verdicts, and neither pairs nor what becomes of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tso.correct.base import strongest
from tso.records import Correction


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict in force on a pair, or that people disagree on it; neither where nobody said anything."""

    verdict: Correction | None
    disputed: bool = False


def in_force(corrections: Sequence[Correction]) -> Ruling:
    """People over judges over rules. Among people the majority, among judges the latest; order is that of giving."""
    people = [c for c in corrections if c.source == "human"]
    if people:
        verdict = majority(people)
        return Ruling(verdict, verdict is None)
    return Ruling(strongest(list(corrections)) if corrections else None)


def majority(people: Sequence[Correction]) -> Correction | None:
    """What more than half of the people say, as the last of them said it; None where no verdict has that many.

    Of a person's several verdicts the last one counts. The confidence is the share of the voices, each as far as its
    owner was sure: that of a single person is that person's own.
    """
    voices = list({c.author: c for c in people}.values())
    most, count = Counter(c.verdict for c in voices).most_common(1)[0]
    if 2 * count <= len(voices):
        return None
    sure = sum(c.confidence if c.verdict == most else 1 - c.confidence for c in voices) / len(voices)
    return replace([c for c in people if c.verdict == most and c in voices][-1], confidence=sure)
