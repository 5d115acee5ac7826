"""Sampling with models of transformers, one in memory at a time: chats become tokens, tokens become answers.

How a batch of token ids is completed is in decode.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import torch
from transformers import BatchEncoding, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tso.errors import DataError, ModelError
from tso.models import NO_TEMPLATE, load_model, load_tokenizer
from tso.records import Decoding, Prompt
from tso.sample.base import Answer, Request, chat, plain, uniforms
from tso.sample.decode import complete
from tso.sample.stops import Watch, cut


class TransformersSampler:
    """Keeps one model in memory at a time; batches of one model should follow one another."""

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device = device
        self.dtype = dtype
        self._path = ""
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def _load(self, path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None or path != self._path:
            self.release()  # before the next one is loaded, so that two are never held
            tokenizer = load_tokenizer(path, chat=False)
            model = load_model(path, dtype=self.dtype, device=self.device)
            model.generation_config = _token_ids_alone(model.generation_config)
            self._loaded = model, tokenizer
            self._path = path
        return self._loaded

    def release(self) -> None:
        self._path, self._loaded = "", None

    def sample(self, model: str, requests: Sequence[Request]) -> list[Answer]:
        loaded, tokenizer = self._load(model)
        ids = [request_ids(tokenizer, r.prompt, r.decoding) for r in requests]
        decodings = [r.decoding for r in requests]
        steps = max(d.max_new_tokens for d in decodings)
        _check_room(loaded, max(map(len, ids)) + steps, requests, ids)
        draws = torch.from_numpy(uniforms([r.seed for r in requests], steps)).to(self.device)
        stops = stop_ids(loaded, tokenizer)
        watch = (
            Watch(partial(_decoded, tokenizer), [d.stop for d in decodings]) if any(d.stop for d in decodings) else None
        )
        rows = complete(loaded, ids, draws, decodings, stops, tokenizer.pad_token_id, watch)
        return [
            replace(_answer(tokenizer, row, stops, d.stop), prompt_tokens=len(read))
            for row, d, read in zip(rows, decodings, ids, strict=True)
        ]


def request_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, decoding: Decoding) -> list[int]:
    """Token ids of a prompt as a cell puts it: by the model's chat template, or by the cell's plain format.

    Raises ModelError when there is neither, and DataError as `prompt_ids` and `plain_ids`.
    """
    if decoding.prompt_format is not None:
        return plain_ids(tokenizer, plain(prompt, decoding.system_prompt, decoding.prompt_format))
    if not tokenizer.chat_template:
        raise ModelError(f"the tokenizer of {tokenizer.name_or_path} has no chat template; {NO_TEMPLATE}")
    return prompt_ids(tokenizer, chat(prompt, decoding.system_prompt))


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text to go on from, with the token that begins a text where the tokenizer puts one.

    Names of control tokens are read as the characters that they have. Raises DataError where that cannot be.
    """
    _, found = _words(tokenizer, text)
    if found is not None:
        raise DataError(f"a prompt holds {found!r}, which this tokenizer cannot read as plain text")
    ids = list(tokenizer(text, split_special_tokens=True)["input_ids"])
    # A tokenizer that ends every text would have the model begin a new one.
    return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of a chat up to where the assistant's answer begins.

    Only the template writes control tokens: the name of one inside a message is read as the characters that it has.
    Raises DataError where the tokenizer cannot do that, and whatever a template raises for roles that it does not take.
    """
    guard: dict[str, Any] = {"sanitize_control_tokens": True} if _can_sanitize() else {}
    if not guard:
        _refuse_control_tokens(tokenizer, messages)
    try:
        out = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, **guard
        )
    except ValueError as err:
        raise DataError(f"a message cannot be put into tokens: {err}") from err
    return list(cast(BatchEncoding, out)["input_ids"])  # an encoding because of return_dict


@cache
def _can_sanitize() -> bool:
    """From transformers 5.20 on; before, the option would be swallowed and do nothing."""
    return "sanitize_control_tokens" in inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters


def _refuse_control_tokens(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> None:
    for name in tokenizer.all_special_tokens:
        if any(name in message["content"] for message in messages):
            raise DataError(f"a message spells {name!r}, which transformers reads as plain text from 5.20 on only")


def answer_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of a text that a person or another model wrote, with the end-of-turn token after it.

    The name of a special token inside the text is read as the characters that it has: an answer ends once. Added tokens
    that are not special, such as the marks around a model's thoughts, stay what they are.
    Raises DataError for a text that becomes nothing, or a special token in spite of that.
    """
    ids, found = _words(tokenizer, text)
    if not ids:
        raise DataError(f"the tokenizer turns the answer {text[:40]!r} into nothing")
    if found is not None:
        raise DataError(f"the answer {text[:40]!r} holds {found!r}, which this tokenizer cannot read as plain text")
    return (*ids, tokenizer.eos_token_id)


def _words(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], str | None]:
    """Token ids of a text, and the control token that it holds although its names were to be read as characters."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    control = (special - {tokenizer.unk_token_id}) | {tokenizer.eos_token_id}  # a rare word may be unknown
    found = next((i for i in ids if i in control), None)
    return ids, None if found is None else cast(str, tokenizer.convert_ids_to_tokens(found))


def _token_ids_alone(suggested: GenerationConfig) -> GenerationConfig:
    """Which tokens begin, end and pad a text, and nothing else that a model's files suggest.

    generate takes from them what it is not told: penalties, beams, a least length. A cell's decoding says all there is.
    """
    return GenerationConfig(
        bos_token_id=suggested.bos_token_id,
        eos_token_id=suggested.eos_token_id,
        pad_token_id=suggested.pad_token_id,
    )


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a turn: the tokenizer's, and those that the model's own generation settings name."""
    named = model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({tokenizer.eos_token_id, *more})


def _answer(tokenizer: PreTrainedTokenizerBase, row: list[int], stops: list[int], stop: Sequence[str]) -> Answer:
    end = next((i for i, token in enumerate(row) if token in stops), None)
    before = cut(partial(_decoded, tokenizer), row[:end], stop) if stop else None
    if before is not None:
        text = before.strip()
        return Answer(text, answer_ids(tokenizer, text) if text else (), "stop")
    text = _decoded(tokenizer, row[:end]).strip()
    return Answer(text, tuple(row), "length") if end is None else Answer(text, tuple(row[: end + 1]), "stop")


def _decoded(tokenizer: PreTrainedTokenizerBase, row: list[int]) -> str:
    return cast(str, tokenizer.decode(row, skip_special_tokens=True))  # a list for a list of rows only


def _check_room(model: PreTrainedModel, length: int, requests: Sequence[Request], ids: list[list[int]]) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and length > limit:
        longest = max(range(len(ids)), key=lambda i: len(ids[i]))
        raise DataError(
            f"prompt {requests[longest].prompt.id!r} has {len(ids[longest])} tokens and the answer may take "
            f"{length - len(ids[longest])}, but the model reads {limit}; "
            "lower data.max_prompt_tokens or max_new_tokens"
        )
