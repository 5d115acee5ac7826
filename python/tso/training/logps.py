"""Log-probs of answers under models that stand still: the reference pass, held-out pairs, implicit rewards.

Each is one unit of the store. An answer that stands in several pairs is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from tso.config import Config
from tso.models import device_for, load_model, load_tokenizer, located
from tso.progress import Face
from tso.records import Response
from tso.sample.base import chat
from tso.sample.transformers import prompt_ids
from tso.store import RunStore
from tso.training.collate import Example, Side
from tso.training.trainer import side_logps

PAIRS = ["iteration", "pair_id", "model", "chosen", "rejected"]
REWARDS = ["iteration", "response_id", "policy", "reference", "reward"]


def reference_logps(
    store: RunStore, config: Config, iteration: int, examples: Sequence[Example], model: str, face: Face
) -> dict[str, tuple[float, float]]:
    """(chosen, rejected) under the frozen reference: computed once an iteration, and read from the store afterwards."""
    if not store.done(iteration, "logps/reference"):
        found = score(config, _sides(examples), model, f"iteration {iteration}: reference", face)
        rows = _pair_rows(iteration, "reference", examples, found)
        store.commit(iteration, "logps/reference", {"logps": (PAIRS, rows)})
    return store.logps(iteration, "reference")


def held_out_logps(
    store: RunStore, config: Config, iteration: int, examples: Sequence[Example], label: str, face: Face
) -> None:
    """Log-probs of held-out pairs under the policy after `iteration`."""
    if store.done(iteration, "logps/evaluate"):
        return
    path = located(store.folder, *store.checkpoint(iteration, "policy"))
    found = score(config, _sides(examples), path, label, face)
    rows = _pair_rows(iteration, "policy", examples, found)
    store.commit(iteration, "logps/evaluate", {"logps": (PAIRS, rows)})


def implicit_rewards(store: RunStore, config: Config, iteration: int, face: Face) -> None:
    """Rewards of this iteration's answers: beta x (log-prob under the policy - under the reference it trained against).

    A policy that was not trained yet has none, and neither has one that nobody asks.
    """
    if config.pair.label == "prior" or iteration < 2 or store.done(iteration, "rewards"):
        return
    policy, reference = store.checkpoint(iteration - 1, "policy"), store.checkpoint(iteration - 2, "reference")
    answers = [r for r in store.responses(iteration, "train") if r.token_ids]
    rows = []
    if policy[1] != reference[1]:  # equal weights: the last iteration kept no pair to train on
        sides = _answer_sides(store, config, answers, located(store.folder, *policy))
        now, before = (
            score(config, sides.values(), located(store.folder, *model), f"iteration {iteration}: rewards", face)
            for model in (policy, reference)
        )
        values = [(i, now[side], before[side]) for i, side in sides.items()]
        rows = [(iteration, i, p, r, config.training.beta * (p - r)) for i, p, r in values]
    store.commit(iteration, "rewards", {"rewards": (REWARDS, rows)})


def _answer_sides(store: RunStore, config: Config, answers: Sequence[Response], model: str) -> dict[int, Side]:
    """Answers as training would read them, by response id; those that max_length leaves no room for are left out."""
    tokenizer = load_tokenizer(model)
    prompts = {p.id: tuple(prompt_ids(tokenizer, chat(p, None))) for p in store.prompts("train")}
    room = {name: config.training.max_length - len(ids) for name, ids in prompts.items()}
    return {r.id: (prompts[r.prompt_id], r.token_ids[: room[r.prompt_id]]) for r in answers if room[r.prompt_id] > 0}


def _sides(examples: Sequence[Example]) -> list[Side]:
    return [(e.prompt, answer) for e in examples for answer in (e.chosen, e.rejected)]


def _pair_rows(
    iteration: int, model: str, examples: Sequence[Example], found: Mapping[Side, float]
) -> list[tuple[Any, ...]]:
    rows = [(iteration, e.pair_id, model, found[e.prompt, e.chosen], found[e.prompt, e.rejected]) for e in examples]
    return sorted(rows)


def score(config: Config, sides: Iterable[Side], path: str, label: str, face: Face) -> dict[Side, float]:
    """Log-prob in nats of each different answer under the model at `path`; see side_logps."""
    # Answers to one prompt side by side, so that it is read once, and the rest by length, so that little is padded. The
    # result does not depend on the order in which they were asked for.
    ordered = sorted(set(sides), key=lambda side: (len(side[0]), side[0], len(side[1]), side[1]))
    if not ordered:
        return {}
    device = device_for(config.model.device)
    model = load_model(path, dtype=getattr(torch, config.model.dtype), device=device)
    # Without gradients nothing is kept, so more rows fit than in training.
    pad, size = load_tokenizer(path).pad_token_id, 8 * config.training.per_device_train_batch_size
    values: list[float] = []
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.training.bf16)
    with face.bar(label, len(ordered), "answers") as advance, autocast:
        for batch in side_logps(model, ordered, pad, size, average=config.training.average_logps):
            values += batch
            advance(len(batch))
    return dict(zip(ordered, values, strict=True))
