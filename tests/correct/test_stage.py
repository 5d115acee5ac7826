"""Verdicts of a rule and of people on an iteration's pairs: which counts, what it does, and that none is lost."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from tso.config import CorrectSection, PairSection
from tso.correct.learn import estimate_noise, learn_strengths
from tso.correct.learn import judged as contests
from tso.correct.noise import alike, of_majority
from tso.correct.stage import correct
from tso.errors import DataError
from tso.pair import contradictions
from tso.progress import Face
from tso.records import Cell, Decoding, Label, Response
from tso.store import RunStore
from tso.store_rows import drop_rows, label_rows, merge, response_rows
from tso.voices import heard

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


def judged(store, tmp_path, verdicts, iteration=1, **more):
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(v) + "\n" for v in verdicts), encoding="utf-8")
    face = Heard()
    options = CorrectSection(rule=RULE, recorded=str(path), margin=0.05, bad_below=0.0, **more)
    correct(store, options, iteration, lambda text: (7, 3), face)
    return {p.id: p for p in store.pairs()}, " ".join(face.lines)


def wins(store):
    """How often the one cell's answer beat the other's; a tie is half a win for either."""
    found = Counter()
    for c in contests(store, CELLS):
        found[c.first, c.second] += c.outcome
        found[c.second, c.first] += 1 - c.outcome
    return {pair: n for pair, n in found.items() if n}


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
    assert wins(store) == {("weak", "strong"): 2.5, ("strong", "weak"): 0.5}
    assert metrics(store)["feedback/agreement"] == 0.0
    assert metrics(store)["feedback/flips"] == 2


def test_a_contradicted_label_may_leave_and_teaches_all_the_same(store, tmp_path):
    pairs, _ = judged(store, tmp_path, [], on_flip="drop")
    assert list(pairs) == ["pa"]
    assert dict(store.query("SELECT id, reason FROM drops WHERE stage = 'correct/train'"))["pb"] == "contradicted"
    gone = {p.id: p.label for p in store.pairs(dropped=True)}["pb"]
    assert (gone.source, gone.chosen) == ("rule", 4)
    assert wins(store) == {("strong", "weak"): 1.5, ("weak", "strong"): 1.5}
    assert metrics(store)["prior/error_rate"] == 0.5


@pytest.mark.parametrize(("verdict", "chosen"), [("keep", 4), ("flip", 3)])
def test_people_decide_over_a_contradicted_label(store, tmp_path, verdict, chosen):
    pairs, _ = judged(store, tmp_path, [said("pa", "flip"), said("pb", verdict)], on_flip="drop")
    assert {i: (p.label.source, p.label.chosen) for i, p in pairs.items()} == {
        "pa": ("human", 2),
        "pb": ("human", chosen),
    }


def test_who_comes_back_to_a_verdict_means_it(store, tmp_path):
    lines = [said("pa", word, author="ann") for word in ("keep", "flip", "keep")]
    pairs, _ = judged(store, tmp_path, [*lines, said("pc", "keep"), said("pc", "keep")])
    assert pairs["pa"].label.chosen == 1
    assert metrics(store)["feedback/corrections"] == 3 + 3  # a line that stands twice is one


def test_recorded_verdicts_are_people_that_a_run_need_not_wait_for(store, tmp_path):
    with pytest.raises(DataError, match="iteration 1 waits for people"):
        judged(store, tmp_path, [said("pz", "flip")], wait_for_people=True)
    pairs, _ = judged(store, tmp_path, [said("pa", "flip")], wait_for_people=True)
    assert pairs["pa"].label.chosen == 2


def test_a_majority_of_people_decides(store, tmp_path):
    voices = [said("pa", v, author=a) for a, v in (("ann", "flip"), ("bob", "keep"), ("eve", "flip"))]
    pairs, _ = judged(store, tmp_path, voices)
    assert (pairs["pa"].label.source, pairs["pa"].label.chosen) == ("human", 2)
    assert pairs["pa"].label.confidence == pytest.approx(2 / 3)
    assert len(store.corrections()) == 6  # nobody's verdict is lost


@pytest.mark.parametrize(("answer", "rejected"), [("a", 1), ("b", 2), (None, 1)])
def test_an_edit_is_better_than_the_answer_that_it_was_made_from(store, tmp_path, answer, rejected):
    edit = said("pa", "edit", text="stronger", **({"answer": answer} if answer else {}))
    label = judged(store, tmp_path, [edit])[0]["pa"].label
    assert (store.responses_by_id([label.chosen])[label.chosen].text, label.rejected) == ("stronger", rejected)


def test_an_edited_pair_is_history_like_any_other(store, tmp_path):
    """In a later iteration somebody answers what the edit said, and the same pair comes once more, turned round."""
    old = judged(store, tmp_path, [said("pa", "edit", text="str")])[0]["pa"]
    again = replace(old, id="pe", iteration=2, label=Label("prior", old.label.rejected, 3, 0.9, 1.0))
    texts = {i: replace(r, token_ids=(7, 3)) if i == 3 else r for i, r in store.responses_by_id([1, 3]).items()}
    found = contradictions(store, [again], texts, PairSection(), "train")
    assert [pair for pair, _, _ in found] == ["pe"]


def test_late_voices_count_with_those_before(store, tmp_path):
    """pa was called strong over weak by two in time; one who speaks late is outvoted, two more make it a tie."""
    in_time = [said("pa", "keep", author=a) for a in ("ann", "bob")]
    judged(store, tmp_path, in_time)
    for who, ours in (("cy", 1.0), ("dan", 0.5), ("eve", 0.0)):
        judged(
            store, tmp_path, [*in_time, said("pa", "flip", author=who)], iteration={"cy": 2, "dan": 3, "eve": 4}[who]
        )
        assert [h.people for h in heard(store) if h.pair_id == "pa"] == [{1.0: "a", 0.5: None, 0.0: "b"}[ours]]
        assert wins(store)["strong", "weak"] == ours + 0.5  # the rule turned pb, and called pc a tie


def test_disagreement_brings_no_contradicted_label_back(store, tmp_path):
    voices = [said("pb", v, author=a) for a, v in (("ann", "flip"), ("bob", "keep"))]
    pairs, _ = judged(store, tmp_path, voices, on_flip="drop", on_disagreement="weight")
    assert list(pairs) == ["pa"]
    assert dict(store.query("SELECT id, reason FROM drops WHERE stage = 'correct/train'"))["pb"] == "disagreement"


def test_what_is_said_of_an_edited_label_is_no_contest_of_cells(store, tmp_path):
    edit = said("pa", "edit", text="stronger", author="ann", answer="a")
    judged(store, tmp_path, [edit])
    before = wins(store)
    judged(store, tmp_path, [edit, said("pa", "tie", author="bob")], iteration=2)
    assert [h.disputed for h in heard(store) if h.pair_id == "pa"] == [True]
    assert wins(store) == before


@pytest.mark.parametrize("how", ["drop", "weight"])
def test_people_without_a_majority(store, tmp_path, how):
    voices = [said(pair, v, author=a) for pair in ("pb", "pc") for a, v in (("ann", "flip"), ("bob", "keep"))]
    pairs, _ = judged(store, tmp_path, voices, on_disagreement=how, disagreement_weight=0.3)
    reasons = dict(store.query("SELECT id, reason FROM drops WHERE kind = 'pair'"))
    assert reasons["pc"] == "disagreement"  # the rule called it a tie, so no label is left to weigh less
    if how == "drop":
        assert "pb" not in pairs
        assert reasons["pb"] == "disagreement"
    else:
        assert (pairs["pb"].label.source, pairs["pb"].label.chosen, pairs["pb"].label.weight) == ("rule", 4, 0.3)
    # A dispute is a tie in strength: pa by the rule, pb and pc tied.
    assert wins(store) == {("strong", "weak"): 2.0, ("weak", "strong"): 1.0}


def test_strengths_with_intervals_go_to_the_store_and_the_next_iteration_reads_them(store, tmp_path):
    judged(store, tmp_path, [])
    cells = [Cell(n, "policy", "", n, "policy", 1.0, Decoding(), prior, prior, 1) for n, prior in CELLS.items()]
    learn_strengths(store, CorrectSection(), 1, cells, 7)
    rows = store.query("SELECT cell, prior, strength, low, high, comparisons FROM strengths ORDER BY cell")
    assert [(r[0], r[1], r[5]) for r in rows] == [("strong", 1.0, 3), ("weak", 0.0, 3)]
    assert all(low < value < high for _, _, value, low, high, _ in rows)
    learned = store.strengths(1)
    assert learned["strong"][0] - learned["weak"][0] < 1  # one win each and a tie, where the prior expected more
    assert metrics(store)["matrix/strength/weak"] == learned["weak"][0]
    learn_strengths(store, CorrectSection(), 1, cells, 7)  # a unit that is there stays


def noisy(store, number, unjudged=0):
    """`number` pairs more that two people keep, but for every fifth that one of them turns; then pairs nobody judged."""
    ids = range(100, 100 + 2 * (number + unjudged), 2)
    answers = [
        Response(i + j, "p0", ("strong", "weak")[j], f"text {i + j}", (9, 3), "stop", 1) for i in ids for j in (0, 1)
    ]
    pairs = [(f"pn{i}", 1, "train", i, "p0", i, i + 1, 0.0) for i in ids]
    labels = [(f"pn{i}", Label("prior", i, i + 1, 0.7, 1.0)) for i in ids]
    rows = merge(
        response_rows(answers), {"pairs": (PAIR, pairs)}, label_rows(store.next_id("labels", "label_id"), 1, labels)
    )
    store.commit(1, "more pairs", rows)
    return [
        said(f"pn{i}", "flip" if author == "bob" and i % 10 == 0 else "keep", author=author)
        for i in ids[:number]
        for author in ("ann", "bob")
    ]


def test_label_noise_goes_to_the_store_by_source(store, tmp_path):
    verdicts = noisy(store, 40, unjudged=1)
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(v) + "\n" for v in verdicts), encoding="utf-8")
    options = CorrectSection(recorded=str(path), on_disagreement="weight")
    correct(store, options, 1, lambda text: (7, 3), Heard())
    cells = [Cell(n, "policy", "", n, "policy", 1.0, Decoding(), prior, prior, 1) for n, prior in CELLS.items()]
    estimate_noise(store, options, 1, cells)
    found = store.noise(1)
    rate = alike((32 + 1) / (40 + 2))
    assert found["pn102"] == pytest.approx(of_majority(rate, [1, 1]))
    assert metrics(store)["feedback/noise/human"] == pytest.approx(found["pn102"])
    # Nobody judged this one: the prior's label is as likely wrong as the strengths say, few as 33 wins and 8 ties leave.
    assert 0 < found["pn180"] < 0.2
    assert 0 < found["pn100"] < 0.2  # disputed: the prior's label stays
    assert "pa" in found


def test_without_an_agreement_no_label_has_a_noise(store, tmp_path):
    judged(store, tmp_path, [])
    estimate_noise(store, CorrectSection(), 1, [])
    assert store.noise(1) == {}


def test_noise_can_be_left_alone(store, tmp_path):
    judged(store, tmp_path, noisy(store, 40))
    estimate_noise(store, CorrectSection(estimate_noise=False), 1, [])
    assert store.noise(1) == {}


def test_late_and_unknown_verdicts_are_told_and_late_ones_count_for_the_strengths(store, tmp_path):
    judged(store, tmp_path, [])
    before = wins(store)
    late = [said("pb", "flip"), said("pd", "keep"), said("pnowhere", "keep")]
    pairs, told = judged(store, tmp_path, late, iteration=2)
    assert "2 verdicts are on pairs that were trained on or had left" in told
    assert "1 verdicts are on pairs that this run has not made so far: pnowhere" in told
    assert pairs["pb"].label.chosen == 4  # it was trained on like that
    after = wins(store)
    assert after["strong", "weak"] == before["strong", "weak"] + 2  # pb as the person has it, and pd
    assert after["weak", "strong"] == before["weak", "strong"] - 1
    _, told = judged(store, tmp_path, late, iteration=3)
    assert "trained on" not in told  # taken once
    assert wins(store) == after


def test_the_judge_is_asked_once_for_an_answer_whatever_it_says_next(store, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tests.correct.test_stage.longer", lambda _, r: asked.append(r.id) or len(asked) / 10)
    store.commit(1, "score/train", {"scores": (["response_id", "judge", "score", "reason"], [(1, RULE, 0.9, "")])})
    judged(store, tmp_path, [])
    assert asked == [2, 3, 4, 5, 6]
    assert store.query("SELECT score FROM scores WHERE response_id = 1") == [(0.9,)]
