"""Corrections that people gave on the page of `tso annotate`, or that were imported: from the run's own store.

Whose word counts where people disagree is not decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from tso.errors import DataError
from tso.records import Correction, Pair
from tso.store import RunStore
from tso.verdicts import Verdict, chosen_side, latest, standing, word


def load(store: RunStore) -> list[Correction]:
    """What each person last said of each pair, without what was taken up already, in the order in which it was said."""
    taken = {row[0] for row in store.query("SELECT verdict_id FROM corrections WHERE verdict_id IS NOT NULL")}
    return [_correction(v) for v in latest(standing(store)) if v.id not in taken]


def _correction(verdict: Verdict) -> Correction:
    return Correction(
        verdict.pair_id,
        "human",
        verdict.annotator,
        word(verdict.said, "a"),
        verdict.confidence,
        verdict.reason,
        verdict.text,
        verdict.answer,
        verdict.id,
    )


def require(store: RunStore, iteration: int, pairs: Sequence[Pair], recorded: Collection[str] = ()) -> None:
    """Raises DataError where there are pairs and nobody has judged any of them. recorded: pair ids of a file's verdicts."""
    if pairs and not {*recorded, *(v.pair_id for v in standing(store))} & {p.id for p in pairs}:
        raise DataError(
            f"iteration {iteration} waits for people: let them judge its {len(pairs)} pairs (tso annotate {store.folder} "
            f"--iteration {iteration}) and run this again; with correct.wait_for_people=false it goes on without them"
        )


def oriented(correction: Correction, pair: Pair) -> Correction:
    """With keep or flip said of this label, where the verdict was about the answers; others stay as they are."""
    if correction.answer is None or correction.verdict not in ("keep", "flip"):
        return correction
    return replace(correction, verdict=word(correction.answer, chosen_side(pair)))
