"""The final table: one row a model, from held-out answers, their scores, and the log-probs of held-out pairs."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tso.records import Response
from tso.store import RunStore

COLUMNS = ["model", "win rate", "95 % interval", "ends", "words", "distinct-2", "score", "reward accuracy", "margin"]


@dataclass(frozen=True, slots=True)
class Arm:
    """A model under comparison: where its held-out answers are, and the log-probs of the held-out pairs under it."""

    name: str
    store: RunStore
    iteration: int
    model: str  # name under which its log-probs were stored


def win_rate(
    ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]], margin: float, resamples: int, seed: int
) -> tuple[float, float, float]:
    """(rate, low, high): share of prompts' answers that score higher, ties half; 95 % bootstrap over prompts.

    Scores by prompt id; every answer of one side meets every answer of the other.
    """
    names = sorted(ours.keys() & theirs.keys())
    if not names:
        return 0.5, 0.0, 1.0
    rates = np.array([np.mean([_win(a - b, margin) for a in ours[n] for b in theirs[n]]) for n in names])
    picks = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    low, high = np.quantile(rates[picks].mean(axis=1), [0.025, 0.975])
    return float(rates.mean()), float(low), float(high)


def _win(difference: float, margin: float) -> float:
    return 0.5 if abs(difference) <= margin else float(difference > 0)


def compare_arms(
    arms: Sequence[Arm], *, beta: float, margin: float, resamples: int, seed: int
) -> list[dict[str, float | str]]:
    """One row of numbers an arm; the first arm is the start model that the others are held against."""
    start = arms[0]
    base = _scores(start)
    rows: list[dict[str, float | str]] = []
    for arm in arms:
        answers = arm.store.responses(arm.iteration, "evaluate")
        answers = [a for a in answers if a.cell == "evaluate"]
        scores = _scores(arm)
        rate, low, high = win_rate(scores, base, margin, resamples, seed)
        accuracy, gap = _rewards(arm, start, beta)
        rows.append(
            {
                "name": arm.name,
                "win_rate": rate,
                "low": low,
                "high": high,
                "ends": _mean([a.finish_reason == "stop" for a in answers]),
                "words": _mean([len(a.text.split()) for a in answers]),
                "distinct2": _distinct2(answers),
                "score": _mean([s for values in scores.values() for s in values]),
                "reward_accuracy": accuracy,
                "margin": gap,
            }
        )
    return rows


def _scores(arm: Arm) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    rows = arm.store.query(
        "SELECT r.prompt_id, s.score FROM sampled r JOIN scores s USING (response_id) "
        "WHERE r.iteration = ? AND r.purpose = 'evaluate' AND r.cell = 'evaluate' ORDER BY r.response_id",
        (arm.iteration,),
    )
    for prompt, score in rows:
        found[prompt].append(score)
    return found


def _rewards(arm: Arm, start: Arm, beta: float) -> tuple[float, float]:
    """(share of held-out pairs with the chosen side's reward above, mean margin); the start model is the reference."""
    now, before = arm.store.logps(arm.iteration, arm.model), start.store.logps(start.iteration, start.model)
    gaps = [
        beta * ((now[p][0] - before[p][0]) - (now[p][1] - before[p][1])) for p in sorted(now.keys() & before.keys())
    ]
    # At the start every margin is 0 and no order is told: half, as for a coin.
    return _mean([0.5 if g == 0 else float(g > 0) for g in gaps]), _mean(gaps)


def _distinct2(answers: Sequence[Response]) -> float:
    grams = [g for a in answers for w in [a.text.split()] for g in itertools.pairwise(w)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def as_text(rows: Sequence[Mapping[str, float | str]]) -> list[dict[str, str]]:
    """The rows as a table shows them, under COLUMNS."""
    return [
        {
            "model": str(r["name"]),
            "win rate": f"{r['win_rate']:.2f}",
            "95 % interval": f"{r['low']:.2f} to {r['high']:.2f}",
            "ends": f"{r['ends']:.0%}",
            "words": f"{r['words']:.1f}",
            "distinct-2": f"{r['distinct2']:.2f}",
            "score": f"{r['score']:.3f}",
            "reward accuracy": f"{r['reward_accuracy']:.2f}",
            "margin": f"{r['margin']:+.2f}",
        }
        for r in rows
    ]


def verdict(rows: Sequence[Mapping[str, float | str]]) -> str:
    """One plain sentence: gain, no gain, or not enough to tell."""
    final = rows[1] if len(rows) > 1 else rows[0]
    if float(final["low"]) > 0.5:
        return f"The trained model wins against the start model ({float(final['win_rate']):.0%} of comparisons)."
    if float(final["high"]) < 0.5:
        return "The trained model is worse than the start model: no gain. Look at report.html before using it."
    return "No gain that these held-out prompts can show: the interval of the win rate includes one half."
