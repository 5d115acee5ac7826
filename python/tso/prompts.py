"""Prompts from JSONL, JSON, Parquet or a folder of them, with people's answers in an optional column.

A row that cannot be used is listed with its line and reason, and does not stop the run unless none is left.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tso.config import DataSection
from tso.errors import DataError
from tso.records import Message, Prompt

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class BadRow:
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class PromptSet:
    prompts: tuple[Prompt, ...]
    rejected: tuple[BadRow, ...]


def load_prompts(options: DataSection) -> PromptSet:
    """All usable prompts in input order, each with its split. Raises DataError that says what to do."""
    path = Path(options.prompts)
    good: list[Prompt] = []
    bad: list[BadRow] = []
    ids: set[str] = set()
    texts: set[tuple[Message, ...]] = set()
    columns: set[str] = set()
    for line, row in _rows(path):
        columns |= row.keys()
        prompt = _parse(row, options)
        if isinstance(prompt, str):
            bad.append(BadRow(line, prompt))
        elif prompt.id in ids:
            bad.append(BadRow(line, f"the id {prompt.id!r} was used before"))
        elif prompt.messages in texts:
            bad.append(BadRow(line, "the same prompt came before"))
        else:
            ids.add(prompt.id)
            texts.add(prompt.messages)
            good.append(prompt)
    if not good:
        raise DataError(_none_left(path, bad, columns, options))
    return PromptSet(tuple(_limit(_split(good, options), options.max_prompts)), tuple(bad))


def _none_left(path: Path, bad: list[BadRow], columns: set[str], options: DataSection) -> str:
    if not bad:
        return f'{path} holds no rows; give one JSON object a line, such as {{"prompt": "..."}}'
    if columns and options.prompt_column not in columns:
        near = difflib.get_close_matches(options.prompt_column, sorted(columns), n=1, cutoff=0.3)
        hint = f"; try data.prompt_column={near[0]}" if near else ""
        return f"{path} has no column {options.prompt_column!r}, it has {', '.join(sorted(columns))}{hint}"
    listed = "; ".join(f"line {b.line}: {b.reason}" for b in bad[:5])
    return f"no row of {path} can be used ({len(bad)} rejected): {listed}"


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not path.exists():
        raise DataError(f"data.prompts: no file or folder {path}; give JSONL, Parquet, or a folder of such files")
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".jsonl", ".json", ".parquet", ".arrow"))
        # save_to_disk folders carry JSON beside their Arrow files that describes them and holds no rows.
        files = [f for f in files if f.name not in ("state.json", "dataset_info.json", "dataset_dict.json")]
        if not files:
            raise DataError(f"data.prompts: {path} holds no .jsonl, .json, .parquet or .arrow file")
        for file in files:
            yield from _rows(file)
    elif path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix == ".arrow":
        yield from _arrow(path)
    else:
        yield from _json(path)


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as err:
        raise DataError(f"{path} cannot be read as Parquet: {str(err).splitlines()[0]}") from err
    yield from enumerate(table.to_pylist(), 1)


def _arrow(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError) as err:
        raise DataError(f"{path} cannot be read as an Arrow stream: {str(err).splitlines()[0]}") from err
    yield from enumerate(table.to_pylist(), 1)


def _json(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise DataError(f"{path} is not UTF-8 text (byte {err.start}); save it as UTF-8") from err
    except OSError as err:
        raise DataError(f"{path} cannot be read: {err.strerror}") from err
    if not text.strip():
        raise DataError(f'{path} is empty; give one JSON object a line, such as {{"prompt": "..."}}')
    if text.lstrip().startswith("["):
        rows = _parse_json(text, f"{path}")
        yield from enumerate(({"prompt": r} if isinstance(r, str) else r for r in rows), 1)
        return
    # Only "\n" ends a line: JSON strings may hold other characters that splitlines would split at.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _parse_json(line, f"{path} line {number}")
            if not isinstance(row, dict):
                raise DataError(f'{path} line {number} is not a JSON object such as {{"prompt": "..."}}')
            yield number, row


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as err:
        raise DataError(f"{where} is not JSON ({err}); give one JSON object a line") from err


def _parse(row: Mapping[str, Any], options: DataSection) -> Prompt | str:
    """The prompt of a row, or why it cannot be used."""
    value = row.get(options.prompt_column, row.get("messages"))
    messages = _messages(value, options.prompt_column)
    if isinstance(messages, str):
        return messages
    human = row.get(options.human_column)
    answers = [human] if isinstance(human, str) else [] if human is None else human
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        return f"column {options.human_column!r} must be text or a list of texts"
    split = row.get(options.split_column) or ""
    if split not in ("", "train", "heldout"):
        return f"column {options.split_column!r} must be train or heldout, not {split!r}"
    named = {"messages", options.prompt_column, options.human_column, options.id_column, options.split_column}
    tags = {k: v for k, v in row.items() if k not in named and _is_json(v)}
    identity = row.get(options.id_column)
    if identity is None or identity == "":
        whole = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False)
        identity = "p-" + hashlib.sha256(whole.encode()).hexdigest()[:12]
    return Prompt(str(identity), messages, tuple(a for a in answers if a.strip()), split, tags)


def _messages(value: Any, column: str) -> tuple[Message, ...] | str:
    if value is None:
        return f"no column {column!r}"
    if isinstance(value, str):
        return (Message("user", value),) if value.strip() else "the prompt is empty"
    if not isinstance(value, list) or not value:
        return f"column {column!r} must be text or a list of messages"
    messages = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("content"), str) or item.get("role") not in ROLES:
            return "every message needs a role (system, user, assistant) and a text as content"
        if not item["content"].strip():
            return f"an empty {item['role']} message"
        messages.append(Message(item["role"], item["content"]))
    if messages[-1].role != "user":
        return "the last message must be the user's"
    if any(a.role == b.role for a, b in pairwise(messages)):
        return "two messages of the same role follow each other"
    return tuple(messages)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _split(prompts: list[Prompt], options: DataSection) -> list[Prompt]:
    """Rows without a split get one by their text: the same text is always on the same side."""
    if any(p.split for p in prompts):
        return [replace(p, split=p.split or "train") for p in prompts]
    ranked = sorted(range(len(prompts)), key=lambda i: _place(prompts[i]))
    count = round(len(prompts) * options.holdout)
    if options.holdout > 0 and len(prompts) > 1:
        count = min(max(count, 1), len(prompts) - 1)
    held = set(ranked[:count])
    return [replace(p, split="heldout" if i in held else "train") for i, p in enumerate(prompts)]


def _place(prompt: Prompt) -> str:
    text = next(m.content for m in prompt.messages if m.role == "user")
    return hashlib.sha256(re.sub(r"\W+", " ", text.lower()).strip().encode()).hexdigest()


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
