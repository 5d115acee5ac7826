"""The records that pass between stages: frozen, plain, standard library only.

A stage reads records from the run store and writes records to it; no stage hands another an object of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VERDICTS = ("keep", "flip", "tie", "both_bad", "edit")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One instruction: chat messages that end with a user turn, and what people answered, if anything."""

    id: str
    messages: tuple[Message, ...]
    human: tuple[str, ...] = ()
    split: str = "train"  # train | heldout
    tags: Mapping[str, Any] = field(default_factory=dict)  # further columns of the row, for judges


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a cell turns its model's distribution into text. Temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    max_new_tokens: int = 256
    system_prompt: str | None = None
    min_p: float = 0.0  # tokens less likely than this share of the likeliest one are left out; 0: none
    stop: tuple[str, ...] = ()  # texts that end an answer; they are no part of it
    prompt_format: str | None = None  # plain text around {prompt}, in place of the model's chat template


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of the model matrix, as it stands in one iteration."""

    name: str
    model: str  # as configured: policy, reference, previous, policy@K, human, or a model's name or path
    path: str  # the folder to load, inside the run's folder unless absolute, or URL#NAME on a server; empty for people
    revision: str  # identity of the weights: equal revisions are the same model
    stage: str  # human | base | reference | policy | earlier
    scale: float | None  # billions of parameters
    decoding: Decoding
    prior: float  # configured strength, log-odds
    strength: float  # strength in force, log-odds
    draws: int  # answers per prompt in this iteration


@dataclass(frozen=True, slots=True)
class Draw:
    """One planned answer: which prompt, which cell, which seed, computed together with which batch."""

    id: int
    prompt_id: str
    cell: str
    draw: int
    seed: int
    batch: int


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. `token_ids` include the end-of-turn token exactly where the answer ended by itself."""

    id: int
    prompt_id: str
    cell: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str  # stop | length
    iteration: int


@dataclass(frozen=True, slots=True)
class Label:
    """Which side of a pair is better, who says so, and how surely. `chosen` None: no side is."""

    source: str
    chosen: int | None
    rejected: int | None
    confidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt with the label in force."""

    id: str
    iteration: int
    prompt_id: str
    response_a: int
    response_b: int
    similarity: float  # n-gram Jaccard of the two sides, 0 to 1
    label: Label


@dataclass(frozen=True, slots=True)
class Correction:
    """A verdict on a pair: a rule's is about the pair's first label, a person's about what rules and judges made of it."""

    pair_id: str
    source: str  # rule | judge | human
    author: str
    verdict: str  # one of VERDICTS
    confidence: float
    reason: str = ""
    text: str | None = None  # edit: the new answer
    answer: str | None = (
        None  # a | b: the one it prefers, or edits, where it was said of the answers and not of a label
    )
    verdict_id: int | None = None  # where it was made from a verdict in the store


@dataclass(frozen=True, slots=True)
class Score:
    """What a judge that looks at one response at a time said: 0 is worst, 1 is best."""

    value: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge said of two responses a and b: verdict a, b, tie or both_bad; confidence in [0.5, 1]."""

    verdict: str
    confidence: float
    reason: str = ""
