"""The pairs that are worth a verdict: their expected error against the integral, and the choice against its rules."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.correct.choice import allowed, choose, expected_error, variances
from tso.records import Label, Pair


def pair(name, confidence=0.7, prompt="p", source="prior", a=1, b=2):
    label = Label(source, a, b, confidence, 1.0) if confidence > 0.5 else Label(source, None, None, 0.5, 1.0)
    return Pair(name, 1, prompt, a, b, 0.0, label)


@pytest.mark.parametrize("confidence", [0.55, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("variance", [0.0, 0.3, 1.0, 2.0])
def test_the_expected_error_is_the_mean_over_the_normal_law_of_the_difference(confidence, variance):
    centre = math.log(confidence / (1 - confidence))
    at = centre + math.sqrt(variance) * np.linspace(-8, 8, 20001)
    mass = np.exp(-(np.linspace(-8, 8, 20001) ** 2) / 2)
    mean = float((mass / (1 + np.exp(at))).sum() / mass.sum())
    assert expected_error(pair("q", confidence), variance) == pytest.approx(mean, abs=0.012)  # MacKay's is close


def test_no_direction_is_a_coin_and_closer_or_less_certain_cells_are_worth_more():
    assert expected_error(pair("q", 0.5), 0.0) == 0.5
    assert expected_error(pair("q", 1.0), 0.0) < 1e-11
    assert expected_error(pair("q", 0.6), 0.1) > expected_error(pair("q", 0.7), 0.1)
    assert expected_error(pair("q", 0.7), 0.2) > expected_error(pair("q", 0.7), 0.1)


def test_variances_add_up_over_the_two_cells_where_strengths_made_the_label():
    pairs = [pair("x", a=1, b=2), pair("y", a=1, b=3), pair("z", source="implicit"), pair("same", a=1, b=4)]
    cells = {1: "one", 2: "two", 3: "new", 4: "one"}
    found = variances(pairs, cells, {"one": 0.5, "two": 0.1}, 1.0)
    assert found == pytest.approx({"x": 0.26, "y": 1.25, "z": 0.0, "same": 0.0})


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 3)), min_size=1), st.integers(2, 9))
def test_the_choice_keeps_the_rules(drawn, most):
    pairs = [pair(f"q{i}", prompt=f"p{prompt}") for i, (_, prompt) in enumerate(drawn)]
    worth = {f"q{i}": value for i, (value, _) in enumerate(drawn)}
    chosen = choose(pairs, worth, most)
    assert len(chosen) == len({p.id for p in chosen}) == min(most, len(pairs))
    left = [p for p in pairs if p not in chosen]
    assert max((worth[p.id] for p in left), default=0) <= min(worth[p.id] for p in chosen)
    assert [p.id for p in choose(pairs, worth, None)][: len(chosen)] == [p.id for p in chosen]
    # It gathers at least as much expected error as any choice by lot.
    lot = random.Random(0).sample(pairs, len(chosen))
    assert sum(worth[p.id] for p in chosen) >= sum(worth[p.id] for p in lot) - 1e-9


def test_equal_pairs_are_taken_from_all_prompts_in_turn_and_settled_ones_last():
    pairs = [pair("a", prompt="p"), pair("b", prompt="p"), pair("c", prompt="q"), pair("d", prompt="r")]
    worth = dict.fromkeys("abcd", 0.3)
    assert [p.id for p in choose(pairs, worth, 3)] == ["a", "c", "d"]
    assert [p.id for p in choose(pairs, worth, 3, settled={"a"})] == ["c", "d", "b"]


@pytest.mark.parametrize(
    ("pairs", "budget", "most"), [(10, None, 10), (10, 1.0, 10), (10, 0.25, 3), (10, 0.3, 3), (10, 4.0, 4), (3, 9.0, 3)]
)
def test_a_budget_is_a_share_or_a_number(pairs, budget, most):
    assert allowed(pairs, budget) == most
