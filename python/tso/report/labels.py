"""How wrong the labels are before and after correction, and how their lengths differ, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tso import lengths
from tso.report.judges import share
from tso.report.shapes import Table
from tso.statistics import Share
from tso.store import RunStore
from tso.voices import SIDES, Heard, heard

LENGTHS = ("label by", "pairs", "chosen longer by, tokens", "chosen is the longer one")


def error_table(store: RunStore) -> Table | None:
    """Share of the labels that a verdict turns round, in the whole run and by iteration; None where nobody judged.

    Counted are training pairs whose label and whose verdict each call one of the two answers better. Before: the pair's
    first label against the verdict in force, and against what most people say. After: the label as rules and judges left
    it, and the label in force of pairs that stayed, both against what most people say.
    """
    pairs = [h for h in heard(store) if h.purpose == "train"]
    iterations = sorted({h.iteration for h in pairs})
    rows = []
    for name, against, couples in _measures(pairs):
        if couples:
            columns = [_wrong(couples), *(_wrong([c for c in couples if c[0] == t]) for t in iterations)]
            rows.append((name, against, *(share(found, interval=True) for found in columns)))
    names = ("label", "held against", "whole run", *(f"iteration {t}" for t in iterations))
    return Table(names, tuple(rows)) if rows else None


Couples = list[tuple[int, str, str]]  # iteration, side by the label, side by the verdict


def _measures(pairs: Sequence[Heard]) -> Iterable[tuple[str, str, Couples]]:
    for source in sorted({h.first_source for h in pairs}):
        first = [h for h in pairs if h.first_source == source]
        by = f"before correction, by {source}"
        yield by, "the verdict in force", _couples((h, h.first_side, h.in_force and h.in_force[1]) for h in first)
        yield by, "people", _couples((h, h.first_side, h.people) for h in first)
    if any(h.machines for h in pairs):
        yield "as rules and judges left it", "people", _couples((h, h.by_machines, h.people) for h in pairs)
    yield "in force", "people", _couples((h, h.side, h.people) for h in pairs if not h.dropped)


def _couples(found: Iterable[tuple[Heard, str | None, str | None]]) -> Couples:
    return [(h.iteration, label, said) for h, label, said in found if label in SIDES and said in SIDES]


def _wrong(couples: Couples) -> Share:
    return Share(sum(label != said for _, label, said in couples), len(couples))


def length_table(store: RunStore) -> Table | None:
    """Length gaps of the kept training pairs by source of the label in force; None where no pair is labelled."""
    found = lengths.gaps(store.pairs(), _tokens(store))
    rows = tuple((source, g.pairs, round(g.tokens, 2), f"{g.longer:.0%}") for source, g in found.items())
    return Table(LENGTHS, rows, lengths.warning(found) or "") if found else None


def _tokens(store: RunStore) -> dict[int, int]:
    """Of every answer without the end of its turn, as the pair stage counts them."""
    return dict(store.query("SELECT response_id, tokens - (finish_reason = 'stop' AND tokens > 0) FROM responses"))
