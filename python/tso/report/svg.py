"""Charts as inline SVG, drawn here so that the report needs no script and no network. Knows numbers and names only.

Colours are CSS classes s0, s1, ... of the page, so that they follow its light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 230, 58, 12, 10, 26
POINTS = 600  # more would not be seen at this width
COLOURS = 6  # classes the page defines

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: Mapping[str, Points], starts: Sequence[float] = (), *, shares: bool = False) -> str:
    """An SVG element with one line a series, or nothing where no point is finite.

    `starts` are steps at which an iteration begins; `shares` says that the values lie between 0 and 1.
    """
    found = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in series.items()}
    xs = [x for points in found.values() for x, _ in points]
    ys = [y for points in found.values() for _, y in points]
    if not xs:
        return ""
    x0, x1 = min(xs), max(xs)
    ticks = nice_ticks(min(0, *ys), max(1, *ys)) if shares else nice_ticks(min(ys), max(ys))
    names = tick_names(ticks)
    y0, y1 = ticks[0], ticks[-1]

    def across(x: float) -> float:
        share = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">']
    for tick, name in zip(ticks, names, strict=True):
        kind = "zero" if tick == 0 and y0 < 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 7}" y="{down(tick) + 3.5:.1f}" text-anchor="end">{name}</text>')
    for start in starts:
        if x0 < start <= x1:
            parts.append(
                f'<line class="start" x1="{across(start):.1f}" x2="{across(start):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            )
    for x in sorted({x0, x1}):
        anchor = "middle" if x0 == x1 else ("start" if x == x0 else "end")
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">step {x:,.0f}</text>')
    for i, (name, points) in enumerate(found.items()):
        parts += _line(name, [(across(x), down(y)) for x, y in thinned(points, POINTS)], f"s{i % COLOURS}")
    return "".join([*parts, "</svg>"])


def _line(name: str, places: Points, colour: str) -> list[str]:
    if not places:
        return []
    told = f"<title>{escape(name)}</title>"
    dots = [f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.4">{told}</circle>' for x, y in places]
    if len(places) == 1:
        return dots
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = f'<polyline class="line {colour}" points="{path}">{told}</polyline>'
    return [line, *dots] if len(places) <= 40 else [line]


def interval(value: float, ends: tuple[float, float], prior: float, low: float, high: float) -> str:
    """A row's estimate as a dot on the line of its interval, and a tick at the prior, between low and high."""
    width, height = 160, 18

    def across(x: float) -> float:
        return (min(max(x, low), high) - low) / (high - low) * width

    zero = (
        f'<line class="zero" x1="{across(0):.1f}" x2="{across(0):.1f}" y1="0" y2="{height}"/>' if low < 0 < high else ""
    )
    return (
        f'<svg class="interval" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">{zero}'
        f'<line class="line s0" x1="{across(ends[0]):.1f}" x2="{across(ends[1]):.1f}" y1="9" y2="9"/>'
        f'<line class="prior" x1="{across(prior):.1f}" x2="{across(prior):.1f}" y1="3" y2="15"/>'
        f'<circle class="dot s0" cx="{across(value):.1f}" cy="9" r="4"/></svg>'
    )


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Ascending round numbers that enclose [low, high]; at least two, also when low equals high."""
    size = max(abs(low), abs(high))
    if high - low <= size * 1e-3:  # a difference this small is rounding, and would be drawn as a mountain
        pad = size * 0.1 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / (about - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, max(last, first + 1) + 1)]


def thinned(points: Points, most: int) -> list[tuple[float, float]]:
    """At most about `most` points: the lowest and the highest of each stretch, so that spikes stay visible."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / (most // 2)) for i in range(most // 2 + 1)]
    kept: list[tuple[float, float]] = []
    for a, b in pairwise(edges):
        stretch = points[a:b]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept


def tick_names(ticks: Sequence[float]) -> list[str]:
    """All with as many decimals as tell neighbours apart; very large and very small ones by powers of ten."""
    size = max(map(abs, ticks))
    for places in range(7 if 1e-3 <= size < 1e7 else 0):
        if all(abs(round(t, places) - t) <= size * 1e-9 for t in ticks):
            return [minus(f"{t:,.{places}f}") for t in ticks]
    return [minus(f"{t:.4g}") for t in ticks]


def minus(number: str) -> str:
    """A number's text with a typographic minus, as wide as the plus."""
    return "\N{MINUS SIGN}" + number[1:] if number.startswith("-") else number
