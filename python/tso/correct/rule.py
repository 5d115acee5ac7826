"""A judge that looks at one answer at a time and says what a user would see.

`everyday` is the built-in rule; `load` finds anyone's own: a function(prompt, response) -> number or Score in 0..1.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from typing import Any

from tso.errors import ConfigError, DataError
from tso.records import Comparison, Prompt, Response, Score

Judge = Callable[[Prompt, Response], Score]

# What each visible property is worth; they add up to 1. Ending matters most: a cut-off answer is no answer.
ENDS = 0.4
LENGTH = 0.3  # as much at stake for too short as for too long, so that stopping at once is no way to win
LANGUAGE = 0.15
NO_LOOP = 0.15

# The commonest short words of each language, none of them shared: enough to tell a sentence or two apart.
COMMON = {
    "en": [
        "the",
        "and",
        "is",
        "of",
        "to",
        "it",
        "you",
        "that",
        "with",
        "for",
        "are",
        "this",
        "your",
        "be",
        "have",
        "not",
        "they",
    ],
    "es": [
        "el",
        "la",
        "los",
        "las",
        "una",
        "por",
        "con",
        "para",
        "es",
        "que",
        "del",
        "más",
        "su",
        "muy",
        "y",
        "está",
        "son",
    ],
    "fr": [
        "le",
        "les",
        "des",
        "est",
        "une",
        "pour",
        "dans",
        "avec",
        "vous",
        "et",
        "sont",
        "pas",
        "plus",
        "sur",
        "du",
        "ce",
        "aux",
    ],
    "de": [
        "der",
        "die",
        "das",
        "und",
        "ist",
        "nicht",
        "ein",
        "eine",
        "mit",
        "für",
        "auf",
        "den",
        "zu",
        "sich",
        "sind",
        "auch",
        "es",
    ],
}


def everyday(prompt: Prompt, response: Response) -> Score:
    """0 (useless) to 1: the answer ends by itself, has the asked length and language, and does not loop.

    Reads the tags `length` ({"unit": "sentences" | "items" | "words", "min": a, "max": b}) and `language` (en, es, fr,
    de) where a prompt has them; a property that no tag asks for counts as kept, a length in words between 5 and 150.
    """
    text = response.text.strip()
    if not text:
        return Score(0.0, "empty")
    if _echoes(prompt, text):
        return Score(0.05, "repeats the prompt")
    ends = 1.0 if response.finish_reason == "stop" else 0.0
    kept = length_kept(text, prompt.tags.get("length"))
    tongue = 1.0 if language_kept(text, prompt.tags.get("language")) else 0.0
    smooth = 1.0 - min(1.0, 2.0 * repeated_share(text))
    faults = [
        name
        for name, value in (("cut off", ends), ("length", kept), ("language", tongue), ("loops", smooth))
        if value < 0.99
    ]
    # An answer too short to be one earns little for ending.
    value = ENDS * ends * min(1.0, 0.25 + kept) + LENGTH * kept + LANGUAGE * tongue + NO_LOOP * smooth
    return Score(round(value, 4), ", ".join(faults) or "as asked")


def length_kept(text: str, asked: dict[str, Any] | None) -> float:
    """1 within the asked range, falling to 0 at half its lower or twice its upper bound."""
    if not asked:
        asked = {"unit": "words", "min": 5, "max": 150}
    words = len(text.split())
    count = {"sentences": count_sentences, "items": count_items}.get(asked["unit"], lambda t: len(t.split()))(text)
    low: float = asked["min"]
    high: float = asked["max"]
    if asked["unit"] == "sentences" and words < 4 * low:
        return 0.25 * words / (4 * low)  # a "sentence" of three words is a fragment
    if low <= count <= high:
        return 1.0
    return max(0.0, 2 * count / low - 1) if count < low else max(0.0, 2 - count / high)


def count_sentences(text: str) -> int:
    return max(1, len(re.findall(r"[.!?]+(?=\s|$|[\"”»)])", text)))


def count_items(text: str) -> int:
    lines = re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+\S", text, flags=re.MULTILINE)
    return len(lines) or count_sentences(text)


def language_kept(text: str, asked: str | None) -> bool:
    """Whether the commonest words say the asked language; unknown languages and texts without such words pass."""
    if asked not in COMMON:
        return True
    words = re.findall(r"\w+", text.lower())
    hits = {name: sum(w in known for w in words) for name, known in COMMON.items()}
    return hits[asked] >= max(hits.values())


def repeated_share(text: str) -> float:
    """Share of word trigrams that came before in the same text."""
    words = re.findall(r"\w+", text.lower())
    grams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _echoes(prompt: Prompt, text: str) -> bool:
    def plain(t: str) -> str:
        return " ".join(re.findall(r"\w+", t.lower()))

    return plain(text) == plain(prompt.messages[-1].content)


def load(spec: str) -> Judge:
    """The judge that `package.module:function` names. Raises ConfigError when there is none."""
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"correct.rule={spec!r} must be package.module:function, such as tso.correct.rule:everyday")
    try:
        module = importlib.import_module(module_name)
    except ImportError as err:
        raise ConfigError(f"correct.rule: cannot import {module_name!r} ({err}); is it on PYTHONPATH?") from err
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"correct.rule: {module_name} has no function {name!r}")

    def judge(prompt: Prompt, response: Response) -> Score:
        try:
            result = function(prompt, response)
        except Exception as err:
            raise DataError(f"correct.rule {spec} failed on prompt {prompt.id!r}: {type(err).__name__}: {err}") from err
        score = result if isinstance(result, Score) else Score(result)
        number = isinstance(score.value, int | float) and not isinstance(score.value, bool)
        if not number or not math.isfinite(score.value):
            raise DataError(
                f"correct.rule {spec} gave {score.value!r} for prompt {prompt.id!r}; a finite number is needed"
            )
        return Score(float(score.value), score.reason)

    return judge


def compare(a: Score, b: Score, margin: float, bad_below: float) -> Comparison:
    """The better one by more than `margin`, else a tie; both below `bad_below` are both bad.

    Confidence grows from 0.5 at no difference to 1 at a difference of 1.
    """
    gap = a.value - b.value
    sure = min(1.0, 0.5 + abs(gap) / 2)
    reason = f"{a.value:.2f} ({a.reason}) against {b.value:.2f} ({b.reason})"
    if a.value < bad_below and b.value < bad_below:
        return Comparison("both_bad", 1.0, reason)
    if abs(gap) <= margin:
        return Comparison("tie", 1 - sure + 0.5, reason)
    return Comparison("a" if gap > 0 else "b", sure, reason)
