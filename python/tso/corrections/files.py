"""Verdicts from a run to a file and back: all of a file, or nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tso._core import Ledger
from tso.corrections import argilla, jsonl, labelstudio
from tso.corrections.matter import Format, Line, Shown, everything, shown
from tso.errors import DataError
from tso.store import FILE, RunStore
from tso.verdicts import Verdict, latest, person
from tso.whole import write_text

FORMATS: dict[str, Format] = {"jsonl": jsonl.FORMAT, "argilla": argilla.FORMAT, "labelstudio": labelstudio.FORMAT}
OWN = ("config.yaml", "metrics.jsonl", "report.html")  # beside the store, in the run's folder
TOLD = 5  # faults of a file that are named


@dataclass(frozen=True, slots=True)
class Imported:
    """How many verdicts of a file were new, took the place of an earlier one, or were there already."""

    new: int
    changed: int
    known: int


def export_file(folder: Path, output: Path, kind: str = "jsonl", iteration: int | None = None) -> int:
    """Write what people said to a file, complete or not at all, and return how many verdicts are in it.

    jsonl holds verdicts; the other kinds hold all pairs, to be judged elsewhere, with the verdicts so far.
    """
    with RunStore.open_read_only(folder) as store:
        pairs = shown(store, iteration)
    if not pairs:
        raise DataError(f"{folder} has no pairs{f' of iteration {iteration}' if iteration else ''} to export")
    _spare(folder, output)
    write_text(output, FORMATS[kind].write(pairs))
    return sum(len(p.verdicts if kind == "jsonl" else p.latest) for p in pairs)


def _spare(folder: Path, output: Path) -> None:
    """Raises DataError for a file that is the run's own, or another run's store."""
    place, run = output.resolve(), folder.resolve()
    inside = place.is_relative_to(run) and (place.parent != run or place.name in OWN)
    if place.exists() and (inside or place.name.startswith(FILE)):
        raise DataError(f"{output} is a file of the run itself, which an export must not write over; give another one")


def import_file(folder: Path, path: Path, kind: str = "jsonl", author: str = "imported") -> Imported:
    """Add the verdicts of a file to a run, also beside one that is at work.

    author: of those for which the file names nobody. A verdict that differs from what the same person said before takes
    its place; both stay in the store. Raises DataError that names every line at fault, of which nothing is imported.
    """
    text = _read(path)
    with Ledger.annotate(str(folder / FILE)) as ledger:
        store = RunStore(ledger, folder)
        pairs = {s.pair.id: s for s in shown(store)}
        lines = _lines(path, FORMATS[kind], text, pairs, person(author))
        said = everything(store)
        before = {v.key: v for verdicts in said.values() for v in verdicts}
        meant = [line.verdict for line in lines]
        if FORMATS[kind].last_only:
            last = {v.key[:2]: v for verdicts in said.values() for v in latest(verdicts)}
            meant = [_completed(verdict, last.get(verdict.key[:2])) for verdict in meant]
        fresh = [verdict for verdict in meant if _differs(verdict, before.get(verdict.key))]
        ledger.say([row for verdict in fresh for row in _rows(verdict, before.get(verdict.key))])
    changed = sum(v.key in before for v in fresh)
    return Imported(len(fresh) - changed, changed, len(lines) - len(fresh))


def _completed(verdict: Verdict, last: Verdict | None) -> Verdict:
    """With what the file leaves out, from what the person last said: all of it, or the round where it says another thing."""
    if last is None:
        return verdict
    same = (verdict.said, verdict.side, verdict.text) == (last.said, last.side, last.text)
    return last if same else replace(verdict, round=last.round)


def _differs(verdict: Verdict, before: Verdict | None) -> bool:
    return before is None or before.meaning != verdict.meaning


def _rows(verdict: Verdict, before: Verdict | None) -> list[tuple[object, ...]]:
    """The verdict, after the undo of one that it replaces."""
    v = verdict
    said = (*v.key[:2], v.round, v.said, v.side, v.text, v.reason, v.confidence, None, None, v.given)
    if before is None or before.id is None:
        return [said]
    return [(*v.key[:2], v.round, "undo", None, None, "", 1.0, before.id, None, v.given or None), said]


def _lines(path: Path, kind: Format, text: str, pairs: Mapping[str, Shown], author: str) -> list[Line]:
    """Each verdict once. Raises DataError for the first faults, with their number."""
    try:
        lines, wrong = kind.read(text, pairs, author)
    except DataError as err:
        raise DataError(f"{path}: {err}") from err
    first: dict[tuple[str, str, int], Line] = {}
    for line in lines:
        same = first.setdefault(line.verdict.key, line)
        if same.verdict.meaning != line.verdict.meaning:
            who = f"{line.verdict.annotator!r} on pair {line.verdict.pair_id!r}"
            wrong.append(f"{line.where}: says something else of {who} than {same.where} does")
    if wrong:
        raise DataError(_told(path, wrong))
    return list(first.values())


def _told(path: Path, wrong: Sequence[str]) -> str:
    more = f"; and {len(wrong) - TOLD} more" if len(wrong) > TOLD else ""
    return f"{path}: nothing was imported: {'; '.join(wrong[:TOLD])}{more}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"cannot read {path}: {err}") from err
