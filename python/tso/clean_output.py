"""What `tso dedup` writes: the rows that stay, the list of those taken out with their reasons, and the table's lines.

Knows what was found and where rows stood; why a row is a duplicate, `dedup.py` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso import fields
from tso import output as out
from tso.clean_report import Album
from tso.dedup import Deduped
from tso.progress import Advance, Face
from tso.tables import Chunk, Source

_SHOWN = 60  # characters of an example


def write_both(
    source: Source, found: Deduped, output: Path, removed: Path, album: Album | None, column: str | None, face: Face
) -> list[dict[str, Any]]:
    """What stays and what goes; and in words, by reason, how many went, and an example. The rows pass by twice, and
    need not fit in memory where their types are known."""
    gone = np.flatnonzero(~found.keep)
    _, firsts, counts = np.unique(found.reason[gone], return_index=True, return_counts=True)
    examples = gone[firsts].tolist()
    shown: dict[int, Mapping[str, Any]] = {row: {} for row in (*examples, *(album.seen if album else ()))}
    names = out.whole(removed, output)
    with face.bar("writing", 2 * len(source), "rows") as advance, names as (list_of_removed, kept):
        passing = _Passing(found, twins(found), shown, advance)
        lost = out.write(kept, source, found.keep, more=passing.see)
        lost += out.write(list_of_removed, source, ~found.keep, fields.LISTED, more=passing.listed)
    if lost:
        face.warn(
            f"{lost:,} rows hold numbers that JSON does not know (NaN, infinite or above 1.8e308), written as null"
        )
    if album is not None:
        album.see(passing.shown, passing.places)
    return [
        {
            "reason": found.reason_names(number),
            "rows": count,
            "for example": passing.places[number],
            "like": passing.places.get(int(passing.twins[number]), ""),
            "text": _snippet(passing.shown[number], column),
        }
        for count, number in sorted(zip(counts.tolist(), examples, strict=True), reverse=True)
    ]


@dataclass(slots=True)
class _Passing:
    """What is noted of rows as they pass by: where those stood that stay for others, and the few that will be shown."""

    found: Deduped
    twins: NDArray[np.int64]
    shown: dict[int, Mapping[str, Any]]
    advance: Advance
    noted: NDArray[np.int64] = field(init=False)
    places: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.noted = np.unique(np.concatenate([self.twins[~self.found.keep], np.fromiter(self.shown, np.int64)]))

    def see(self, chunk: Chunk, positions: NDArray[np.int64]) -> out.More:
        self.advance(len(chunk))
        first, end = np.searchsorted(self.noted, [chunk.first, chunk.first + len(chunk)])
        for number in self.noted[first:end].tolist():
            self.places[number] = chunk.place(number - chunk.first)
            if number in self.shown:
                self.shown[number] = chunk.values(number - chunk.first)
        return {}

    def listed(self, chunk: Chunk, positions: NDArray[np.int64]) -> out.More:
        """Why rows were taken out, where they stood and, of duplicates, where the row stands that stays for them."""
        self.advance(len(chunk))
        numbers = (chunk.first + positions).tolist()
        columns = (
            [self.found.reason_names(number) for number in numbers],
            [chunk.place(position) for position in positions.tolist()],
            [self.places.get(twin) for twin in self.twins[numbers].tolist()],
        )
        return dict(zip(fields.LISTED, columns, strict=True))


def twins(found: Deduped) -> NDArray[np.int64]:
    """For each row the first row of its cluster that stays, -1 where that is the row itself or none."""
    stays = np.flatnonzero(found.keep)[::-1]
    of_cluster = np.full(len(found.keep), -1, np.int64)
    of_cluster[found.cluster[stays]] = stays
    twins = of_cluster[found.cluster]
    twins[twins == np.arange(len(twins))] = -1
    return twins


def whole_text(row: Mapping[str, Any], column: str | None) -> str:
    """What is compared of a row, as text: the column, or all parts of a pair."""
    if column is None and all(side in row for side in fields.SIDES):
        parts = [name for name in ("prompt", *fields.SIDES) if row.get(name) is not None]
        return "\n".join(f"{name}: {fields.as_text(row[name])}" for name in parts)
    name = column or next((name for name in fields.TEXTS if name in row), None)
    return fields.as_text(row[name]) if name is not None and row.get(name) is not None else ""


def _snippet(row: Mapping[str, Any], column: str | None) -> str:
    name = column or next((name for name in ("chosen", *fields.TEXTS) if row.get(name)), None)
    text = " ".join(fields.as_text(row[name]).split()) if name else ""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
