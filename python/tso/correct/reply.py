"""A judge's reply, read by a grammar that takes nothing else. What it does not take is a failed call, never a label.

    reply   = [ "<think>" text "</think>" ] ( object | "```" [ "json" ] newline object newline "```" )
    object  = a JSON object with the key "verdict", possibly "reason", each once, and no other key
    verdict = "A" | "B" | "tie" | "both_bad"
    reason  = a JSON string

White space may stand between the parts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

VERDICTS = {"A": "first", "B": "second", "tie": "tie", "both_bad": "both_bad"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": list(VERDICTS)}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}

_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """verdict: first, second, tie or both_bad, and the judge's reason; or None, and why the reply could not be read."""

    verdict: str | None
    reason: str


def read(text: str) -> Reply:
    """The verdict in a reply, or why there is none."""
    body = text.strip()
    if thoughts := _THOUGHTS.match(body):
        body = body[thoughts.end() :].strip()
    if fenced := _FENCED.fullmatch(body):
        body = fenced[1]
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return Reply(None, "it is not one JSON object")
    return _checked(found)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two verdicts in one object are none."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _checked(found: Any) -> Reply:
    if not isinstance(found, dict):
        return Reply(None, "it is not one JSON object")
    if not {"verdict"} <= found.keys() <= {"reason", "verdict"}:
        return Reply(None, "its keys are not reason and verdict")
    verdict, reason = found["verdict"], found.get("reason", "")
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        return Reply(None, "its verdict is none of A, B, tie, both_bad")
    if not isinstance(reason, str):
        return Reply(None, "its reason is not text")
    return Reply(VERDICTS[verdict], storable(reason))


def storable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON may spell and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
