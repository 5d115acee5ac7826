"""The rows of files as the data tools take them: by column or a chunk at a time, each with the place where it stood.

Rows of Parquet and Arrow files stay in them and pass by as Arrow, so that token ids never become Python's numbers. Lines
of JSON are held as they were read, or read again each time where there is no room for them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tso import arrow_files, fields, rows
from tso.errors import DataError
from tso.progress import Face
from tso.terminal import plain

_CHUNK = 1 << 10  # rows


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring rows. rows: an Arrow record batch or a list; place: where the row at a position in it stood."""

    first: int
    rows: Any
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, position: int) -> Mapping[str, Any]:
        """The row at a position; of one in Arrow, without the values that Python has no form for."""
        if isinstance(self.rows, list):
            row: Mapping[str, Any] = self.rows[position]
            return row
        batch, found = self.rows.slice(position, 1), {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            with suppress(DataError):
                found[name] = arrow_files.as_python(column)[0]
        return found

    def take(self, positions: NDArray[np.int64]) -> Any:
        """The rows at these positions, as a list or a record batch."""
        return (
            [self.rows[i] for i in positions.tolist()] if isinstance(self.rows, list) else _take(self.rows, positions)
        )


def _take(batch: Any, positions: NDArray[np.int64]) -> Any:
    import pyarrow as pa

    try:
        return batch.take(positions)
    except pa.ArrowNotImplementedError:  # of some kinds, such as views of strings, Arrow can only take neighbours
        runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
        return pa.concat_batches([batch.slice(run[0], len(run)) if len(run) else batch.slice(0, 0) for run in runs])


class Source(Protocol):
    """The rows that can be used of some files or folders, numbered through."""

    @property
    def paths(self) -> tuple[Path, ...]: ...

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[Chunk]: ...

    def schema(self) -> Any:
        """The Arrow schema of all rows; None where the types are not known before all rows are."""


class Columns(Source, Protocol):
    """A source that also gives whole columns."""

    def names(self) -> list[str]: ...

    def column(self, name: str) -> Any:
        """Every row's value, None where it has none: a list, or an Arrow column where all are lists of token ids."""

    def first(self, names: Sequence[str], *, having: bool) -> int | None:
        """The first row that has all of these columns, or with having=False the first that lacks any; None for none."""

    def place(self, number: int) -> str:
        """Where a row stood, in words."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows that were read."""

    paths: tuple[Path, ...]
    values: list[Mapping[str, Any]]
    places: list[str]

    def __len__(self) -> int:
        return len(self.values)

    def chunks(self) -> Iterator[Chunk]:
        yield Chunk(0, self.values, self.place)

    def schema(self) -> Any:
        return None

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.values for name in row))

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.values]

    def first(self, names: Sequence[str], *, having: bool) -> int | None:
        wanted = set(names)
        return next((i for i, row in enumerate(self.values) if (row.keys() >= wanted) == having), None)

    def place(self, number: int) -> str:
        return self.places[number]


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of Parquet and Arrow files. files: each with the path of `paths` that it is of, and the rows before it."""

    paths: tuple[Path, ...]
    files: tuple[tuple[Path, Path, int], ...]
    count: int

    @classmethod
    def of(cls, paths: Sequence[Path], option: str = "input") -> Tables | None:
        """None where any of the files is none of these kinds."""
        files, count = [], 0
        for path in paths:
            for file, _ in rows.files(path, option):
                if not arrow_files.is_table(file):
                    return None
                more = arrow_files.count(file)
                if more:  # columns of a file without rows say nothing
                    files.append((path, file, count))
                count += more
        return cls(tuple(paths), tuple(files), count)

    def __len__(self) -> int:
        return self.count

    def chunks(self) -> Iterator[Chunk]:
        first = 0
        for _, file, start in self.files:
            for batch in arrow_files.batches(file) if first == start else ():
                yield Chunk(first, batch, partial(self._place, first))
                first += len(batch)
        if first != self.count:
            raise _changed(self.paths)

    def schema(self) -> Any:
        import pyarrow as pa

        with fields.one_table():
            return pa.unify_schemas(
                [arrow_files.schema(file) for _, file, _ in self.files], promote_options="permissive"
            )

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for _, file, _ in self.files for name in arrow_files.schema(file).names))

    def first(self, names: Sequence[str], *, having: bool) -> int | None:
        """Every row of a file has the file's columns."""
        wanted = set(names)
        found = (start for _, file, start in self.files if having == (wanted <= {*arrow_files.schema(file).names}))
        return next(found, None)

    def column(self, name: str) -> Any:
        import pyarrow as pa

        found = []
        for _, file, _ in self.files:
            there = name in arrow_files.schema(file).names
            found += [
                batch.column(0) if there else pa.nulls(len(batch))
                for batch in arrow_files.batches(file, [name] * there)
            ]
        if found and all(fields.are_ids(part.type) and part.type == found[0].type for part in found):
            return pa.chunked_array(found)
        return [value for part in found for value in arrow_files.as_python(part)]

    def _place(self, first: int, position: int) -> str:
        return self.place(first + position)

    def place(self, number: int) -> str:
        path, file, start = self.files[bisect_right(self.files, number, key=lambda entry: entry[2]) - 1]
        return plain(f"{path} {rows.Row(file, number - start + 1).where(path)}")


@dataclass(frozen=True, slots=True)
class Files:
    """Lines that stay in their files and are read each time they are asked for."""

    paths: tuple[Path, ...]
    count: int

    def __len__(self) -> int:
        return self.count

    def chunks(self) -> Iterator[Chunk]:
        found = ((values, place) for values, place, problem in _lines(self.paths) if not problem)
        first = 0
        while part := list(islice(found, _CHUNK)):
            if first + len(part) > self.count:
                break
            yield Chunk(first, [values for values, _ in part], [place for _, place in part].__getitem__)
            first += len(part)
        if part or first != self.count:
            raise _changed(self.paths)

    def schema(self) -> Any:
        return None


def read(paths: Sequence[Path], face: Face, option: str = "input") -> Columns:
    """All rows of files or folders, one source after the other. Lines that hold no row are named and left out."""
    found: Columns = Tables.of(paths, option) or _read_lines(paths, face, option)
    if not len(found):
        raise DataError(f"no row in {', '.join(map(str, paths))}; {rows.ACCEPTED}")
    return found


def _read_lines(paths: Sequence[Path], face: Face, option: str) -> Lines:
    values, places, bad = [], [], []
    for row, where, problem in _lines(paths, option):
        if problem:
            bad.append(f"{where}: {problem}")
            continue
        values.append(row)
        places.append(where)
    for remark in fields.left_out(bad, len(bad)):
        face.warn(remark)
    return Lines(tuple(paths), values, places)


def _lines(paths: Sequence[Path], option: str = "input") -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Every line's values, its place, and why it cannot be used (empty where it can)."""
    for path in paths:
        for row in rows.read(path, option=option):
            yield row.values, plain(f"{path} {row.where(path)}"), fields.problem(row)


def _changed(paths: Sequence[Path]) -> DataError:
    return DataError(f"{', '.join(map(str, paths))} changed while it was read; run it again")
