"""Cell against cell: the counts of the store, those of the fit of the strengths, and the picture of them."""

from collections import Counter
from xml.etree import ElementTree

import pytest
from tso.correct.learn import judged
from tso.report.heat import heat_map
from tso.report.meetings import meeting_table, meetings
from tso.statistics import Share

from tests.correct.pairs import PRIORS, pairs_store
from tests.report.judged import Recount, judged_run
from tests.report.runs import IMAGE


@pytest.mark.parametrize("seed", range(3))
def test_every_count_again_from_the_rows(tmp_path, monkeypatch, seed):
    with judged_run(tmp_path, monkeypatch, seed) as store:
        again, found = Recount(store), meetings(store)
        counts = Counter()
        for name in again.pairs:
            a, b = again.both(name)
            what = again.in_force(name)
            if again.people(name) == (True, None):
                what = "tie"
            edited = again.labels[name][-1]["chosen"] not in (a, b, None)
            if again.cell[a] != again.cell[b] and what in (a, b, "tie") and not edited:
                for side, other in ((a, b), (b, a)):
                    how = "tie" if what == "tie" else "better" if what == side else "worse"
                    counts[again.cell[side], again.cell[other], how] += 1
        for (cell, other), met in found.of.items():
            assert met.better == counts.pop((cell, other, "better"), 0)
            assert met.neither == counts.pop((cell, other, "tie"), 0)
            assert met.worse == counts.pop((cell, other, "worse"), 0)
        assert not counts
        assert set(found.cells) == set(PRIORS)


def test_the_counts_are_those_of_the_strengths(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch, 5) as store:
        found, won, met = meetings(store), Counter(), Counter()
        for contest in judged(store, dict(PRIORS)):
            for cell, other, share in (
                (contest.first, contest.second, contest.outcome),
                (contest.second, contest.first, 1 - contest.outcome),
            ):
                won[cell, other] += share
                met[cell, other] += 1
        assert {k: m.pairs for k, m in found.of.items()} == met
        assert {k: m.rate * m.pairs for k, m in found.of.items()} == pytest.approx(won)


def test_the_table_tells_each_couple_once(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch) as store:
        found = meetings(store)
        for cell, other, pairs, better, neither, worse, rate, decided in meeting_table(found).rows:
            met = found.of[cell, other]
            assert (pairs, better, neither, worse) == (met.pairs, met.better, met.neither, met.worse)
            assert pairs == better + neither + worse
            assert rate == f"{(better + 0.5 * neither) / pairs:.0%}"
            low, high = Share(better, better + worse).interval
            assert decided.endswith(f"({better} of {better + worse}), {low:.0%} to {high:.0%}")
        assert 2 * len(meeting_table(found).rows) == len(found.of)


def test_cells_come_in_the_order_of_their_last_strengths(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch) as store:
        columns = ["iteration", "cell", "prior", "strength", "stderr", "low", "high", "comparisons"]
        rows = [(1, "weak", 0.0, 9.0, 1.0, 8.0, 10.0, 1), (2, "weak", 0.0, 1.0, 1.0, 0.0, 2.0, 1)]
        rows += [(1, "fair", 0.9, 2.0, 1.0, 1.0, 3.0, 1)]
        store.commit(2, "strengths", {"strengths": (columns, rows)})
        assert meetings(store).cells == ("fair", "weak", "strong")


def test_without_verdicts_there_is_none(tmp_path):
    with pairs_store(tmp_path, [("a", "b")]) as store:
        assert meetings(store) is None


def test_the_picture_holds_shares_counts_and_whole_names():
    names = ["strong", IMAGE + " a name that is too long"]
    svg = ElementTree.fromstring(heat_map("win rates", names, {(0, 1): (0.75, 1234), (1, 0): (0.25, 1234)}))
    assert svg.get("aria-label") == "win rates"
    assert [t.text for t in svg.iter("text") if t.get("class") == "share"] == ["75%", "25%"]
    assert [t.text for t in svg.iter("text")].count("1,234") == 2
    assert [r.get("class") for r in svg.iter("rect")] == ["win", "loss"]
    titles = [t.text for t in svg.iter("title")]
    assert f"strong against {names[1]}: 75% of 1,234" in titles
    assert names[1] in titles
    width, height = (float(svg.get(k)) for k in ("width", "height"))
    for rect in svg.iter("rect"):
        assert 0 <= float(rect.get("x")) <= width - float(rect.get("width"))
        assert 0 <= float(rect.get("y")) <= height - float(rect.get("height"))
