"""What of a pair is its prompt, and what its sides."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from tso import sides


def said(role, *contents):
    return [{"role": role, "content": content} for content in contents]


ASK, YES, NO = said("user", "why"), said("assistant", "yes"), said("assistant", "no")


def of(prompt, chosen, rejected):
    """One pair as it is compared."""
    return tuple(column[0] for column in sides.columns([prompt], [chosen], [rejected]))


def test_one_pair_told_in_three_ways_is_compared_as_one():
    for prompt, begin in ((ASK, []), (None, ASK), (ASK, ASK), ("why", ASK)):
        assert of(prompt, begin + YES, begin + NO) == (ASK, YES, NO)


def test_what_both_sides_say_after_the_prompt_is_not_lost():
    more = said("assistant", "wait")
    assert of("why", more + YES, more + NO) == (ASK + more, YES, NO)
    assert of(ASK, more + YES, more + NO) == (ASK + more, YES, NO)
    assert of(None, ASK + YES, ASK + YES) == (ASK, YES, YES)
    assert of(None, ASK, ASK + YES) == ([], ASK, ASK + YES)


def test_other_values_stay_as_they_are():
    assert of("why", "yes", "no") == ("why", "yes", "no")
    assert of(None, "why yes", "why no") == ("", "why yes", "why no")
    assert of("why", YES, None) == ("why", YES, None)
    assert sides.columns([None, "why"], [YES, YES], [YES, NO])[0] == [None, "why"]
    assert of([1], [1, 2], [1, 3]) == ([1], [1, 2], [1, 3])


def test_columns_of_ids_stay_columns():
    chosen, rejected = pa.chunked_array([[[1, 2]]]), pa.chunked_array([[[1, 3]]])
    assert sides.columns([None], chosen, rejected) == ([[1]], chosen, rejected)
    prompts = pa.chunked_array([[[7]]])
    assert sides.columns(prompts, chosen, rejected) == (prompts, chosen, rejected)


TALKS = st.lists(st.sampled_from(ASK + YES + NO), min_size=1, max_size=4)


@given(TALKS, TALKS)
def test_nothing_is_lost_or_said_twice(chosen, rejected):
    prompt, one, other = of(None, chosen, rejected)
    assert (prompt + one, prompt + other) == (chosen, rejected)
    assert one[0] != other[0] or 1 in (len(one), len(other))
