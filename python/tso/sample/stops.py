"""Stop strings: texts that end an answer and are no part of it.

An answer is the shortest run of its tokens whose text holds one of its stop strings, and what is kept of it is the text
before. A stop string may begin and end inside tokens, so tokens are turned into text and looked at again; while a row
grows only its end is, and the exact place is found once, when the row has ended.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

Text = Callable[[list[int]], str]

SLACK = 8  # tokens that a tail may hold beside those of a stop string: what skips, joins or completes characters


def place(text: str, stop: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in `text`; None where there is none."""
    found = [at for at in (text.find(word) for word in stop) if at >= 0]
    return min(found) if found else None


def cut(text: Text, ids: list[int], stop: Sequence[str]) -> str | None:
    """The text before the first stop string that the tokens come to, or None where they never do."""
    # A text that holds a stop string keeps it however it goes on, so the place can be found by bisection.
    length = bisect.bisect_left(range(len(ids) + 1), True, key=lambda n: place(text(ids[:n]), stop) is not None)
    if length > len(ids):
        return None
    so_far = text(ids[:length])
    return so_far[: place(so_far, stop)]


class Watch:
    """Tells while rows grow which of them have come to one of their stop strings."""

    def __init__(self, text: Text, stops: Sequence[Sequence[str]]):
        self.text = text
        self.stops = stops
        # A token of text has a byte at least; tails that turn out too short cost time and change no answer.
        self.widths = [max((len(word.encode()) for word in stop), default=0) + SLACK for stop in stops]

    def __call__(self, row: int, ids: list[int]) -> bool:
        stop = self.stops[row]
        if not stop or place(self.text(ids[-self.widths[row] :]), stop) is None:
            return False
        return place(self.text(ids), stop) is not None
