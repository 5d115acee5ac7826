"""Sampling with transformers' generate: left-padded batches, one seed a draw.

A draw's randomness comes from its own seed, not from a shared generator: at each step one uniform number picks the
token by inverting the cumulative distribution that temperature, top-k and top-p leave. generate itself runs greedy on
the scores that this picking leaves, so its batching, caching and stopping are used as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from transformers import (
    BatchEncoding,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tso.errors import DataError
from tso.models import load_model, load_tokenizer
from tso.records import Cell, Decoding
from tso.sample.base import Answer, Request, chat, uniforms


class PickBySeed(LogitsProcessor):
    """Leaves one finite score a row: the token that the row's uniform number selects.

    draws: [B, steps] uniforms in [0, 1), float64.
    """

    def __init__(self, decoding: Decoding, draws: torch.Tensor, prompt_length: int):
        self.decoding = decoding
        self.draws = draws
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        picked = pick(scores, self.draws[:, step], self.decoding)
        return torch.full_like(scores, -torch.inf).scatter(1, picked[:, None], 0.0)


def pick(scores: torch.Tensor, draws: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Token ids [B] for scores [B, V] and uniforms [B]; temperature 0 is the largest score."""
    if decoding.temperature == 0:
        return scores.argmax(dim=-1)
    probs = torch.softmax(scores.float() / decoding.temperature, dim=-1)
    top, ids = _largest(probs, decoding)
    mass = top.double().cumsum(dim=-1)
    total = mass[:, -1:] if decoding.top_k else torch.ones_like(mass[:, :1])
    kept = (mass - top.double()) < decoding.top_p * total  # a token stays when the mass before it is below top_p
    mass = torch.where(kept, mass, torch.zeros_like(mass))
    target = draws[:, None].to(mass) * mass.amax(dim=-1, keepdim=True)
    reached = kept & (mass > target)
    return ids.gather(1, reached.int().argmax(dim=-1, keepdim=True)).squeeze(1)


class Generator(Protocol):
    """What every causal LM has, though its class PreTrainedModel does not say so."""

    def generate(self, inputs: torch.Tensor, **options: Any) -> torch.Tensor: ...


def _largest(probs: torch.Tensor, decoding: Decoding) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities, token ids) of each row, largest first: the top_k, or at least as many as hold top_p."""
    vocabulary = probs.shape[-1]
    if decoding.top_k:
        return probs.topk(min(decoding.top_k, vocabulary), dim=-1)
    # A nucleus is nearly always small, and a short selection costs a fraction of a sort.
    for width in (128, 1024):
        if width < vocabulary:
            top, ids = probs.topk(width, dim=-1)
            if bool((top.double().sum(-1) >= decoding.top_p).all()):
                return top, ids
    return probs.sort(dim=-1, descending=True, stable=True)


class TransformersSampler:
    """Keeps one model in memory at a time; cells of one model should follow one another."""

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device = device
        self.dtype = dtype
        self._path = ""
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def _load(self, path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None or path != self._path:
            self.release()  # before the next one is loaded, so that two are never held
            tokenizer = load_tokenizer(path)
            self._loaded = load_model(path, dtype=self.dtype, device=self.device), tokenizer
            self._path = path
        return self._loaded

    def release(self) -> None:
        self._path, self._loaded = "", None

    def sample(self, cell: Cell, requests: Sequence[Request]) -> list[Answer]:
        model, tokenizer = self._load(cell.path)
        prompts = [chat(r.prompt, cell.decoding.system_prompt) for r in requests]
        ids = [prompt_ids(tokenizer, messages) for messages in prompts]
        width = max(map(len, ids))
        steps = cell.decoding.max_new_tokens
        _check_room(model, width + steps, requests, ids)
        input_ids = torch.full((len(ids), width), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for i, row in enumerate(ids):
            input_ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
        draws = torch.from_numpy(uniforms([r.seed for r in requests], steps)).to(self.device)
        stops = stop_ids(model, tokenizer)
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=steps,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
        )
        with torch.inference_mode():
            out = cast(Generator, model).generate(
                input_ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList([PickBySeed(cell.decoding, draws, width)]),
            )
        return [_answer(tokenizer, row, stops) for row in out[:, width:].tolist()]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of a chat up to where the assistant's answer begins."""
    out = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(cast(BatchEncoding, out)["input_ids"])  # an encoding because of return_dict


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a turn: the tokenizer's, and those that the model's own generation settings name."""
    named = model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({tokenizer.eos_token_id, *more})


def _answer(tokenizer: PreTrainedTokenizerBase, row: list[int], stops: list[int]) -> Answer:
    end = next((i for i, token in enumerate(row) if token in stops), None)
    if end is None:
        return Answer(_text(tokenizer, row), tuple(row), "length")
    return Answer(_text(tokenizer, row[:end]), tuple(row[: end + 1]), "stop")


def _text(tokenizer: PreTrainedTokenizerBase, row: list[int]) -> str:
    return cast(str, tokenizer.decode(row, skip_special_tokens=True)).strip()  # a list for a list of rows only


def _check_room(model: PreTrainedModel, length: int, requests: Sequence[Request], ids: list[list[int]]) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and length > limit:
        longest = max(range(len(ids)), key=lambda i: len(ids[i]))
        raise DataError(
            f"prompt {requests[longest].prompt.id!r} has {len(ids[longest])} tokens and the answer may take "
            f"{length - len(ids[longest])}, but the model reads {limit}; "
            "lower data.max_prompt_tokens or sample.max_new_tokens"
        )
