"""The rows of files as the data tools take and give them: in with the place where each stood, out whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tso import fields, rows
from tso.errors import DataError
from tso.progress import Face

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
_AT_ONCE = 1 << 10  # rows that are Python values at a time
_ROWS, _BYTES = 1 << 16, 64 << 20  # of a row group at most, about


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of some files that can be used, and where each stood."""

    paths: tuple[Path, ...]
    values: list[Mapping[str, Any]]
    places: list[str]

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        return zip(self.values, self.places, strict=True)

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.values]

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.values for name in row))


@dataclass(frozen=True, slots=True)
class Files:
    """The same, but the rows stay in their files and are read each time they are asked for."""

    paths: tuple[Path, ...]
    count: int

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        found = ((values, place) for values, place, problem in _lines(self.paths) if not problem)
        number = 0
        for number, row in enumerate(found, 1):
            if number > self.count:
                break
            yield row
        if number != self.count:
            raise DataError(f"{', '.join(map(str, self.paths))} changed while it was read; run it again")


def read(paths: Sequence[Path], face: Face, option: str = "input") -> Source:
    """All rows of files or folders, one source after the other. Lines that hold no row are named and left out."""
    values, places, bad = [], [], []
    for row, where, problem in _lines(paths, option):
        if problem:
            bad.append(f"{where}: {problem}")
            continue
        values.append(row)
        places.append(where)
    for remark in fields.left_out(bad, len(bad)):
        face.warn(remark)
    if not values:
        raise DataError(f"no row in {', '.join(map(str, paths))}; {rows.ACCEPTED}")
    return Source(tuple(paths), values, places)


def _lines(paths: Sequence[Path], option: str = "input") -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Every line's values, its place, and why it cannot be used (empty where it can)."""
    for path in paths:
        for row in rows.read(path, option=option):
            yield row.values, f"{path} {row.where(path)}", fields.problem(row)


def check_output(path: Path, overwrite: bool) -> str:
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: the output's name has to end in {', '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; give another name, or --overwrite")
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")
    return suffix


def write(
    path: Path, values: Iterable[Mapping[str, Any]], source: Source | Files | None, more: Sequence[str] = ()
) -> None:
    """Whole or not at all: under another name first. Rows have the columns of `source`, and texts named in `more`."""
    draft = path.with_name(path.name + ".part")
    try:
        if path.name.lower().endswith(".parquet"):
            _write_parquet(draft, values, source, more)
        else:
            packed = path.name.lower().endswith(".gz")
            with gzip.open(draft, "wt", encoding="utf-8") if packed else draft.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in values)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write_parquet(
    path: Path, values: Iterable[Mapping[str, Any]], source: Source | Files | None, more: Sequence[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if source is None or any(p.suffix.lower() != ".parquet" for p in source.paths):
            pq.write_table(_table(list(values)), path)
            return
        schema = pa.unify_schemas([pq.read_schema(p) for p in source.paths])
        types = {**{field.name: field for field in schema}, **{name: pa.field(name, pa.string()) for name in more}}
        schema, rows_left = pa.schema(types.values(), schema.metadata), iter(values)
        with pq.ParquetWriter(path, schema) as file:
            group = schema.empty_table()
            while batch := list(islice(rows_left, _AT_ONCE)):
                group = pa.concat_tables([group, pa.Table.from_pylist(batch, schema=schema)])
                if len(group) >= _ROWS or group.nbytes >= _BYTES:
                    file.write_table(group)
                    group = schema.empty_table()
            if len(group):
                file.write_table(group)
    except pa.ArrowException as err:
        raise DataError(f"the rows do not fit one Parquet table ({err}); write .jsonl instead") from err


def _table(values: list[Mapping[str, Any]]) -> Any:
    """Rows whose types are not known before all of them are: a column for every name that any of them has."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in values for name in row)
    return pa.table({name: [row.get(name) for row in values] for name in names})
