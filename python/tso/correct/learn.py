"""How strong the cells are by all verdicts so far, with intervals, as one unit (step 7). The next iteration uses it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tso.config import CorrectSection
from tso.correct.contests import contest, matches
from tso.correct.people import in_force, majority
from tso.correct.strengths import Contest, fit, intervals
from tso.records import Cell, Correction, Pair
from tso.store import RunStore, metric_rows

RESAMPLES = 500  # of the prompts, for the intervals
COLUMNS = ["iteration", "cell", "prior", "strength", "stderr", "low", "high", "comparisons"]


def learn_strengths(store: RunStore, options: CorrectSection, iteration: int, cells: Sequence[Cell], seed: int) -> None:
    """Fit cell strengths to every correction so far and write them, as one unit."""
    if store.done(iteration, "strengths"):
        return
    prior = {c.name: c.prior for c in cells}
    contests = judged(store, prior)
    weight = options.strength_prior_weight
    fitted = fit(prior, contests, weight)
    found = intervals(prior, contests, weight, seed=seed, resamples=RESAMPLES)
    met = Counter(name for c in contests for name in (c.first, c.second))
    rows = [(iteration, name, prior[name], *fitted.of(name), *found[name], met[name]) for name in prior]
    metrics = {f"matrix/strength/{name}": fitted.of(name)[0] for name in prior}
    store.commit(iteration, "strengths", {"strengths": (COLUMNS, rows), **metric_rows(iteration, 0, metrics)})


def judged(store: RunStore, known: dict[str, float]) -> list[Contest]:
    """One contest a pair of different cells in `known`, by the verdict in force on it; both bad and edits are none."""
    given: dict[str, list[tuple[int, Correction]]] = defaultdict(list)
    came = [row[0] for row in store.query("SELECT iteration FROM corrections ORDER BY correction_id")]
    for iteration, correction in zip(came, store.corrections(), strict=True):
        given[correction.pair_id].append((iteration, correction))
    rows = store.query("SELECT response_id, cell, tokens FROM responses")
    pairs = store.pairs(dropped=True)
    found = []
    outcomes = {p.id: outcome(p, given[p.id]) for p in pairs if p.id in given}
    for match in matches(pairs, {i: cell for i, cell, _ in rows}, {i: tokens for i, _, tokens in rows}):
        value = outcomes.get(match.pair_id)
        if value is not None and match.first in known and match.second in known:
            found.append(contest(match, value))
    return found


def outcome(pair: Pair, given: Sequence[tuple[int, Correction]]) -> float | None:
    """Whether the label in force is right, by (iteration, verdict) on its pair: 1, 0, or 0.5 where neither side is better.

    The label in force is what the verdicts made of the pair, unless they came when it had been trained on: people have
    then seen it as it was trained on, and theirs is the last word.
    """
    late = [c for iteration, c in given if iteration > pair.iteration]
    verdict = majority(late) if late else in_force([c for _, c in given]).verdict
    if verdict is None or verdict.verdict == "tie":
        return 0.5
    if verdict.verdict in ("both_bad", "edit"):
        return None
    return 0.0 if late and verdict.verdict == "flip" else 1.0
