"""Pairs as tensors: prompt and answer ids, joined once, cut once, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

IGNORE = -100


@dataclass(frozen=True, slots=True)
class Example:
    """One pair, tokenised. Answer ids include the end-of-turn token where the answer ended by itself."""

    pair_id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    weight: float = 1.0
    ref_chosen: float = 0.0  # reference log-probs, nats
    ref_rejected: float = 0.0


def truncate(example: Example, max_length: int) -> Example | None:
    """Answers cut at max_length tokens, prompt included; None when the two sides are then the same text."""
    room = max_length - len(example.prompt)
    chosen, rejected = example.chosen[: max(room, 0)], example.rejected[: max(room, 0)]
    if not chosen or not rejected or chosen == rejected:
        return None
    return replace(example, chosen=chosen, rejected=rejected)


Side = tuple[tuple[int, ...], tuple[int, ...]]  # prompt ids, answer ids


def padded(sides: Sequence[Side], pad_token_id: int) -> dict[str, torch.Tensor]:
    """input_ids, attention_mask and labels of shape [N, T], padded on the right.

    labels[n, t] is the token that position t predicts (already shifted), -100 outside the answer. All values are
    tensors but pair_ids, which is a list[str].
    """
    # The last token of a row predicts nothing that is counted, so it is not fed to the model.
    width = max(len(prompt) + len(answer) for prompt, answer in sides) - 1
    input_ids = torch.full((len(sides), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(sides), width), dtype=torch.long)
    labels = torch.full((len(sides), width), IGNORE, dtype=torch.long)
    for n, (prompt, answer) in enumerate(sides):
        row = torch.tensor([*prompt, *answer])
        input_ids[n, : len(row) - 1] = row[:-1]
        mask[n, : len(row) - 1] = 1
        labels[n, len(prompt) - 1 : len(row) - 1] = row[len(prompt) :]
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


@dataclass(frozen=True, slots=True)
class Collator:
    """[B] pairs -> the tensors of `padded` for 2B sides (0..B-1 chosen, B..2B-1 rejected), and what the loss needs."""

    pad_token_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        sides = [(e.prompt, e.chosen) for e in examples] + [(e.prompt, e.rejected) for e in examples]
        return {
            **padded(sides, self.pad_token_id),
            "ref_chosen_logps": torch.tensor([e.ref_chosen for e in examples], dtype=torch.float64),
            "ref_rejected_logps": torch.tensor([e.ref_rejected for e in examples], dtype=torch.float64),
            "weight": torch.tensor([e.weight for e in examples]),
            "pair_ids": [e.pair_id for e in examples],
        }
