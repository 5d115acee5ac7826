"""Rows of a file or folder: JSONL, JSON, Parquet, Arrow, folders of these, folders that `datasets` saved.

Knows formats, and nothing of what the columns mean. A line that holds no row is a row with a reason; only a file that
cannot be read as a whole is an error.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tso.errors import DataError

ACCEPTED = "give JSONL, JSON, Parquet or Arrow, or a folder of such files"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".jsonl.gz", ".ndjson.gz", ".json.gz")
# Folders saved by datasets, or fetched from a hub, hold JSON that describes them and no rows.
DESCRIPTIONS = ("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_BATCH_ROWS = 1024


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
    with _readable(source, "a file or folder"):  # too long a name, or a folder that may not be entered
        found = source.exists()
    if not found:
        raise DataError(f"{option}: no file or folder {source}; {ACCEPTED}")
    yield from _folder(source, option) if source.is_dir() else [(source, "")]


def read_file(path: Path, groups: Sequence[int] | None = None, before: int = 0) -> Iterator[Row]:
    """The rows of one file, or of these row groups of a Parquet file that come after so many rows of it."""
    if path.suffix.lower() == ".parquet":
        return _parquet(path, groups, before)
    return _arrow(path) if path.suffix.lower() == ".arrow" else _json(path)


def row_groups(path: Path) -> list[tuple[int, int]]:
    """Rows and bytes (unpacked) of each row group of a Parquet file. Raises DataError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path, "Parquet", pa.ArrowException), pq.ParquetFile(path) as file:
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        return [(group.num_rows, group.total_byte_size) for group in groups]


def digest(source: Path) -> str:
    """sha256 of what `read` would see: a file's bytes, or names and bytes of a folder's files that are not hidden."""
    total = hashlib.sha256()
    with _readable(source, "a file or folder"):
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            name = path.relative_to(source)
            if not path.is_file() or any(part.startswith(".") for part in name.parts):
                continue
            content = path.read_bytes()
            total.update(f"{name.as_posix()}\0{len(content)}\0".encode())
            total.update(content)
    return total.hexdigest()


@contextmanager
def _readable(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """What goes wrong with a file's bytes, as one line that names it."""
    expected: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
    try:
        yield
    except expected as err:
        said = getattr(err, "strerror", None) or (str(err).splitlines() or [type(err).__name__])[0]
        raise DataError(f"{path} cannot be read as {kind}: {said}") from err


# --- folders


def _folder(folder: Path, option: str) -> Iterator[tuple[Path, str]]:
    if (folder / "dataset_dict.json").is_file():
        yield from _splits(folder)
    elif (folder / "state.json").is_file():
        yield from ((path, "") for path in _saved(folder))
    else:
        yield from ((path, "") for path in _files(folder, option))


def _files(folder: Path, option: str) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if _holds_rows(path.relative_to(folder)) and path.is_file())
    if not found:
        raise DataError(f"{option}: {folder} holds no .jsonl, .json, .parquet or .arrow file; {ACCEPTED}")
    return found


def _holds_rows(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.name not in DESCRIPTIONS and path.name.lower().endswith(SUFFIXES)


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
    with _readable(path, "the JSON that datasets writes"):
        found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise DataError(f"{path} is not the JSON that datasets writes; save the dataset again")
    return found


# --- tables


def _parquet(path: Path, groups: Sequence[int] | None, before: int) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path, "Parquet", pa.ArrowException), pq.ParquetFile(path) as file:
        yield from _table(path, file.iter_batches(_BATCH_ROWS, row_groups=groups), before)


def _arrow(path: Path) -> Iterator[Row]:
    """Streams, as datasets writes them, and files, as Feather is."""
    import pyarrow as pa

    with _readable(path, "Arrow", pa.ArrowException), pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            opened = pa.ipc.open_file(source)
            batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        else:
            source.seek(0)
            batches = pa.ipc.open_stream(source)
        yield from _table(path, batches)


def _table(path: Path, batches: Iterable[Any], line: int = 0) -> Iterator[Row]:
    for batch in batches:
        for values in batch.to_pylist():
            line += 1
            yield Row(path, line, values)


# --- JSON


def _json(path: Path) -> Iterator[Row]:
    text = _text(path)
    whole = _one_object(path, text)
    if whole is not None:
        yield whole
        return
    if text.lstrip().startswith("["):
        array = _array(path, text)
        if array is not None:
            yield from array
            return
    # Only "\n" ends a row: JSON strings may hold U+2028 and other characters that splitlines would split at.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _parsed(path, number, line)


def _text(path: Path) -> str:
    packed = path.suffix.lower() == ".gz"
    with _readable(path, "gzip" if packed else "text", EOFError, zlib.error):
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise DataError(f"{path} is not UTF-8 text (byte {err.start}, line {line}); save it as UTF-8") from err


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
