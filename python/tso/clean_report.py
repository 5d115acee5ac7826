"""The page of `tso dedup --report html`: what was taken out and why, with examples beside what stays for them.

One file that loads nothing. All text of the data passes through the template's escaping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso.dedup import Deduped
from tso.terminal import plain
from tso.whole import write_text

EXAMPLES = 10  # of each reason
CLUSTERS = 10  # the largest
_WORDS = 400  # of a text that are shown
_LETTERS = 4000  # of a text that are shown: a word may have any length

MEANINGS = {
    "exact": "the same as a row that stays",
    "near": "nearly the same as a row that stays, or connected with it by such rows",
    "reversed": "another pair has the two answers in the opposite order",
    "degenerate": "both sides are the same",
    "degenerate_truncated": "both sides are the same once cut to the maximal length",
    "cycle": "on a circle of preferences, a over b, b over c, c over a",
}


@dataclass(slots=True)
class Album:
    """Rows to be shown, chosen before the files are read once more."""

    found: Deduped
    twins: NDArray[np.int64]  # for each row the one that stays for it, -1 where there is none
    text: Callable[[Mapping[str, Any]], str]
    examples: dict[str, list[int]] = field(default_factory=dict)
    largest: list[tuple[int, int]] = field(default_factory=list)  # a cluster's first row, and its size
    seen: dict[int, tuple[str, str] | None] = field(default_factory=dict)  # place and text

    def __post_init__(self) -> None:
        for row in np.flatnonzero(~self.found.keep).tolist():
            rows = self.examples.setdefault(self.found.reason_names(row), [])
            if len(rows) < EXAMPLES:
                rows.append(row)
        first, sizes = np.unique(self.found.cluster, return_counts=True)
        order = np.lexsort((first, -sizes))[:CLUSTERS]
        self.largest = [(int(first[i]), int(sizes[i])) for i in order if sizes[i] > 1]
        wanted = [row for rows in self.examples.values() for row in rows]
        wanted += [int(self.twins[row]) for row in wanted] + [row for row, _ in self.largest]
        self.seen = dict.fromkeys(row for row in wanted if row >= 0)

    def see(self, rows: Mapping[int, Mapping[str, Any]], places: Mapping[int, str]) -> None:
        """The rows by number, and where they stood."""
        self.seen = {number: (places[number], self.text(rows[number])) for number in self.seen}


@dataclass(frozen=True, slots=True)
class Example:
    """A row that went. words: its words, each run with how it differs from the row that stays: same, new or gone."""

    place: str
    like: str
    words: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reason:
    name: str
    meaning: str
    rows: int
    share: float
    examples: list[Example]


def write(path: Path, inputs: Sequence[Path], output: Path, options: Mapping[str, Any], album: Album) -> None:
    """Write the page, whole or not at all."""
    from jinja2 import Environment, StrictUndefined

    found = album.found
    env = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    largest = [(size, _seen(album, row)) for row, size in album.largest]
    source = files("tso").joinpath("clean_report.html.j2").read_text(encoding="utf-8")
    page = env.from_string(source).render(
        inputs=[plain(str(p)) for p in inputs],
        output=plain(str(output)),
        options={name: value for name, value in options.items() if value is not None},
        rows=len(found.keep),
        kept=int(found.keep.sum()),
        reasons=_reasons(album),
        sizes=_sizes(found),
        largest=[(size, place, _cut(text)) for size, (place, text) in largest],
        uncompared=found.uncompared,
    )
    write_text(path, page.encode(errors="backslashreplace").decode())  # a text may hold half of a surrogate pair


def _reasons(album: Album) -> list[Reason]:
    found, total = album.found, len(album.found.keep)
    counts: dict[str, int] = {}
    values, numbers = np.unique(found.reason[~found.keep], return_counts=True)
    for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
        row = int(np.flatnonzero(~found.keep & (found.reason == value))[0])
        counts[found.reason_names(row)] = number
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        Reason(name, _meaning(name), count, count / total, [_example(album, row) for row in album.examples[name]])
        for name, count in ranked
    ]


def _meaning(names: str) -> str:
    return "; ".join(MEANINGS[name.strip()] for name in names.split(","))


def _example(album: Album, row: int) -> Example:
    place, text = _seen(album, row)
    twin = int(album.twins[row])
    if twin < 0:
        return Example(place, "", [("same", _cut(text))])
    like, other = _seen(album, twin)
    return Example(place, like, differences(other, text))


def differences(stays: str, went: str) -> list[tuple[str, str]]:
    """The words of both, in runs: "same", "gone" (only in what stays) or "new" (only in what went)."""
    (a, _), (b, _) = _shown(stays), _shown(went)
    runs = []
    for kind, a1, a2, b1, b2 in SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes():
        if kind == "equal":
            runs.append(("same", " ".join(a[a1:a2])))
            continue
        runs += [("gone", " ".join(a[a1:a2]))] * (a2 > a1) + [("new", " ".join(b[b1:b2]))] * (b2 > b1)
    return runs


def _seen(album: Album, row: int) -> tuple[str, str]:
    place, text = album.seen[row] or ("", "")
    return place, text


def _cut(text: str) -> str:
    words, whole = _shown(text)
    return " ".join(words) + ("" if whole else " …")


def _shown(text: str) -> tuple[list[str], bool]:
    """The words of a text that are shown, and whether they are all."""
    words = text[:_LETTERS].split()
    return words[:_WORDS], len(text) <= _LETTERS and len(words) <= _WORDS


def _sizes(found: Deduped) -> list[tuple[int, int]]:
    """How many clusters have so many rows."""
    _, sizes = np.unique(found.cluster, return_counts=True)
    values, counts = np.unique(sizes, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))
