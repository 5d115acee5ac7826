"""A person's answer can stand on either side of a pair, and one that judges and people prefer less is not chosen."""

import json
import zlib
from dataclasses import replace

import pytest
from tso.config import CorrectSection, PairSection
from tso.correct.learn import learn_strengths
from tso.correct.stage import correct
from tso.pair import make_pairs
from tso.progress import Face
from tso.records import Cell, Decoding, Message, Prompt
from tso.store import RunStore
from tso.store_rows import cell_rows, prompt_rows

N = 12


@pytest.fixture
def store(tmp_path):
    """Prompts with a human answer, and a policy's answer to each; the prior has people above."""
    with RunStore.open_or_create(tmp_path / "run", {}) as opened:
        people = [Prompt(f"p{i}", (Message("user", f"q{i}"),), (f"human answer {i}",)) for i in range(N)]
        opened.commit(0, "start", prompt_rows(people))
        yield opened


def cells(human=2.0):
    return [
        Cell("policy", "policy", "m", "m", "policy", 1.0, Decoding(), 0.0, 0.0, 1),
        Cell("human", "human", "", "human", "human", None, Decoding(), 2.0, human, 1),
    ]


def answered(store, iteration, matrix):
    store.commit(iteration, "choose", cell_rows(iteration, matrix))
    plan = store.plan(iteration, "train", 0, [f"p{i}" for i in range(N)], matrix, 64)
    for batch in range(plan.batches):
        draws = [(row[1], row[2]) for row in plan.batch(batch)]
        texts = [f"{cell} answer {prompt} {iteration}" for prompt, cell in draws]
        ids = [[zlib.crc32(f"{t} {j}".encode()) % 1000 + 10 for j in range(8)] + [3] for t in texts]
        store.record(iteration, "train", batch, [(t, i, "stop") for t, i in zip(texts, ids, strict=True)])
    make_pairs(store, PairSection(), iteration)
    return chosen(store, iteration)


def chosen(store, iteration):
    who = dict(store.query("SELECT response_id, cell FROM responses"))
    return [(who[p.label.chosen], who[p.label.rejected]) for p in store.pairs(iteration)]


def shorter(prompt, response):
    """A judge that likes the policy's answers better."""
    return 0.9 if response.text.startswith("policy") else 0.4


def turned(store, tmp_path, number):
    """People who like the policy's answers better."""
    path = tmp_path / "verdicts.jsonl"
    rows = [{"pair_id": p.id, "verdict": "flip", "author": a} for p in store.pairs(1)[:number] for a in ("ann", "bob")]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def test_by_the_prior_a_persons_answer_is_chosen(store):
    assert answered(store, 1, cells()) == [("human", "policy")] * N


@pytest.mark.parametrize("who", ["judge", "people"])
def test_one_that_is_preferred_less_is_not_chosen(store, tmp_path, who):
    answered(store, 1, cells())
    options = (
        CorrectSection(rule="tests.correct.test_human_answers:shorter")
        if who == "judge"
        else CorrectSection(recorded=turned(store, tmp_path, N))
    )
    correct(store, options, 1, lambda text: (7, 3), Face(quiet=True))
    assert chosen(store, 1) == [("policy", "human")] * N
    # The strengths learn it, and the next iteration begins with it.
    learn_strengths(store, options, 1, cells(), 0)
    learned = {name: s for name, (s, _) in store.strengths(1).items()}
    assert learned["human"] < learned["policy"]
    again = [replace(c, strength=learned[c.name]) for c in cells()]
    assert answered(store, 2, again) == [("policy", "human")] * N


def test_people_outrank_the_judge_pair_by_pair(store, tmp_path):
    answered(store, 1, cells())
    rule = "tests.correct.test_human_answers:shorter"
    # The judge turns every pair, and people turn the first three back.
    options = CorrectSection(rule=rule, recorded=turned(store, tmp_path, 3))
    correct(store, options, 1, lambda text: (7, 3), Face(quiet=True))
    assert chosen(store, 1) == [("human", "policy")] * 3 + [("policy", "human")] * (N - 3)
