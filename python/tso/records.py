"""The frozen records that stages hand to one another. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    id: str
    messages: tuple[Message, ...]
    human: tuple[str, ...]
    split: str
    tags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Response:
    id: int
    prompt_id: str
    cell: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    iteration: int


@dataclass(frozen=True, slots=True)
class Score:
    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    verdict: str
    confidence: float
    reason: str
