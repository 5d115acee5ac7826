"""Pairs of rows as the three columns that are compared: prompt, chosen and rejected. Knows no files and no tokens.

Data sets say the prompt of a pair of conversations in three ways: in a column, at the beginning of both sides, or in both
places. It is compared as the prompt in all three, and never as a part of the sides: a long prompt would make unlike
answers to it seem alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tso import fields


def columns(prompts: Any, chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """The columns as they are compared: what conversations of both sides begin with is taken to the prompt.

    Where no row has a prompt, it is what both sides begin with, be it messages or token ids.
    """
    told = any(prompt is not None for prompt in fields.values(prompts))
    if told and any(hasattr(column, "type") for column in (prompts, chosen, rejected)):
        return prompts, chosen, rejected  # token ids hold no messages
    rows = zip(*map(fields.values, (prompts, chosen, rejected)), strict=True)
    of_prompts, of_chosen, of_rejected = zip(*(_pair(*row, told=told) for row in rows), strict=True)
    if all(hasattr(column, "type") for column in (chosen, rejected)):
        return list(of_prompts), chosen, rejected
    return list(of_prompts), list(of_chosen), list(of_rejected)


def _pair(prompt: Any, chosen: Any, rejected: Any, *, told: bool) -> tuple[Any, Any, Any]:
    if not (_is_conversation(chosen) and _is_conversation(rejected)):
        return prompt if told else _beginning(chosen, rejected), chosen, rejected
    shared = _beginning(chosen[:-1], rejected[:-1])  # an answer is never a part of the prompt, also where both are one
    if not told:
        prompt = shared
    elif prompt is not None and shared:
        prompt = _together(prompt, shared)
    return prompt, chosen[len(shared) :], rejected[len(shared) :]


def _beginning(chosen: Any, rejected: Any) -> Any:
    """What both sides begin with, messages or token ids; nothing where they are no lists."""
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        return [] if isinstance(chosen, list) or isinstance(rejected, list) else ""
    count = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    return chosen[:count]


def _together(prompt: Any, shared: list[Any]) -> list[Any]:
    """A prompt and what both sides begin with, which mostly says the prompt once more."""
    own = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    again = shared[: len(own)] == own if isinstance(prompt, list) else any(_says(m, prompt) for m in shared)
    return shared if again else own + shared


def _says(message: Any, prompt: Any) -> bool:
    return bool(message.get("content") == prompt)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
