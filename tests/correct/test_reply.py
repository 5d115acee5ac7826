"""The grammar of a judge's reply: what it takes, and that all else is a failed call."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.correct.reply import SCHEMA, VERDICTS, read
from tso.correct.rubric import RUBRIC, question
from tso.records import Message, Prompt

OBJECT = '{"reason": "clearer", "verdict": "A"}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f"  \n{OBJECT}\n",
        '{"verdict": "A", "reason": "clearer"}',
        json.dumps(json.loads(OBJECT), indent=2),
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```\n",
        f'<think>B at first {{"verdict": "B"}}\nno</think>\n{OBJECT}',
        f"<think></think>```json\n{OBJECT}\n```",
    ],
)
def test_what_the_grammar_takes(text):
    found = read(text)
    assert (found.verdict, found.reason) == ("first", "clearer")


def test_every_verdict_and_a_reply_without_a_reason():
    assert [read(f'{{"verdict": "{name}"}}').verdict for name in VERDICTS] == ["first", "second", "tie", "both_bad"]
    assert set(SCHEMA["properties"]["verdict"]["enum"]) == set(VERDICTS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is not one JSON object"),
        ("A", "it is not one JSON object"),
        ('"A"', "it is not one JSON object"),
        ("[" * 100_000, "it is not one JSON object"),
        (f"I say {OBJECT}", "it is not one JSON object"),
        (f"{OBJECT} I am sure", "it is not one JSON object"),
        (f"{OBJECT}{OBJECT}", "it is not one JSON object"),
        (f"[{OBJECT}]", "it is not one JSON object"),
        (OBJECT[:-1], "it is not one JSON object"),
        (f"<think>{OBJECT}", "it is not one JSON object"),
        (f"```python\n{OBJECT}\n```", "it is not one JSON object"),
        ('{"verdict": "A", "verdict": "B"}', "it is not one JSON object"),
        ("{}", "its keys are not reason and verdict"),
        ('{"reason": "A"}', "its keys are not reason and verdict"),
        ('{"verdict": "A", "score": 3}', "its keys are not reason and verdict"),
        ('{"verdict": "a"}', "its verdict is none of A, B, tie, both_bad"),
        ('{"verdict": "first"}', "its verdict is none of A, B, tie, both_bad"),
        ('{"verdict": null}', "its verdict is none of A, B, tie, both_bad"),
        ('{"verdict": ["A"]}', "its verdict is none of A, B, tie, both_bad"),
        ('{"verdict": "A", "reason": 3}', "its reason is not text"),
    ],
)
def test_all_else_is_a_failed_call(text, fault):
    found = read(text)
    assert (found.verdict, found.reason) == (None, fault)


def test_a_judge_that_repeats_the_form_it_was_shown_has_failed():
    asked = question(RUBRIC, Prompt("p", (Message("user", "hi"),)), "one", "two", "0123456789abcdef")
    shown = next(line for line in asked.splitlines() if line.startswith("{"))
    assert set(json.loads(shown)) == {"reason", "verdict"}
    assert read(shown).verdict is None


def test_half_a_surrogate_pair_can_be_stored():
    assert read('{"verdict": "A", "reason": "\\ud800"}').reason == "?"


@given(st.text() | st.text(alphabet='{}[]":, \n`ABverdictreason<>/think_'))
def test_no_text_is_too_odd(text):
    assert read(text).verdict in {None, *VERDICTS.values()}
