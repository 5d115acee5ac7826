"""From answers to pairs: what leaves, and for which reason."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.config import PairSection
from tso.matrix import win_probability
from tso.pair import Candidate, _pair, clean_responses, surplus
from tso.records import Label, Pair, Response


def answer(number, words, *, finish="stop", prompt="p"):
    text = " ".join(words)
    ids = tuple(hash_of(w) for w in words) + ((3,) if finish == "stop" else ())
    return Response(number, prompt, "policy", text, ids, finish, 1)


def hash_of(word):
    return 10 + sum(ord(c) * 31**i for i, c in enumerate(word)) % 10_000


def test_each_answer_leaves_for_one_named_reason():
    plain = ["the", "sun", "is", "warm", "and", "the", "rain", "is", "cold"]
    answers = [
        answer(1, plain),
        answer(2, []),
        answer(3, plain),
        answer(4, ["we", "like", "tea"] * 6),
        answer(5, ["bread", "is", "big", "and", "red", "and", "we", "like", "it"], finish="length"),
        answer(6, plain, prompt="another"),
    ]
    kept, dropped = clean_responses(answers, PairSection(drop_cutoff=True))
    assert [r.id for r in kept] == [1, 6]
    assert {i: reason for i, reason, _ in dropped} == {2: "empty", 3: "duplicate", 4: "looping", 5: "cut_off"}


def test_one_text_in_two_tokenisations_is_a_duplicate():
    whole, cut = Response(1, "p", "a", "Yes", (9, 3), "stop", 1), Response(2, "p", "a", "Yes", (7, 8, 3), "stop", 1)
    kept, dropped = clean_responses([whole, cut, Response(3, "q", "a", " Yes", (7, 8, 3), "stop", 1)], PairSection())
    assert [r.id for r in kept] == [1, 3]
    assert dropped == [(2, "duplicate", "of response 1")]


def test_what_people_said_is_never_surplus():
    label = Label("human", 1, 2, 0.0, 1.0)
    pairs = [pair(1, "p", 0.9), replace(pair(2, "p", 0.5), label=label), pair(3, "q", 0.8)]
    assert [gone for gone, _, _ in surplus(pairs, 2)] == ["p3"]


@pytest.mark.parametrize("p_a", [0.8, 0.5, 0.2])
def test_a_pair_of_one_id_has_one_order_whichever_answer_came_first(p_a):
    """What people said of a and b travels to other runs by the pair's id."""
    one, other = answer(1, ["rain"]), answer(2, ["sun"])
    found = [
        _pair(1, [one, other], Candidate(0, 1, p_a, "prior"), 0.5),
        _pair(1, [replace(other, id=1), replace(one, id=2)], Candidate(1, 0, p_a, "prior"), 0.5),
    ]
    assert found[0].id == found[1].id
    assert [(p.response_a, p.response_b) for p in found] == [(1, 2), (2, 1)]
    better = None if p_a == 0.5 else 1 if p_a > 0.5 else 2
    assert [p.label.chosen for p in found] == [better, better and 3 - better]


def pair(number, prompt, confidence):
    return Pair(
        f"p{number}",
        1,
        prompt,
        2 * number,
        2 * number + 1,
        0.0,
        Label("rule", 2 * number, 2 * number + 1, confidence, 1.0),
    )


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.5, 0.75, 1.0]))),
    st.none() | st.integers(1, 12),
)
def test_the_surest_stay_and_equally_sure_ones_take_turns(made, most):
    pairs = [pair(i, prompt, sure) for i, (prompt, sure) in enumerate(made)]
    gone = {name for name, reason, _ in surplus(pairs, most) if reason == "surplus"}
    kept = [p for p in pairs if p.id not in gone]
    assert len(kept) == (len(pairs) if most is None else min(most, len(pairs)))
    left = [p for p in pairs if p.id in gone]
    if not left or not kept:
        return
    worst = min(p.label.confidence for p in kept)
    assert max(p.label.confidence for p in left) <= worst
    # A prompt that keeps two of the marginal ones more than another leaves the other none to give up.
    rank = Counter()
    turns = {}
    for p in pairs:
        turns[p.id] = rank[p.prompt_id]
        rank[p.prompt_id] += 1
    edge = [p for p in pairs if p.label.confidence == worst]
    assert max((turns[p.id] for p in edge if p in kept), default=0) <= min(
        (turns[p.id] for p in edge if p in left), default=99
    )


@pytest.mark.parametrize("most", [1, 2])
def test_all_prompts_have_their_turn_before_one_has_a_second(most):
    pairs = [pair(0, "a", 0.9), pair(1, "a", 0.9), pair(2, "b", 0.9)]
    gone = [name for name, _, _ in surplus(pairs, most)]
    assert "p1" in gone
    assert len(gone) == 3 - most


def test_strengths_far_apart_give_a_probability():
    assert [win_probability(a, b) for a, b in ((0, 1e9), (1e9, 0), (2, 2))] == [pytest.approx(0, abs=1e-300), 1.0, 0.5]
