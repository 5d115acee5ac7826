"""Prompts from the rows of a file or folder, with people's answers in an optional column.

A row that cannot be used is listed with its file, line and reason, and does not stop the run unless none is left.
Knows columns, nothing of models: limits in tokens are checked where there is a tokenizer.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tso import rows
from tso.config import DataSection
from tso.errors import DataError
from tso.records import Message, Prompt
from tso.rows import Row

ROLES = ("system", "user", "assistant")
UNREAD = "none"  # the name of a column that is not to be read
TRAIN_NAMES = frozenset({"train", "training"})
HELDOUT_NAMES = frozenset({"heldout", "held", "holdout", "test", "validation", "valid", "val", "dev", "eval"})
# What other data sets call the prompt; only used to say which option may be meant.
PROMPT_SYNONYMS = ("prompt", "messages", "instruction", "question", "query", "input", "text", "conversations")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out. `where` says its line, and its file where there are several."""

    line: int
    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts in the order of the input, the rows that were left out, and where each prompt stood, by its id."""

    prompts: tuple[Prompt, ...]
    rejected: tuple[BadRow, ...]
    places: Mapping[str, str]


class _Unusable(Exception):
    """Why one row cannot be used; never leaves this module."""


def load_prompts(options: DataSection) -> PromptSet:
    """All usable prompts in input order, each with its split.

    A prompt is text or a list of {role, content} messages that ends with a user turn; in a row without the prompt
    column under its default name, a column `messages` serves. A human, id or split column called none is not read.
    Columns without a meaning here become tags. Where no row names its split, a share of `options.holdout` is held out
    by the text of the first user turn.

    Raises DataError that says what to do: the source cannot be read, has no such column, or no row can be used.
    """
    source = Path(options.prompts)
    found = list(rows.read(source))
    if not found:
        raise DataError(
            f'{source} is empty: it holds no rows; give one JSON object a line, such as {{"prompt": "..."}}'
        )
    _check_columns(source, found, options)
    prompts, rejected, places = _build(source, found, options)
    if not prompts:
        raise DataError(_none_left(source, found, rejected))
    return PromptSet(tuple(_limit(_split(prompts, options.holdout), options.max_prompts)), tuple(rejected), places)


def _build(
    source: Path, found: Iterable[Row], columns: DataSection
) -> tuple[list[Prompt], list[BadRow], dict[str, str]]:
    prompts: list[Prompt] = []
    rejected: list[BadRow] = []
    seen: dict[Any, str] = {}  # ids and conversations, each with where it was first met
    for row in found:
        try:
            prompt = _prompt(row, columns)
            for key, what in ((prompt.messages, "prompt"), (prompt.id, f"id {prompt.id!r}")):
                if key in seen:
                    raise _Unusable(f"the same {what} as in {seen[key]}")
        except (_Unusable, RecursionError) as err:
            reason = str(err) if isinstance(err, _Unusable) else "it is nested too deeply"
            rejected.append(BadRow(row.line, reason, row.where(source)))
            continue
        seen[prompt.messages] = seen[prompt.id] = row.where(source)
        prompts.append(prompt)
    return prompts, rejected, {prompt.id: seen[prompt.id] for prompt in prompts}


def _none_left(source: Path, found: list[Row], rejected: list[BadRow]) -> str:
    first = rejected[0]
    if all(row.problem for row in found):
        others = ", nor is any other line" if len(found) > 1 else ""
        return f"{source} {first.where} is {first.reason}{others}; {rows.ACCEPTED}"
    listed = "; ".join(f"{bad.where}: {bad.reason}" for bad in rejected[:5])
    more = f"; and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    return f"no row of {source} can be used ({len(rejected)} left out): {listed}{more}"


# --- columns


def _check_columns(source: Path, found: list[Row], options: DataSection) -> None:
    """A name that was asked for and is in no row is an error; a default one may be absent."""
    names = list(dict.fromkeys(name for row in found for name in row.values))
    if not names:
        return
    defaults = {field.name: field.default for field in fields(DataSection)}
    if all(row.text is None for row in found) and _prompt_column(dict.fromkeys(names, ""), options) not in names:
        raise DataError(_no_column(source, "prompt_column", options.prompt_column, names))
    for part in ("human_column", "id_column", "split_column"):
        name = getattr(options, part)
        if name not in (*names, defaults[part], UNREAD):
            raise DataError(_no_column(source, part, name, names))


def _prompt_column(values: Mapping[str, Any], options: DataSection) -> str:
    """Where a row has its prompt: `messages` serves in a row without one, unless another column was asked for."""
    name = options.prompt_column
    serves = name == "prompt" and values.get(name) is None and values.get("messages") is not None
    return "messages" if serves else name


def _no_column(source: Path, part: str, name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    near += [known for known in PROMPT_SYNONYMS if known in names and part == "prompt_column"]
    hint = f"; try data.{part}={near[0]}" if near else f"; name one of them with data.{part}=..."
    if not near and part != "prompt_column":
        hint += f", or {UNREAD} to read none"
    return f"{source} has no column {name!r}, it has {', '.join(names)}{hint}"


# --- rows to prompts


def _prompt(row: Row, columns: DataSection) -> Prompt:
    if row.problem:
        raise _Unusable(row.problem)
    values = row.values if row.text is None else {columns.prompt_column: row.text}
    _check_text(values)
    asked = _prompt_column(values, columns)
    messages = _messages(values.get(asked), asked)
    used = {asked, columns.prompt_column, columns.human_column, columns.id_column, columns.split_column}
    return Prompt(
        _id(values.get(columns.id_column), messages, columns.id_column),
        messages,
        _human(values.get(columns.human_column), columns.human_column),
        _side(values.get(columns.split_column), columns.split_column) or _side(row.split, columns.split_column),
        {name: _plain(value) for name, value in values.items() if name not in used},
    )


def _check_text(values: Mapping[str, Any]) -> None:
    """Refuse what JSON can spell and UTF-8 cannot: half of a surrogate pair. It would fail only when stored."""
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError as err:
        raise _Unusable("it holds half of a surrogate pair, which is no text") from err


def _messages(value: Any, column: str) -> tuple[Message, ...]:
    if value is None:
        raise _Unusable(f"there is no {column!r}")
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise _Unusable(f"{column!r} must be text or a list of messages, not {type(value).__name__}")
    messages = tuple(_message(number, item) for number, item in enumerate(value, 1))
    if not messages or messages[-1].role != "user":
        raise _Unusable("the last message must be the user's")
    for number, (first, second) in enumerate(pairwise(messages), 1):
        if first.role == second.role:
            raise _Unusable(f"messages {number} and {number + 1} are both by {first.role!r}")
    return messages


def _message(number: int, item: Any) -> Message:
    role, content = (item.get("role"), item.get("content")) if isinstance(item, Mapping) else (None, None)
    if role not in ROLES:
        raise _Unusable(f"message {number} needs a role of system, user or assistant, and a content")
    if role == "system" and number > 1:
        raise _Unusable(f"message {number} is a system message, which may only come first")
    if not isinstance(content, str):
        raise _Unusable(f"the content of message {number} must be text, not {type(content).__name__}")
    if not content.strip():
        raise _Unusable("the prompt is empty" if number == 1 and role == "user" else f"message {number} is empty")
    return Message(role, content)


def _human(value: Any, column: str) -> tuple[str, ...]:
    answers = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise _Unusable(f"{column!r} must be text or a list of texts")
    return tuple(answer for answer in answers if answer.strip())


def _id(value: Any, messages: tuple[Message, ...], column: str) -> str:
    if value is None or value == "":
        whole = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False)
        return "p-" + hashlib.sha256(whole.encode()).hexdigest()[:12]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as some tools write whole numbers of a column with gaps
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Unusable(f"{column!r} must be text or a whole number, not {type(value).__name__}")
    return str(value)


def _side(value: Any, column: str) -> str:
    """train or heldout by the usual names, also with an addition such as test_sft; nothing where nothing is said."""
    if value is None or value == "":
        return ""
    name = re.split(r"[\W_]", value.strip().lower())[0] if isinstance(value, str) else None
    if name in TRAIN_NAMES | HELDOUT_NAMES:
        return "train" if name in TRAIN_NAMES else "heldout"
    known = "train or heldout (test and validation count as heldout)"
    raise _Unusable(f"{column!r} must say {known}, not {value!r}; data.split_column={UNREAD} leaves it unread")


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: tables also hold dates, decimals and bytes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


# --- which side, and how many


def _split(prompts: list[Prompt], holdout: float) -> list[Prompt]:
    """Where no row names its split, hold out texts by their hash: the same text is always on one side.

    Of two texts or more, at least one is held out and one is not. As a file grows, few texts change sides.
    """
    if any(prompt.split for prompt in prompts):
        return [replace(prompt, split=prompt.split or "train") for prompt in prompts]
    texts = [_text(prompt) for prompt in prompts]
    ranked = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest())
    count = round(len(ranked) * holdout)
    if holdout > 0 and len(ranked) > 1:
        count = min(max(count, 1), len(ranked) - 1)
    held = set(ranked[:count]) if len(ranked) > 1 else set()
    return [replace(p, split="heldout" if text in held else "train") for p, text in zip(prompts, texts, strict=True)]


def _text(prompt: Prompt) -> str:
    """The first user turn without case, punctuation and spacing."""
    text = next(message.content for message in prompt.messages if message.role == "user")
    return re.sub(r"\W+", " ", text.casefold()).strip() or text


def _limit(prompts: list[Prompt], most: int | None) -> list[Prompt]:
    if most is None:
        return prompts
    taken: dict[str, int] = {}
    kept = []
    for prompt in prompts:
        taken[prompt.split] = taken.get(prompt.split, 0) + 1
        if taken[prompt.split] <= most:
            kept.append(prompt)
    return kept
