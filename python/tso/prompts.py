"""Reads prompts from a file or folder and says of every row that cannot be used why not.

It knows formats and columns, nothing of models: token limits are checked where there is a tokenizer.
One bad row never stops a run; a source without a single good row, or that cannot be read at all, does.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from tso.errors import ConfigError, DataError
from tso.records import Message, Prompt

ACCEPTED = "accepted are a .jsonl, .json or .parquet file, a folder of these, or a folder saved by datasets"
ROLES = ("system", "user", "assistant")
# What other data sets call the prompt; only used to say "did you mean".
PROMPT_SYNONYMS = ("prompt", "messages", "instruction", "question", "query", "input", "text", "conversations")
TRAIN_NAMES = frozenset({"train", "training"})
HELDOUT_NAMES = frozenset({"heldout", "held", "holdout", "test", "validation", "valid", "val", "dev", "eval"})
_BATCH_ROWS = 1024
_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. `line` counts from 1: lines of JSONL, elements of a JSON array, rows of a table."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts in the order of the input, and the rows that were refused."""

    prompts: tuple[Prompt, ...]
    rejected: tuple[BadRow, ...]


@dataclass(frozen=True, slots=True)
class _Columns:
    prompt: str
    human: str
    id: str
    split: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as read; `problem` says why there are no values. `file` is set where a folder holds several files."""

    line: int
    values: Mapping[str, Any]
    problem: str = ""
    file: str = ""


class _Unusable(Exception):
    """Why one row cannot be used; never leaves this module."""


def load_prompts(
    path: str | Path,
    *,
    prompt_column: str = "prompt",
    human_column: str = "human",
    id_column: str = "id",
    split_column: str = "split",
    holdout: float = 0.2,
    seed: int = 0,
    max_prompt_chars: int | None = 100_000,
) -> PromptSet:
    """Read prompts, with human answers where there are any.

    A prompt is a string or a list of {role, content} messages that ends with a user turn. Where there is no prompt
    column under its default name, a column `messages` serves. Human answers are a string, a list of strings, or
    absent; blank ones count as absent. All other columns become the prompt's tags.

    Where no row names its split, the share `holdout` is held out by a hash of `seed` and the first user text
    (case, punctuation and spacing aside), so that a text stays on its side whatever else the file holds. At least one
    text is held out where there are two or more and `holdout` > 0; never all. Where some rows name it, the others
    are for training.

    Raises:
        ConfigError: `holdout` or `max_prompt_chars` is out of range.
        DataError: the source cannot be read, has no such column, or not one of its rows can be used.
    """
    if not 0.0 <= holdout < 1.0:
        raise ConfigError(f"holdout must be at least 0 and below 1, not {holdout}")
    if max_prompt_chars is not None and max_prompt_chars < 1:
        raise ConfigError(f"max_prompt_chars must be at least 1 or null, not {max_prompt_chars}")
    source = Path(path)
    rows = list(_read(source))
    if not rows:
        raise DataError(f"{source}: there are no rows in it")
    columns = _settle_columns(source, rows, _Columns(prompt_column, human_column, id_column, split_column))
    prompts, rejected = _build(rows, columns, max_prompt_chars)
    if not prompts:
        raise DataError(_none_left(source, rejected))
    if all(row.values.get(columns.split) is None for row in rows):
        prompts = _hold_out(prompts, holdout, seed)
    return PromptSet(tuple(prompts), tuple(rejected))


# --- rows to prompts


def _build(rows: Iterable[_Row], columns: _Columns, max_prompt_chars: int | None) -> tuple[list[Prompt], list[BadRow]]:
    prompts: list[Prompt] = []
    rejected: list[BadRow] = []
    seen: dict[Any, str] = {}  # ids and conversations, each with where it was first met
    for row in rows:
        where = f"{row.file} line {row.line}" if row.file else f"line {row.line}"
        try:
            prompt = _prompt(row, columns, max_prompt_chars)
            for key, what in ((prompt.messages, "prompt"), (prompt.id, f"id {prompt.id!r}")):
                if key in seen:
                    raise _Unusable(f"the same {what} as in {seen[key]}")
        except _Unusable as error:
            rejected.append(BadRow(row.line, f"{row.file}: {error}" if row.file else str(error)))
            continue
        seen[prompt.messages] = seen[prompt.id] = where
        prompts.append(prompt)
    return prompts, rejected


def _prompt(row: _Row, columns: _Columns, max_prompt_chars: int | None) -> Prompt:
    if row.problem:
        raise _Unusable(row.problem)
    _check_text(row.values)
    messages = _messages(row.values.get(columns.prompt), columns.prompt)
    length = sum(len(message.content) for message in messages)
    if max_prompt_chars is not None and length > max_prompt_chars:
        raise _Unusable(f"the prompt has {length:,} characters, more than the {max_prompt_chars:,} allowed")
    used = {columns.prompt, columns.human, columns.id, columns.split}
    return Prompt(
        id=_id(row.values.get(columns.id), messages, columns.id),
        messages=messages,
        human=_human(row.values.get(columns.human), columns.human),
        split=_split(row.values.get(columns.split), columns.split),
        tags={name: _plain(value) for name, value in row.values.items() if name not in used},
    )


def _check_text(values: Mapping[str, Any]) -> None:
    """Refuse what JSON can spell and UTF-8 cannot: half a surrogate pair. It would fail only when stored."""
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Unusable("it holds half of a surrogate pair, which is no text") from error


def _messages(value: Any, column: str) -> tuple[Message, ...]:
    if value is None:
        raise _Unusable(f"there is no {column!r}")
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise _Unusable(f"{column!r} must be text or a list of messages, not {type(value).__name__}")
    messages = tuple(_message(number, item) for number, item in enumerate(value, 1))
    if not messages or messages[-1].role != "user":
        raise _Unusable("the conversation must end with a user turn")
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
        content = json.dumps([[message.role, message.content] for message in messages])
        return f"p-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Unusable(f"{column!r} must be text or a whole number, not {type(value).__name__}")
    return str(value)


def _split(value: Any, column: str) -> str:
    name = re.split(r"[\W_]", value.strip().lower())[0] if isinstance(value, str) else None
    if value is None or name in TRAIN_NAMES:
        return "train"
    if name in HELDOUT_NAMES:
        return "heldout"
    raise _Unusable(f"{column!r} must say train or heldout (test and validation count as heldout), not {value!r}")


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


def _none_left(source: Path, rejected: list[BadRow]) -> str:
    first = "; ".join(f"line {row.line}: {row.reason}" for row in rejected[:5])
    rest = f"; and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    return f"{source}: not one row can be used. {first}{rest}"


# --- held-out share


def _hold_out(prompts: list[Prompt], share: float, seed: int) -> list[Prompt]:
    places = {key: _place(key, seed) for key in map(_split_key, prompts)}
    held = {key for key, place in places.items() if place < share}
    if share > 0 and len(places) > 1:
        held = held or {min(places, key=places.__getitem__)}
        if len(held) == len(places):
            held.discard(max(places, key=places.__getitem__))
    elif len(places) == 1:
        held = set()  # one text cannot be on both sides, and something must be left to train on
    return [replace(prompt, split="heldout" if _split_key(prompt) in held else "train") for prompt in prompts]


def _split_key(prompt: Prompt) -> str:
    text = next(message.content for message in prompt.messages if message.role == "user")
    return re.sub(r"\W+", " ", text.casefold()).strip() or text


def _place(key: str, seed: int) -> float:
    """Where on [0, 1) a text falls: the same whatever else the file holds."""
    digest = hashlib.sha256(f"{seed}|{key}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


# --- columns


def _settle_columns(source: Path, rows: list[_Row], wanted: _Columns) -> _Columns:
    """The columns to read; a name that was asked for and is in no row is an error, a default one may be absent."""
    found = list(dict.fromkeys(name for row in rows for name in row.values))
    if wanted.prompt == "prompt" and "prompt" not in found and "messages" in found:
        wanted = replace(wanted, prompt="messages")
    defaults = _Columns("", "human", "id", "split")
    for part in ("prompt", "human", "id", "split"):
        name = getattr(wanted, part)
        if name not in found and name != getattr(defaults, part) and found:
            raise DataError(_no_column(source, part, name, found))
    return wanted


def _no_column(source: Path, part: str, name: str, found: list[str]) -> str:
    near = get_close_matches(name, found, n=2) or [
        synonym for synonym in PROMPT_SYNONYMS if part == "prompt" and synonym in found
    ]
    hint = f"; did you mean {near[0]!r}? Name it with data.{part}_column" if near else ""
    return f"{source}: no row has a column {name!r} for the {part}; the columns are {', '.join(found)}{hint}"


# --- files to rows


def _read(source: Path) -> Iterator[_Row]:
    try:
        if source.is_dir():
            yield from _read_folder(source)
        elif source.exists():
            yield from _read_file(source)
        else:
            raise DataError(f"{source}: there is no such file or folder; {ACCEPTED}")
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error


def _read_file(source: Path) -> Iterator[_Row]:
    if source.suffix.lower() not in _SUFFIXES:
        raise DataError(f"{source}: unknown kind of file; {ACCEPTED}")
    if source.stat().st_size == 0:
        raise DataError(f"{source}: the file is empty; {ACCEPTED}")
    return _read_parquet(source) if source.suffix.lower() == ".parquet" else _read_json(source)


def _read_folder(folder: Path) -> Iterator[_Row]:
    if (folder / "dataset_dict.json").is_file():
        for name in _read_index(folder / "dataset_dict.json").get("splits", []):
            for row in _read_saved(folder / name):
                yield replace(row, values={"split": name, **row.values}, file=f"{name}/{row.file}")
    elif (folder / "state.json").is_file():
        yield from _read_saved(folder)
    else:
        yield from _read_many(folder)


def _read_many(folder: Path) -> Iterator[_Row]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jsonl", ".parquet"))
    if not files:
        raise DataError(f"{folder}: there are no .jsonl or .parquet files in this folder; {ACCEPTED}")
    for file in files:
        for row in _read_file(file):
            yield replace(row, file=str(file.relative_to(folder)))


def _read_saved(folder: Path) -> Iterator[_Row]:
    """A folder of `datasets.Dataset.save_to_disk`: state.json names the Arrow files in order."""
    state = _read_index(folder / "state.json")
    if state.get("_indices_files"):
        raise DataError(f"{folder}: saved by an old datasets with its rows reordered; save it again with a newer one")
    for entry in state.get("_data_files", []):
        for row in _read_arrow(folder / entry["filename"]):
            yield replace(row, file=entry["filename"])


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not the JSON that datasets writes: {error}") from error
    if not isinstance(index, dict):
        raise DataError(f"{path}: not the JSON that datasets writes")
    return index


def _read_parquet(source: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file:
            yield from _rows(file.iter_batches(_BATCH_ROWS))
    except pa.ArrowException as error:
        raise DataError(f"{source}: not a Parquet file that can be read: {error}") from error


def _read_arrow(source: Path) -> Iterator[_Row]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(source)) as mapped, pa.ipc.open_stream(mapped) as stream:
            yield from _rows(stream)
    except pa.ArrowException as error:
        raise DataError(f"{source}: not an Arrow file that can be read: {error}") from error


def _rows(batches: Iterable[Any]) -> Iterator[_Row]:
    line = 0
    for batch in batches:
        for values in batch.to_pylist():
            line += 1
            yield _Row(line, values)


def _read_json(source: Path) -> Iterator[_Row]:
    text = _decode(source)
    if text.lstrip().startswith("["):
        yield from _read_array(source, text)
        return
    # Only "\n" ends a row: JSON strings may hold U+2028 and other marks that str.splitlines() would break at.
    rows = [_parse(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if rows and all(row.problem.startswith("not JSON") for row in rows):
        raise DataError(f"{source}: line {rows[0].line} is {rows[0].problem}, nor is any other; {ACCEPTED}")
    yield from rows


def _decode(source: Path) -> str:
    content = source.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source}: not UTF-8: byte 0x{content[error.start]:02x} in line {line}; save it as UTF-8"
        ) from error


def _parse(line: int, text: str) -> _Row:
    try:
        return _row_of(line, json.loads(text))
    except (ValueError, RecursionError) as error:
        return _Row(line, {}, f"not JSON ({error})")


def _read_array(source: Path, text: str) -> Iterator[_Row]:
    try:
        elements = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: starts like a JSON array and is none: {error}") from error
    return (_row_of(number, element) for number, element in enumerate(elements, 1))


def _row_of(line: int, value: Any) -> _Row:
    if not isinstance(value, dict):
        return _Row(line, {}, f"a row must be a JSON object, not {type(value).__name__}")
    return _Row(line, value)
