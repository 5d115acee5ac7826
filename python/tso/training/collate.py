"""Pairs as tensors: cut once, padded on the right, and shared beginnings laid out to be read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch

IGNORE = -100
LEAST_TRUNK = 8  # tokens; a forward pass of its own for fewer is not worth it


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
    label_smoothing: float = 0.0  # chance that the label is wrong


def truncate(example: Example, max_length: int) -> Example | None:
    """Answers cut at max_length tokens, prompt included; None when the two sides are then the same text."""
    room = max_length - len(example.prompt)
    chosen, rejected = example.chosen[: max(room, 0)], example.rejected[: max(room, 0)]
    if not chosen or not rejected or chosen == rejected:
        return None
    return replace(example, chosen=chosen, rejected=rejected)


Tokens = tuple[int, ...]
Side = tuple[Tokens, Tokens]  # prompt ids, answer ids


def batch_of(sides: Sequence[Side], pad_token_id: int, *, share: bool) -> dict[str, Any]:
    """`levels`, what a model reads, and `labels` [N, T]: the token that each position of the last level predicts, -100
    where none is counted.

    With `share`, tokens that several rows begin with are read once: what all prompts begin with, then each different
    prompt, then each answer. A level has input_ids and attention_mask [n, T], padded on the right, and parent [n]: the
    row of the level before that each of its rows goes on from. Without, there is one level of whole rows.
    """
    # The last token of an answer predicts nothing that is counted, so it is not fed to the model. A prompt's last token
    # predicts the answer's first, so it is read with the answer; one that has no other token cannot be shared.
    if not share or any(len(prompt) < 2 for prompt, _ in sides):
        rows = [(*prompt, *answer[:-1]) for prompt, answer in sides]
        labels = [(*[IGNORE] * (len(prompt) - 1), *answer) for prompt, answer in sides]
        return {"levels": [_level(rows, [0] * len(rows), pad_token_id)], "labels": _padded(labels, IGNORE)}
    begun = list(dict.fromkeys(prompt[:-1] for prompt, _ in sides))
    trunk = common_beginning(begun) if len(begun) > 1 else ()
    levels = [_level([trunk], [0], pad_token_id)] if len(trunk) >= LEAST_TRUNK else []
    skip = len(trunk) if levels else 0
    levels.append(_level([prompt[skip:] for prompt in begun], [0] * len(begun), pad_token_id))
    place = {prompt: i for i, prompt in enumerate(begun)}
    parents = [place[prompt[:-1]] for prompt, _ in sides]
    rows = [(prompt[-1], *answer[:-1]) for prompt, answer in sides]
    levels.append(_level(rows, parents, pad_token_id))
    return {"levels": levels, "labels": _padded([answer for _, answer in sides], IGNORE)}


def common_beginning(rows: Sequence[Tokens]) -> Tokens:
    """The longest list of tokens that every row begins with."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))
    return tuple(tokens[0] for tokens in alike)


def _level(rows: Sequence[Tokens], parent: list[int], pad_token_id: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": _padded(rows, pad_token_id),
        "attention_mask": _padded([(1,) * len(row) for row in rows], 0),
        "parent": torch.tensor(parent),
    }


def _padded(rows: Sequence[Tokens], filler: int) -> torch.Tensor:
    out = torch.full((len(rows), max(map(len, rows))), filler, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out


@dataclass(frozen=True, slots=True)
class Collator:
    """[B] pairs -> what `batch_of` makes of 2B sides (0..B-1 chosen, B..2B-1 rejected), and what the loss needs."""

    pad_token_id: int
    share: bool = False

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        sides = [(e.prompt, e.chosen) for e in examples] + [(e.prompt, e.rejected) for e in examples]
        return {
            **batch_of(sides, self.pad_token_id, share=self.share),
            "ref_chosen_logps": torch.tensor([e.ref_chosen for e in examples], dtype=torch.float64),
            "ref_rejected_logps": torch.tensor([e.ref_rejected for e in examples], dtype=torch.float64),
            "weight": torch.tensor([e.weight for e in examples]),
            "label_smoothing": torch.tensor([e.label_smoothing for e in examples]),
            "pair_ids": [e.pair_id for e in examples],
        }
