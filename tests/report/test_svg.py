"""Charts: inside their frame, with round ticks, for any numbers."""

import math
import re
from xml.etree import ElementTree

import pytest
from tso.report.svg import HEIGHT, WIDTH, interval, line_chart, nice_ticks, thinned, tick_names


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1]),
        (-0.3, 0.5, [-0.4, -0.2, 0, 0.2, 0.4, 0.6]),
        (0.0, 0.0, [-0.5, -0.25, 0, 0.25, 0.5]),
        (0.69314, 0.69315, [0.6, 0.65, 0.7, 0.75, 0.8]),
        (-72.5, -53.9, [-75, -70, -65, -60, -55, -50]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, ticks):
    assert nice_ticks(low, high) == ticks


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e9, 1e200])
@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.0), (2, 1.0)], [(1, 3.0), (2, 3.0)], [(1, -2.0), (9, 5.0)]])
def test_points_lie_inside_the_frame(points, scale):
    svg = ElementTree.fromstring(line_chart("t", {"a": [(x, y * scale) for x, y in points]}, (5,)))
    places = [tuple(map(float, p.split(","))) for e in svg.iter("polyline") for p in e.get("points").split()]
    places += [(float(e.get("cx")), float(e.get("cy"))) for e in svg.iter("circle")]
    assert len(places) >= len(points)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


def test_higher_values_are_higher_up():
    svg = ElementTree.fromstring(line_chart("t", {"a": [(1, 1.0), (2, 3.0), (3, 2.0)]}))
    y = [float(p.split(",")[1]) for p in svg.find("polyline").get("points").split()]
    assert y[1] < y[2] < y[0]


def test_names_are_escaped():
    svg = line_chart('"<b>', {"<script>": [(1, 1.0)]})
    assert "<script>" not in svg
    assert ElementTree.fromstring(svg).get("aria-label") == '"<b>'


@pytest.mark.parametrize("points", [[], [(1, math.inf)], [(1, math.nan)]])
def test_nothing_finite_is_no_chart(points):
    assert line_chart("t", {"a": points}) == ""


def test_infinite_points_are_left_out():
    assert "inf" not in re.sub(r"[a-z-]+=", "", line_chart("t", {"a": [(1, 1.0), (2, math.inf), (3, 2.0)]}))


def test_thinning_keeps_order_spikes_and_little_else():
    points = [(float(i), 0.0) for i in range(10_000)]
    points[1234] = (1234.0, 9.0)
    kept = thinned(points, 600)
    assert len(kept) <= 600
    assert (1234.0, 9.0) in kept
    assert kept == sorted(kept)
    assert thinned(points[:5], 600) == points[:5]


def test_interval_stays_in_its_row():
    svg = ElementTree.fromstring(interval(0.0, (-100.0, 100.0), 1.0, -2.0, 2.0))
    assert all(0 <= float(e.get(k)) <= 160 for e in svg.iter("line") for k in ("x1", "x2"))


@pytest.mark.parametrize(
    ("ticks", "names"),
    [
        ([0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
        ([-10.0, 0.0, 10.0], ["−10", "0", "10"]),
        ([0.0, 5e-7, 1e-6], ["0", "5e-07", "1e-06"]),
        ([1e9, 2e9], ["1e+09", "2e+09"]),
    ],
)
def test_neighbouring_ticks_have_different_names(ticks, names):
    assert tick_names(ticks) == names


def test_shares_are_drawn_on_a_whole_scale():
    svg = ElementTree.fromstring(line_chart("t", {"a": [(1, 0.5), (2, 0.5)]}, shares=True))
    names = [e.text for e in svg.iter("text") if "step" not in e.text]
    assert names == ["0.00", "0.25", "0.50", "0.75", "1.00"]
