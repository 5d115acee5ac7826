"""Verdicts that people gave on the page become corrections of the run that is continued."""

from collections import Counter

import pytest
from tso._core import Ledger
from tso.config import CorrectSection
from tso.correct.learn import judged as contests
from tso.correct.stage import correct
from tso.store import FILE

from tests.correct.test_stage import RULE, Heard, said
from tests.correct.test_stage import judged as with_file
from tests.correct.test_stage import store as store_of_three_pairs

store = store_of_three_pairs  # the fixture, under its own name


class People:
    """Says things of the pairs of a store that a run holds."""

    def __init__(self, folder):
        self.ledger = Ledger.annotate(folder / FILE)

    def say(self, pair, word, who="ann", side=None, text=None, round=0, takes_back=None):
        row = (pair, who, round, word, side, text, "", 1.0, takes_back, None, None)
        return self.ledger.say([row])[0]


@pytest.fixture
def people(store, tmp_path):
    return People(tmp_path)


def judged(store, iteration=1, rule=RULE):
    face = Heard()
    options = CorrectSection(rule=rule, margin=0.05, bad_below=0.0)
    correct(store, options, iteration, lambda text: (7, 3), face)
    return {p.id: p for p in store.pairs()}, " ".join(face.lines)


def wins(store):
    """How often one cell's answer beat another's, by the verdicts in force."""
    found = Counter()
    for contest in contests(store, {"strong": 0.0, "weak": 0.0}):
        found[contest.first, contest.second] += contest.outcome
        found[contest.second, contest.first] += 1 - contest.outcome
    return found


def human(store):
    sql = "SELECT pair_id, author, verdict, answer, verdict_id FROM corrections WHERE source = 'human' ORDER BY correction_id"
    return store.query(sql)


@pytest.mark.parametrize(
    ("pair", "word", "chosen", "verdict"),
    [
        ("pa", "a", 1, "keep"),  # the rule kept a over b
        ("pa", "b", 2, "flip"),
        ("pb", "a", 3, "flip"),  # the rule turned it: b over a
        ("pb", "b", 4, "keep"),
        ("pc", "a", 5, "keep"),  # the rule called it a tie, so the prior's order is what a word is about
        ("pc", "b", 6, "flip"),
    ],
)
def test_a_verdict_about_an_answer_becomes_keep_or_flip_of_the_label_it_meets(
    store, people, pair, word, chosen, verdict
):
    number = people.say(pair, word)
    pairs, told = judged(store)
    assert (pairs[pair].label.source, pairs[pair].label.chosen) == ("human", chosen)
    assert human(store) == [(pair, "ann", verdict, word, number)]
    assert "people: 1 verdicts used" in told


def test_without_a_rule(store, people):
    people.say("pb", "b")
    people.say("pc", "tie")
    people.say("pa", "both_bad")
    pairs, _ = judged(store, rule=None)
    assert {i: p.label.chosen for i, p in pairs.items()} == {"pb": 4}
    assert {row[0] for row in store.query("SELECT reason FROM drops WHERE stage = 'correct/train'")} == {
        "tie",
        "both_bad",
    }


def test_an_edit_becomes_the_chosen_answer(store, people):
    people.say("pa", "edit", side="b", text="far better")
    pairs, _ = judged(store)
    label = pairs["pa"].label
    assert store.responses_by_id([label.chosen])[label.chosen].text == "far better"
    assert human(store)[0][2:4] == ("edit", "b")


def test_what_was_taken_back_or_skipped_says_nothing_and_the_last_round_counts(store, people):
    people.say("pa", "undo", takes_back=people.say("pa", "b"))
    people.say("pb", "skip")
    people.say("pc", "a")
    people.say("pc", "b", round=1)
    people.say("pc", "a", who="bob")
    judged(store)
    assert [row[:4] for row in human(store)] == [("pc", "ann", "flip", "b"), ("pc", "bob", "keep", "a")]


def test_late_verdicts_are_told_kept_and_taken_up_once(store, people):
    judged(store)
    before = wins(store)
    people.say("pb", "a")  # trained on as b over a
    people.say("pd", "a")  # had left
    pairs, told = judged(store, iteration=2)
    assert "2 verdicts are on pairs that were trained on or had left" in told
    assert "tso corrections export" in told
    assert pairs["pb"].label.chosen == 4
    assert [row[2] for row in human(store)] == ["flip", "keep"]
    after = wins(store)
    assert after["strong", "weak"] == before["strong", "weak"] + 2  # pb as the person has it, and pd
    assert after["weak", "strong"] == before["weak", "strong"] - 1
    _, told = judged(store, iteration=3)
    assert told == ""
    assert len(human(store)) == 2


def test_a_recorded_file_may_name_the_answer_too(store, tmp_path):
    pairs, _ = with_file(store, tmp_path, [said("pb", "keep", answer="a")])
    assert pairs["pb"].label.chosen == 3
    assert human(store) == [("pb", "recorded", "flip", "a", None)]
    _, told = with_file(store, tmp_path, [said("pb", "keep", answer="a")], iteration=2)
    assert told == ""  # taken up once, though it is stored as flip


def test_the_store_refuses_to_take_a_verdict_up_twice(store, people):
    from tso.correct.stage import _correction_rows
    from tso.errors import StoreConflict
    from tso.records import Correction

    number = people.say("pa", "a")
    judged(store)
    again = Correction("pa", "human", "ann", "keep", 1.0, answer="a", verdict_id=number)
    with pytest.raises(StoreConflict):
        store.commit(5, "x", _correction_rows(store, 5, [again]))
