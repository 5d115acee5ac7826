"""Rows of a source into a file: some of them, with their own columns and further ones, whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from tso import fields
from tso.errors import DataError
from tso.tables import Chunk, Source

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
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")
    return suffix


def apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raises DataError where an output would be in the place of an input, or be read with the inputs the next time."""
    for output, source in product(outputs, inputs):
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"{output} would lie in the input folder {source}, and be read as input; write it elsewhere"
            )
        if output.exists() and source.exists() and output.samefile(source):
            raise DataError(f"{output} is an input; give another name")


@contextmanager
def whole(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Other names for files, which get their own once all are written."""
    drafts = tuple(path.with_name(f".{path.name}.part{_suffix(path)}") for path in paths)
    try:
        yield drafts
        for draft, path in zip(drafts, paths, strict=True):
            draft.replace(path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def _suffix(path: Path) -> str:
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), "")


def write(
    path: Path,
    source: Source,
    wanted: NDArray[np.bool_],
    names: Sequence[str] = (),
    more: Callable[[Chunk, NDArray[np.int64]], More] = lambda chunk, positions: {},
) -> None:
    """The rows of `source` that are wanted. more: the columns `names` of the rows at some positions of a chunk.

    Raises DataError where the rows have a column of one of these names, or do not fit the kind of file.
    """
    found = _wanted(source, wanted, more)
    schema = source.schema() if path.name.endswith(".parquet") else None
    if schema is None:
        write_rows(path, (row for part, columns in found for row in _rows(part, columns)))
        return
    _write_groups(path, (_table(part, columns, schema, names) for part, columns in found), _with(schema, names))


def write_rows(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Rows whose types are not known before all of them are."""
    if path.name.endswith(".parquet"):
        _write_unknown(path, list(values))
        return
    with gzip.open(path, "wb") if path.name.endswith(".gz") else path.open("wb") as file:
        file.writelines(_line(row) for row in values)


def _line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(row, ensure_ascii=False, default=_as_json) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can say and UTF-8 cannot
        return (json.dumps(row, default=_as_json) + "\n").encode()


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
    values = part if isinstance(part, list) else part.to_pylist()
    for i, row in enumerate(values):
        _own(row, columns)
        yield {**row, **{name: column[i] for name, column in columns.items()}}


def _own(names: Iterable[str], more: Iterable[str]) -> None:
    """Raises DataError where rows have a column that is to be added."""
    own = set(names).intersection(more)
    if own:
        raise DataError(f"the rows have a column {min(own)!r} already, which the list of removed rows needs; rename it")


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
            else batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(len(batch), field.type)
            for field in whole
        ]
        return pa.Table.from_arrays(found, schema=whole)


def _write_groups(path: Path, tables: Iterable[Any], schema: Any) -> None:
    """As row groups of a good size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fields.one_table(), pq.ParquetWriter(path, schema) as file:
        group = schema.empty_table()
        for table in tables:
            group = pa.concat_tables([group, table])
            if len(group) >= _ROWS or group.nbytes >= _BYTES:
                file.write_table(group)
                group = schema.empty_table()
        if len(group):
            file.write_table(group)


def _write_unknown(path: Path, values: list[Mapping[str, Any]]) -> None:
    """A column for every name that any row has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(name for row in values for name in row)
    with fields.one_table():
        pq.write_table(pa.table({name: [row.get(name) for row in values] for name in names}), path)
