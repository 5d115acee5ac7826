"""Stop strings, held to an obvious twin: look at the text after every single token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.records import Decoding
from tso.sample import decode
from tso.sample.base import uniforms
from tso.sample.stops import Watch, cut, place

from tests.families import llama, mamba

# Tokens of several characters, of none, and of halves of characters, as tokenizers have them.
PIECES = [b"a", b"b", b"ab", b"\n", b"", b"User", b": ", b"\xc3", b"\xa9", b" end", b"ba\nUs", b"er"]
WORDS = st.text("ab\nUser: é", min_size=1, max_size=6)


def text(ids):
    return b"".join(PIECES[i % len(PIECES)] for i in ids).decode("utf-8", "replace")


def twin(ids, stop):
    for length in range(len(ids) + 1):
        so_far = text(ids[:length])
        hits = [so_far.index(word) for word in stop if word in so_far]
        if hits:
            return so_far[: min(hits)]
    return None


@settings(deadline=None, max_examples=300)
@given(ids=st.lists(st.integers(0, len(PIECES) - 1), max_size=40), stop=st.lists(WORDS, min_size=1, max_size=3))
def test_an_answer_is_cut_where_the_twin_cuts_it(ids, stop):
    assert cut(text, ids, stop) == twin(ids, stop)


@settings(deadline=None, max_examples=100)
@given(ids=st.lists(st.integers(0, len(PIECES) - 1), max_size=40), stop=st.lists(WORDS, max_size=3))
def test_a_row_is_said_to_be_finished_only_when_it_is(ids, stop):
    watch = Watch(text, [stop])
    for length in range(len(ids) + 1):
        if watch(0, ids[:length]):
            assert twin(ids[:length], stop) is not None


def test_a_row_is_finished_at_once_where_its_last_token_ends_a_stop_string():
    watch = Watch(text, [["\nUser:"], [], ["ab"]])
    ids = [0, 1, 1, 0, 3, 5, 6]
    assert [watch(0, ids[:n]) for n in range(8)] == [False] * 7 + [True]
    assert not watch(1, ids)
    assert watch(2, ids[:2])


def test_the_first_of_several_counts():
    assert place("one two", ["two", "e"]) == 2
    assert place("one two", []) is None


@pytest.mark.parametrize("family", [llama, mamba])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 999), stop=st.lists(WORDS, min_size=1, max_size=2))
def test_a_batch_with_stop_strings_answers_as_each_row_does_without(family, seed, stop):
    """Rows that stop leave the batch; what they say up to there, and what the others say, is what it would be anyhow."""
    model = family()
    prompts = [[2, 9, 8, 7, 6, 9, 10, 11, 6 + i] for i in range(5)]
    ways = [Decoding(1.5, 1.0, 0, 9, stop=tuple(stop) if i % 2 else ()) for i in range(5)]
    draws = torch.from_numpy(uniforms(range(seed, seed + 5), 9))
    plain = decode.complete(model, prompts, draws, ways, [3, 5], 1)
    watched = decode.complete(model, prompts, draws, ways, [3, 5], 1, Watch(text, [w.stop for w in ways]))
    for way, one, other in zip(ways, plain, watched, strict=True):
        if not way.stop or twin(one, way.stop) is None:
            assert one == other
        else:
            assert cut(text, other, way.stop) == twin(one, way.stop)
            assert len(other) <= len(one)
