"""report.html: the gathered numbers, rendered by the template beside this file into one page that loads nothing.

Every text goes through the template's escaping; only SVG that svg.py drew itself is passed as markup.
"""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tso.report.gather import gather
from tso.report.heat import heat_map
from tso.report.meetings import meeting_table
from tso.report.shapes import Chart, Meetings, Report, Strength
from tso.report.story import events
from tso.report.svg import interval, line_chart, minus
from tso.report.words import visible
from tso.store import RunStore
from tso.whole import write_text

FILE = "report.html"


def write(folder: Path) -> Path:
    """Write folder/report.html, complete or not at all, and return its path."""
    folder = Path(folder)
    with RunStore.open_read_only(folder) as store:
        html = render(gather(store))
    path = folder / FILE
    write_text(path, html)
    return path


def render(report: Report) -> str:
    """The page as text."""
    env = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    env.filters.update(number=number, log_odds=log_odds, visible=visible)
    env.globals |= {
        "draw": _draw,
        "bounds": _bounds,
        "interval": lambda s, low, high: Markup(interval(s.strength, (s.low, s.high), s.prior, low, high)),
        "heat": _heat,
        "meeting_table": meeting_table,
        "events": events,
    }
    source = files("tso.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    return env.from_string(source).render(report=report)


def number(value: Any) -> str:
    """A number as a table shows it: whole ones in full, others to four significant digits; other things as text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if math.isfinite(value) and float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,d}"
    else:
        text = f"{value:.4g}"
    return minus(text)


def log_odds(value: float) -> str:
    return minus(f"{value:+.2f}")


def _draw(chart: Chart) -> Markup:
    return Markup(line_chart(chart.title, chart.series, chart.starts, shares=chart.shares))


def _heat(found: Meetings) -> Markup:
    places = {name: i for i, name in enumerate(found.cells)}
    fields = {(places[a], places[b]): (met.rate, met.pairs) for (a, b), met in found.of.items()}
    title = "win rate of the row's cell against the column's, with the number of pairs; the table below has the same"
    return Markup(heat_map(title, [visible(name) for name in found.cells], fields))


def _bounds(strengths: tuple[tuple[int, tuple[Strength, ...]], ...]) -> tuple[float, float]:
    """One scale for the intervals of all iterations, so that they can be compared by eye."""
    rows = [s for _, group in strengths for s in group]
    low = min(min(s.prior, s.strength, s.low) for s in rows)
    high = max(max(s.prior, s.strength, s.high) for s in rows)
    pad = (high - low) * 0.06 or 0.5
    return low - pad, high + pad
