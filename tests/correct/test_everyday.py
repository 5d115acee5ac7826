"""The built-in judge: each fault costs, better answers score higher, and stopping at once is no way out."""

import math
import time
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.config import DataSection
from tso.correct import everyday as judge
from tso.correct.everyday import everyday
from tso.correct.reading import language_share
from tso.prompts import load_prompts
from tso.records import Message, Prompt, Response, Score

SKY = "Explain in one sentence why the sky is blue."
GOOD = "The air scatters the short blue waves of sunlight more than the others, so the sky looks blue to us."


def prompt(text=SKY, human=None, **tags):
    return Prompt("p1", (Message("user", text),), (human,) if human else (), "train", tags)


def length(unit, least, most=None):
    return {"unit": unit, "min": least, "max": least if most is None else most}


ONE = prompt(language="en", length=length("sentences", 1))


def score(text, finish="stop", asked=ONE):
    return everyday(asked, Response(1, "p1", "policy", text, (), finish, 1))


def value(text, finish="stop", asked=ONE):
    return score(text, finish, asked).value


def test_a_good_answer_has_nothing_against_it():
    assert score(GOOD) == Score(1.0, "ends by itself, as asked")


@pytest.mark.parametrize("text", ["", " \n\t", "...", "***", "👍👍", "___"])
def test_an_answer_without_words_is_worth_nothing(text):
    assert score(text, asked=prompt()) == Score(0.0, "empty answer")


# --- how it ends


def test_a_cut_off_answer_loses_more_than_any_blemish():
    assert value(GOOD, "length") == pytest.approx(1 - judge.UNFINISHED)
    assert value(GOOD.rstrip(".")) == pytest.approx(1 - judge.CLOSING)
    assert "cut off" in score(GOOD, "length").reason


def test_ending_at_once_is_no_better_than_not_ending():
    rambling = " ".join([GOOD, "Blue light has short waves.", "Red light has long ones.", "At night it is"])
    for shortcut in ("Sure!", "Yes.", "Blue."):
        assert value(shortcut) <= value(rambling, "length")
        assert value(shortcut) <= 1 - judge.UNFINISHED - judge.LENGTH / 2
    assert value("Ok. No.") < value(GOOD, "length")


@pytest.mark.parametrize("tags", [{}, {"length": length("words", 20, 40)}, {"length": length("items", 3)}])
def test_more_of_a_good_answer_is_never_worse_up_to_its_end(tags):
    asked = prompt(human=" ".join(["word"] * 26), **tags)
    values = [value(" ".join(f"w{n}" for n in range(count)) + ".", asked=asked) for count in range(1, 26)]
    assert values == sorted(values)
    assert values[0] <= 0.2


# --- length


def test_too_long_and_too_short_cost_alike():
    asked = prompt(length=length("items", 4))
    ideas = ["bread", "soup", "cake", "rice", "fish", "tea", "jam", "milk"]
    two, eight = ("\n".join(f"- Some {idea} with fresh {idea}" for idea in ideas[:count]) for count in (2, 8))
    assert value(two, asked=asked) == pytest.approx(value(eight, asked=asked))
    assert value(two, asked=asked) < 0.8


def test_length_is_graded_by_distance():
    extra = [" Light is made of waves of many sizes."] * 3
    scores = [value(GOOD + "".join(extra[:count])) for count in range(4)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


@pytest.mark.parametrize(
    ("count", "expected"), [(30, 1.0), (20, 1.0), (40, 1.0), (10, 1 - 0.4 * 2 / 3), (5, 0.2), (80, 1 - 0.4 * 2 / 3)]
)
def test_length_in_words(count, expected):
    text = " ".join(f"word{n}" for n in range(count)) + "."
    assert value(text, asked=prompt(length=length("words", 20, 40))) == pytest.approx(expected, abs=1e-5)


def test_far_less_than_the_human_answer_leaves_something_out():
    short = "Because air scatters blue light."
    with_human = prompt(human=GOOD, length=length("sentences", 1))
    assert value(short, asked=with_human) < value(GOOD, asked=with_human) == 1.0


def test_without_an_asked_length_one_sentence_is_enough_and_only_the_absurd_too_much():
    assert value("Yes, the sky is blue today.", asked=prompt()) == 1.0
    assert value(" ".join(f"word{n}" for n in range(1500)) + ".", asked=prompt()) == pytest.approx(1 - judge.LENGTH)
    assert value("Yes.", asked=prompt()) < 0.6


def test_one_bound_is_enough():
    for tag in ({"unit": "words", "max": 12}, {"unit": "words", "min": 0, "max": 12}):
        asked = prompt(length=tag)
        assert value("It is blue because of the air.", asked=asked) == 1.0
        assert value("Blue.", asked=asked) <= 0.2, "no lower bound is no way out"
        assert "20 words, asked at most 12 words" in score(GOOD, asked=asked).reason
    least = prompt(length={"unit": "sentences", "min": 2, "max": None})
    assert "1 sentence, asked at least 2 sentences" in score(GOOD, asked=least).reason
    assert value("Blue.", asked=prompt(length=length("words", 1, 3))) == 1.0


# --- tags of the user's own files


@pytest.mark.parametrize(
    "tag",
    [3, True, math.nan, {}, [], [1], "short", {"unit": "miles"}, {"unit": ["words"], "min": 1}, {"unit": "words"}, {"unit": "words", "min": 0},
     {"unit": "words", "min": "few"}, {"unit": "words", "min": 5, "max": 2}, {"unit": "words", "min": -1, "max": 2},
     {"unit": "words", "min": 10**400}, {"unit": "words", "min": math.nan}, {"unit": "words", "min": math.inf}],
)  # fmt: skip
def test_a_length_that_cannot_be_read_asks_nothing_and_is_named(tag):
    said = score(GOOD, asked=prompt(length=tag))
    assert said.value == 1.0
    assert said.reason.startswith("length ")
    assert said.reason.endswith("is not judged")


@pytest.mark.parametrize("tag", ["nl", "", "Klingon", 3, ["en"], {"en": 1}, math.nan])
def test_a_language_that_is_not_known_asks_nothing_and_is_named(tag):
    assert score(SPANISH, asked=prompt(language=tag)) == Score(1.0, f"language {tag!r} is not judged")


def test_a_missing_tag_is_not_named():
    assert score(GOOD, asked=prompt(length=None, language=None)).reason == "ends by itself, as asked"


# --- repetition


@pytest.mark.parametrize(
    "text",
    [
        "The sky is blue because the sky is blue because the sky is blue because the sky is blue because it is.",
        "- Drink water\n- Drink water\n- Drink water\n- Drink water",
        "No no no no no no no no no no no no no no no no.",
        "Well hahahahahahahahahahahahahahahahahahahahaha.",
    ],
)
def test_loops_cost(text):
    assert "repeats itself" in score(text, asked=prompt()).reason
    assert value(text, asked=prompt()) <= 1 - judge.LOOP / 2


def test_a_phrase_said_twice_costs_less_than_a_loop():
    once = "Plants drink water through thin roots. The stem then carries it up to every leaf."
    twice = "Plants drink water through thin roots. They drink water through thin roots every day."
    loop = "Plants drink water through thin roots. Plants drink water through thin roots."
    first, second, third = (value(text, asked=prompt()) for text in (once, twice, loop))
    assert first == 1.0 > second > third


# --- the question handed back


def test_handing_the_question_back_is_no_answer():
    asked = prompt("Rewrite this politely: I want you to send me the long report before noon today.")
    polite = "Could you please send me the long report before noon today?"
    assert value(asked.messages[0].content, asked=asked) == 0.0
    assert value("I want you to send me the long report before noon today.", asked=asked) < 0.5
    assert value(polite, asked=asked) == 1.0


def test_an_announced_copy_is_still_a_copy():
    asked = prompt('Rewrite this so that it sounds polite: "Send me the report now."', length=length("sentences", 1))
    announced = "Here's a revised version of the sentence:"
    assert value(f'{announced} "Send me the report now."', asked=asked) < 0.5
    assert value(f'{announced} "Could you please send me the report?"', asked=asked) == 1.0


def test_naming_one_of_the_things_asked_about_is_an_answer():
    asked = prompt("Which is faster, the small red car or the blue car?")
    assert value("The faster one of the two: the blue car.", asked=asked) == 1.0


def test_chatter_around_an_answer_is_no_gain():
    for text in (f"Sure! Here is one sentence: {GOOD}", f"{GOOD}\n\nLet me know if you need anything else!"):
        assert value(text) < value(GOOD)


# --- language


SPANISH = "El cielo es azul porque la luz del sol se dispersa en el aire y los colores no llegan igual."
GERMAN = "Der Himmel ist blau, weil das Licht der Sonne in der Luft gestreut wird und nicht gerade bleibt."
FRENCH = (
    "Le ciel est bleu parce que la lumière du soleil se disperse dans l'air et que les couleurs ne sont pas égales."
)
TEXTS = {"en": GOOD, "es": SPANISH, "de": GERMAN, "fr": FRENCH}


@pytest.mark.parametrize("asked", TEXTS)
@pytest.mark.parametrize("given", TEXTS)
def test_the_answer_is_in_the_asked_language(asked, given):
    expected = 1.0 if asked == given else pytest.approx(1 - judge.LANGUAGE)
    assert value(TEXTS[given], asked=prompt("?", language=asked)) == expected


@pytest.mark.parametrize("name", ["en-GB", "EN_us", "English", " english "])
def test_a_language_may_be_spelled_in_several_ways(name):
    assert value(SPANISH, asked=prompt("?", language=name)) == pytest.approx(1 - judge.LANGUAGE)


def test_half_in_another_language_costs_something():
    mixed = value(f"So this is the sky. {SPANISH}", asked=prompt("?", language="en"))
    assert 1 - judge.LANGUAGE < mixed < 1.0


def test_another_script_is_another_language():
    assert value("天空是蓝色的，因为空气散射蓝光。", asked=prompt(language="en")) == pytest.approx(1 - judge.LANGUAGE)
    assert value("天空是蓝色的，因为空气散射蓝光。", asked=prompt(language="zh")) == 1.0


# --- as a whole


@settings(deadline=None)
@given(st.text(), st.sampled_from(["sentences", "items", "words"]))
def test_any_text_has_a_score(text, unit):
    asked = prompt(language="en", length=length(unit, 1, 3))
    whole, cut = score(text, "stop", asked), score(text, "length", asked)
    assert 0.0 <= cut.value <= whole.value <= 1.0
    assert whole.reason
    assert cut.reason


def test_all_faults_together_are_worth_nothing():
    worst = "Small talk. " * 200
    assert value(worst, "length", prompt(worst, language="de", length=length("words", 2))) == 0.0


@pytest.mark.parametrize("part", ["Die Katze sitzt. ", "面包发酵是因为酵", "x y\n", ". "])
def test_a_very_long_answer_is_judged_at_once(part):
    text = "a" + part * (1_000_000 // len(part))
    start = time.perf_counter()
    assert value(text) <= 0.6
    assert time.perf_counter() - start < 0.5  # 30 ms on an idle core


# --- the answers that come with the quickstart


QUICKSTART = load_prompts(DataSection(prompts=str(files("tso.quickstart") / "prompts.jsonl"))).prompts


def test_there_is_nothing_to_mind_in_the_human_answers():
    said = {p.id: score(p.human[0], asked=p) for p in QUICKSTART}
    assert {name: found for name, found in said.items() if found.value < 1} == {}


def test_human_answers_are_recognised_in_their_language():
    shares = [language_share(p.human[0], p.tags["language"]) for p in QUICKSTART]
    assert min(share for share in shares if share is not None) > 0.6
