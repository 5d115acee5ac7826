"""Rows of a source into a file: some of them, with their own columns and further ones, whole or not at all."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from itertools import combinations, product
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from tso import arrow_files, fields
from tso.errors import DataError
from tso.tables import Chunk, Source
from tso.texts import lone_surrogate
from tso.whole import check_place, drafts, target

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
_ROWS, _BYTES = 1 << 16, 64 << 20  # of a row group at most, about

More = Mapping[str, Sequence[str | None]]  # further columns of text


def check(path: Path, overwrite: bool, hint: str = ", or --overwrite") -> str:
    """The suffix of a file that can be written. Raises DataError for any other; `hint` is what else can be done."""
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: the output's name has to end in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; give another name{hint}")
    if not target(path).parent.is_dir():
        raise DataError(f"{path}: there is no folder {target(path).parent if path.is_symlink() else path.parent}")
    if suffix == ".parquet":
        check_name(path)
    check_place(path)
    return suffix


def check_name(path: Path) -> None:
    """Raises DataError for a name that Parquet's library cannot open: it takes UTF-8 alone."""
    if lone_surrogate(os.path.abspath(path)) is not None:  # how Python spells other bytes
        raise DataError(f"{path}: its name, or that of its folder, is not UTF-8, which Parquet needs; rename it")


def check_page(path: Path) -> None:
    """Raises DataError where no page of this name can be written."""
    if not target(path).parent.is_dir():
        raise DataError(
            f"{path} is a link into {target(path).parent}, which is no folder; remove it, or make the folder"
        )
    check_place(path)


def check_schema(schema: Any) -> None:
    """Raises DataError where a Parquet file cannot have these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fields.one_table():
        pq.ParquetWriter(pa.BufferOutputStream(), schema).close()


def check_column(values: Sequence[Any]) -> None:
    """Raises DataError where values cannot be a column of a Parquet file."""
    import pyarrow as pa

    with fields.one_table():
        table = pa.table({"": pa.array(values)})
    check_schema(table.schema)


def check_json(chunk: Chunk) -> None:
    """Raises DataError where rows of a table cannot be written as JSON, of which the first ones mostly tell."""
    for row in arrow_files.as_python(chunk.rows):
        _line(row)


def apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raises DataError where an output would be in the place of an input or another output, or be read with the inputs
    the next time."""
    for one, other in combinations(outputs, 2):
        if target(one) == target(other):
            raise DataError(f"{one} and {other} are links to one file; give another name")
    for output, source in product(outputs, inputs):
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"{output} would lie in the input folder {source}, and be read as input; write it elsewhere"
            )
        if output.exists() and source.exists() and output.samefile(source):
            raise DataError(f"{output} is an input; give another name")


@contextmanager
def whole(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Other names for files of one kind, which get their own once all are written. An OSError names them."""
    try:
        with drafts(*paths, suffix=_suffix(paths[0])) as found:
            yield tuple(found)
    except OSError as err:
        if err.filename is None and err.errno is not None:  # as where a disk is full: a write does not say of what
            raise OSError(err.errno, err.strerror, " or ".join(map(str, paths))) from err
        raise


def _suffix(path: Path) -> str:
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), "")


def write(
    path: Path,
    source: Source,
    wanted: NDArray[np.bool_],
    names: Sequence[str] = (),
    more: Callable[[Chunk, NDArray[np.int64]], More] = lambda chunk, positions: {},
) -> int:
    """The rows of `source` that are wanted. more: the columns `names` of the rows at some positions of a chunk.

    Returns how many rows lost a number, as `write_rows`. Raises DataError where the rows have a column of one of these
    names, or do not fit the kind of file.
    """
    found = _wanted(source, wanted, more)
    if not path.name.endswith(".parquet"):
        return write_rows(path, (row for part, columns in found for row in _rows(part, columns)))
    schema = source.schema()
    if schema is None:
        rows = [row for part, columns in found for row in _rows(part, columns)]
        _write_unknown(path, rows, names, source)
        return 0
    _write_groups(path, (_table(part, columns, schema, names) for part, columns in found), _with(schema, names))
    return 0


def write_rows(path: Path, values: Iterable[Mapping[str, Any]]) -> int:
    """Rows whose types are not known before all of them are.

    Returns how many had a number that JSON does not know (not a number, or infinite), and have null in its place.
    """
    if path.name.endswith(".parquet"):
        _write_unknown(path, list(values))
        return 0
    lost = 0
    with path.open("wb") as raw, _packed(raw) if path.name.endswith(".gz") else raw as file:
        for row in values:
            line, whole = _line(row)
            lost += not whole
            file.write(line)
    return lost


def _packed(raw: IO[bytes]) -> gzip.GzipFile:
    """As gzip, the same for the same rows: neither the draft's name nor the time is in it."""
    return gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)


def _line(row: Mapping[str, Any]) -> tuple[bytes, bool]:
    """A row as JSON, and whether all its numbers are in it."""
    try:
        return _json(row), True
    except DataError:
        raise
    except ValueError:  # of json, for such a number
        try:
            return _json(_finite(row)), False
        except RecursionError as err:
            raise DataError(
                "a row with a number that JSON does not know is nested too deeply to be mended; take it out"
            ) from err


def _json(row: Any) -> bytes:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=_as_json) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can say and UTF-8 cannot
        return (json.dumps(row, default=_as_json) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _as_json(value: Any) -> str:
    """Dates, times and decimals as text. Raises DataError for what text would change."""
    if isinstance(value, date | time | Decimal | UUID):
        return str(value) if isinstance(value, Decimal | UUID) else value.isoformat()
    raise DataError(f"a value of type {type(value).__name__} has no form in JSON; write .parquet instead")


def _wanted(
    source: Source, wanted: NDArray[np.bool_], more: Callable[[Chunk, NDArray[np.int64]], More]
) -> Iterator[tuple[Any, More]]:
    for chunk in source.chunks():
        positions = np.flatnonzero(wanted[chunk.first : chunk.first + len(chunk)])
        yield chunk.take(positions), more(chunk, positions)


def _rows(part: Any, columns: More) -> Iterator[Mapping[str, Any]]:
    values = part if isinstance(part, list) else arrow_files.as_python(part)
    for i, row in enumerate(values):
        _own(row, columns)
        yield {**row, **{name: column[i] for name, column in columns.items()}}


def _own(names: Iterable[str], more: Iterable[str]) -> None:
    """Raises DataError where rows have a column that is to be added."""
    own = set(names).intersection(more)
    if own:
        raise DataError(f"the rows have a column {min(own)!r} already, which is to be added; rename it")


# --- Parquet


def _with(schema: Any, names: Sequence[str]) -> Any:
    import pyarrow as pa

    _own(schema.names, names)
    return pa.schema([*schema, *(pa.field(name, pa.string()) for name in names)], schema.metadata)


def _table(batch: Any, columns: More, schema: Any, names: Sequence[str]) -> Any:
    """A batch with the columns of the schema, null where it has none, and `columns`, which are called `names`."""
    import pyarrow as pa

    whole = _with(schema, names)
    with fields.one_table():
        found = [
            pa.array(columns[field.name], field.type)
            if field.name in names
            else _of_type(batch.column(field.name), field.type)
            if field.name in batch.schema.names
            else pa.nulls(len(batch), field.type)
            for field in whole
        ]
        return pa.Table.from_arrays(found, schema=whole)


def _of_type(column: Any, kind: Any) -> Any:
    # Arrow's cast spoils lists of structs with a part that is always null, also where there is nothing to cast.
    return column if column.type == kind else column.cast(kind)


def _write_groups(path: Path, tables: Iterable[Any], schema: Any) -> None:
    """As row groups of a good size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fields.one_table(), pq.ParquetWriter(path, schema) as file:
        group = schema.empty_table()
        for table in tables:
            group = pa.concat_tables([group, table])
            if len(group) >= _ROWS or _size(group) >= _BYTES:
                file.write_table(group)
                group = schema.empty_table()
        if len(group):
            file.write_table(group)


def _size(table: Any) -> int:
    """Bytes, about. A part of a column of views holds on to all of its text, which nbytes counts."""
    import pyarrow as pa

    def size(column: Any) -> int:
        views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
        return int((column.cast(views[column.type]) if column.type in views else column).nbytes)

    return sum(map(size, table.columns))


def _write_unknown(
    path: Path, values: list[Mapping[str, Any]], names: Sequence[str] = (), source: Source | None = None
) -> None:
    """A column for every name that any row has; without rows, for every name in `source`, and `names`."""
    import pyarrow.parquet as pq

    with fields.one_table():
        table = _unknown(values, names)
        if not values and source is not None:
            every = [row for chunk in source.chunks() for row in chunk.rows]
            table = _with(_unknown(every, names).schema, names).empty_table()
        pq.write_table(table, path)


def _unknown(values: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> Any:
    import pyarrow as pa

    names = dict.fromkeys(name for row in values for name in row)
    columns = {name: [row.get(name) for row in values] for name in names}
    return pa.table(
        {name: pa.array(column, pa.string() if name in texts else None) for name, column in columns.items()}
    )
