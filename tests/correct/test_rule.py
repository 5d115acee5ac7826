"""The rule judge: each fault costs, better answers score higher, and a user's own function is checked."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso.correct import rule
from tso.correct.rule import everyday, judge, language_share, load
from tso.errors import ConfigError
from tso.records import Message, Prompt, Response, Score

SKY = "Explain in one sentence why the sky is blue."
GOOD = "The air scatters the short blue waves of sunlight more than the others, so the sky looks blue to us."


def prompt(text: str = SKY, human: str | None = None, **tags: Any) -> Prompt:
    return Prompt("p1", (Message("user", text),), (human,) if human else (), "train", tags)


def length(unit: str, least: float, most: float | None = None) -> dict[str, Any]:
    return {"unit": unit, "min": least, "max": least if most is None else most}


def response(text: str, finish: str = "stop") -> Response:
    return Response(1, "p1", "policy", text, (), finish, 1)


def value(text: str, finish: str = "stop", asked: Prompt | None = None) -> float:
    return everyday(asked or prompt(language="en", length=length("sentences", 1)), response(text, finish)).value


def test_a_good_answer_has_nothing_against_it() -> None:
    assert everyday(prompt(language="en", length=length("sentences", 1)), response(GOOD)) == Score(
        1.0, "ends by itself, as asked"
    )


@pytest.mark.parametrize("text", ["", " \n\t", "...", "***"])
def test_an_answer_without_words_is_worth_nothing(text: str) -> None:
    assert everyday(prompt(), response(text)) == Score(0.0, "empty answer")


def test_a_cut_off_answer_loses_more_than_any_blemish() -> None:
    assert value(GOOD, "length") == pytest.approx(1 - rule.UNFINISHED)
    assert value(GOOD.rstrip("."), "stop") == pytest.approx(1 - rule.CLOSING)
    assert "cut off" in everyday(prompt(), response(GOOD, "length")).reason


def test_ending_at_once_is_no_better_than_not_ending() -> None:
    rambling = " ".join([GOOD, "Blue light has short waves.", "Red light has long ones.", "At night it is"])
    for shortcut in ("Sure!", "Yes.", "Blue."):
        assert value(shortcut) <= value(rambling, "length")
        assert value(shortcut) <= 1 - rule.UNFINISHED - rule.LENGTH / 2


def test_too_long_and_too_short_cost_alike() -> None:
    asked = prompt(length=length("items", 4))
    ideas = ["bread", "soup", "cake", "rice", "fish", "tea", "jam", "milk"]
    two, eight = ("\n".join(f"- Some {idea} with fresh {idea}" for idea in ideas[:count]) for count in (2, 8))
    assert value(two, asked=asked) == pytest.approx(value(eight, asked=asked))
    assert value(two, asked=asked) < 0.8


def test_length_is_graded_by_distance() -> None:
    extra = [" Light is made of waves of many sizes."] * 3
    scores = [value(GOOD + "".join(extra[:count])) for count in range(4)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


@pytest.mark.parametrize(
    ("count", "score"), [(30, 1.0), (20, 1.0), (40, 1.0), (10, 1 - 0.4 * 2 / 3), (5, 0.2), (80, 1 - 0.4 * 2 / 3)]
)
def test_length_in_words(count: int, score: float) -> None:
    text = " ".join(f"word{n}" for n in range(count)) + "."
    assert value(text, asked=prompt(length=length("words", 20, 40))) == pytest.approx(score, abs=1e-5)


def test_far_less_than_the_human_answer_leaves_something_out() -> None:
    short = "Because air scatters blue light."
    with_human = prompt(human=GOOD, length=length("sentences", 1))
    assert value(short, asked=with_human) < value(GOOD, asked=with_human) == 1.0


def test_without_an_asked_length_only_the_absurd_is_marked_down() -> None:
    assert value("Yes, the sky is.", asked=prompt()) == 1.0
    assert value(" ".join(f"word{n}" for n in range(1500)) + ".", asked=prompt()) == pytest.approx(1 - rule.LENGTH)
    assert value("Yes.", asked=prompt()) < 0.6


@pytest.mark.parametrize("tag", [None, 3, {}, {"unit": "miles", "min": 1, "max": 2}, length("words", 5, 2), "short"])
def test_a_length_tag_that_cannot_be_read_asks_nothing(tag: Any) -> None:
    assert value(GOOD, asked=prompt(length=tag)) == 1.0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two. Three.", 3),
        ("Dr. Smith paid 3.50 euros at 9 a.m. in St. Ives, e.g. for tea.", 1),
        ("Really?! Yes... It is.", 3),
        ('He said "Stop." Then he left.', 2),
        ("¿Qué tal? ¡Muy bien!", 2),
        ("Dear Tom,\n\nThe tap drips. Please fix it.\n\nBest regards,\nAnna", 2),
        ("Here are some tips:\n- Sleep well.\n- Eat well.", 2),
        ("- no full stop\n- none here either", 2),
        ("1. First do this.\n2. Then do that.", 2),
        ("It ends here. And this one was cut off right in the", 2),
        ("no full stop at all", 1),
        ("Das geht z.B. mit Wasser. Gut.", 2),
        ("水は青い。空も青い。", 2),
    ],
)
def test_sentences_are_counted_as_a_reader_does(text: str, count: int) -> None:
    assert rule._sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("- a\n- b\n- c", 3),
        ("Here you go:\n\n1. One\n2. Two\n\nHave fun!", 2),
        ("* One\n  - inner\n  - inner\n* Two", 2),
        ("• One\n• Two", 2),
        ("1. One 2. Two 3. Three", 3),
        ("Tips: 1) run 2) swim", 2),
        ("Three ideas:\nWalk more\nSleep more", 2),
        ("Walk more. Sleep more.", 2),
        ("a) One\nb) Two", 2),
    ],
)
def test_items_are_counted_as_a_reader_does(text: str, count: int) -> None:
    assert rule._items(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "The sky is blue because the sky is blue because the sky is blue because the sky is blue because it is.",
        "- Drink water\n- Drink water\n- Drink water\n- Drink water",
        "No no no no no no no no no no no no no no no no.",
        "Well hahahahahahahahahahahahahahahahahahahahaha.",
    ],
)
def test_loops_cost(text: str) -> None:
    assert "repeats itself" in everyday(prompt(), response(text)).reason
    assert value(text, asked=prompt()) <= 1 - rule.LOOP / 2


def test_handing_the_question_back_is_no_answer() -> None:
    asked = prompt("Rewrite this politely: I want you to send me the long report before noon today.")
    copied = "Rewrite this politely: I want you to send me the long report before noon today."
    polite = "Could you please send me the long report before noon today?"
    assert value(copied, asked=asked) < 0.5 < value(polite, asked=asked) == 1.0


def test_an_announced_copy_is_still_a_copy() -> None:
    asked = prompt('Rewrite this so that it sounds polite: "Send me the report now."', length=length("sentences", 1))
    announced = "Here's a revised version of the sentence:"
    assert value(f'{announced} "Send me the report now."', asked=asked) < 0.5
    assert value(f'{announced} "Could you please send me the report?"', asked=asked) == 1.0


def test_a_phrase_said_twice_costs_less_than_a_loop() -> None:
    once = "Plants drink water through thin roots. The stem then carries it up to every leaf."
    twice = "Plants drink water through thin roots. They drink water through thin roots every day."
    loop = "Plants drink water through thin roots. Plants drink water through thin roots."
    first, second, third = (value(text, asked=prompt()) for text in (once, twice, loop))
    assert first == 1.0 > second > third


SPANISH = "El cielo es azul porque la luz del sol se dispersa en el aire y los colores no llegan igual."
GERMAN = "Der Himmel ist blau, weil das Licht der Sonne in der Luft gestreut wird und nicht gerade bleibt."
FRENCH = (
    "Le ciel est bleu parce que la lumière du soleil se disperse dans l'air et que les couleurs ne sont pas égales."
)
TEXTS = {"en": GOOD, "es": SPANISH, "de": GERMAN, "fr": FRENCH}


@pytest.mark.parametrize("asked", TEXTS)
@pytest.mark.parametrize("given", TEXTS)
def test_the_answer_is_in_the_asked_language(asked: str, given: str) -> None:
    score = everyday(prompt("?", language=asked), response(TEXTS[given])).value
    assert score == (1.0 if asked == given else pytest.approx(1 - rule.LANGUAGE))


def test_half_in_another_language_costs_something() -> None:
    mixed = everyday(prompt("?", language="en"), response(f"So this is the sky. {SPANISH}")).value
    assert 1 - rule.LANGUAGE < mixed < 1.0


def test_another_script_is_none_of_the_known_languages() -> None:
    assert language_share("天空是蓝色的因为空气散射蓝光。", "en") == 0.0
    assert language_share("Небо голубое, потому что воздух рассеивает свет.", "de") == 0.0


def test_shared_words_speak_for_no_language() -> None:
    spanish = "La biblioteca debe estar en una línea de la misma de la que este dio."  # la, de, en are French as well
    assert language_share(spanish, "es") == 1.0
    assert language_share("Didn't like the sign.", "de") == 0.0


def test_what_cannot_be_told_costs_nothing() -> None:
    assert language_share("Tomatoes, radishes, lettuce.", "es") is None
    unknown = everyday(prompt("?", language="nl"), response(GOOD))
    assert unknown.value == 1.0
    assert "'nl' is not judged" in unknown.reason
    assert everyday(prompt("?", language="en-GB"), response(SPANISH)).value < 1.0


@pytest.mark.parametrize(
    "text", ["Fine, as you wish!", 'She said "no."', "It is all done. 🎉", "So it is…", "**Done, it is.**"]
)
def test_proper_endings(text: str) -> None:
    assert value(text, asked=prompt()) == 1.0


@pytest.mark.parametrize("text", ["I think that you,", "There are three ways:", "The best way to do it is"])
def test_improper_endings(text: str) -> None:
    assert value(text, asked=prompt()) == pytest.approx(1 - rule.CLOSING)


@given(st.text(), st.sampled_from(["stop", "length"]), st.sampled_from(["sentences", "items", "words"]))
def test_any_text_has_a_score(text: str, finish: str, unit: str) -> None:
    asked = prompt(language="en", length=length(unit, 1, 3))
    score = everyday(asked, response(text, finish))
    assert 0.0 <= score.value <= 1.0
    assert score.reason
    if finish == "stop":
        assert everyday(asked, response(text, "length")).value <= score.value


# --- judge


def compare(a: float, b: float, margin: float = 0.1, bad_below: float = 0.3) -> tuple[str, float]:
    scores = iter((a, b))
    result = judge(prompt(), response("a"), response("b"), lambda *_: next(scores), margin, bad_below)
    return result.verdict, result.confidence


@pytest.mark.parametrize(
    ("a", "b", "verdict", "confidence"),
    [
        (0.9, 0.7, "a", 0.75),
        (0.7, 0.9, "b", 0.75),
        (0.9, 0.6, "a", 0.875),
        (0.8, 0.8, "tie", 1.0),
        (0.75, 0.8, "tie", 0.75),
        (0.2, 0.2, "both_bad", 0.75),
        (0.2, 0.0, "both_bad", 0.75),
        (0.3, 0.0, "a", 0.875),
    ],
)
def test_judge_compares(a: float, b: float, verdict: str, confidence: float) -> None:
    assert compare(a, b) == (verdict, pytest.approx(confidence))


def test_judge_without_a_margin_is_sure() -> None:
    assert compare(0.5, 0.6, margin=0.0) == ("b", 1.0)
    assert compare(0.5, 0.5, margin=0.0) == ("tie", 1.0)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1))
def test_judge_is_symmetric_and_sure_by_at_least_a_half(a: float, b: float, margin: float, bad: float) -> None:
    forth, back = compare(a, b, margin, bad), compare(b, a, margin, bad)
    assert {"a": "b", "b": "a"}.get(forth[0], forth[0]) == back[0]
    assert forth[1] == back[1]
    assert 0.5 <= forth[1] <= 1.0


def test_confidence_grows_with_the_difference() -> None:
    confidences = [compare(0.5 + step / 100, 0.5)[1] for step in range(11, 50)]
    assert confidences == sorted(set(confidences))


# --- load


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_judge_for_tso.py").write_text(
        "from tso.records import Score\n"
        "CONSTANT = 3\n"
        "def good(prompt, response): return Score(0.5, 'mine')\n"
        "def number(prompt, response): return len(response.text) / 10\n"
        "def fails(prompt, response): raise KeyError('boom')\n"
        "def nothing(prompt, response): return None\n"
        "def text(prompt, response): return '0.5'\n"
        "def nan(prompt, response): return Score(float('nan'), '')\n"
        "class Judges:\n"
        "    inner = staticmethod(good)\n"
    )
    (tmp_path / "broken_judge_for_tso.py").write_text("import there_is_no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_judge_for_tso"
    sys.modules.pop("my_judge_for_tso", None)


def test_load_finds_the_built_in_judge() -> None:
    assert load("tso.correct.rule:everyday")(prompt(), response(GOOD)) == everyday(prompt(), response(GOOD))


def test_load_finds_a_users_judge(user_module: str) -> None:
    assert load(f"{user_module}:good")(prompt(), response("x")) == Score(0.5, "mine")
    assert load(f"{user_module}:number")(prompt(), response("xx")) == Score(0.2, "")
    assert load(f"{user_module}:Judges.inner")(prompt(), response("x")).value == 0.5


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "package.module:function"),
        ("my_judge_for_tso", "package.module:function"),
        ("my_judge_for_tso:", "package.module:function"),
        (":good", "package.module:function"),
        ("no_such_module_for_tso:good", "cannot import no_such_module_for_tso"),
        ("broken_judge_for_tso:good", "there_is_no_such_module"),
        ("..relative:good", "cannot import"),
        ("my_judge_for_tso:missing", "has no 'missing'"),
        ("my_judge_for_tso:CONSTANT", "not a function"),
    ],
)
def test_load_says_what_is_wrong(user_module: str, spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(spec)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fails", "KeyError"),
        ("nothing", "finite number or a Score, not None"),
        ("text", "not '0.5'"),
        ("nan", "not nan"),
    ],
)
def test_a_failing_judge_is_named_with_the_prompt(user_module: str, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load(f"{user_module}:{name}")(prompt(), response("x"))
    assert "prompt p1" in str(caught.value)
    assert f"{user_module}:{name}" in str(caught.value)


def test_no_score_of_the_built_in_judge_is_out_of_range() -> None:
    assert math.fsum((rule.UNFINISHED, rule.LENGTH, rule.LOOP, rule.LANGUAGE, rule.ECHO, rule.CLOSING)) > 1
    worst = "Small talk. " * 200
    assert everyday(prompt(worst, language="de", length=length("words", 2)), response(worst, "length")).value == 0.0
