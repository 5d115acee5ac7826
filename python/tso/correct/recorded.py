"""Corrections that people (or other programs) wrote down: a JSONL file, one verdict a line, by pair id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tso.errors import DataError
from tso.records import VERDICTS, Correction
from tso.verdicts import person


def load(path: str) -> list[Correction]:
    """The corrections of a file, in its order. Raises DataError that names the line.

    A line: {"pair_id": "p...", "verdict": "keep|flip|tie|both_bad|edit", "author": "...", "text": "...", "reason": ""};
    text is needed for edit alone; author, reason and confidence may be left out. Where the line has an "answer", a or b,
    that is the one it prefers, or edits, and decides over keep and flip, which are about a label that may have changed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as err:
        raise DataError(f"correct.recorded: no file {path}") from err
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"correct.recorded: cannot read {path}: {err}") from err
    # Only "\n" ends a line: texts may hold other characters that splitlines would split at.
    return [_parse(line, f"{path} line {i}") for i, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parse(line: str, where: str) -> Correction:
    try:
        row: Any = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair could not be stored
    except (ValueError, RecursionError) as err:
        raise DataError(f"{where}: not JSON in UTF-8 ({err})") from err
    if not isinstance(row, dict) or not isinstance(row.get("pair_id"), str):
        raise DataError(f"{where}: needs an object with a pair_id")
    verdict, text = row.get("verdict"), row.get("text")
    if verdict not in VERDICTS:
        raise DataError(f"{where}: verdict must be one of {', '.join(VERDICTS)}, not {verdict!r}")
    if verdict == "edit" and not (isinstance(text, str) and text.strip()):
        raise DataError(f"{where}: an edit needs the new answer in 'text'")
    confidence = row.get("confidence", 1.0)
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise DataError(f"{where}: confidence must be a number between 0 and 1, not {confidence!r}")
    answer = row.get("answer")
    if answer not in (None, "a", "b"):
        raise DataError(f"{where}: answer must be a or b, not {answer!r}")
    author = row.get("author")
    if author is not None and not isinstance(author, str):
        raise DataError(f"{where}: author has to be text, not {author!r}")
    try:
        author = person(author or "recorded")
    except DataError as err:
        raise DataError(f"{where}: author: {err}") from err
    return Correction(
        row["pair_id"],
        "human",
        author,
        verdict,
        float(confidence),
        str(row.get("reason") or ""),
        text if verdict == "edit" else None,
        answer if verdict in ("keep", "flip", "edit") else None,
    )
