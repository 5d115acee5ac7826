"""Real matrices with real feedback: which answers there are, what the correcting judge would say, and what is true.

A judge's score of an answer is its probability of beating a common baseline. Two scores make the probability that one
answer beats the other by Bradley-Terry: the odds of the first, divided by those of the second.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

CONTINUOUS = "weighted_alpaca_eval_gpt4_turbo"
GPT4, CLAUDE = "alpaca_eval_gpt4", "claude"  # 0 or 1 against text_davinci_003
LADDERS = {
    "fusechat-llama3": ("FuseChat-Llama-3.2-1B-Instruct", "FuseChat-Llama-3.2-3B-Instruct", "FuseChat-Llama-3.1-8B-Instruct"),
    "gemma": ("gemma-2b-it", "gemma-7b-it"),
    "vicuna-v1.5": ("vicuna-7b-v1.5", "vicuna-13b-v1.5"),
    "llama-2-chat": ("llama-2-7b-chat-hf", "llama-2-13b-chat-hf", "llama-2-70b-chat-hf"),
    "falcon": ("falcon-7b-instruct", "falcon-40b-instruct"),
    # Of four families: what the prior of scale would say if it were allowed to compare them.
    "across families": ("gemma-2b-it", "FuseChat-Llama-3.2-3B-Instruct", "vicuna-13b-v1.5", "falcon-40b-instruct"),
}  # fmt: skip

Chances = tuple[float, float]  # that the first is called better, that the second is; the rest is a tie
Scores = dict[str, dict[str, float]]  # model -> prompt -> score


@dataclass(frozen=True)
class Family:
    """A size ladder. `look` and `truth` take a prompt and two models, the first of them on the left."""

    name: str
    judge: str  # in words: who corrects
    yardstick: str  # in words: what is true
    sizes: dict[str, float]  # billions of parameters
    prompts: dict[str, str]
    answers: dict[tuple[str, str], str]  # (prompt, model) -> text
    look: Callable[[str, str, str], Chances]
    truth: Callable[[str, str, str], bool | None]  # whether the first is better; None: not known, or neither


def families(data: Path, only: str) -> Iterator[Family]:
    """The families with `only` in their name."""
    rows = [
        r for name in ("matrix_judged", "matrix_qwen15") for r in pq.read_table(data / f"{name}.parquet").to_pylist()
    ]
    scores = judged(data)
    noise = chance_of_error(agreement(scores[GPT4], scores[CLAUDE]))
    for name, models in LADDERS.items():
        if only not in name:
            continue
        found = [r for r in rows if r["model"] in models]
        sizes = {m: next(float(r["size_b"]) for r in found if r["model"] == m) for m in models}
        prompts = {r["prompt_id"]: r["prompt"] for r in found}
        answers = {(r["prompt_id"], r["model"]): r["response"] for r in found}
        if name == "falcon":
            words = "GPT-4's probability", "Claude's verdicts"
            said = probable(scores[CONTINUOUS]), better(scores[CLAUDE])
        elif name == "llama-2-chat":
            words = f"GPT-4's 0 or 1 for an answer, wrong with probability {noise:.2f}", "GPT-4's 0 and 1"
            said = mistaken(scores[GPT4], noise), better(scores[GPT4])
        else:
            words = "a noisy copy of GPT-4's, drawn from its probability", "GPT-4's higher score"
            said = probable(scores[CONTINUOUS]), better(scores[CONTINUOUS])
        yield Family(name, *words, sizes, prompts, answers, *said)
    if only in "tulu":
        yield tulu(data)


def judged(data: Path) -> dict[str, Scores]:
    """Scores by judge."""
    found: dict[str, Scores] = defaultdict(lambda: defaultdict(dict))
    for row in pq.read_table(data / "judgements.parquet").to_pylist():
        if row["pref"] is not None:
            found[row["judge"]][row["model"]][row["prompt_id"]] = row["pref"]
    return found


def tulu(data: Path) -> Family:
    """7B against 65B: people's votes are the truth, and a copy of them that is as noisy as few votes are corrects."""
    large, small = "tulu_65B", "tulu_7B"
    votes: dict[str, list[float]] = defaultdict(list)
    prompts, answers, sizes = {}, {}, {}
    for row in pq.read_table(data / "human_feedback.parquet").to_pylist():
        if {row["model_a"], row["model_b"]} == {large, small}:
            prompt = row["item_id"]
            prompts[prompt] = row["prompt"]
            votes[prompt].append(row["pref_a"] if row["model_a"] == large else 1 - row["pref_a"])
            for side in "ab":
                answers[prompt, row[f"model_{side}"]] = row[f"response_{side}"]
                sizes[row[f"model_{side}"]] = float(row["size_" + side])

    def look(prompt: str, a: str, b: str) -> Chances:
        share = (sum(votes[prompt]) + 0.5) / (len(votes[prompt]) + 1)  # one vote more, that is undecided
        return (share, 1 - share) if a == large else (1 - share, share)

    def truth(prompt: str, a: str, b: str) -> bool | None:
        lead = sum(votes[prompt]) - len(votes[prompt]) / 2
        return None if lead == 0 else (lead > 0) == (a == large)

    words = "a noisy copy of people's, drawn from their mean vote", "people's votes"
    return Family("tulu", *words, dict(sorted(sizes.items())), prompts, answers, look, truth)


def probable(scores: Scores) -> Callable[[str, str, str], Chances]:
    def look(prompt: str, a: str, b: str) -> Chances:
        apart = log_odds(scores[a][prompt]) - log_odds(scores[b][prompt])
        chance = 1 / (1 + math.exp(-min(max(apart, -700), 700)))
        return chance, 1 - chance

    return look


def mistaken(scores: Scores, noise: float) -> Callable[[str, str, str], Chances]:
    """Either answer's 0 or 1 is turned round with probability `noise`; equal ones are a tie."""

    def look(prompt: str, a: str, b: str) -> Chances:
        good = [abs(scores[m].get(prompt, 0.5) - noise) if prompt in scores[m] else 0.5 for m in (a, b)]
        return good[0] * (1 - good[1]), good[1] * (1 - good[0])

    return look


def better(scores: Scores) -> Callable[[str, str, str], bool | None]:
    def truth(prompt: str, a: str, b: str) -> bool | None:
        x, y = scores[a].get(prompt), scores[b].get(prompt)
        return None if x is None or y is None or x == y else x > y

    return truth


def log_odds(chance: float) -> float:
    return math.log(chance + 1e-12) - math.log(1 - chance + 1e-12)


def agreement(first: Scores, second: Scores) -> float:
    """Share of the answers that both judges scored 0 or 1, and alike."""
    both = [
        (first[m][p], second[m][p])
        for m in sorted(first.keys() & second.keys())
        for p in sorted(first[m].keys() & second[m].keys())
    ]
    decided = [(x, y) for x, y in both if 0.5 not in (x, y)]
    return sum(x == y for x, y in decided) / len(decided)


def chance_of_error(agreed: float) -> float:
    """e of two judges that err independently and equally often: they agree on (1 - e)^2 + e^2 of the answers."""
    return (1 - math.sqrt(max(2 * agreed - 1, 0.0))) / 2


def beaten(data: Path, small: str, large: str) -> tuple[float, int]:
    """(share of the prompts on which `small` has the higher score, their number): sizes across families."""
    scores = judged(data)[CONTINUOUS]
    shared = scores[small].keys() & scores[large].keys()
    return sum(scores[small][p] > scores[large][p] for p in shared) / len(shared), len(shared)
