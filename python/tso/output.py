"""Rows of a source into a file: some of them, with their own columns and further ones, whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso import fields
from tso.errors import DataError
from tso.tables import Chunk, Source

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
_ROWS, _BYTES = 1 << 16, 64 << 20  # of a row group at most, about

More = Mapping[str, Sequence[str | None]]  # further columns of text


def check(path: Path, overwrite: bool) -> str:
    """The suffix of a file that can be written. Raises DataError for any other."""
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: the output's name has to end in {', '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; give another name, or --overwrite")
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")
    return suffix


def write(
    path: Path,
    source: Source,
    wanted: NDArray[np.bool_],
    names: Sequence[str] = (),
    more: Callable[[Chunk, NDArray[np.int64]], More] = lambda chunk, positions: {},
) -> None:
    """The rows of `source` that are wanted. more: the columns `names` of the rows at some positions of a chunk."""
    found = _wanted(source, wanted, more)
    schema = source.schema() if path.name.lower().endswith(".parquet") else None
    if schema is None:
        write_rows(path, (row for part, columns in found for row in _rows(part, columns)))
        return
    with _draft(path) as draft:
        _write_groups(draft, (_table(part, columns, schema, names) for part, columns in found), _with(schema, names))


def write_rows(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Rows whose types are not known before all of them are."""
    with _draft(path) as draft:
        if path.name.lower().endswith(".parquet"):
            _write_unknown(draft, list(values))
            return
        packed = path.name.lower().endswith(".gz")
        with gzip.open(draft, "wt", encoding="utf-8") if packed else draft.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in values)


def _wanted(
    source: Source, wanted: NDArray[np.bool_], more: Callable[[Chunk, NDArray[np.int64]], More]
) -> Iterator[tuple[Any, More]]:
    for chunk in source.chunks():
        positions = np.flatnonzero(wanted[chunk.first : chunk.first + len(chunk)])
        yield chunk.take(positions), more(chunk, positions)


def _rows(part: Any, columns: More) -> Iterator[Mapping[str, Any]]:
    values = part if isinstance(part, list) else part.to_pylist()
    for i, row in enumerate(values):
        yield {**row, **{name: column[i] for name, column in columns.items()}}


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Another name, which becomes the right one once all is written."""
    draft = path.with_name(path.name + ".part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


# --- Parquet


def _with(schema: Any, names: Sequence[str]) -> Any:
    import pyarrow as pa

    types = {**{field.name: field for field in schema}, **{name: pa.field(name, pa.string()) for name in names}}
    return pa.schema(types.values(), schema.metadata)


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
