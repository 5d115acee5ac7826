"""What comes back from a server, made fit to be read, told and stored: without the key, and without half characters.

A server, or a library, may repeat the key that it was sent, and spell it as JSON, an address or a page of HTML does,
or one inside the other. So texts are compared as they read with all escapes undone, and the key is taken out where it
stands.
"""

from __future__ import annotations

import html
import re
from array import array
from collections.abc import Iterator
from typing import Any

LEAST_KEY = 8  # characters from which a key is taken out of what comes back: shorter ones are words such as EMPTY
HIDDEN = "***"
DEPTH = 16  # escapes of escapes that are undone

# Of JSON, of addresses and of HTML.
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)|%[0-9a-fA-F]{2}|&#?\w{1,32};", re.DOTALL)


class Hearsay:
    """Cleans what was said by one server; `key`: the one that it was sent."""

    def __init__(self, key: str | None):
        self._key = key if key is not None and len(key) >= LEAST_KEY else None
        self._plain = (
            "" if self._key is None else _undone(self._key)[0]
        )  # what looks like an escape may be the key's own

    def text(self, text: str) -> str:
        if self._key is not None:
            text = text.replace(self._key, HIDDEN)
            for start, end in reversed(list(_places(text, self._plain))):
                text = text[:start] + HIDDEN + text[end:]
        return text.encode("utf-8", "replace").decode()  # JSON can hold half a character, a store cannot

    def value(self, value: Any) -> Any:
        """A value of JSON with all its texts cleaned. Raises RecursionError where it is too deep."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(k): self.value(v) for k, v in value.items()}
        return [self.value(v) for v in value] if isinstance(value, list) else value


def _places(text: str, plain: str) -> Iterator[tuple[int, int]]:
    """Where in the text stands what reads as `plain`, with the whole of an escape that holds an end of it."""
    read, starts = _undone(text)
    at = read.find(plain)
    while at >= 0:
        end = at + len(plain)
        while end < len(read) and starts[end] == starts[end - 1]:  # one escape may stand for several characters
            end += 1
        yield starts[at], starts[end]
        at = read.find(plain, end)


def _undone(text: str) -> tuple[str, array[int]]:
    """The text without escapes, and where each of its characters begins in `text`; and where the last one ends."""
    starts = array("q", range(len(text) + 1))
    for _ in range(DEPTH):
        pieces, begins, at = [], array("q"), 0
        for found in _ESCAPE.finditer(text):
            meant = _meant(found[0])
            pieces += [text[at : found.start()], meant]
            begins += starts[at : found.start()] + array("q", [starts[found.start()]] * len(meant))
            at = found.end()
        if not pieces:
            break
        text, starts = "".join(pieces) + text[at:], begins + starts[at:]
    return text, starts


def _meant(escape: str) -> str:
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[0] == "%":
        return chr(int(escape[1:], 16))
    return chr(int(escape[2:], 16)) if len(escape) == 6 else escape[1:]
