"""Errors of the labels and their lengths, held to a recount from the rows of the store."""

import pytest
from tso import lengths
from tso.report.judges import share
from tso.report.labels import error_table, length_table
from tso.statistics import Share

from tests.correct.pairs import pairs_store
from tests.report.judged import Recount, judged_run, rows


@pytest.mark.parametrize("seed", range(3))
def test_every_error_again_from_the_rows(tmp_path, monkeypatch, seed):
    with judged_run(tmp_path, monkeypatch, seed) as store:
        again, found = Recount(store), error_table(store)
    first = {name: again.labels[name][0]["chosen"] for name in again.pairs}
    machines = {name: again.machine(name) or first[name] for name in again.pairs}
    last = {name: None if name in again.dropped else again.labels[name][-1]["chosen"] for name in again.pairs}
    people = {name: again.people(name)[1] for name in again.pairs}
    in_force = {name: again.in_force(name) for name in again.pairs}
    shown = {row[:2]: row[2:] for row in found.rows}
    for name, against, label, verdict in [
        ("before correction, by prior", "the verdict in force", first, in_force),
        ("before correction, by prior", "people", first, people),
        ("as rules and judges left it", "people", machines, people),
        ("in force", "people", last, people),
    ]:
        both = [
            (label[p], verdict[p]) for p in again.pairs if label[p] in again.both(p) and verdict[p] in again.both(p)
        ]
        wrong = Share(sum(a != b for a, b in both), len(both))
        assert shown[name, against] == (share(wrong, interval=True),) * 2  # the whole run, and iteration 1
        assert len(both) > 5
    assert found.columns == ("label", "held against", "whole run", "iteration 1")


def test_nobody_judged(tmp_path):
    with pairs_store(tmp_path, [("a", "b")]) as store:
        assert error_table(store) is None


def test_lengths_by_source_of_the_label_in_force(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch) as store:
        found = {row[0]: row[1:] for row in length_table(store).rows}
        count = {r["response_id"]: r["tokens"] - (r["finish_reason"] == "stop") for r in rows(store, "responses")}
        again = Recount(store)
        assert sum(n for source, (n, *_) in found.items() if source != "all") == found["all"][0]
        for source, (pairs, gap, longer) in found.items():
            labels = [again.labels[p][-1] for p in again.pairs if p not in again.dropped]
            apart = [
                count[x["chosen"]] - count[x["rejected"]]
                for x in labels
                if x["chosen"] and source in (x["source"], "all")
            ]
            assert (pairs, gap) == (len(apart), pytest.approx(sum(apart) / len(apart), abs=0.006))
            assert longer == f"{sum((x > 0) + 0.5 * (x == 0) for x in apart) / len(apart):.0%}"


def test_lengths_are_counted_as_the_run_counts_them(tmp_path):
    with pairs_store(tmp_path, [("a", "b")] * 12) as store:
        assert length_table(store).rows == (("all", 12, 0.0, "50%"), ("prior", 12, 0.0, "50%"))
        assert length_table(store).verdict == ""


def test_lopsided_lengths_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tso.report.labels._tokens", lambda _: {i: 9 - i % 2 for i in range(100)})
    with pairs_store(tmp_path, [("a", "b")] * 12) as store:
        assert "the rejected side is the longer one in 100% of the pairs" in length_table(store).verdict


def test_nothing_labelled(tmp_path):
    with pairs_store(tmp_path, [("a", "b")], confidence=0.5) as store:
        assert length_table(store) is None
    assert lengths.gaps([], {}) == {}
