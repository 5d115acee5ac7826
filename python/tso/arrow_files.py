"""Parquet and Arrow files as record batches, a few rows at a time, whole or in parts. Knows nothing of rows as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from tso.errors import DataError

_BATCH_ROWS = 1024
_BUFFER = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `first` to `end` of a table; or the lines that begin at bytes `first` to `end`, after `before` others."""

    first: int
    end: int
    before: int = 0


def is_table(path: Path) -> bool:
    """Whether a file is of these kinds, by its name."""
    return path.suffix.lower() in (".parquet", ".arrow")


def parts(path: Path, size: int) -> Iterator[Part]:
    """A file in parts of about `size` bytes, in order. Raises DataError where it cannot be read."""
    if path.suffix.lower() == ".parquet":
        return _parts_of_groups(_groups(path), size)
    return _ranges(0, count(path), -(-path.stat().st_size // size))


def batches(path: Path, names: Sequence[str] | None = None, part: Part | None = None) -> Iterator[Any]:
    """Record batches of a file, or of a part of it; only the columns named.

    Raises DataError where it cannot be read, or has two columns of one name.
    """
    import pyarrow as pa

    twice = [name for name, times in Counter(schema(path).names).items() if times > 1]
    if twice:
        raise DataError(f"{path} has more than one column {twice[0]!r}; rename them")
    kind, opened = ("Parquet", _parquet) if path.suffix.lower() == ".parquet" else ("Arrow", _arrow)
    with readable(path, kind, pa.ArrowException):
        yield from opened(path, names, part)


def schema(path: Path) -> Any:
    """The Arrow schema of a table. Raises DataError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        with readable(path, "Parquet", pa.ArrowException):
            return pq.read_schema(path)
    with readable(path, "Arrow", pa.ArrowException), _opened_arrow(path) as (found, _):
        return found


def count(path: Path) -> int:
    """The rows of a table. Raises DataError where it cannot be read."""
    import pyarrow as pa

    if path.suffix.lower() == ".parquet":
        return sum(rows for rows, _ in _groups(path))
    with readable(path, "Arrow", pa.ArrowException), _opened_arrow(path) as (_, batches):
        return sum(map(len, batches))


def as_python(values: Any) -> list[Any]:
    """A column's values, or a batch's rows. Raises DataError where Python has no form for one, as for a far-off date."""
    import pyarrow as pa

    try:
        return cast(list[Any], values.to_pylist())
    except (OverflowError, ValueError, pa.ArrowException) as err:
        kind = getattr(values, "type", None) or ", ".join(f"{field.name} {field.type}" for field in values.schema)
        raise DataError(
            f"a value cannot be read from Arrow ({err}) among {kind}; change its type, or leave the column out"
        ) from err


@contextmanager
def readable(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """What goes wrong with a file's bytes, as one line that names it."""
    expected: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
    try:
        yield
    except (DataError, MemoryError):
        raise
    except expected as err:
        said = getattr(err, "strerror", None) or (str(err).splitlines() or [type(err).__name__])[0]
        raise DataError(f"{path} cannot be read as {kind}: {said}") from err


def _groups(path: Path) -> list[tuple[int, int]]:
    """Rows and bytes (unpacked) of each row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with readable(path, "Parquet", pa.ArrowException), pq.ParquetFile(path) as file:
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        return [(group.num_rows, group.total_byte_size) for group in groups]


def _parts_of_groups(groups: Sequence[tuple[int, int]], size: int) -> Iterator[Part]:
    """Neighbours together where they are small, and one that is large in several parts."""
    first, end, weight = 0, 0, 0
    for count, more in groups:
        if first < end and weight + more > size:
            yield from _ranges(first, end, -(-weight // size))
            first, weight = end, 0
        end, weight = end + count, weight + more
    yield from _ranges(first, end, -(-weight // size))


def _ranges(first: int, end: int, count: int) -> Iterator[Part]:
    count = max(1, min(count, end - first))
    bounds = [first + (end - first) * i // count for i in range(count + 1)]
    return (Part(a, b) for a, b in pairwise(bounds) if a < b)


def _parquet(path: Path, names: Sequence[str] | None, part: Part | None) -> Iterator[Any]:
    import pyarrow.parquet as pq

    # Without the buffer a whole column of a row group would be read before its first row; and group by group, since
    # Arrow lets go of the bytes of none before it has read the last.
    with pq.ParquetFile(path, buffer_size=_BUFFER) as file:
        start = 0
        for group in range(file.metadata.num_row_groups):
            first, start = start, start + file.metadata.row_group(group).num_rows
            if part is None or (first < part.end and part.first < start):
                batches = file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names)
                yield from _of_part(batches, names, part, first)


def _of_part(batches: Iterable[Any], names: Sequence[str] | None, part: Part | None, start: int) -> Iterator[Any]:
    """Of batches, whose first row has this number, what a part holds of the columns."""
    for batch in batches:
        found = batch if names is None or batch.schema.names == list(names) else batch.select(list(names))
        if part is not None:
            first = min(max(part.first - start, 0), len(batch))
            found = found.slice(first, max(part.end - start - first, 0))
        start += len(batch)
        if len(found):
            yield found
        if part is not None and start >= part.end:
            return


def _arrow(path: Path, names: Sequence[str] | None, part: Part | None) -> Iterator[Any]:
    with _opened_arrow(path) as (_, batches):
        for batch in _of_part(batches, names, part, 0):
            for at in range(0, len(batch), _BATCH_ROWS):
                yield batch.slice(at, _BATCH_ROWS)


@contextmanager
def _opened_arrow(path: Path) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Schema and batches of a stream, as datasets writes them, or of a file, as Feather is."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            yield file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            yield stream.schema, stream
