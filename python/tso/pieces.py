"""Input files in pieces that workers read: what each holds, and its tokens as a block. The rows stay in the files.

A piece is a file, or some row groups of a Parquet file. Each is read twice: once for what has to be known of all pieces
before any can be compared (columns, text or ids, scores), once for its tokens. Pure functions of the files, which have
to be there under the same absolute path wherever they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso import fields, rows
from tso.errors import DataError
from tso.parts import read_block

PIECE = 64 << 20  # bytes of a Parquet file in one piece, about


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of the input: a file of `source`, a path as the user gave it, or `groups` of it after `before` rows."""

    source: Path
    file: Path
    groups: tuple[int, ...] | None = None
    before: int = 0

    def rows(self) -> Iterator[tuple[Mapping[str, Any], str, str]]:
        """Values, place, and why a line is left out (empty for a row that counts)."""
        whole = self.source.absolute()
        for row in rows.read_file(self.file, self.groups, self.before):
            yield row.values, f"{self.source} {row.where(whole)}", fields.problem(row)

    def columns(self) -> list[Mapping[str, Any]]:
        """The rows that count."""
        return [values for values, _, problem in self.rows() if not problem]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a piece says of all: the names of its columns in order, whether every row is a pair, which columns of text
    may hold ids (None: no value says), the scores, the place of the first row without one, and lines left out."""

    count: int
    names: tuple[str, ...]
    pairs: bool
    ids: Mapping[str, bool | None]
    scores: NDArray[np.float64]
    without: str
    bad: tuple[str, ...]
    bad_count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What all pieces say: the column to compare, whether it holds ids, the scores, and lines left out in words."""

    column: str
    ids: bool
    scores: NDArray[np.float64] | None
    bad: list[str]


def cut(paths: Sequence[Path]) -> list[Piece]:
    """The pieces of files and folders, in the order of their rows. Raises DataError where they cannot be read."""
    return [piece for path in paths for file, _ in rows.files(path, option="input") for piece in _of_file(path, file)]


def look(piece: Piece, column: str | None, score: str | None) -> list[Facts]:
    """What is to be known of a piece. Runs where the piece is read."""
    found = list(piece.rows())
    used = [(values, place) for values, place, problem in found if not problem]
    bad = [f"{place}: {problem}" for _, place, problem in found if problem]
    names = tuple(dict.fromkeys(name for values, _ in used for name in values))
    asked = {name for name in (column, *fields.TEXTS) if name in names}
    scores = [] if score is None else [values.get(score) for values, _ in used]
    without = fields.first_without_number(scores)
    return [
        Facts(
            count=len(used),
            names=names,
            pairs=all(side in values for values, _ in used for side in fields.SIDES),
            ids={name: fields.holds_ids(values.get(name) for values, _ in used) for name in sorted(asked)},
            scores=np.asarray(scores if without is None else [], np.float64),
            without="" if without is None else used[without][1],
            bad=tuple(bad[: fields.NAMED]),
            bad_count=len(bad),
        )
    ]


def summary(paths: Sequence[Path], facts: Sequence[Facts], column: str | None, score: str | None) -> Summary:
    """From the facts of all pieces in order. Raises DataError for what cannot be compared, and for pairs."""
    used = [fact for fact in facts if fact.count]
    if not used:
        raise DataError(f"no row in {', '.join(map(str, paths))}; {rows.ACCEPTED}")
    without = next((fact.without for fact in used if fact.without), None)
    if score is not None and without is not None:
        raise fields.no_score(score, without)
    if column is None and all(fact.pairs for fact in used):
        raise DataError(
            "these rows are pairs, which --engine local alone compares: name one --column, or leave --engine out"
        )
    names = dict.fromkeys(name for fact in used for name in fact.names)
    name = column or fields.text_column(names)
    fields.check_column(name, names)
    says = (fact.ids.get(name) for fact in used)
    return Summary(
        name,
        next((ids for ids in says if ids is not None), False),
        None if score is None else np.concatenate([fact.scores for fact in used]),
        fields.left_out([line for fact in facts for line in fact.bad], sum(fact.bad_count for fact in facts)),
    )


def read(piece: Piece, column: str, tokenizer: Any) -> list[Any]:
    """The block of a piece and what is known of its rows, as `parts.read_block`; ids where there is no tokenizer."""
    values = [row.get(column) for row in piece.columns()]
    try:
        return read_block(values if tokenizer is None else fields.as_texts(values), tokenizer)
    except DataError as err:
        raise DataError(f"{piece.file}, column {column!r}: {err}") from err


def _of_file(source: Path, file: Path) -> Iterator[Piece]:
    whole = file.absolute()
    if file.suffix.lower() != ".parquet":
        yield Piece(source, whole)
        return
    taken: list[int] = []
    before, count, size = 0, 0, 0
    for number, (length, weight) in enumerate(rows.row_groups(file)):
        taken, count, size = [*taken, number], count + length, size + weight
        if size >= PIECE:
            yield Piece(source, whole, tuple(taken), before)
            taken, before, count, size = [], before + count, 0, 0
    if taken:
        yield Piece(source, whole, tuple(taken), before)
