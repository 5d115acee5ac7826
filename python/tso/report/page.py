"""report.html: gathers the numbers of a run from its store and renders the template beside this file."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from tso.report.story import pair_story
from tso.report.svg import chart
from tso.store import RunStore

CHARTS = {
    "Loss": ("loss",),
    "Rewards": ("rewards/chosen", "rewards/rejected", "rewards/margins"),
    "Log-probs of the sides": ("logps/chosen", "logps/rejected"),
    "Share beyond the clip bounds": ("clip/chosen", "clip/rejected", "clip/saturated"),
}
SAMPLES = 12  # pairs shown with their whole history


def write(folder: Path) -> Path:
    """Write folder/report.html, complete or not at all, and return its path."""
    with RunStore.open_read_only(folder) as store:
        values = gather(store)
    template = files("tso.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    html = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(**values)
    path = folder / "report.html"
    part = path.with_suffix(".part")
    part.write_text(html, encoding="utf-8")
    part.replace(path)
    return path


def gather(store: RunStore) -> dict[str, Any]:
    """Everything the template shows, as plain values."""
    return {
        "settings": store.meta(),
        "result": _result(store),
        "charts": _charts(store),
        "funnel": _funnel(store),
        "strengths": store.query(
            "SELECT iteration, cell, prior, strength, stderr, comparisons FROM strengths ORDER BY iteration, strength DESC"
        ),
        "feedback": store.query("SELECT iteration, name, value FROM metrics WHERE step = 0 ORDER BY iteration, name"),
        "pairs": [(p.id, pair_story(store, p.id)) for p in store.pairs(dropped=True)[:SAMPLES]],
    }


def _result(store: RunStore) -> dict[str, Any] | None:
    rows = store.query("SELECT info FROM units WHERE stage = 'evaluate/table' ORDER BY iteration DESC LIMIT 1")
    return json.loads(rows[0][0]) if rows else None


def _charts(store: RunStore) -> list[tuple[str, Markup]]:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    # Steps begin anew in every iteration; one line across all of them is what a reader wants to see.
    offsets: dict[int, int] = {}
    total = 0
    for iteration, steps in store.query(
        "SELECT iteration, max(step) FROM metrics WHERE step > 0 GROUP BY iteration ORDER BY iteration"
    ):
        offsets[iteration], total = total, total + steps
    for iteration, step, name, value in store.query(
        "SELECT iteration, step, name, value FROM metrics WHERE step > 0 ORDER BY iteration, step"
    ):
        series[name].append((offsets[iteration] + step, value))
    drawn = [(title, chart(title, {n: series[n] for n in names if n in series})) for title, names in CHARTS.items()]
    return [(title, Markup(svg)) for title, svg in drawn if svg]


def _funnel(store: RunStore) -> list[dict[str, Any]]:
    """Per iteration: label, count, and share of the iteration's answers or pairs."""
    out = []
    for (iteration,) in store.query("SELECT DISTINCT iteration FROM batches ORDER BY iteration"):
        rows = [("answers sampled", len(store.responses(iteration, "train")))]
        rows += _drops(store, iteration, "response", "answers dropped")
        rows.append(("pairs made", len(store.pairs(iteration, dropped=True))))
        rows += [
            (f"corrections: {verdict}", n)
            for verdict, n in store.query(
                "SELECT verdict, count(*) FROM corrections WHERE iteration = ? GROUP BY verdict ORDER BY verdict",
                (iteration,),
            )
        ]
        rows += _drops(store, iteration, "pair", "pairs dropped")
        rows.append(("pairs kept", len(store.pairs(iteration))))
        trained = store.query("SELECT count(*) FROM outcomes WHERE iteration = ?", (iteration,))[0][0]
        rows.append(("pairs trained", trained))
        most = max((n for _, n in rows), default=0) or 1
        out.append({"iteration": iteration, "rows": [(label, n, round(100 * n / most)) for label, n in rows]})
    return out


def _drops(store: RunStore, iteration: int, kind: str, label: str) -> list[tuple[str, int]]:
    rows = store.query(
        "SELECT reason, count(*) FROM drops WHERE iteration = ? AND kind = ? GROUP BY reason ORDER BY reason",
        (iteration, kind),
    )
    return [(f"{label}: {reason}", n) for reason, n in rows]
