"""AI judges in the report: a row a judge, and each call on a pair as a line of its history."""

from __future__ import annotations

from tso.judges import JudgeStatistics, of_run
from tso.report.shapes import Asked, Table
from tso.statistics import Kappa, Share
from tso.store import RunStore

COLUMNS = (
    "judge",
    "pairs",
    "no verdict",
    "failed calls",
    "by position",
    "of these, first",
    "ties",
    "both bad",
    "longer wins",
    "kappa with prior",
    "kappa with people",
    "tokens read",
    "tokens written",
)


def judge_table(store: RunStore) -> Table | None:
    """What `tso.judges` has to say of every judge; None where none was asked."""
    found = of_run(store)
    return Table(COLUMNS, tuple(_row(judge) for judge in found)) if found else None


def calls_on(store: RunStore, pair_id: str) -> tuple[Asked, ...]:
    """The calls on a pair, in the order in which they were made."""
    rows = store.query(
        "SELECT judge, shown_first, vote, attempt, verdict, reason, tokens FROM judge_calls WHERE pair_id = ? "
        "ORDER BY rowid",
        (pair_id,),
    )
    return tuple(Asked(*row) for row in rows)


def _row(judge: JudgeStatistics) -> tuple[str | int | None, ...]:
    return (
        judge.judge,
        judge.chosen,
        share(judge.failed),
        share(judge.failed_calls),
        share(judge.position),
        share(Share(judge.first_place, judge.position.hits)),
        share(judge.ties),
        share(judge.both_bad),
        share(judge.longer, interval=True),
        agreement(judge.with_prior),
        agreement(judge.with_people),
        judge.prompt_tokens,
        judge.tokens,
    )


def share(found: Share, *, interval: bool = False) -> str:
    """A share in percent with its counts, and its interval where that is asked for."""
    if not found.total:
        return ""
    text = f"{found.value:.0%} ({found.hits:,d} of {found.total:,d})"
    low, high = found.interval
    return f"{text}, {low:.0%} to {high:.0%}" if interval else text


def agreement(found: Kappa | None) -> str:
    if found is None:
        return ""
    return (
        f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f} ({found.pairs:,d} pairs, {found.agreement:.0%} alike)"
    )
