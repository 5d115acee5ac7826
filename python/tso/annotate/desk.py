"""What a person at the page can do: be given a pair, judge it, take the last verdict back. Knows no HTTP.

There is no state here beside the store's: a page that is loaded again, or a server that is started again, goes on where
it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice
from typing import Any

from tso._core import Ledger
from tso.annotate.queue import Queue, Wanted
from tso.errors import DataError
from tso.store import RunStore
from tso.texts import lone_surrogate
from tso.verdicts import OTHER

HOLD = 30 * 60.0  # seconds for which a pair is kept for the person who was given it
LONGEST_TEXT = 100_000  # characters of an edited answer
AT_ONCE = 200  # candidates for one transaction

WORDS = ("left", "right", "tie", "both_bad", "edit", "skip")


class Desk:
    """People's way into one run. `ledger` is open for people; several threads may use a desk at once."""

    def __init__(self, ledger: Ledger, store: RunStore, wanted: Wanted):
        self._ledger, self._store, self._wanted = ledger, store, wanted
        self.queue = Queue(store, wanted)

    def turn(self, annotator: str) -> dict[str, Any]:
        """The pair that the person is to judge now, None where none is left, and the progress."""
        number = self._assign(annotator)
        item = None if number is None else self._item(number)
        undo = self._last(annotator) is not None
        return {"item": item, "progress": asdict(self.queue.progress(annotator)), "undo": undo}

    def judge(
        self, annotator: str, item: int, said: str, request: str, side: str | None = None, text: str | None = None
    ) -> None:
        """Record what a person said of the pair of assignment `item`; `request` names this verdict, once for ever.

        Raises DataError for a verdict that is none, StoreConflict where the pair was judged meanwhile.
        """
        rows = self._store.query(
            "SELECT pair_id, round, on_left FROM assignments WHERE assignment = ? AND annotator = ?", (item, annotator)
        )
        if not rows:
            raise DataError(f"{annotator!r} was not given item {item}; load the page again")
        if said not in WORDS or (said == "edit") != (text is not None) or (said == "edit") != (side is not None):
            raise DataError(f"a verdict is one of {', '.join(WORDS)}, and an edit has a side and a text")
        pair, round, on_left = rows[0]
        sides = {"left": on_left, "right": OTHER[on_left]}
        if side is not None and side not in sides:
            raise DataError(f"the side of an edit is left or right, not {side!r}")
        if text is not None:
            self._check_edit(pair, sides[side or "left"], text)
        where = None if side is None else sides[side]
        self._say(pair, annotator, round, sides.get(said, said), request, side=where, text=text)

    def undo(self, annotator: str, request: str) -> None:
        """Take back the person's last verdict given on the page. Raises DataError where there is none."""
        known = self._store.query("SELECT 1 FROM verdicts WHERE request = ? AND said = 'undo'", (request,))
        if known:
            return  # sent twice
        last = self._last(annotator)
        if last is None:
            raise DataError("there is no verdict to take back")
        number, pair, round = last
        self._say(pair, annotator, round, "undo", request, takes_back=number)

    def _assign(self, annotator: str) -> int | None:
        candidates = self.queue.candidates(annotator)
        while some := list(islice(candidates, AT_ONCE)):
            number = self._ledger.assign(annotator, some, self._wanted.per_item, HOLD)
            if number is not None:
                return number
        return None

    def _item(self, number: int) -> dict[str, Any]:
        """What the page shows of an assignment. Nothing in it tells cells, labels, or whether it is a repetition."""
        pair, on_left = self._store.query("SELECT pair_id, on_left FROM assignments WHERE assignment = ?", (number,))[0]
        messages, a, b = self._store.query(
            "SELECT q.messages, a.text, b.text FROM pairs p JOIN prompts q USING (prompt_id) "
            "JOIN responses a ON a.response_id = p.response_a JOIN responses b ON b.response_id = p.response_b "
            "WHERE p.pair_id = ?",
            (pair,),
        )[0]
        left, right = (a, b) if on_left == "a" else (b, a)
        return {"id": number, "prompt": json.loads(messages), "left": left, "right": right}

    def _check_edit(self, pair: str, answer: str, text: str) -> None:
        if not text.strip():
            raise DataError("the edited answer is empty")
        if lone_surrogate(text) is not None:
            raise DataError("the edited answer holds half of a character (a lone surrogate); take it out")
        if len(text) > LONGEST_TEXT:
            raise DataError(f"the edited answer has {len(text)} characters; {LONGEST_TEXT} are allowed")
        column = "response_a" if answer == "a" else "response_b"
        [(before,)] = self._store.query(
            f"SELECT text FROM responses JOIN pairs ON response_id = {column} WHERE pair_id = ?", (pair,)
        )
        if _lines(text) == _lines(before):
            raise DataError("the edited answer is the answer of before; change it, or choose a side")

    def _last(self, annotator: str) -> tuple[int, str, int] | None:
        rows = self._store.query(
            "SELECT verdict_id, pair_id, round FROM standing WHERE annotator = ? AND request IS NOT NULL "
            "ORDER BY verdict_id DESC LIMIT 1",
            (annotator,),
        )
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    def _say(
        self,
        pair: str,
        annotator: str,
        round: int,
        said: str,
        request: str,
        side: str | None = None,
        text: str | None = None,
        takes_back: int | None = None,
    ) -> None:
        self._ledger.say([(pair, annotator, round, said, side, text, "", 1.0, takes_back, request, None)])


def _lines(text: str) -> str:
    """With line ends as a browser's text field has them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
