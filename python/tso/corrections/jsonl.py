"""Our own format: JSONL, a verdict a line, the same lines that correct.recorded reads.

`verdict` is about the label that the pair had before any person spoke, as reports show it; `answer` (a or b) is the one
that the verdict prefers, or edits, and decides where both are given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tso.corrections.matter import Format, Line, Shown, parsed, said_of, unknown
from tso.errors import DataError
from tso.records import VERDICTS
from tso.verdicts import Verdict, chosen_side, person, word

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_ROUNDS = 1000


def write(pairs: Sequence[Shown]) -> str:
    return "".join(_line(pair, verdict) + "\n" for pair in pairs for verdict in pair.verdicts)


def _line(shown: Shown, verdict: Verdict) -> str:
    row: dict[str, Any] = {
        "pair_id": verdict.pair_id,
        "verdict": word(verdict.said, chosen_side(shown.pair)),
        "answer": verdict.answer,
        "author": verdict.annotator,
        "text": verdict.text,
        "reason": verdict.reason or None,
        "confidence": verdict.confidence if verdict.confidence != 1 else None,
        "round": verdict.round or None,
        "given": _time(verdict.given) if verdict.given else None,
    }
    return json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False)


def read(text: str, pairs: Mapping[str, Shown], author: str) -> tuple[list[Line], list[str]]:
    found, wrong = [], []
    # Only "\n" ends a line: texts may hold other characters that splitlines would split at.
    for i, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(Line(f"line {i}", _verdict(parsed(line, ""), pairs, author)))
        except DataError as err:
            wrong.append(f"line {i}: {str(err).removeprefix(': ')}")
    return found, wrong


def _verdict(row: Any, pairs: Mapping[str, Shown], author: str) -> Verdict:
    if not isinstance(row, dict):
        raise DataError("not an object")
    word, answer, text = row.get("verdict"), row.get("answer"), row.get("text")
    why = unknown(row.get("pair_id"), pairs)
    if why:
        raise DataError(why)
    shown = pairs[row["pair_id"]]
    if word not in VERDICTS:
        raise DataError(f"verdict must be one of {', '.join(VERDICTS)}, not {word!r}")
    if answer not in (None, "a", "b"):
        raise DataError(f"answer must be a or b, not {answer!r}")
    if word == "edit" and not (isinstance(text, str) and text.strip()):
        raise DataError("an edit needs the new answer in 'text'")
    edit = word == "edit"
    return Verdict(
        shown.pair.id,
        person(_text(row, "author") or author),
        answer if answer and word in ("keep", "flip") else said_of(word, shown.pair),
        answer if edit else None,
        text if edit else None,
        _text(row, "reason"),
        _confidence(row.get("confidence", 1.0)),
        _round(row.get("round", 0)),
        _given(row.get("given")),
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{name} has to be text, not {value!r}")
    return value or ""


def _confidence(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"confidence must be a number between 0 and 1, not {value!r}")
    return float(value)


def _round(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST_ROUNDS:
        raise DataError(f"round must be a whole number from 0, not {value!r}")
    return int(value)


def _time(given: int) -> str:
    return (EPOCH + timedelta(milliseconds=given)).isoformat(timespec="milliseconds")


def _given(value: Any) -> int:
    """Milliseconds since 1970; 0 where it is not told."""
    if value is None:
        return 0
    try:
        moment = datetime.fromisoformat(value)
        return (moment - EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError) as err:
        raise DataError(f"given must be a time with its zone, such as {_time(0)}, not {value!r}") from err


FORMAT = Format(write, read)
