"""The records that the report is made of: what gather.py fills, and page.py and story.py show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tso.records import Message


@dataclass(frozen=True, slots=True)
class Table:
    """Column names and rows of values, numbers still numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the optimiser steps of the whole run; `starts` are the first steps of iterations after the first."""

    title: str
    note: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    starts: tuple[float, ...]
    shares: bool  # values between 0 and 1


@dataclass(frozen=True, slots=True)
class Count:
    """A line of a funnel. `share` of 0 to 1 is relative to the largest line of its group."""

    name: str
    value: int
    share: float
    lost: bool  # left the line here


@dataclass(frozen=True, slots=True)
class Funnel:
    """Where the rows of the prompt file, or the answers and pairs of an iteration, went: groups of counts of one kind."""

    title: str
    groups: tuple[tuple[Count, ...], ...]


@dataclass(frozen=True, slots=True)
class Strength:
    cell: str
    prior: float
    strength: float
    low: float  # of the 95 % interval
    high: float
    comparisons: int


@dataclass(frozen=True, slots=True)
class Meeting:
    """Pairs of answers of two cells, seen from one of them: how many it won, how many nobody did, how many it lost."""

    better: int
    neither: int
    worse: int

    @property
    def pairs(self) -> int:
        return self.better + self.neither + self.worse

    @property
    def rate(self) -> float:
        """Share won, where neither was better as half."""
        return (self.better + self.neither / 2) / self.pairs

    @property
    def reverse(self) -> Meeting:
        return Meeting(self.worse, self.neither, self.better)


@dataclass(frozen=True, slots=True)
class Meetings:
    """All of a run. `cells` from the strongest on; `of` has both directions of every couple that met."""

    cells: tuple[str, ...]
    of: dict[tuple[str, str], Meeting]


@dataclass(frozen=True, slots=True)
class Answer:
    """One response with where it came from. `side` is A, B, or edit for a person's text that replaced a side."""

    side: str
    response_id: int
    cell: str
    model: str
    revision: str
    decoding: str
    seed: int | None  # unsigned 64 bits; None for what people wrote
    iteration: int
    tokens: int
    finish_reason: str
    text: str
    scores: tuple[tuple[str, float, str], ...]  # judge, score, reason
    rewards: tuple[tuple[int, float], ...] = ()  # iteration, implicit reward before it was paired

    @property
    def short_revision(self) -> str:
        """Enough of a hash to tell models apart; a name@revision and a server's address stay whole."""
        return self.revision[:12] if re.fullmatch("[0-9a-f]+", self.revision) else self.revision

    @property
    def ending(self) -> str:
        return "ended by itself" if self.finish_reason == "stop" else "cut off at the limit"


@dataclass(frozen=True, slots=True)
class Labelled:
    source: str
    chosen: int | None
    rejected: int | None
    confidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class Judgement:
    source: str
    author: str
    verdict: str
    confidence: float
    reason: str
    text: str | None
    late: int | None = None  # the iteration in which it came, where the pair had been trained on, or had left


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said of a pair on the page or in an imported file: a, b, tie, both_bad, edit or skip."""

    annotator: str
    round: int
    said: str
    side: str | None  # edit: the answer it was made from
    text: str | None
    reason: str
    confidence: float
    given: int  # milliseconds since 1970; 0: not known
    taken_back: bool
    taken_up: bool  # the run has made a correction of it


@dataclass(frozen=True, slots=True)
class ToJudge:
    """That an AI judge was to judge a pair."""

    judge: str
    revision: str
    round: int
    position: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of an AI judge. verdict: first, second, tie or both_bad; None where the reply could not be read."""

    judge: str
    shown_first: int
    vote: int
    attempt: int
    verdict: str | None
    reason: str
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Drop:
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Logps:
    iteration: int
    model: str
    chosen: float
    rejected: float


@dataclass(frozen=True, slots=True)
class Outcome:
    iteration: int
    chosen: float
    rejected: float
    chosen_saturated: bool
    rejected_saturated: bool


@dataclass(frozen=True, slots=True)
class History:
    """All that the store knows of one pair. Answers: side A, side B, then edits, if any."""

    pair_id: str
    iteration: int
    purpose: str
    prompt_id: str
    similarity: float
    messages: tuple[Message, ...]
    answers: tuple[Answer, ...]
    labels: tuple[Labelled, ...]
    to_judge: tuple[ToJudge, ...]
    calls: tuple[Asked, ...]
    said: tuple[Said, ...]
    corrections: tuple[Judgement, ...]
    drops: tuple[Drop, ...]
    noise: tuple[tuple[int, float], ...]  # iteration, chance that the label is wrong
    logps: tuple[Logps, ...]
    outcomes: tuple[Outcome, ...]

    def side(self, response_id: int) -> str:
        """What to call a response: A, B or edit."""
        return next((a.side for a in self.answers if a.response_id == response_id), f"response {response_id}")

    def standing(self, response_id: int) -> str:
        """chosen, rejected or neither, by the label in force."""
        last = self.labels[-1] if self.labels else None
        if last is not None and response_id == last.chosen:
            return "chosen"
        return "rejected" if last is not None and response_id == last.rejected else "neither"

    @property
    def state(self) -> str:
        """Where the pair ended, in two or three words."""
        if self.drops:
            return f"dropped: {self.drops[-1].reason}"
        return "trained" if self.outcomes else "kept"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page."""

    model: str
    progress: str
    finished: bool
    facts: tuple[tuple[str, Any], ...]
    settings: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # section, (key, value)
    result: Table | None
    charts: tuple[Chart, ...]
    funnels: tuple[Funnel, ...]
    strengths: tuple[tuple[int, tuple[Strength, ...]], ...]
    meetings: Meetings | None
    errors: Table | None
    judges: Table | None
    people: Table | None
    lengths: Table | None
    figures: Table | None
    pairs: tuple[History, ...]
