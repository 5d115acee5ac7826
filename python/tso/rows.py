"""Rows of a file or folder: JSONL, JSON, Parquet, Arrow, folders of these, folders that `datasets` saved.

Knows formats, and nothing of what the columns mean. A line that holds no row is a row with a reason; only a file that
cannot be read as a whole is an error.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from tso import arrow_files
from tso.arrow_files import Part, readable
from tso.errors import DataError

ACCEPTED = "give JSONL, JSON, Parquet or Arrow, or a folder of such files"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".jsonl.gz", ".ndjson.gz", ".json.gz")
# Folders saved by datasets, or fetched from a hub, hold JSON that describes them and no rows.
DESCRIPTIONS = ("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line` counts from 1: lines of JSONL, elements of a JSON array, rows of a table."""

    file: Path
    line: int
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None  # instead of values: an element of a JSON array that is plain text
    problem: str = ""  # why there is neither
    split: str = ""  # the split whose folder it was saved in

    def where(self, source: Path) -> str:
        """Its line, and where `source` is a folder its file inside it."""
        if self.file == source:
            return f"line {self.line}"
        return f"{self.file.relative_to(source) if self.file.is_relative_to(source) else self.file} line {self.line}"


def read(source: Path, option: str = "data.prompts") -> Iterator[Row]:
    """All rows in order, of a folder file by file. Raises DataError, which names the option, where it cannot be read."""
    for path, split in files(source, option):
        for row in read_file(path):
            yield replace(row, split=split) if split else row


def files(source: Path, option: str = "data.prompts") -> Iterator[tuple[Path, str]]:
    """The files of `read` in its order, each with the split whose folder it was saved in. Raises DataError as `read`."""
    with readable(source, "a file or folder"):  # too long a name, or a folder that may not be entered
        found = source.exists()
    if not found:
        raise DataError(f"{option}: no file or folder {source}; {ACCEPTED}")
    if arrow_files.is_table(source) and not (source.is_dir() or source.is_file()):
        raise no_file(option, source)
    yield from _folder(source, option) if source.is_dir() else [(source, "")]


def no_file(option: str, path: Path) -> DataError:
    """What to say of a pipe or device where the bytes are needed more than once."""
    return DataError(
        f"{option}: {path} is no regular file, and can be read only once; save what it gives to a file first"
    )


def parts(path: Path, size: int) -> list[Part | None]:
    """A file in parts of about `size` bytes, in order. None: the whole file, as packed files and JSON arrays have to be
    read. Raises DataError where it cannot be read."""
    if arrow_files.is_table(path):
        return [*arrow_files.parts(path, size)]
    return _parts_of_lines(path, size) if path.suffix.lower() in (".jsonl", ".ndjson") else [None]


def read_file(path: Path, part: Part | None = None) -> Iterator[Row]:
    """The rows of one file, or of a part of it."""
    if not arrow_files.is_table(path):
        yield from _json(path, part)
        return
    line = 0 if part is None else part.first
    for batch in arrow_files.batches(path, None, part):
        for values in arrow_files.as_python(batch):
            line += 1
            yield Row(path, line, values)


def digest(source: Path) -> str:
    """sha256 of what `read` would see: a file's bytes, or names and bytes of a folder's files that are not hidden."""
    total = hashlib.sha256()
    with readable(source, "a file or folder"):
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            name = path.relative_to(source)
            if not path.is_file() or _is_hidden(name):
                continue
            content = path.read_bytes()
            total.update(f"{name.as_posix()}\0{len(content)}\0".encode())
            total.update(content)
    return total.hexdigest()


# --- folders


def _folder(folder: Path, option: str) -> Iterator[tuple[Path, str]]:
    if (folder / "dataset_dict.json").is_file():
        yield from _splits(folder)
    elif (folder / "state.json").is_file():
        yield from ((path, "") for path in _saved(folder))
    else:
        yield from ((path, "") for path in _files(folder, option))


def _files(folder: Path, option: str) -> list[Path]:
    below = [path for path in folder.rglob("*") if not _is_hidden(path.relative_to(folder))]
    link = next((path for path in sorted(below) if path.is_symlink() and path.is_dir()), None)
    if link is not None:  # what lies behind it would be left out without a word, or read twice
        raise DataError(
            f"{option}: {link} is a link to a folder, which is not followed; give that folder by its own name, or move the "
            "link elsewhere"
        )
    found = sorted(path for path in below if _holds_rows(path) and path.is_file())
    if not found:
        raise DataError(f"{option}: {folder} holds no .jsonl, .json, .parquet or .arrow file; {ACCEPTED}")
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _holds_rows(path: Path) -> bool:
    return path.name not in DESCRIPTIONS and path.name.lower().endswith(SUFFIXES)


def _splits(folder: Path) -> Iterator[tuple[Path, str]]:
    """A folder of `DatasetDict.save_to_disk`: a folder a split. A split that is alone says nothing of its rows."""
    names = _description(folder / "dataset_dict.json").get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{folder / 'dataset_dict.json'} names no splits; save the dataset again")
    for name in names:
        yield from ((path, name if len(names) > 1 else "") for path in _saved(folder / name))


def _saved(folder: Path) -> list[Path]:
    """A folder of `Dataset.save_to_disk`: state.json names its Arrow files in their order."""
    state = _description(folder / "state.json")
    if state.get("_indices_files"):
        raise DataError(
            f"{folder} was saved with its rows reordered by an old datasets; save it again with a newer one"
        )
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError) as err:
        raise DataError(f"{folder / 'state.json'} names no Arrow files; save the dataset again") from err
    return [folder / name for name in names]


def _description(path: Path) -> dict[str, Any]:
    with readable(path, "the JSON that datasets writes"):
        found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise DataError(f"{path} is not the JSON that datasets writes; save the dataset again")
    return found


# --- JSON


def _json(path: Path, part: Part | None) -> Iterator[Row]:
    if part is None and not _is_lines(path):
        yield from _whole(path)
        return
    with _opened(path) as file:
        file.seek(part.first if part else 0)
        at, number = file.tell(), part.before if part else 0
        # Only "\n" ends a row: JSON strings may hold U+2028 and other characters that splitlines would split at.
        for line in file:
            if part is not None and at >= part.end:
                break
            number += 1
            text = _decoded(path, line, at, number)
            at += len(line)
            if text.strip():
                yield _parsed(path, number, text)


def _is_lines(path: Path) -> bool:
    """Whether a file has a row a line, as its name says, and does not begin like an array all the same.

    Not said of a pipe, which could not be read once more afterwards: it is read whole.
    """
    if not path.is_file() or not path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return False
    with _opened(path) as file:
        first = next((line for line in file if line.removeprefix(_BOM).strip()), b"")
    return not first.removeprefix(_BOM).lstrip().startswith(b"[")


def _parts_of_lines(path: Path, size: int) -> list[Part | None]:
    if not _is_lines(path):
        return [None]
    found: list[Part | None] = []
    first = at = before = count = 0
    with _opened(path) as file:
        for line in file:
            at, count = at + len(line), count + 1
            if at - first >= size:
                found.append(Part(first, at, before))
                first, before = at, count
    return [*found, Part(first, at, before)] if first < at else found


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    packed = path.suffix.lower() == ".gz"
    problems = readable(path, "gzip" if packed else "text", EOFError, zlib.error)
    with problems, gzip.open(path) if packed else path.open("rb") as file:
        yield cast(BinaryIO, file)


def _decoded(path: Path, content: bytes, at: int = 0, number: int = 1) -> str:
    """Lines that begin at byte `at`, as text."""
    try:
        return content.decode("utf-8-sig" if at == 0 else "utf-8")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + number
        raise DataError(f"{path} is not UTF-8 text (byte {at + err.start}, line {line}); save it as UTF-8") from err


def _whole(path: Path) -> Iterator[Row]:
    with _opened(path) as file:
        text = _decoded(path, file.read())
    whole = _one_object(path, text)
    if whole is not None:
        yield whole
        return
    if text.lstrip().startswith("["):
        array = _array(path, text)
        if array is not None:
            yield from array
            return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _parsed(path, number, line)


def _one_object(path: Path, text: str) -> Row | None:
    """The row of a .json file that is one object over several lines; None for anything else."""
    if ".json" not in path.suffixes or text.lstrip()[:1] != "{":
        return None
    try:
        return _row(path, 1, json.loads(text))
    except (ValueError, RecursionError):
        return None


def _array(path: Path, text: str) -> list[Row] | None:
    """The rows of a file that is one JSON array; None for lines of which the first is an array and the next are not."""
    try:
        elements = json.loads(text)
    except (ValueError, RecursionError) as err:
        lines = [_parsed(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if any(row.values for row in lines):
            return None
        raise DataError(f"{path} starts like a JSON array and is none ({err}); give one JSON object a line") from err
    return [
        Row(path, number, text=element) if isinstance(element, str) else _row(path, number, element)
        for number, element in enumerate(elements, 1)
    ]


def _parsed(path: Path, number: int, line: str) -> Row:
    try:
        return _row(path, number, json.loads(line))
    except json.JSONDecodeError as err:  # its own message counts lines, which would be a second line number
        return Row(path, number, problem=f"not JSON ({err.msg}, column {err.colno})")
    except (ValueError, RecursionError) as err:
        return Row(path, number, problem=f"not JSON ({err})")


def _row(path: Path, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        return Row(path, number, problem='not a JSON object such as {"prompt": "..."}')
    return Row(path, number, value)
