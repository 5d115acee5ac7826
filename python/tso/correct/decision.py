"""What becomes of one pair by all that was said of it: the verdict in force, and the label or the drop that follows.

Knows neither the store nor who else was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tso.config import CorrectSection
from tso.correct.annotated import oriented
from tso.correct.base import Outcome, apply, dispute, strongest
from tso.correct.people import in_force
from tso.records import Correction, Label, Pair, Response


@dataclass(frozen=True, slots=True)
class Decision:
    """said: by rules, judges and people, in this order. edit: the answer that the verdict in force put in."""

    pair: Pair
    said: tuple[Correction, ...]
    verdict: Correction | None
    outcome: Outcome
    edit: Response | None

    @property
    def drop(self) -> tuple[str, str, str] | None:
        """The pair's id, why it leaves, and what was said of it, where it leaves."""
        if not self.outcome.dropped:
            return None
        return self.pair.id, self.outcome.dropped, self.verdict.reason if self.verdict else ""

    @property
    def new_label(self) -> Label | None:
        """The label that follows, where it is another than the pair had."""
        return self.outcome.label if self.outcome.label != self.pair.label else None

    @property
    def is_tie(self) -> bool:
        return self.verdict is not None and self.verdict.verdict == "tie"

    @property
    def settled(self) -> tuple[Label, Label] | None:
        """The first label and the one that follows, where the verdict says which side is better."""
        if self.outcome.label is None or self.verdict is None or self.verdict.verdict not in ("keep", "flip"):
            return None
        return self.pair.label, self.outcome.label


def decide(
    pair: Pair,
    machines: Sequence[Correction],
    people: Sequence[Correction],
    options: CorrectSection,
    edited: Callable[[str], Response],
) -> Decision:
    """machines: what rules and judges say, of which the strongest counts. edited: makes an answer of an edit's text."""
    seen = apply(pair, strongest(list(machines)) if machines else None, options)
    # A person has seen the pair as rules and judges left it, in pairs.parquet or the report.
    basis = replace(pair, label=seen.label) if people and seen.label is not None else pair
    said = (*machines, *(oriented(c, basis) for c in people))
    ruling = in_force(said)
    edit = None
    if ruling.verdict is not None and ruling.verdict.verdict == "edit" and ruling.verdict.text is not None:
        edit = edited(ruling.verdict.text)
    if ruling.disputed:
        outcome = dispute(seen, options)
    else:
        outcome = apply(basis, ruling.verdict, options, edit.id if edit else None)
    return Decision(pair, said, ruling.verdict, outcome, edit)
