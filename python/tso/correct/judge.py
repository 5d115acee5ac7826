"""An AI judge as a source of verdicts: which pairs it judges, and what its calls come to.

Any sampler can be the judge. What it is asked is in rubric.py, how a reply is read in reply.py, how calls are made and
kept in calls.py, and how votes become a verdict in votes.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tso.config import CorrectSection
from tso.correct import calls, choice, votes
from tso.correct.base import directed
from tso.correct.calls import Call, Judge
from tso.judges import places
from tso.progress import Face
from tso.records import Correction, Pair
from tso.store import Rows, RunStore

REASON = 300  # characters of the judge's own words in a correction; judge_calls has them whole


@dataclass(frozen=True)
class Judged:
    """What a judge said of an iteration's pairs: its corrections by pair id, and values for the metrics."""

    corrections: dict[str, Correction]
    metrics: dict[str, float]


def judge_pairs(
    store: RunStore,
    judge: Judge,
    options: CorrectSection,
    iteration: int,
    purpose: str,
    settled: Collection[str],
    face: Face,
) -> Judged:
    """Choose pairs, ask the judge about each in both orders, and settle its votes.

    The choice is a unit, and so is every batch of calls: a run that was killed asks nothing twice. A pair on which too
    many calls failed gets no correction, and a warning counts them. settled: pairs that people have judged.
    """
    pairs = _chosen(store, judge, options, iteration, purpose, settled)
    made = calls.make(store, judge, iteration, purpose, pairs, face)
    of_pair: dict[str, list[Call]] = defaultdict(list)
    for call in made:
        of_pair[call.pair_id].append(call)
    findings = {p.id: votes.settle(*calls.by_order(of_pair[p.id], p)) for p in pairs}
    told = [p for p in pairs if findings[p.id].verdict is not None]
    if len(told) < len(pairs):
        fault = next(call.reason for call in reversed(made) if call.verdict is None)
        face.warn(
            f"judge {judge.name}: no verdict on {len(pairs) - len(told)} of {len(pairs)} pairs; the last: {fault}"
        )
    corrections = {p.id: _correction(judge, p, findings[p.id], of_pair[p.id]) for p in told}
    return Judged(corrections, {**_rates(findings, made), **calls.cost(made)})


def _chosen(
    store: RunStore,
    judge: Judge,
    options: CorrectSection,
    iteration: int,
    purpose: str,
    settled: Collection[str],
) -> list[Pair]:
    """The pairs to judge, chosen once and kept."""
    stage = f"judge/{purpose}"
    pairs = store.pairs(iteration, purpose)
    if not store.done(iteration, stage):
        answers = store.responses_by_id(s for p in pairs for s in (p.response_a, p.response_b))
        errors = {name: error for name, (_, error) in store.strengths(iteration - 1).items()}
        # What the fit takes a cell's error to be before anything is known of it: strengths.py.
        unknown = 2 / options.strength_prior_weight**0.5
        spread = choice.variances(pairs, {i: r.cell for i, r in answers.items()}, errors, unknown)
        worth = {p.id: choice.expected_error(p, spread[p.id]) for p in pairs}
        chosen = choice.choose(pairs, worth, judge.options.budget, settled)
        rows = [(iteration, p.id, judge.name, judge.revision, i, worth[p.id]) for i, p in enumerate(chosen)]
        store.commit(iteration, stage, _choice_rows(rows), info={"pairs": len(pairs), "chosen": len(chosen)})
    by_id = {p.id: p for p in pairs}
    kept = store.query(
        "SELECT pair_id FROM judge_pairs WHERE iteration = ? AND judge = ? ORDER BY position", (iteration, judge.name)
    )
    return [by_id[name] for (name,) in kept if name in by_id]


def _choice_rows(rows: Sequence[tuple[int, str, str, str, int, float]]) -> Rows:
    columns = ["iteration", "pair_id", "judge", "revision", "position", "expected_error"]
    return {"judge_pairs": (columns, list(rows))}


def _correction(judge: Judge, pair: Pair, finding: votes.Finding, made: Sequence[Call]) -> Correction:
    verdict, confidence = finding.verdict or "", finding.confidence
    if verdict in ("a", "b"):
        better = pair.response_a if verdict == "a" else pair.response_b
        verdict = "keep" if better == directed(pair)[0] else "flip"
    if verdict == "keep" and pair.label.chosen is not None:
        confidence = votes.reinforced(pair.label.confidence, confidence)
    return Correction(pair.id, "judge", judge.name, verdict, confidence, _why(pair, finding, made))


def _why(pair: Pair, finding: votes.Finding, made: Sequence[Call]) -> str:
    """How the votes went, and what the judge said on the first of those that say what the verdict says."""
    if finding.by_place:
        return "the verdict turned with the order"
    counted = f"{finding.agreeing} of {finding.votes} votes"
    said = (
        c.reason
        for c in made
        if c.verdict and votes.meant(c.verdict, c.shown_first == pair.response_a) == finding.verdict
    )
    reason = next(said, "")[:REASON]
    return f"{counted}: {reason}" if reason else counted


def _rates(findings: Mapping[str, votes.Finding], made: Sequence[Call]) -> dict[str, float]:
    """For the metrics: pairs asked about and those without a verdict, and how the rest came out, as in `tso.judges`."""
    told = [f for f in findings.values() if f.verdict is not None]
    counts = {"judge/pairs": float(len(findings)), "judge/failed": float(len(findings) - len(told))}
    ties = {"judge/tie_rate": sum(f.verdict == "tie" for f in told) / len(told)} if told else {}
    _, same = places((c.pair_id, c.shown_first, c.vote, c.verdict) for c in calls.final(made))
    return {**counts, **ties, **({"judge/position_bias": same.value} if same.total else {})}
