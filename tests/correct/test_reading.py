"""What a reader notices in a text: counted as a reader counts, and in linear time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.correct import reading


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two. Three.", 3),
        ("Dr. Smith paid 3.50 euros at 9 a.m. in St. Ives, e.g. for tea.", 1),
        ("J. R. Smith lives at No. 5.", 1),
        ("I said no. Then I left.", 2),
        ("Bring apples, pears, etc. They keep well.", 2),
        ("Really?! Yes... It is.", 3),
        ('He said "Stop." Then he left.', 2),
        ("¿Qué tal? ¡Muy bien!", 2),
        ("Yeast makes gas. 🎉 The gas lifts the bread! 🎉🎉", 2),
        ("Dear Tom,\n\nThe tap drips. Please fix it.\n\nBest regards,\nAnna", 2),
        ("Here are some tips:\n- Sleep well.\n- Eat well.", 2),
        ("- no full stop\n- none here either", 2),
        ("1. First do this.\n2. Then do that.", 2),
        ("It ends here. And this one was cut off right in the", 2),
        ("no full stop at all", 1),
        ("Das geht z.B. mit Wasser. Gut.", 2),
        ("Wir kommen am 3. Oktober.", 1),
        ("水は青い。空も青い。", 2),
    ],
)
def test_sentences_are_counted_as_a_reader_does(text, count):
    assert reading.sentences(text) == count


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
def test_items_are_counted_as_a_reader_does(text, count):
    assert reading.items(text) == count


def test_words_are_counted_as_a_word_processor_does():
    assert reading.words("It's a well-known _fact_: 3 cups!") == ["it's", "a", "well-known", "fact", "3", "cups"]
    assert reading.count("面包发酵 OK.", "words") == 5


@pytest.mark.parametrize("unit", ["words", "sentences", "items"])
def test_counts_of_a_very_long_text_are_estimated(unit):
    one = "- The cat sat on a very small mat.\n"
    assert reading.count(one * 3000, unit) == pytest.approx(3000 * reading.count(one, unit), rel=0.02)


@pytest.mark.parametrize(
    "text",
    [
        "Fine, as you wish!",
        'She said "no."',
        "It is done. 🎉",
        "So it is…",
        "**Done.**",
        "- one\n- two",
        "Yours,\nAnna",
    ],
)
def test_proper_endings(text):
    assert reading.ends_properly(text)


@pytest.mark.parametrize("text", ["I think that you,", "There are three ways:", "The best way to do it is", "- one,"])
def test_improper_endings(text):
    assert not reading.ends_properly(text)


def test_repetition_is_measured_in_words_lines_and_characters():
    assert reading.repeated_share("Half of one hundred and fifty is less than one hundred and fifty.") == 0
    assert reading.repeated_share("so it goes " * 20) > 0.9
    assert reading.repeated_share("- tea\n" * 4) == 0.75
    assert reading.repeated_share("hahahahahahahahaha") == 1


def test_another_script_is_none_of_the_known_languages():
    assert reading.language_share("天空是蓝色的因为空气散射蓝光。", "en") == 0.0
    assert reading.language_share("Небо голубое, потому что воздух рассеивает свет.", "de") == 0.0


def test_shared_words_speak_for_no_language():
    spanish = "La biblioteca debe estar en una línea de la misma de la que este dio."  # la, de, en are French as well
    assert reading.language_share(spanish, "es") == 1.0
    assert reading.language_share("Didn't like the sign.", "de") == 0.0
    assert reading.language_share("Tomatoes, radishes, lettuce.", "es") is None


MEASURES = [reading.sentences, reading.items, reading.ends_properly, reading.repeated_share, reading.words]


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_read(text):
    for measure in MEASURES:
        measure(text)
    for language in reading.STOPWORDS:
        assert 0 <= (reading.language_share(text, language) or 0) <= 1
    assert 0 <= reading.repeated_share(text) <= 1


@pytest.mark.parametrize(
    "part",
    [".", ". ", "a", "!a", " ", "\n", "- ", "- a\n", "1. ", "Mr. ", '."', "a-", "A. ", "e.g. X ", ". 🎉", ". , "],
)
def test_no_text_takes_more_than_linear_time(part):
    # Quadratic time on this many characters would be minutes.
    text = "a" + part * (100_000 // len(part)) + "a"
    start = time.perf_counter()
    for measure in MEASURES:
        measure(text)
    assert time.perf_counter() - start < 5
