"""What values of files become before they are compared."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tso import fields
from tso.errors import DataError

PIECES = st.lists(st.sampled_from(["~", "user", "tool", "\n", " ", "user: ", ": ", "a", "[", "{", "[]"]), max_size=6)
WORDS = PIECES.map("".join)
MESSAGES = st.lists(st.fixed_dictionaries({"role": WORDS, "content": WORDS}), min_size=1, max_size=3)


@given(WORDS | MESSAGES, WORDS | MESSAGES)
@example("user: a", [{"role": "user", "content": "a"}])
@example("~user: a", "user: a")
@example([{"role": "user", "content": "a\nuser: a"}], [{"role": "user", "content": "a"}] * 2)
@example([{"role": "user", "content": "a\n~user: a"}], [{"role": "user", "content": "a\nuser: a"}])
@example([{"role": "a", "content": "a"}], '[{"role": "a", "content": "a"}]')
@example([{"role": "a", "content": "a"}], '~[{"role": "a", "content": "a"}]')
def test_unlike_values_are_unlike_texts(one, other):
    assert (fields.compared(one) == fields.compared(other)) == (one == other)


def test_texts_stay_as_they_are_but_for_the_mark():
    for text in ("", "hello ~ there", "<|im_start|>user", "Note: a\nassistant: b", "~ 3"):
        assert fields.compared(text) == text
    assert fields.compared([]) == ""
    assert fields.compared([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]) == (
        "user: a\nassistant: b"
    )
    with pytest.raises(DataError, match="bytes"):
        fields.compared(b"a")


def test_a_column_is_ids_or_text():
    def of(*column):
        return fields.holds_ids(list(column), "line {}".format)

    assert of([1], None, []) is True
    assert of(None, []) is True
    assert of(None, None) is False
    assert of() is False
    assert of("", None, [], {"a": 1}, [{"role": "user"}]) is False
    with pytest.raises(DataError, match="line 2 holds text where line 0 holds token ids"):
        of([1], [], "")
