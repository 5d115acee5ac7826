"""What people said of pairs: the rows of `verdicts` that stand, as records, and what the words mean.

People judge answers a and b of a pair, not a label; `keep` and `flip` are said of a label and are worked out where one
is at hand. Knows neither the page on which it was said nor the files that carry it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tso._core import Ledger
from tso.errors import DataError
from tso.records import Pair
from tso.store import FILE, RunStore

LONGEST_NAME = 64
OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one person said of one pair."""

    pair_id: str
    annotator: str
    said: str  # a | b | tie | both_bad | edit
    side: str | None = None  # edit: the answer that it was made from, where known
    text: str | None = None  # edit: the new answer
    reason: str = ""
    confidence: float = 1.0
    round: int = 0  # above 0: the same person was asked once more
    given: int = 0  # milliseconds since 1970; 0: not known
    id: int | None = None  # in the store

    @property
    def key(self) -> tuple[str, str, int]:
        """A person has one verdict on a pair in a round."""
        return self.pair_id, self.annotator, self.round

    @property
    def meaning(self) -> tuple[str, str | None, str | None, str, float]:
        return self.said, self.side, self.text, self.reason, self.confidence

    @property
    def answer(self) -> str | None:
        """The answer that it prefers, or edits."""
        return self.said if self.said in OTHER else self.side


def open_for_people(folder: Path) -> RunStore:
    """The store of a run, to read, assign pairs and record verdicts, also while the run is at work."""
    return RunStore(Ledger.annotate(str(folder / FILE)), folder)


def standing(store: RunStore) -> list[Verdict]:
    """The verdicts that nobody took back, in the order in which they were given; skips are none."""
    rows = store.query(
        "SELECT pair_id, annotator, said, side, text, reason, confidence, round, given, verdict_id FROM standing "
        "WHERE said <> 'skip' ORDER BY verdict_id"
    )
    return [Verdict(*row) for row in rows]


def latest(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict a person and pair, that of the last round; in the order in which they were given."""
    found: dict[tuple[str, str], Verdict] = {}
    for verdict in verdicts:
        before = found.get(verdict.key[:2])
        if before is None or before.round <= verdict.round:
            found[verdict.key[:2]] = verdict
    return sorted(found.values(), key=lambda v: v.id or 0)


def word(said: str, chosen_side: str) -> str:
    """keep or flip for a or b, where the label calls `chosen_side` the better one; other words stay as they are."""
    return said if said not in OTHER else "keep" if said == chosen_side else "flip"


def chosen_side(pair: Pair) -> str:
    """The answer that the pair's label calls better, a or b; a for a label that calls none so, which keep confirms.

    An edited text counts as the answer that it stands against is not.
    """
    if pair.label.chosen is None or pair.label.rejected is None:
        return "a"
    if pair.label.chosen in (pair.response_a, pair.response_b):
        return "a" if pair.label.chosen == pair.response_a else "b"
    return "b" if pair.label.rejected == pair.response_a else "a"


def left_side(seed: str, annotator: str, pair_id: str, round: int) -> str:
    """Which answer stands on the left, a or b: either as often, and nothing that a person could guess."""
    text = "\0".join([seed, annotator, pair_id, str(round)])
    return "ab"[hashlib.blake2b(text.encode()).digest()[0] & 1]


def person(name: str) -> str:
    """A person's name as it is stored. Raises DataError for one that is empty, too long, or not printable."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise DataError(f"{name[:80]!r} is no name of a person: give 1 to {LONGEST_NAME} printable characters")
    return name
