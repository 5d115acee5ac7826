"""What a sampler is, and the arithmetic that every backend shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tso.records import Decoding, Prompt


@dataclass(frozen=True, slots=True)
class Request:
    """One draw to compute: the prompt, how to decode, and the seed that alone decides its randomness."""

    prompt: Prompt
    decoding: Decoding
    seed: int
    schema: Mapping[str, Any] | None = None  # JSON schema of the answer, for a backend that can hold a model to one


@dataclass(frozen=True, slots=True)
class Answer:
    """`token_ids` include the end-of-turn token exactly where finish_reason is stop."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int | None = None  # that the model read; None: the backend does not tell
    written_tokens: int | None = None  # that the model wrote, where it is another model's and token_ids do not tell


class Sampler(Protocol):
    """A backend. One call computes one batch of the plan, all of one model."""

    def sample(self, model: str, requests: Sequence[Request]) -> list[Answer]: ...


def chat(prompt: Prompt, system_prompt: str | None) -> list[dict[str, str]]:
    """The messages of a prompt for a chat template; a cell's system prompt stands in front of the user's turns."""
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    if system_prompt is None:
        return messages
    return [{"role": "system", "content": system_prompt}, *(m for m in messages if m["role"] != "system")]


def plain(prompt: Prompt, system_prompt: str | None, prompt_format: str) -> str:
    """The text that a model without a chat template goes on from.

    Each user turn stands in `prompt_format` at {prompt}, each answer follows after a space and ends its line, and a
    system prompt stands in front, with an empty line behind it.
    """
    parts: dict[str, Callable[[str], str]] = {
        "system": lambda content: content + "\n\n",
        "user": lambda content: prompt_format.replace("{prompt}", content),
        "assistant": lambda content: f" {content}\n",
    }
    return "".join(parts[m["role"]](m["content"]) for m in chat(prompt, system_prompt))


def uniforms(seeds: Sequence[int], steps: int) -> np.ndarray:
    """Uniform numbers [len(seeds), steps] in [0, 1), float64: row i depends on seed i alone (Philox 4x64)."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
    return np.stack(rows) if rows else np.empty((0, steps))
