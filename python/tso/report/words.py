"""Values and strangers' texts as words that a page or a terminal can show."""

from __future__ import annotations

import unicodedata
from typing import Any

# Controls, marks without a shape of their own (among them those that reorder the text around them) and odd line ends: with
# these a model could make a line read as something else, or hide one.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
_KEPT = frozenset("\n\t\u200c\u200d")  # joiners belong to the spelling of Persian, Hindi, emoji and more


def flat(text: str) -> str:
    """Visible text on one line."""
    return visible(" ".join(text.splitlines()))


def visible(text: str) -> str:
    """The text with its unseen characters spelled out: a model's answer must not drive the terminal."""
    return "".join(
        _spelled(ord(c)) if unicodedata.category(c) in _UNSEEN and c not in _KEPT else c
        for c in text.replace("\r\n", "\n")
    )


def _spelled(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def told(value: Any) -> str:
    """A setting's value as a reader sees it; a list takes a line for each."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return "\n".join(told(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {told(v)}" for k, v in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
