"""The heat map of cells against cells as inline SVG. Knows numbers and names only.

Blue says that the cell of the row wins, orange that it loses, and the share and the count stand in every field, so that
nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

FIELD, ROW, HEAD, NAMES = 62, 34, 20, 190  # widths and heights, in the units of the picture
LONGEST = 24  # characters of a name beside its row; the whole of it is in the title


def heat_map(title: str, names: Sequence[str], found: Mapping[tuple[int, int], tuple[float, int]]) -> str:
    """An SVG element: a row and a column for each name, and a field for each couple that met.

    found: by (row, column) as indices of names, the share between 0 and 1 that the row's has won, and of how many.
    """
    width, height = NAMES + FIELD * len(names), HEAD + ROW * len(names)
    parts = [
        f'<svg class="heat" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">'
    ]
    for i, name in enumerate(names):
        y = HEAD + ROW * i
        parts.append(
            f'<text x="0" y="{y + ROW / 2 + 4:.1f}"><title>{escape(name)}</title>{i + 1}  {escape(_short(name))}</text>'
        )
        parts.append(f'<text x="{_across(i) + FIELD / 2:.1f}" y="{HEAD - 7}" text-anchor="middle">{i + 1}</text>')
        for j, other in enumerate(names):
            if (i, j) in found:
                parts.append(_field(f"{name} against {other}", _across(j), y, *found[i, j]))
    return "".join([*parts, "</svg>"])


def _field(what: str, x: float, y: float, share: float, count: int) -> str:
    colour = "win" if share > 0.5 else "loss"
    told = f"{escape(what)}: {share:.0%} of {count:,d}"
    middle = x + FIELD / 2
    return (
        f'<rect class="{colour}" x="{x + 1:.1f}" y="{y + 1}" width="{FIELD - 2}" height="{ROW - 2}" rx="4" '
        f'fill-opacity="{abs(share - 0.5) * 1.2:.2f}"><title>{told}</title></rect>'
        f'<text class="share" x="{middle:.1f}" y="{y + 15}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{middle:.1f}" y="{y + 28}" text-anchor="middle">{count:,d}</text>'
    )


def _across(column: int) -> float:
    return NAMES + FIELD * column


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
