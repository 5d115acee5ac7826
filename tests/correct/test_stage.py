"""Verdicts of a rule and of people on an iteration's pairs: which counts, what it does, and that none is lost."""

import json

import pytest
from tso.config import CorrectSection
from tso.correct.stage import _wins, correct
from tso.progress import Face
from tso.records import Label, Response
from tso.store import RunStore, drop_rows, label_rows, merge, response_rows

from tests.stores import prompts

CELLS = {"strong": 1.0, "weak": 0.0}
RULE = "tests.correct.test_stage:longer"
PAIR = ["pair_id", "iteration", "purpose", "position", "prompt_id", "response_a", "response_b", "similarity"]


def longer(prompt, response):
    return min(1.0, len(response.text) / 10)


class Heard(Face):
    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    warn = say


@pytest.fixture
def store(tmp_path):
    """Three pairs of iteration 1, labelled strong over weak: the rule keeps pa, turns pb, ties pc. pd has left."""
    with RunStore.open_or_create(tmp_path, {}) as opened:
        texts = ["strong one", "weak", "str", "weak two", "same a", "same b", "gone a", "gone b"]
        answers = [
            Response(i, "p0", ("weak", "strong")[i % 2], text, (9, 3), "stop", 1) for i, text in enumerate(texts, 1)
        ]
        names = ["pa", "pb", "pc", "pd"]
        pairs = [(n, 1, "train", i, "p0", 2 * i + 1, 2 * i + 2, 0.0) for i, n in enumerate(names)]
        labels = [(n, Label("prior", 2 * i + 1, 2 * i + 2, 0.7, 1.0)) for i, n in enumerate(names)]
        rows = (prompts(1), response_rows(answers), {"pairs": (PAIR, pairs)}, label_rows(1, 1, labels))
        opened.commit(1, "pair/train", merge(*rows, drop_rows(1, "pair/train", "pair", [("pd", "alike", "")])))
        yield opened


def judged(store, tmp_path, verdicts, iteration=1):
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(v) + "\n" for v in verdicts), encoding="utf-8")
    face = Heard()
    options = CorrectSection(rule=RULE, recorded=str(path), margin=0.05, bad_below=0.0)
    correct(store, options, iteration, lambda text: (7, 3), face)
    return {p.id: p for p in store.pairs()}, " ".join(face.lines)


def said(pair_id, verdict, **more):
    return {"pair_id": pair_id, "verdict": verdict, **more}


def metrics(store, iteration=1):
    return dict(store.query("SELECT name, value FROM metrics WHERE iteration = ?", (iteration,)))


def test_the_rule_alone(store, tmp_path):
    pairs, told = judged(store, tmp_path, [])
    assert {i: (p.label.source, p.label.chosen) for i, p in pairs.items()} == {"pa": ("rule", 1), "pb": ("rule", 4)}
    assert told == ""
    assert metrics(store)["feedback/agreement"] == 0.5
    assert metrics(store)["feedback/ties"] == 1


@pytest.mark.parametrize(
    ("verdict", "chosen"), [(said("pb", "keep"), 4), (said("pb", "flip"), 3), (said("pc", "keep"), 5)]
)
def test_people_judge_what_the_rule_left_and_outrank_it(store, tmp_path, verdict, chosen):
    pairs, told = judged(store, tmp_path, [verdict])
    label = pairs[verdict["pair_id"]].label
    assert (label.source, label.chosen) == ("human", chosen)
    assert "1 verdicts used" in told


def test_one_comparison_a_pair_by_the_verdict_in_force(store, tmp_path):
    judged(store, tmp_path, [said("pa", "flip", confidence=1 - i / 100) for i in range(50)])
    # pa: a person turned it; pb: the rule did; pc: a tie. The rule's overruled verdict on pa counts no more.
    assert _wins(store, CELLS) == {("weak", "strong"): 2.5, ("strong", "weak"): 0.5}
    assert metrics(store)["feedback/agreement"] == 0.0
    assert metrics(store)["feedback/flips"] == 2


def test_late_and_unknown_verdicts_are_told_and_late_ones_count_for_the_strengths(store, tmp_path):
    judged(store, tmp_path, [])
    before = _wins(store, CELLS)
    late = [said("pb", "flip"), said("pd", "keep"), said("pnowhere", "keep")]
    pairs, told = judged(store, tmp_path, late, iteration=2)
    assert "2 verdicts are on pairs that were trained on or had left" in told
    assert "1 verdicts are on pairs that this run has not made so far: pnowhere" in told
    assert pairs["pb"].label.chosen == 4  # it was trained on like that
    after = _wins(store, CELLS)
    assert after["strong", "weak"] == before["strong", "weak"] + 2  # pb as the person has it, and pd
    assert after["weak", "strong"] == before["weak", "strong"] - 1
    _, told = judged(store, tmp_path, late, iteration=3)
    assert "trained on" not in told  # taken once
    assert _wins(store, CELLS) == after


def test_the_judge_is_asked_once_for_an_answer_whatever_it_says_next(store, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tests.correct.test_stage.longer", lambda _, r: asked.append(r.id) or len(asked) / 10)
    store.commit(1, "score/train", {"scores": (["response_id", "judge", "score", "reason"], [(1, RULE, 0.9, "")])})
    judged(store, tmp_path, [])
    assert asked == [2, 3, 4, 5, 6]
    assert store.query("SELECT score FROM scores WHERE response_id = 1") == [(0.9,)]
