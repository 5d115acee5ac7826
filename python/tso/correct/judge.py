"""An AI judge as a source of verdicts: which pairs it judges, and what its calls come to.

Any sampler can be the judge. What it is asked is in rubric.py, how a reply is read in reply.py, how calls are made and
kept in calls.py, and how votes become a verdict in votes.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from tso.budgets import allowed
from tso.config import CorrectSection
from tso.correct import calls, votes
from tso.correct.base import directed
from tso.correct.calls import Call, Judge
from tso.correct.worth import Worth
from tso.judges import places
from tso.progress import Face
from tso.records import Correction, Pair
from tso.store import RunStore

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

    Each choice is a unit, and so is every batch of calls: a run that was killed asks nothing twice. A pair on which too
    many calls failed gets no correction, and a warning counts them. settled: pairs that people have judged.
    """
    pairs = {p.id: p for p in store.pairs(iteration, purpose)}
    most = allowed(len(pairs), judge.options.budget)
    worth = Worth(store, options, iteration, pairs.values(), settled, most, judge.seed)
    steps = calls.Steps(store, iteration, f"judge/{purpose}")
    findings: dict[str, votes.Finding] = {}
    of_pair: dict[str, list[Call]] = defaultdict(list)
    with face.bar(f"iteration {iteration}: asking the judge", 2 * judge.options.votes * most, "calls") as advance:
        for turn in count():
            chosen = [pairs[name] for name in _chosen(judge, steps, turn, worth, findings)]
            if not chosen:
                break
            for call in calls.make(judge, steps, chosen, advance):
                of_pair[call.pair_id].append(call)
            findings |= {p.id: votes.settle(*calls.by_order(of_pair[p.id], p)) for p in chosen}
    made = [call for name in findings for call in of_pair[name]]
    told = [name for name, found in findings.items() if found.verdict is not None]
    if len(told) < len(findings):
        fault = next(call.reason for call in reversed(made) if call.verdict is None)
        failed = f"{len(findings) - len(told)} of {len(findings)}"
        face.warn(f"judge {judge.name}: no verdict on {failed} pairs; the last: {fault}")
    corrections = {name: _correction(judge, pairs[name], findings[name], of_pair[name]) for name in told}
    return Judged(corrections, {**_rates(findings, made), **calls.cost(made)})


def _chosen(
    judge: Judge, steps: calls.Steps, turn: int, worth: Worth, findings: Mapping[str, votes.Finding]
) -> list[str]:
    """The pairs of a round, chosen once and kept; none when the budget is spent."""
    columns = ["iteration", "pair_id", "judge", "revision", "round", "position"]

    def recorded() -> list[str]:
        rows = steps.store.query(
            "SELECT pair_id FROM judge_pairs WHERE iteration = ? AND judge = ? AND round = ? ORDER BY position",
            (steps.iteration, judge.name, turn),
        )
        return [name for (name,) in rows if name in worth.pairs]

    if recorded():
        steps.once(dict)
        return recorded()
    names = worth.next_round(findings)
    if names:
        rows = [(steps.iteration, n, judge.name, judge.revision, turn, i) for i, n in enumerate(names)]
        steps.once(lambda: {"judge_pairs": (columns, rows)})
    return names


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
