"""Answers of servers from the moment they come until their batch is recorded.

A batch is recorded whole, and its last answer may come long after its first, which was paid for. So each is committed as
it comes, and a run that was killed asks only for what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tso.records import Draw
from tso.sample.base import Answer
from tso.sample.reply import Reply
from tso.store import RunStore

COLUMNS = ["draw", "text", "finish_reason", "model", "prompt_tokens", "completion_tokens"]


class Arrivals:
    """Those of one plan. An answer is a unit of the store, with the number of its draw."""

    def __init__(self, store: RunStore, iteration: int, purpose: str):
        self.store = store
        self.iteration = iteration
        self.stage = f"arrived/{purpose}"

    def of(self, draws: Sequence[Draw]) -> dict[int, Answer]:
        """The answers that have come, by draw."""
        first, last = min(d.id for d in draws), max(d.id for d in draws)
        rows = self.store.query(
            "SELECT draw, text, finish_reason FROM arrivals WHERE draw BETWEEN ? AND ?", (first, last)
        )
        return {draw: Answer(text, (), finish_reason) for draw, text, finish_reason in rows}

    def among(self, draws: Collection[int]) -> set[int]:
        """Those of the numbers that something has come for."""
        if not draws:
            return set()
        rows = self.store.query("SELECT draw FROM arrivals WHERE draw BETWEEN ? AND ?", (min(draws), max(draws)))
        return {draw for (draw,) in rows} & set(draws)

    def unanswered(self) -> dict[int, str]:
        """What the server said in place of an answer, by draw."""
        return self.store.unanswered(self.iteration, self.stage.removeprefix("arrived/"))

    def keep(self, draw: Draw, reply: Reply) -> None:
        row = (draw.id, reply.text, reply.finish_reason, reply.model, reply.prompt_tokens, reply.completion_tokens)
        self.store.commit(self.iteration, self.stage, {"arrivals": (COLUMNS, [row])}, unit=draw.id)

    def keep_unanswered(self, draw: Draw, why: str) -> None:
        """An answer without text, whose unit says why."""
        row = (draw.id, "", "length", None, None, None)
        self.store.commit(
            self.iteration, self.stage, {"arrivals": (COLUMNS, [row])}, unit=draw.id, info={"unanswered": why}
        )
