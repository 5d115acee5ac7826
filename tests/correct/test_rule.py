"""The rule judge: what a user would see, and no reward for stopping at once."""

import re

import pytest
from tso.correct.rule import compare, everyday, load
from tso.errors import ConfigError, DataError
from tso.records import Message, Prompt, Response, Score

ONE = {"language": "en", "length": {"unit": "sentences", "min": 1, "max": 1}}
GOOD = "Bread rises because the yeast makes gas that fills the dough with bubbles."


def score(text, finish="stop", tags=ONE):
    prompt = Prompt("p", (Message("user", "Why does bread rise? Answer in one sentence."),), (), "train", tags)
    return everyday(prompt, Response(1, "p", "c", text, (1,), finish, 1)).value


def test_order_of_answers():
    assert score(GOOD) == 1.0
    assert score("") == 0.0
    for worse in (
        "Yes.",
        "Ok. No.",
        GOOD + " " + GOOD + " " + GOOD,
        "El pan sube por la levadura y el calor del horno.",
    ):
        assert score(worse) < score(GOOD) - 0.1, worse
    assert score(GOOD, "length") < score(GOOD)
    assert score("Yes.") <= score(GOOD, "length"), "ending at once is no shortcut"
    assert score("Why does bread rise? Answer in one sentence.") < 0.1


def test_comparison():
    assert compare(Score(0.9), Score(0.3), 0.1, 0.2).verdict == "a"
    assert compare(Score(0.3), Score(0.9), 0.1, 0.2).verdict == "b"
    assert compare(Score(0.5), Score(0.55), 0.1, 0.2).verdict == "tie"
    assert compare(Score(0.1), Score(0.15), 0.01, 0.2).verdict == "both_bad"


@pytest.mark.parametrize("spec", ["rule", "nowhere.at.all:f", "tso.correct.rule:nothing"])
def test_unknown_rules(spec):
    with pytest.raises(ConfigError):
        load(spec)


def test_a_failing_rule_names_prompt_and_function(monkeypatch):
    import tso.correct.rule as module

    monkeypatch.setattr(module, "broken", lambda p, r: float("nan"), raising=False)
    with pytest.raises(DataError, match=re.escape("tso.correct.rule:broken gave nan for prompt 'x'")):
        load("tso.correct.rule:broken")(Prompt("x", ()), Response(1, "x", "c", "t", (1,), "stop", 1))
