"""What all verdicts so far teach: how strong the cells are, for the next iteration, and how noisy the labels (steps 7, 8)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from tso.config import CorrectSection
from tso.correct.contests import Match, contest, matches
from tso.correct.noise import LEAST, MOST, error_rates, looks, noise_of
from tso.correct.strengths import Contest, fit, intervals
from tso.records import Cell, Correction, Pair
from tso.store import RunStore
from tso.store_rows import metric_rows
from tso.voices import SIDES, Heard, heard

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


def estimate_noise(store: RunStore, options: CorrectSection, iteration: int, cells: Sequence[Cell]) -> None:
    """Write how likely the label of each kept pair is wrong, where something can be said of it, as one unit.

    A verdict's noise is that of its source, from agreement. A label of the prior that nobody judged is as likely wrong
    as the strengths say by all verdicts, where there are `noise.LEAST` of them.
    """
    if store.done(iteration, "noise"):
        return
    found: dict[str, float] = {}
    pairs = store.pairs(iteration)
    if options.estimate_noise:
        given = {pair: looks(verdicts) for pair, verdicts in _in_time(store).items()}
        rates = error_rates(list(given.values()))
        unjudged = [p for p in pairs if p.label.source == "prior" and p.label.chosen is not None]
        found = _by_strengths(store, options, unjudged, {c.name: c.prior for c in cells})
        for pair in pairs:
            value = noise_of(pair.label.source, given.get(pair.id, []), rates)
            if value is not None:
                found[pair.id] = value
    sources = {p.id: p.label.source for p in pairs}
    means: dict[str, list[float]] = defaultdict(list)
    for name, value in sorted(found.items()):
        means[f"feedback/noise/{sources[name]}"].append(value)
    rows = [(iteration, name, value) for name, value in sorted(found.items())]
    metrics = {name: math.fsum(values) / len(values) for name, values in means.items()}
    store.commit(
        iteration, "noise", {"noise": (["iteration", "pair_id", "noise"], rows), **metric_rows(iteration, 0, metrics)}
    )


def _by_strengths(
    store: RunStore, options: CorrectSection, pairs: Sequence[Pair], prior: dict[str, float]
) -> dict[str, float]:
    """Chance that the label is wrong, by pair id, from a fit to every verdict; empty where there are too few of them."""
    contests = judged(store, prior)
    if len(contests) < LEAST:
        return {}
    fitted = fit(prior, contests, options.strength_prior_weight)
    asked = {p.id for p in pairs}
    # Lengths are compared with those of all pairs, as in the fit.
    every = _matches(store, store.pairs(dropped=True))
    found = [m for m in every if m.pair_id in asked and m.first in prior and m.second in prior]
    right = fitted.chance([m.first for m in found], [m.second for m in found], [m.excess for m in found])
    return {m.pair_id: min(MOST, 1 - float(p)) for m, p in zip(found, right, strict=True)}


def judged(store: RunStore, known: dict[str, float]) -> list[Contest]:
    """One contest a pair of different cells in `known`, by the verdict in force on it; both bad and edits are none."""
    outcomes = {h.pair_id: outcome(h) for h in heard(store) if h.voices}
    found = []
    for match in _matches(store, store.pairs(dropped=True)):
        value = outcomes.get(match.pair_id)
        if value is not None and match.first in known and match.second in known:
            found.append(contest(match, value))
    return found


def _in_time(store: RunStore) -> dict[str, list[Correction]]:
    """By pair id, in order, the verdicts that came while their pair could still be corrected."""
    given: dict[str, list[Correction]] = defaultdict(list)
    late = store.query(
        "SELECT c.iteration > p.iteration FROM corrections c JOIN pairs p USING (pair_id) ORDER BY correction_id"
    )
    for (is_late,), correction in zip(late, store.corrections(), strict=True):
        if not is_late:
            given[correction.pair_id].append(correction)
    return given


def _matches(store: RunStore, pairs: Sequence[Pair]) -> list[Match]:
    rows = store.query("SELECT response_id, cell, tokens FROM responses")
    return matches(pairs, {i: cell for i, cell, _ in rows}, {i: tokens for i, _, tokens in rows})


def outcome(pair: Heard) -> float | None:
    """Whether the label in force is right, by all that was said of the pair: 1, 0, or 0.5 where neither side is better.

    People have the last word, those too who spoke when the pair had been trained on. None where nothing was said of the
    two answers that the label compares: both are bad, or one of them is a person's text.
    """
    if pair.side == "edit":
        return None
    said = pair.in_force[1] if pair.in_force else None
    if pair.disputed or said == "tie":
        return 0.5
    if said not in SIDES:
        return None
    return float(said == (pair.side or "a"))  # an undecided label reads a over b
