"""People in the report: a row for everybody who judged pairs."""

from __future__ import annotations

from tso.annotators import AnnotatorStatistics, of_run
from tso.report.judges import agreement, share
from tso.report.shapes import Table
from tso.store import RunStore

COLUMNS = (
    "person",
    "pairs",
    "ties",
    "both bad",
    "edits",
    "skipped",
    "taken back",
    "same once more",
    "kappa with others",
    "kappa with judges",
)


def people_table(store: RunStore) -> Table | None:
    """What `tso.annotators` has to say of everybody; None where nobody judged a pair."""
    found = of_run(store)
    return Table(COLUMNS, tuple(_row(person) for person in found)) if found else None


def _row(person: AnnotatorStatistics) -> tuple[str | int, ...]:
    return (
        person.annotator,
        person.pairs,
        share(person.ties),
        share(person.both_bad),
        share(person.edits),
        person.skipped,
        person.taken_back,
        share(person.repeated, interval=True),
        agreement(person.with_others),
        agreement(person.with_judges),
    )
