"""What comes back from a server, made fit to be read, told and stored: without the key, and without half characters.

A server, or a library, may repeat the key that it was sent, and spell it in any of JSON's ways. So it is taken out of
texts after they were parsed, and out of JSON that stands inside a text.
"""

from __future__ import annotations

import json
from typing import Any

LEAST_KEY = 8  # characters from which a key is taken out of what comes back: shorter ones are words such as EMPTY


class Hearsay:
    """Cleans what was said by one server; `key`: the one that it was sent."""

    def __init__(self, key: str | None):
        spelt = [] if key is None or len(key) < LEAST_KEY else _spellings(key)
        self._spelt = sorted(spelt, key=len, reverse=True)  # an escaped one holds parts of the plain one

    def text(self, text: str) -> str:
        for word in self._spelt:
            text = text.replace(word, "***")
        return text.encode("utf-8", "replace").decode()  # JSON can hold half a character, a store cannot

    def value(self, value: Any) -> Any:
        """A value of JSON with all its texts cleaned. Raises RecursionError where it is too deep."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(k): self.value(v) for k, v in value.items()}
        return [self.value(v) for v in value] if isinstance(value, list) else value


def _spellings(key: str) -> set[str]:
    """The key, and how JSON may escape it."""
    return {word for plain in (key, json.dumps(key)[1:-1]) for word in (plain, plain.replace("/", "\\/"))}
