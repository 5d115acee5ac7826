"""One batch of prompts to answers with transformers' generate, without work that no answer needs.

A batch costs as much as its longest answer, and the prompts of a batch mostly begin alike: the template's header, a
system prompt. So rows that have ended leave the batch, and what all prompts begin with is read once. Both need a cache
of plain keys and values; a model that keeps anything else (recurrent states) is decoded row by full row.

A draw's randomness comes from its own numbers, not from a shared generator: at each step one uniform number picks the
token by inverting the cumulative distribution that temperature, top-k, top-p and min-p leave. generate itself runs greedy on
the score that this picking leaves, so its batching, caching and stopping are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, Protocol, cast

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer

from tso.caches import holds_all, plain_cache
from tso.records import Decoding

LEAST_PREFIX = 8  # tokens; a forward pass of its own for fewer is not worth it
SHORT = (128, 1024)  # tokens of a short selection
LEAVE_AT = 0.2  # share of the batch that has ended before the rest goes on without it: starting again has a price too


Finished = Callable[[int, list[int]], bool]  # number of a row in the batch, and its new tokens so far


class Generator(Protocol):
    """What every causal LM has, though its class PreTrainedModel does not say so."""

    def generate(self, inputs: torch.Tensor, **options: Any) -> Any: ...


@torch.inference_mode()
def complete(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    draws: torch.Tensor,
    decodings: Sequence[Decoding],
    stops: Sequence[int],
    pad_token_id: int,
    finished: Finished | None = None,
) -> list[list[int]]:
    """New token ids of each prompt [B], up to and including the first of `stops`.

    draws: [B, steps] uniforms in [0, 1), float64, on the model's device; decodings: how each row is decoded. A row's
    own max_new_tokens bounds it, and so does the number of steps. `finished` may say that a row needs no more tokens;
    it has those that it has then, or some more.
    """
    width, steps = max(map(len, prompts)), draws.shape[1]
    sequences, mask = _left_padded(prompts, width, pad_token_id, draws.device)
    most = width + torch.tensor([min(d.max_new_tokens, steps) for d in decodings], device=draws.device)
    leave = _Leave(torch.tensor(stops, device=draws.device), width, finished)
    criteria = StoppingCriteriaList([leave] if _narrows(model) else [])
    known = _read_common(model, prompts, width) if len(prompts) > 1 else {}
    rows = torch.arange(len(prompts), device=draws.device)
    answers: list[list[int]] = [[]] * len(prompts)
    while len(rows):
        leave.most, leave.rows = most[rows], rows.tolist()
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=int(leave.most.amax()) - sequences.shape[1],
            eos_token_id=list(stops),
            pad_token_id=pad_token_id,
            use_cache=True,
            return_dict_in_generate=True,
        )
        out = cast(Generator, model).generate(
            sequences,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=LogitsProcessorList(
                [PickBySeed([decodings[i] for i in rows.tolist()], draws[rows], width)]
            ),
            stopping_criteria=criteria,
            **known,
        )
        known, sequences = plain_cache(out), out.sequences
        ended = leave.ended(sequences)
        for row, ids in zip(rows[ended].tolist(), sequences[ended, width:].tolist(), strict=True):
            answers[row] = _to_first(stops, ids)[: decodings[row].max_new_tokens]
        left = (~ended).nonzero().squeeze(1)
        for cache in known.values():
            cache.batch_select_indices(left)
        rows, sequences = rows[left], sequences[left]
        mask = torch.nn.functional.pad(mask[left], (0, sequences.shape[1] - mask.shape[1]), value=1)
    return answers


def _left_padded(
    prompts: Sequence[list[int]], width: int, pad_token_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.full((len(prompts), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(prompts):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _to_first(stops: Sequence[int], ids: list[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    return ids[: end + 1]


# --- picking tokens


class PickBySeed(LogitsProcessor):
    """Leaves one finite score a row: the token that the row's uniform number selects.

    decodings: [B]; draws: [B, steps] uniforms in [0, 1), float64.
    """

    def __init__(self, decodings: Sequence[Decoding], draws: torch.Tensor, prompt_length: int):
        alike: dict[Decoding, list[int]] = {}
        for row, decoding in enumerate(decodings):
            alike.setdefault(decoding, []).append(row)
        self.groups = [(d, torch.tensor(rows, device=draws.device)) for d, rows in alike.items()]
        self.draws = draws
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        draws = self.draws[:, input_ids.shape[1] - self.prompt_length]
        left = torch.full_like(scores, -torch.inf)
        for decoding, rows in self.groups:
            left[rows, pick(scores[rows], draws[rows], decoding)] = 0.0
        return left


def pick(scores: torch.Tensor, draws: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Token ids [B] for scores [B, V] and uniforms [B]; temperature 0 is the largest score."""
    if decoding.temperature == 0:
        return scores.argmax(dim=-1)
    probs = torch.softmax(scores.float() / decoding.temperature, dim=-1)
    vocabulary = probs.shape[-1]
    if decoding.top_k:
        top, ids = probs.topk(min(decoding.top_k, vocabulary), dim=-1)
        return _invert(top, ids, draws, decoding.top_p * top.double().sum(dim=-1), decoding.min_p)
    picked = torch.empty(len(probs), dtype=torch.long, device=probs.device)
    rows = torch.arange(len(probs), device=probs.device)
    # A nucleus is nearly always small, and a short selection costs a fraction of a sort: rows whose nucleus it does
    # not hold are looked at again, and only those.
    for width in (*(w for w in SHORT if w < vocabulary), vocabulary):
        left = probs[rows]
        top, ids = left.topk(width, dim=-1) if width < vocabulary else left.sort(dim=-1, descending=True, stable=True)
        most = torch.full((len(rows),), decoding.top_p, dtype=torch.double, device=probs.device)
        held = (top.double().sum(dim=-1) >= most) | (top[:, -1] < decoding.min_p * top[:, 0]) | (width == vocabulary)
        picked[rows[held]] = _invert(top[held], ids[held], draws[rows[held]], most[held], decoding.min_p)
        rows = rows[~held]
        if not len(rows):
            break
    return picked


def _invert(
    top: torch.Tensor, ids: torch.Tensor, draws: torch.Tensor, most: torch.Tensor, min_p: float
) -> torch.Tensor:
    """Token ids [B] at the uniforms [B] of the cumulative distribution over top [B, K], largest first.

    It is cut at the mass `most` [B], and before the first token less likely than min_p times the likeliest one.
    """
    lasting = top >= min_p * top[:, :1]  # in the precision of `top`, as whoever chose its width compares them
    top = top.double()
    mass = top.cumsum(dim=-1)
    kept = ((mass - top) < most[:, None]) & lasting  # a token stays when the mass before it is below the bound
    mass = torch.where(kept, mass, torch.zeros_like(mass))
    reached = kept & (mass > draws[:, None].double() * mass.amax(dim=-1, keepdim=True))
    return ids.gather(1, reached.int().argmax(dim=-1, keepdim=True)).squeeze(1)


# --- caches


class _Leave(StoppingCriteria):
    """Which rows have ended, and when so many have that the others go on faster alone.

    most: [B] the length at which each row of the batch is full, prompt included; rows: [B] their numbers.
    """

    most: torch.Tensor
    rows: Sequence[int]

    def __init__(self, stops: torch.Tensor, prompt_length: int, finished: Finished | None):
        self.stops = stops
        self.prompt_length = prompt_length
        self.finished = finished

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        ended = self.ended(input_ids)
        return ended | (ended.float().mean() >= LEAVE_AT)

    def ended(self, sequences: torch.Tensor) -> torch.Tensor:
        """[B] bool for sequences [B, T], prompts included."""
        new = sequences[:, self.prompt_length :]
        ended = torch.isin(new, self.stops).any(dim=1) | (sequences.shape[1] >= self.most)
        if self.finished is not None:
            said = [self.finished(row, ids) for row, ids in zip(self.rows, new.tolist(), strict=True)]
            ended |= torch.tensor(said, device=ended.device)
        return ended


def _narrows(model: PreTrainedModel) -> bool:
    one = torch.zeros((1, 1), dtype=torch.long, device=model.device)
    return bool(plain_cache(model(one, use_cache=True)))


def _read_common(model: PreTrainedModel, prompts: Sequence[list[int]], width: int) -> dict[str, DynamicCache]:
    """Keys and values of what all prompts begin with, computed once and laid out as if each left-padded row had them.

    The cache has as many columns as the common part has tokens. A row with n tokens of padding has n columns that the
    mask hides, and the first tokens of the common part after them; the rest of that part is read again with the row.
    """
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*(p[:-1] for p in prompts), strict=False))
    common = [tokens[0] for tokens in alike]
    if len(common) < LEAST_PREFIX:
        return {}
    known = plain_cache(model(torch.tensor([common], device=model.device), use_cache=True))
    padding = torch.tensor([width - len(p) for p in prompts], device=model.device)
    columns = torch.arange(len(common), device=model.device)[None] - padding[:, None]
    for cache in known.values():
        if not holds_all(cache):
            return {}
        for layer in cast(list[DynamicLayer], cache.layers):
            layer.keys, layer.values = (
                cast(torch.Tensor, kept)[0][:, columns.clamp_min(0)].transpose(0, 1).contiguous()
                for kept in (layer.keys, layer.values)
            )
    return known
