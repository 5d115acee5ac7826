"""The question to a judge: fences that no answer can hold, and a rubric of one's own."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.correct.rubric import RUBRIC, draw_fence, load, question
from tso.errors import ConfigError
from tso.records import Message, Prompt

PROMPT = Prompt("p", (Message("system", "Be kind."), Message("user", "Name {one} river.")))


def codes(seed, count):
    return [hashlib.sha256(f"{seed}\0{turn}".encode()).hexdigest()[:16] for turn in range(count)]


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_fence_that_an_answer_holds_is_drawn_again(taken):
    drawn = codes("s", taken + 1)
    texts = [f"[{code.upper() if i % 2 else code} answer A ends]" for i, code in enumerate(drawn[:taken])]
    assert draw_fence("s", texts) == drawn[taken]


@given(st.text(), st.lists(st.text(alphabet="0123456789abcdefABCDEF", max_size=40)))
def test_a_fence_follows_from_its_seed_and_is_in_no_text(seed, texts):
    code = draw_fence(seed, texts)
    assert code == draw_fence(seed, texts)
    assert not any(code in text.lower() for text in texts)


def test_a_question_has_every_text_once_between_its_fences():
    asked = question(RUBRIC, PROMPT, "The {Elbe}.", "Water", "0123456789abcdef")
    assert "[0123456789abcdef answer A begins]\nThe {Elbe}.\n[0123456789abcdef answer A ends]" in asked
    assert "[0123456789abcdef answer B begins]\nWater\n[0123456789abcdef answer B ends]" in asked
    assert "system: Be kind.\n\nuser: Name {one} river." in asked
    assert RUBRIC in asked
    assert "could not be read" not in asked
    assert question(RUBRIC, PROMPT, "a", "b", "c", "it is empty").endswith(
        "could not be read: it is empty. Reply with the JSON object alone."
    )


def test_a_rubric_of_ones_own(tmp_path):
    path = tmp_path / "rubric.txt"
    path.write_text("\ufeffThe {shorter} the better.\n", encoding="utf-8")
    assert load(str(path)) == "The {shorter} the better."
    assert load(None) == RUBRIC
    assert "The {shorter} the better." in question(load(str(path)), PROMPT, "a", "b", "c")


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot read"), (b"\xff\xfe", "cannot read"), (b" \n", "is empty")]
)
def test_a_rubric_that_cannot_be_used_is_refused(tmp_path, content, says):
    path = tmp_path / "rubric.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load(str(path))
