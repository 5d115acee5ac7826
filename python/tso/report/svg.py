"""Line charts as inline SVG: a few dozen lines, so that the report needs no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 460, 200, 56, 24, 12
COLOURS = ("#3366aa", "#cc6633", "#559955", "#885599")

Points = Sequence[tuple[float, float]]


def chart(title: str, series: Mapping[str, Points]) -> str:
    """An SVG element; one colour a series, with its name as a legend. Empty series are left out."""
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    pad = (y1 - y0) * 0.05 or 0.5
    y0, y1 = y0 - pad, y1 + pad

    def place(x: float, y: float) -> str:
        across = (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - 8)
        up = (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)
        return f"{LEFT + across:.1f},{HEIGHT - BOTTOM - up:.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 18}" role="img" aria-label="{escape(title, quote=True)}">']
    for share in (0.0, 0.5, 1.0):
        value = y0 + share * (y1 - y0)
        y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">step {x0:g}</text>')
    parts.append(f'<text x="{WIDTH - 8}" y="{HEIGHT - 6}" text-anchor="end">step {x1:g}</text>')
    for i, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{line}"/>')
        parts.append(f'<text x="{LEFT + i * 130}" y="{HEIGHT + 12}" style="fill:{colour}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])
