"""The built-in rule judge: one answer at a time, graded by what a user would see.

It starts from 1 and takes off for what a user would mind: an answer that is cut off, loops, comes in the wrong
language or length, hands the question back, or stops in mid-sentence. It cannot tell true from false, and knows nothing
of models, pairs or training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tso.correct import reading
from tso.records import Prompt, Response, Score

# What each fault costs at its worst. The sum may pass 1; the score stops at 0.
UNFINISHED = 0.40  # cut off by the token limit: the first thing a user sees. An answer that is hardly one loses this
# as well, because it ends by itself only in name; so ending at once is never a way out.
LENGTH = 0.40  # far from the asked length, in either direction alike
LOOP = 0.40  # says the same thing over and over: as useless as an answer that never ends
LANGUAGE = 0.40  # a reader of another language gets nothing from it
ECHO = 0.60  # copies from the question: more than any one other fault, because hardly anything was answered
NOTHING = 1.00  # the whole question and no word more
CLOSING = 0.10  # ends by itself, but without a full stop: a blemish, and nothing new about a cut-off answer

# Length
FAR = 4.0  # a quarter of the least, or four times the most that was asked: the whole of LENGTH is lost
HARDLY = 0.5  # from this share of the fewest words on down, down to a quarter, an answer is less and less one
WORDS_PER_SENTENCE = (6, 40)  # below, a sentence hardly says anything; above, it is several sentences in disguise
WORDS_PER_ITEM = (3, 35)
WORDS_UNASKED = (6, 250)  # nothing was asked: one sentence is enough, and only the absurd is too much
HUMAN_FLOOR = 0.4  # less than this share of the words of the shortest human answer leaves something out
HUMAN_CEILING = 2.5  # where no length was asked: a longer human answer raises the upper bound to this multiple

# Loops: share of a text that was there before.
LOOP_FREE = 0.05  # that much good prose may have ("I would like to ...")
LOOP_FULL = 0.30  # already at this share a reader stops reading

# Echo: share of the answer's 3-grams that stand in the question. Correcting or rewriting a given sentence rightly
# reaches three quarters.
ECHO_GRAM = 3
ECHO_LEAST = 3  # 3-grams: fewer ("the blue car") may well be the answer
ECHO_FREE = 0.80
ECHO_FULL = 0.95

# Language: share of the stopwords seen that belong to the asked language.
LANGUAGE_FREE = 0.60
LANGUAGE_FULL = 0.20
LANGUAGES = {"en": "English", "es": "Spanish", "fr": "French", "de": "German"}


@dataclass(frozen=True, slots=True)
class _Length:
    """An asked length: so many sentences, items or words. No lower bound is 0, no upper one infinity."""

    unit: str
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return _many(self.least, self.unit)
        if not self.least or math.isinf(self.most):
            return (
                f"at least {_many(self.least, self.unit)}" if self.least else f"at most {_many(self.most, self.unit)}"
            )
        return f"{self.least:g} to {self.most:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer and what was asked, read once for all checks."""

    text: str
    excerpt: str
    ended: bool
    words: list[str]
    question: list[str]
    asked: _Length | None
    fair: tuple[float, float]  # words: fewest and most that the request makes likely
    tags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing a user would notice: what it costs, and in words."""

    cost: float
    reason: str


def everyday(prompt: Prompt, response: Response) -> Score:
    """Score one answer to an everyday request from 0 (useless) to 1 (nothing to mind).

    Reads two columns of the prompt's row where they are there: `language` (en, es, fr or de, or the English name) and
    `length` ({"unit": "sentences" | "items" | "words", "min": a, "max": b}, either bound may be left out). A row's
    column of one of these names that holds anything else asks for nothing, and the reason says so.
    """
    if not any(character.isalnum() for character in response.text):
        return Score(0.0, "empty answer")
    answer = _read(prompt, response)
    checks = (_ending, _length, _loops, _language, _echo)
    findings = [finding for check in checks if (finding := check(answer)) is not None]
    value = max(0.0, 1.0 - sum(finding.cost for finding in findings))
    reason = "; ".join(finding.reason for finding in findings) or "ends by itself, as asked"
    return Score(round(value, 6), reason)


def _read(prompt: Prompt, response: Response) -> _Answer:
    excerpt = reading.excerpt(response.text)
    question = reading.excerpt(prompt.messages[-1].content) if prompt.messages else ""
    asked = asked_length(prompt.tags.get("length"))
    return _Answer(
        response.text,
        excerpt,
        response.finish_reason == "stop",
        reading.words(excerpt),
        reading.words(question),
        asked,
        _fair_words(asked, [reading.count(text, "words") for text in prompt.human]),
        prompt.tags,
    )


# --- what was asked


def asked_length(tag: Any) -> _Length | None:
    """The length that a tag asks for; None where there is none that can be read."""
    if not isinstance(tag, Mapping) or tag.get("unit") not in ("sentences", "items", "words"):
        return None
    least, most = tag.get("min"), tag.get("max")
    if not least and most is None:  # from nothing to anything: no wish at all
        return None
    try:
        least, most = float(least or 0), math.inf if most is None else float(most)
    except (TypeError, ValueError, OverflowError):
        return None
    return _Length(tag["unit"], least, most) if 0 <= least <= most and most > 0 and math.isfinite(least) else None


def asked_language(tag: Any) -> str | None:
    """The code of a known language, such as "en" for "en-GB" and "English"; None for anything else."""
    name = re.split("[-_]", tag.strip().lower())[0] if isinstance(tag, str) else ""
    return next((code for code, spelled in LANGUAGES.items() if name in (code, spelled.lower())), None)


def _fair_words(asked: _Length | None, human: list[int]) -> tuple[float, float]:
    """How many words an answer may have: as asked, or what the asked sentences or items, or nothing, make likely."""
    if asked is not None and asked.unit == "words":
        return asked.least or min(WORDS_UNASKED[0], asked.most), asked.most
    floor, longest = HUMAN_FLOOR * min(human, default=0), max(human, default=0)
    if asked is None:
        return max(WORDS_UNASKED[0], floor), max(WORDS_UNASKED[1], HUMAN_CEILING * longest)
    each = WORDS_PER_SENTENCE if asked.unit == "sentences" else WORDS_PER_ITEM
    return max(each[0] * (asked.least or 1), floor), max(each[1] * asked.most, longest)


# --- what a user would notice; each gives None where there is nothing to say


def _ending(answer: _Answer) -> _Finding | None:
    """The worst that can be said of how it ends; only the worst, so that a finished answer never scores below its
    own text cut off."""
    if not answer.ended:
        return _Finding(UNFINISHED, "cut off before its end")
    short = 1.0 - reading.count(answer.text, "words") / answer.fair[0]
    missing = UNFINISHED * _ramp(short, 1.0 - HARDLY, 1.0 - 1.0 / FAR)
    if missing > CLOSING or reading.ends_properly(answer.excerpt):
        return _Finding(missing, "hardly an answer") if missing else None
    return _Finding(CLOSING, "does not end like a sentence")


def _length(answer: _Answer) -> _Finding | None:
    asked = answer.asked
    wanted = f"asked {asked}" if asked else "no length was asked"
    limits = ({asked.unit: (asked.least or 1, asked.most)} if asked else {}) | {"words": answer.fair}
    counts = {unit: reading.count(answer.text, unit) for unit in limits}
    costs = {unit: LENGTH * _far_outside(counts[unit], *limits[unit]) for unit in limits}
    worst = max(costs, key=costs.__getitem__)  # of equals the asked unit
    if costs[worst]:
        return _Finding(costs[worst], f"{_many(counts[worst], worst)}, {wanted}")
    return _not_judged(answer, "length", asked)


def _loops(answer: _Answer) -> _Finding | None:
    share = _ramp(reading.repeated_share(answer.excerpt), LOOP_FREE, LOOP_FULL)
    return _Finding(LOOP * share, "repeats itself") if share else None


def _language(answer: _Answer) -> _Finding | None:
    asked = asked_language(answer.tags.get("language"))
    if asked is None:
        return _not_judged(answer, "language", asked)
    share = reading.language_share(answer.excerpt, asked)
    wrong = 0.0 if share is None else _ramp(1.0 - share, 1.0 - LANGUAGE_FREE, 1.0 - LANGUAGE_FULL)
    return _Finding(LANGUAGE * wrong, f"not in {LANGUAGES[asked]}") if wrong else None


def _not_judged(answer: _Answer, tag: str, asked: Any) -> _Finding | None:
    """A tag that is there and asks for nothing known is named, so that nobody takes it for kept."""
    value = answer.tags.get(tag)
    return _Finding(0.0, f"{tag} {repr(value)[:40]} is not judged") if asked is None and value is not None else None


def _echo(answer: _Answer) -> _Finding | None:
    if answer.words == answer.question:
        return _Finding(NOTHING, "repeats the question")
    known = set(reading.grams(answer.question, ECHO_GRAM))
    _, _, announced = answer.excerpt.partition(":")  # "Here is a polite version: ..." must not hide a copy
    sides = [reading.grams(found, ECHO_GRAM) for found in (answer.words, reading.words(announced))]
    copied = _ramp(max(_share_in(known, side) for side in sides), ECHO_FREE, ECHO_FULL)
    return _Finding(ECHO * copied, "repeats the question") if copied else None


def _share_in(known: set[tuple[str, ...]], grams: list[tuple[str, ...]]) -> float:
    return sum(gram in known for gram in grams) / len(grams) if len(grams) >= ECHO_LEAST else 0.0


# --- grading


def _far_outside(count: float, least: float, most: float) -> float:
    """0 inside [least, most], 1 at a quarter of the least or four times the most; in between by the ratio missed."""
    ratio = min(count / least, most / count) if count else 0.0
    return min(1.0, max(0.0, 1.0 - ratio) / (1.0 - 1.0 / FAR))


def _ramp(value: float, free: float, full: float) -> float:
    return min(1.0, max(0.0, (value - free) / (full - free)))


def _many(count: float, unit: str) -> str:
    return f"{count:g} {unit.removesuffix('s') if count == 1 else unit}"
