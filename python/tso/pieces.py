"""Input files in pieces that workers read: what each holds, and its tokens as a block. The rows stay in the files.

A piece is a file or a part of one. Each is read twice: once for what has to be known of all pieces before any can be
compared (columns, text or ids, scores), once for its tokens. Pure functions of the files, which have to be there under
the same absolute path wherever they are read. Of a table only the columns that are asked for are read, and token ids in
it never become Python's numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso import arrow_files, fields, rows
from tso.errors import DataError
from tso.parts import read_block
from tso.terminal import plain

PIECE = 32 << 20  # bytes of a file in one piece, about


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of the input: a file of `source`, a path as the user gave it, or a part of that file."""

    source: Path
    file: Path
    part: arrow_files.Part | None = None

    def rows(self) -> Iterator[tuple[Mapping[str, Any], str, str]]:
        """Values, place, and why a line is left out (empty for a row that counts)."""
        whole = self.source.absolute()
        for row in rows.read_file(self.file, self.part):
            yield row.values, plain(f"{self.source} {row.where(whole)}"), fields.problem(row)

    def place(self, number: int) -> str:
        """Where the row with this number in a piece of a table stands."""
        first = 0 if self.part is None else self.part.first
        return plain(f"{self.source} {rows.Row(self.file, first + number + 1).where(self.source.absolute())}")

    def columns(self, names: Sequence[str] | None = None) -> Iterator[Any]:
        """Record batches of a piece of a table."""
        return arrow_files.batches(self.file, names, self.part)

    @property
    def is_table(self) -> bool:
        return arrow_files.is_table(self.file)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a piece says of all: the names of its columns in order, whether any row is a pair, the place of the first that
    is none, where the columns of text that may be compared first have a value of each kind (`fields.kind`), the scores,
    the place of the first row without one, and lines left out."""

    count: int
    names: tuple[str, ...]
    pairs: bool
    unpaired: str
    kinds: Mapping[str, Mapping[str, str]]
    scores: NDArray[np.float64]
    without: str
    bad: tuple[str, ...]
    bad_count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What all pieces say: the column to compare, whether it holds ids, the scores, lines left out in words, and, once
    they are read, how many rows have no value in the column."""

    column: str
    ids: bool
    scores: NDArray[np.float64] | None
    bad: list[str]
    without: int = 0


def cut(paths: Sequence[Path]) -> list[Piece]:
    """The pieces of files and folders, in the order of their rows. Raises DataError where they cannot be read, or not
    twice."""
    files = [(path, file) for path in paths for file, _ in rows.files(path, option="input")]
    for _, file in files:
        if not file.is_file():
            raise rows.no_file("input", file)
    return [Piece(path, file.absolute(), part) for path, file in files for part in rows.parts(file, PIECE)]


def look(piece: Piece, column: str | None, score: str | None) -> list[Facts]:
    """What is to be known of a piece. Runs where the piece is read."""
    return [_look_at_table(piece, column, score) if piece.is_table else _look_at_lines(piece, column, score)]


def _look_at_lines(piece: Piece, column: str | None, score: str | None) -> Facts:
    count, bad_count, pairs, unpaired, without = 0, 0, False, "", ""
    names: dict[str, None] = {}
    kinds: dict[str, dict[str, str]] = {}
    bad: list[str] = []
    scores: list[Any] = []
    for values, place, problem in piece.rows():
        if problem:
            bad_count += 1
            bad += [f"{place}: {problem}"][: fields.NAMED - len(bad)]
            continue
        count += 1
        names.update(dict.fromkeys(values))
        is_pair = all(side in values for side in fields.SIDES)
        pairs, unpaired = pairs or is_pair, unpaired or ("" if is_pair else place)
        for name in _asked(values, column):
            if (kind := fields.kind(values[name])) is not None:
                kinds.setdefault(name, {}).setdefault(kind, place)
        if score is not None and not without:
            scores.append(values.get(score))
            without = "" if fields.first_without_number(scores[-1:]) is None else place
    held = np.asarray([] if without else scores, np.float64)
    return Facts(count, tuple(names), pairs, unpaired, kinds, held, without, tuple(bad), bad_count)


def _look_at_table(piece: Piece, column: str | None, score: str | None) -> Facts:
    """As for lines, but every row has all columns, and all values of one are of a kind."""
    types = arrow_files.schema(piece.file)
    names, count, scores, without = tuple(types.names), 0, [np.zeros(0)], ""
    wanted = [score] if score is not None and score in names else []
    for batch in piece.columns(wanted):
        found = arrow_files.as_python(batch.column(0)) if wanted else [None] * len(batch)
        bad = None if score is None else fields.first_without_number(found)
        if bad is not None and not without:
            without = piece.place(count + bad)
        scores.append(np.asarray([] if without or score is None else found, np.float64))
        count += len(batch)
    held = np.zeros(0) if without else np.concatenate(scores)
    kinds = {name: _kinds(piece, name, fields.are_ids(types.field(name).type)) for name in _asked(names, column)}
    pairs = all(side in names for side in fields.SIDES)
    return Facts(count, names, pairs, "" if pairs else piece.place(0), kinds, held, without, (), 0)


def _asked(names: Iterable[str], column: str | None) -> list[str]:
    """The columns that may be compared."""
    return [name for name in names if name in (column, *fields.TEXTS)]


def _kinds(piece: Piece, name: str, are_ids: bool) -> dict[str, str]:
    """Where a column of a table first has a value of each kind; lists of numbers are ids, also where all are null."""
    found = {"empty": piece.place(0)} if are_ids else {}
    values = (value.as_py() for batch in piece.columns([name]) for value in batch.column(0))
    for number, value in enumerate(values):
        if (kind := fields.kind(value)) is not None:
            found.setdefault(kind, piece.place(number))
        if kind in ("ids", "text"):
            break
    return found


def summary(paths: Sequence[Path], facts: Sequence[Facts], column: str | None, score: str | None) -> Summary:
    """From the facts of all pieces in order. Raises DataError for what cannot be compared, and for pairs."""
    used = [fact for fact in facts if fact.count]
    if not used:
        bad = next((f" ({fact.bad[0]})" for fact in facts if fact.bad), "")
        raise DataError(f"no row in {', '.join(map(str, paths))}{bad}; {rows.ACCEPTED}")
    without = next((fact.without for fact in used if fact.without), None)
    if score is not None and without is not None:
        raise fields.no_score(score, without)
    if column is None:
        _no_pairs(used)
    names = dict.fromkeys(name for fact in used for name in fact.names)
    name = column or fields.text_column(names)
    fields.check_column(name, names)
    fields.check_free(names)
    places: dict[str, str] = {}
    for kind, place in (item for fact in used for item in fact.kinds.get(name, {}).items()):
        places.setdefault(kind, place)
    return Summary(
        name,
        fields.are_all_ids(places),
        None if score is None else np.concatenate([fact.scores for fact in used]),
        fields.left_out([line for fact in facts for line in fact.bad], sum(fact.bad_count for fact in facts)),
    )


def _no_pairs(facts: Sequence[Facts]) -> None:
    """Raises DataError where rows are pairs, all or some."""
    if not any(fact.pairs for fact in facts):
        return
    for fact in facts:
        if fact.unpaired:
            raise fields.no_pair(fact.unpaired)
    raise DataError(
        "these rows are pairs, which --engine local alone compares: name one --column, or leave --engine out"
    )


def read(piece: Piece, column: str, tokenizer: Any) -> list[Any]:
    """The block of a piece and what is known of its rows, as `parts.read_block`; ids where there is no tokenizer."""
    if piece.is_table and tokenizer is None and _is_arrow(piece, column):
        return _read(_column(piece, column), piece, column, None, piece.place)
    if piece.is_table:
        found, place = _values(piece, column), piece.place
    else:
        rows = [(values.get(column), where) for values, where, problem in piece.rows() if not problem]
        found, place = [value for value, _ in rows], lambda number: rows[number][1]
    return _read(found if tokenizer is None else fields.as_texts(found, place), piece, column, tokenizer, place)


def _read(found: Any, piece: Piece, column: str, tokenizer: Any, place: fields.Place) -> list[Any]:
    with fields.odd_ids_named([] if tokenizer is not None else [found], place):
        try:
            return read_block(found, tokenizer)
        except DataError as err:
            raise DataError(f"{piece.file}, column {column!r}: {err}") from err


def _is_arrow(piece: Piece, name: str) -> bool:
    """Whether ids can be read as they are; where the column is not there, there is nothing to read."""
    types = arrow_files.schema(piece.file)
    return name not in types.names or fields.are_ids(types.field(name).type)


def _values(piece: Piece, name: str) -> list[Any]:
    there = name in arrow_files.schema(piece.file).names
    found = (
        arrow_files.as_python(batch.column(0)) if there else [None] * len(batch)
        for batch in piece.columns([name] * there)
    )
    return [value for part in found for value in part]


def _column(piece: Piece, name: str) -> Any:
    import pyarrow as pa

    if name in arrow_files.schema(piece.file).names:
        return pa.chunked_array([batch.column(0) for batch in piece.columns([name])])
    return pa.nulls(sum(map(len, piece.columns([]))), pa.list_(pa.int64()))
