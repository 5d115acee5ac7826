"""Judges by name: found or refused in one clear line, their answers checked, two scores compared."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.correct.rule import compare, everyday, load
from tso.errors import ConfigError, DataError
from tso.records import Message, Prompt, Response, Score

PROMPT = Prompt("x", (Message("user", "Why does bread rise?"),))


def response(text="xx"):
    return Response(1, "x", "c", text, (1,), "stop", 1)


# --- compare


def test_comparison():
    assert compare(Score(0.9), Score(0.3), 0.1, 0.2).verdict == "a"
    assert compare(Score(0.3), Score(0.9), 0.1, 0.2).verdict == "b"
    assert compare(Score(0.5), Score(0.55), 0.1, 0.2).verdict == "tie"
    assert compare(Score(0.1), Score(0.15), 0.01, 0.2).verdict == "both_bad"
    assert compare(Score(0.2), Score(0.0), 0.1, 0.2).verdict == "a"
    assert compare(Score(0.5, "short"), Score(0.25, "loops"), 0.1, 0.2).reason == "0.50 (short) against 0.25 (loops)"


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1))
def test_comparing_is_symmetric_and_sure_by_at_least_a_half(a, b, margin, bad):
    forth, back = (compare(Score(x), Score(y), margin, bad) for x, y in ((a, b), (b, a)))
    assert {"a": "b", "b": "a"}.get(forth.verdict, forth.verdict) == back.verdict
    assert forth.confidence == back.confidence
    assert 0.5 <= forth.confidence <= 1.0


def test_confidence_grows_with_the_difference():
    confidences = [compare(Score(0.5 + step / 100), Score(0.5), 0.1, 0.0).confidence for step in range(11, 50)]
    assert confidences == sorted(set(confidences))


# --- load


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_judge_for_tso.py").write_text(
        "import numpy\n"
        "from tso.records import Score\n"
        "CONSTANT = 3\n"
        "def good(prompt, response): return Score(0.5, 'mine')\n"
        "def number(prompt, response): return len(response.text) / 10\n"
        "def narrow(prompt, response): return numpy.float32(0.25)\n"
        "def yes(prompt, response): return True\n"
        "def fails(prompt, response): raise KeyError('boom')\n"
        "def nothing(prompt, response): return None\n"
        "def text(prompt, response): return '0.5'\n"
        "def percent(prompt, response): return 70\n"
        "def leaves(prompt, response): raise SystemExit(0)\n"
        "def nan(prompt, response): return Score(float('nan'), '')\n"
        "class Judges:\n"
        "    inner = staticmethod(good)\n"
    )
    (tmp_path / "broken_judge_for_tso.py").write_text("import there_is_no_such_module\n")
    (tmp_path / "wrong_judge_for_tso.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_judge_for_tso"
    sys.modules.pop("my_judge_for_tso", None)


def test_load_finds_the_built_in_judge():
    text = "Yeast makes gas that fills the dough with bubbles."
    assert (
        load("tso.correct.rule:everyday")(PROMPT, response(text))
        == everyday(PROMPT, response(text))
        == Score(1.0, "ends by itself, as asked")
    )


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("good", Score(0.5, "mine")),
        ("number", Score(0.2)),
        ("narrow", Score(0.25)),
        ("yes", Score(1.0)),
        ("Judges.inner", Score(0.5, "mine")),
    ],
)
def test_load_finds_a_users_judge(user_module, name, score):
    said = load(f"{user_module}:{name}")(PROMPT, response())
    assert said == score
    assert type(said.value) is float


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "package.module:function"),
        ("rule", "package.module:function"),
        ("my_judge_for_tso:", "package.module:function"),
        (":good", "package.module:function"),
        ("nowhere.at.all:f", "cannot import 'nowhere.at.all' (ModuleNotFoundError"),
        ("broken_judge_for_tso:good", "there_is_no_such_module"),
        ("wrong_judge_for_tso:good", "ZeroDivisionError: division by zero"),
        ("..relative:good", "cannot import"),
        ("tso.correct.rule:nothing", "has no function 'nothing'"),
        ("my_judge_for_tso:CONSTANT", "is a int, not a function"),
    ],
)
def test_load_says_what_is_wrong(user_module, spec, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        load(spec)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fails", "failed on prompt 'x': KeyError: 'boom'"),
        ("nothing", "gave None for prompt 'x'; a number from 0 to 1 is needed"),
        ("text", "gave '0.5' for prompt 'x'"),
        ("nan", "gave nan for prompt 'x'"),
        ("percent", "gave 70 for prompt 'x'"),
        ("leaves", "failed on prompt 'x': SystemExit: 0"),
    ],
)
def test_a_failing_judge_is_named_with_the_prompt(user_module, name, says):
    with pytest.raises(DataError, match=re.escape(f"correct.rule {user_module}:{name} {says}")):
        load(f"{user_module}:{name}")(PROMPT, response())
