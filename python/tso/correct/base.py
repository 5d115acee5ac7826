"""From verdicts to labels: precedence, and what each verdict does to a pair (step 6).

People outrank judges, judges outrank rules, all outrank the prior. Nothing is overwritten: a verdict adds a
correction and a new label; the pair keeps the ones before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tso.config import CorrectSection
from tso.records import Correction, Label, Pair

RANK = {"human": 2, "judge": 1, "rule": 0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The new label of a pair, and why it leaves, where it does. A label of a pair that leaves teaches strengths alone."""

    label: Label | None
    dropped: str = ""


def strongest(corrections: list[Correction]) -> Correction:
    """The one of the highest rank, the latest among equals."""
    return max(enumerate(corrections), key=lambda item: (RANK[item[1].source], item[0]))[1]


def apply(pair: Pair, correction: Correction | None, options: CorrectSection, edited: int | None = None) -> Outcome:
    """What `correction` makes of `pair`. `edited`: the response id of an edit's text, which becomes the chosen side."""
    if correction is None:
        return Outcome(pair.label) if pair.label.chosen is not None else Outcome(None, "undecided")
    if correction.verdict == "both_bad":
        return Outcome(None, "both_bad")
    if correction.verdict == "tie":
        if options.on_tie == "drop" or pair.label.chosen is None:
            return Outcome(None, "tie")
        return Outcome(_label(correction, pair.label.chosen, pair.label.rejected, 0.5, options.tie_weight))
    first, second = directed(pair)
    if correction.verdict == "edit":
        # Better than the answer that it was made from; where that is not said, than the one that was called the better.
        before = {"a": pair.response_a, "b": pair.response_b}.get(correction.answer or "", first)
        return Outcome(_label(correction, edited, before, correction.confidence, 1.0))
    if correction.verdict == "keep":
        return Outcome(_label(correction, first, second, correction.confidence, 1.0))
    contradicted = options.on_flip == "drop" and correction.source != "human" and pair.label.chosen is not None
    label = _label(correction, second, first, correction.confidence, 1.0)
    return Outcome(label, "contradicted" if contradicted else "")


def dispute(before: Outcome, options: CorrectSection) -> Outcome:
    """What becomes of a pair that people disagree on. before: what rules and judges made of it."""
    label = before.label
    if before.dropped or options.on_disagreement == "drop" or label is None or label.chosen is None:
        return Outcome(label if before.dropped else None, "disagreement")
    return Outcome(replace(label, weight=options.disagreement_weight))


def directed(pair: Pair) -> tuple[int, int]:
    """(chosen, rejected) of the label in force; an undecided pair reads a over b, which keep confirms."""
    if pair.label.chosen is None or pair.label.rejected is None:
        return pair.response_a, pair.response_b
    return pair.label.chosen, pair.label.rejected


def _label(by: Correction, chosen: int | None, rejected: int | None, confidence: float, weight: float) -> Label:
    return Label(by.source, chosen, rejected, confidence, weight)
