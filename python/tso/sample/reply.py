"""Requests and replies of the OpenAI protocol: what is sent for a draw, and what of the answer can be used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tso.records import Decoding
from tso.sample.base import Request, chat, plain
from tso.sample.client import Broken
from tso.sample.endpoint import Endpoint
from tso.sample.stops import place

# How servers say that an answer ended by itself, and that it was cut off: by the limit, or by a filter.
ENDED = ("stop", "eos_token", "stop_sequence", "end_turn")
CUT = ("length", "max_tokens", "content_filter")
SEEDS = 2**31  # servers take a seed of 32 bits, with its sign, or more


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what servers differ. `transformers serve` samples only when a generation_config says so."""

    seed: bool = True
    limit: str = "max_tokens"  # or max_completion_tokens
    generation_config: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as a server gave it; token counts are None where it reports none."""

    text: str
    finish_reason: str  # stop | length
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    thoughts: bool = False  # it came with thoughts that the server holds apart from the answer


def route(decoding: Decoding) -> str:
    """A plain prompt format needs the route without a chat template."""
    return "/chat/completions" if decoding.prompt_format is None else "/completions"


def body(endpoint: Endpoint, request: Request, dialect: Dialect) -> dict[str, Any]:
    """What is sent for one draw. Options that not every server knows are there only where a cell uses them."""
    how = request.decoding
    sent: dict[str, Any] = {"model": endpoint.model, dialect.limit: how.max_new_tokens, "temperature": how.temperature}
    if how.prompt_format is None:
        sent["messages"] = chat(request.prompt, how.system_prompt)
    else:
        sent["prompt"] = plain(request.prompt, how.system_prompt, how.prompt_format)
    if dialect.seed:
        sent["seed"] = request.seed % SEEDS
    if how.stop:
        sent["stop"] = list(how.stop)
    if request.schema is not None:
        schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    if how.top_p < 1:
        sent["top_p"] = how.top_p
    if dialect.generation_config:
        sent["generation_config"] = json.dumps(_generation_config(how))
        return sent
    return sent | {name: value for name in ("top_k", "min_p") if (value := getattr(how, name))}


def _generation_config(how: Decoding) -> dict[str, Any]:
    if how.temperature == 0:
        return {"do_sample": False}
    cuts = {"top_k": how.top_k, "top_p": how.top_p, **({"min_p": how.min_p} if how.min_p else {})}
    return {"do_sample": True, "temperature": how.temperature, **cuts}


def read(payload: Any, decoding: Decoding) -> Reply:
    """The answer in a server's JSON. Raises Broken where there is none, or one that cannot be meant.

    A content of null is an empty answer, as a filter leaves it: it is dropped later, with its reason.
    """
    try:
        [choice] = payload["choices"]
        content = choice["message"]["content"] if decoding.prompt_format is None else choice["text"]
        finish = choice["finish_reason"]
    except (TypeError, KeyError, ValueError, IndexError):
        raise Broken("an answer without exactly one choice and its text") from None
    if not isinstance(content, str | None) or finish not in (*ENDED, *CUT):
        raise Broken(f"an answer whose finish_reason is {str(finish)[:40]!r}")
    text = content or ""
    reason = "stop" if finish in ENDED else "length"
    if len(text) > _longest(decoding.max_new_tokens):
        raise Broken(f"an answer of {len(text)} characters, though {decoding.max_new_tokens} tokens were asked for")
    at = place(text, decoding.stop)  # some servers leave the stop string in
    text, reason = (text, reason) if at is None else (text[:at], "stop")
    model, usage = payload.get("model"), payload.get("usage")
    return Reply(
        text.strip(),
        reason,
        model if isinstance(model, str) else None,
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        _thought(choice.get("message")),
    )


def _thought(message: Any) -> bool:
    names = ("reasoning_content", "reasoning")
    return isinstance(message, dict) and any(isinstance(message.get(n), str) and message[n] for n in names)


def _longest(tokens: int) -> int:
    """Characters that so many tokens can have: a long run of spaces is one token, so there has to be room."""
    return 1024 + 128 * tokens


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 2**53 else None
