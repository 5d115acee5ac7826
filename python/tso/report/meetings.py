"""Cell against cell: how often the answers of one were found better than those of another, by the verdicts in force."""

from __future__ import annotations

from collections import defaultdict

from tso.report.judges import share
from tso.report.shapes import Meeting, Meetings, Table
from tso.statistics import Share
from tso.store import RunStore
from tso.voices import heard

COLUMNS = ("cell", "against", "pairs", "better", "neither", "worse", "win rate", "where one was better")


def meetings(store: RunStore) -> Meetings | None:
    """The training pairs of unlike cells that were judged; None where there is none.

    As in the fit of the strengths, a pair on which people disagree counts as a tie, and both bad does not count, nor a pair
    whose label is an edit, whatever was said of that.
    """
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(("a", "b", "tie"), 0))
    cells = {
        name: (a, b)
        for name, a, b in store.query(
            "SELECT p.pair_id, a.cell, b.cell FROM pairs p JOIN responses a ON a.response_id = p.response_a "
            "JOIN responses b ON b.response_id = p.response_b WHERE p.purpose = 'train' AND a.cell <> b.cell"
        )
    }
    for pair in heard(store):
        said = "tie" if pair.disputed else pair.in_force and pair.in_force[1]
        if pair.pair_id in cells and said in ("a", "b", "tie") and pair.side != "edit":
            counts[cells[pair.pair_id]][said] += 1
    found: dict[tuple[str, str], Meeting] = {}
    for (a, b), n in counts.items():
        seen = found.get((a, b), Meeting(0, 0, 0))
        found[a, b] = Meeting(seen.better + n["a"], seen.neither + n["tie"], seen.worse + n["b"])
        found[b, a] = found[a, b].reverse
    return Meetings(_ordered(store, {name for couple in found for name in couple}), found) if found else None


def meeting_table(found: Meetings) -> Table:
    """A row for each couple of cells, seen from the stronger one."""
    rows = []
    for i, cell in enumerate(found.cells):
        for other in found.cells[i + 1 :]:
            if met := found.of.get((cell, other)):
                decided = Share(met.better, met.better + met.worse)
                told = (met.pairs, met.better, met.neither, met.worse, f"{met.rate:.0%}", share(decided, interval=True))
                rows.append((cell, other, *told))
    return Table(COLUMNS, tuple(rows))


def _ordered(store: RunStore, names: set[str]) -> tuple[str, ...]:
    """By the last strengths, the strongest first; cells without one follow by name."""
    rows = store.query("SELECT cell, strength FROM strengths ORDER BY iteration")
    strengths = dict(rows)
    return tuple(sorted(names, key=lambda name: (-strengths.get(name, float("-inf")), name)))
