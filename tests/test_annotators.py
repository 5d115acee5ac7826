"""Statistics of people, held to a recount over what each of them said."""

import random
import time

import pytest
from tso import annotators
from tso.judges import agreement
from tso.report.people import COLUMNS, people_table
from tso.statistics import Share
from tso.verdicts import open_for_people

from tests.people import make_run
from tests.report.judged import judged_run, rows

PEOPLE = ("Ann", "Bob", "Cy")
COUNT = 40


def say(folder, pair, who, said, round=0, takes_back=None):
    text, side = ("a new text", "a") if said == "edit" else (None, None)
    given = int(time.time() * 1000)
    with open_for_people(folder) as store:
        store._ledger.say([(pair, who, round, said, side, text, "", 1.0, takes_back, None, given)])


@pytest.fixture
def run(tmp_path):
    """Verdicts on the page by chance, some repeated, some skipped, some taken back; nothing was taken up so far."""
    folder, draw = make_run(tmp_path / "run", COUNT), random.Random(1)
    for who in PEOPLE:
        for i in range(COUNT):
            if draw.random() < 0.6:
                say(folder, f"p{i:02}", who, draw.choice(["a", "a", "b", "b", "tie", "both_bad", "edit", "skip"]))
            if draw.random() < 0.3:
                say(folder, f"p{i:02}", who, draw.choice(["a", "b", "tie", "edit"]), round=1)
    with open_for_people(folder) as store:
        last = dict(store.query("SELECT annotator, max(verdict_id) FROM verdicts GROUP BY 1"))
        pairs = dict(store.query("SELECT verdict_id, pair_id FROM verdicts"))
        rounds = dict(store.query("SELECT verdict_id, round FROM verdicts"))
    number = last["Ann"]
    say(folder, pairs[number], "Ann", "undo", rounds[number], takes_back=number)
    return folder


def test_everybody_again_from_the_rows(run):
    with open_for_people(run) as store:
        found = {a.annotator: a for a in annotators.of_run(store)}
        said = rows(store, "verdicts")
    gone = {v["takes_back"] for v in said}
    stands = [v for v in said if v["verdict_id"] not in gone and v["said"] != "undo"]
    last = {who: {} for who in PEOPLE}
    for v in sorted(stands, key=lambda v: (v["round"], v["verdict_id"])):
        if v["said"] != "skip":
            last[v["annotator"]][v["pair_id"]] = v["said"]
    assert list(found) == sorted(PEOPLE)
    for who, one in found.items():
        mine = last[who]
        assert one.pairs == len(mine) > 10
        for share, word in ((one.ties, "tie"), (one.both_bad, "both_bad"), (one.edits, "edit")):
            assert share == Share(list(mine.values()).count(word), len(mine))
        assert one.skipped == sum(v["annotator"] == who and v["said"] == "skip" for v in stands)
        assert one.taken_back == (who == "Ann")

        by_round = [
            {v["pair_id"]: v["said"] for v in stands if (v["annotator"], v["round"]) == (who, r)} for r in (0, 1)
        ]
        both = [(by_round[0][p], by_round[1][p]) for p in by_round[0].keys() & by_round[1].keys()]
        plain = [(a, b) for a, b in both if "edit" not in (a, b) and "skip" not in (a, b)]
        assert one.repeated == Share(sum(a == b for a, b in plain), len(plain))
        assert len(plain) > 0

        alike = of = 0
        for pair, what in mine.items():
            voices = [last[other][pair] for other in PEOPLE if other != who and pair in last[other]]
            if what != "edit" and voices and len(set(voices)) == 1 and voices[0] != "edit":
                of += 1
                alike += what == voices[0] or {what, voices[0]} == {"tie", "both_bad"}
        assert (one.with_others.pairs, one.with_others.agreement) == (of, pytest.approx(alike / of))
        assert one.with_judges is None


def test_people_of_a_recorded_file_are_held_against_the_judge(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch) as store:
        found = {a.annotator: a for a in annotators.of_run(store)}
        of_judge = {c["pair_id"] for c in rows(store, "corrections") if c["source"] == "judge"}
        for who, one in found.items():
            mine = {c["pair_id"]: c["verdict"] for c in rows(store, "corrections") if c["author"] == who}
            assert one.pairs == len(mine)
            assert one.edits == Share(list(mine.values()).count("edit"), len(mine))
            assert one.repeated == Share(0, 0)
            assert 0 < one.with_judges.pairs <= len(of_judge & {p for p, v in mine.items() if v != "edit"})


def test_one_voice_against_itself_agrees_in_all():
    said = {f"p{i}": what for i, what in enumerate(["a", "b", "tie", "a", "b"])}
    assert agreement(said, said).value == 1.0


def test_the_table_of_the_report(run):
    with open_for_people(run) as store:
        table, found = people_table(store), annotators.of_run(store)
    assert [row[0] for row in table.rows] == sorted(PEOPLE)
    row = dict(zip(COLUMNS, table.rows[0], strict=True))
    assert (row["pairs"], row["taken back"], row["skipped"]) == (found[0].pairs, 1, found[0].skipped)
    low, high = found[0].repeated.interval
    assert row["same once more"].endswith(f"of {found[0].repeated.total}), {low:.0%} to {high:.0%}")


def test_nobody_judged(tmp_path):
    with open_for_people(make_run(tmp_path / "run")) as store:
        assert annotators.of_run(store) == []
        assert people_table(store) is None
