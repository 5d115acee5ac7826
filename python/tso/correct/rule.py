"""A judge that looks at one response at a time and says what a user would see.

It knows nothing of models, pairs or training: `score(prompt, response)` is a pure function, and any function of
that shape can take its place, named as `package.module:function` and resolved by `load`. The built-in `everyday`
starts from 1 and takes off for what a user would mind: an answer that is cut off, loops, comes in the wrong
language or length, repeats the question, or stops in mid-sentence. It cannot tell true from false.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any

from tso.errors import ConfigError
from tso.records import Comparison, Prompt, Response, Score

# What each fault costs at its worst. The sum may pass 1; the score stops at 0.
UNFINISHED = 0.40  # cut off by the token limit: the first thing a user sees. An answer that is hardly one loses this
# as well, because it ends by itself only in name; so ending at once is never a way out.
LENGTH = 0.40  # far from the asked length, in either direction alike
LOOP = 0.40  # says the same thing over and over: as useless as an answer that never ends
LANGUAGE = 0.40  # a reader of another language gets nothing from it
ECHO = 0.60  # hands the question back: more than any one other fault, because nothing was answered
CLOSING = 0.10  # ends by itself, but without a full stop: a blemish, and nothing new about a cut-off answer

# Length
FAR = 4.0  # a quarter of the least, or four times the most that was asked: the whole of LENGTH is lost
HARDLY = 0.5  # from this share of the fewest words on down, down to a quarter, an answer is less and less one
WORDS_PER_SENTENCE = (6, 40)  # below, a sentence hardly says anything; above, it is several sentences in disguise
WORDS_PER_ITEM = (3, 35)
WORDS_UNASKED = (3, 250)  # nothing was asked: only the absurd is marked down
HUMAN_FLOOR = 0.4  # less than this share of the words of the shortest human answer leaves something out
HUMAN_CEILING = 2.5  # where no length was asked: a longer human answer raises the upper bound to this multiple

# Loops
LOOP_GRAM = 4
LOOP_FREE = 0.05  # share of repeated 4-grams that good prose may have ("I would like to ...")
LOOP_FULL = 0.30  # already at this share a reader stops reading

# Echo: share of the answer's 3-grams that stand in the question. Correcting or rewriting a given sentence rightly
# reaches three quarters.
ECHO_GRAM = 3
ECHO_FREE = 0.80
ECHO_FULL = 0.95

# Language: share of the stopwords seen that belong to the asked language.
LANGUAGE_FREE = 0.60
LANGUAGE_FULL = 0.20
STOPWORDS_NEEDED = 2  # with fewer there is no telling, and nothing is taken off

STOPWORDS = {
    "en": """the a an and or but of to in on at for with from by as is are was were be been it its this that these
        those you your i my we our they their he she his her not no do does did have has had will would can could
        should if so when what which who there than then about into because all some more one
        don didn doesn isn t s m re ll ve""",
    "es": """el la los las un una unos unas y o pero de del al en con por para como es son era ser está están lo le les
        se su sus tu tus mi que qué no sí si cuando donde muy más este esta estos estas eso esa porque también todo
        todos hay ha sin sobre nos me te entre cada""",
    "fr": """le la les un une des et ou mais de du au aux en dans avec par pour comme est sont était être ce cette ces
        cet il elle ils elles on nous vous je tu son sa ses leur votre vos mon ma mes que qui ne pas plus si quand où
        très parce sans sur chaque aussi tout toute se y d l j qu n c
        t s m""",
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber von zu zum zur in im am an auf für
        mit aus bei nach als wie ist sind war waren sein es er sie wir ihr ich du mich dich sich nicht kein keine dass
        wenn weil was wer so auch noch nur sehr hat haben wird werden kann man über durch um""",
}
_STOPWORDS = {language: frozenset(words.split()) for language, words in STOPWORDS.items()}
LANGUAGE_NAMES = {"en": "English", "es": "Spanish", "fr": "French", "de": "German"}

_WORD = re.compile(r"\w+(?:[-'’]\w+)*")
_BULLET = re.compile(r"^(\s*)(?:[-*+•·–—▪◦]\s+|\(?(?:\d{1,3}|[A-Za-z])[.)]\s+)(?=\S)")
_INLINE_NUMBER = re.compile(r"(?:^|\s)\(?\d{1,2}[.)]\s+(?=\S)")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s+[\"'“‘«(\[*_¿¡]*[A-ZÀ-ÖØ-Þ0-9])|[。！？]+")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mrs?|ms|dr|prof|st|vs|etc|no|sra?|ud|mme|bzw|ca|nr|e\.g|i\.e|a\.m|p\.m|z\.\s?b|d\.\s?h|p\.\s?ej)"
    r"|(?:^|\s)[A-Za-z])\.$",
    re.IGNORECASE,
)
_CHARACTER_LOOP = re.compile(r"(\S{1,12}?)\1{7,}")
_ENDS_WELL = re.compile(r"[.!?…。！？][^\w,;:]*$")
_SHORT_LINE = 6  # words: a greeting, a heading or a signature, which nobody counts as a sentence


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing a user would notice: what it costs, and in words."""

    cost: float
    reason: str


def everyday(prompt: Prompt, response: Response) -> Score:
    """Score one answer to an everyday request from 0 (useless) to 1 (nothing to mind).

    Reads `prompt.tags["language"]` ("en", "es", "fr", "de") and `prompt.tags["length"]`
    ({"unit": "sentences" | "items" | "words", "min": n, "max": n}) where they are given.
    """
    if not any(character.isalnum() for character in response.text):
        return Score(0.0, "empty answer")
    checks = (_ending, _length, _loops, _language, _echo)
    findings = [finding for check in checks if (finding := check(prompt, response)) is not None]
    value = max(0.0, 1.0 - sum(finding.cost for finding in findings))
    reason = "; ".join(finding.reason for finding in findings) or "ends by itself, as asked"
    return Score(round(value, 6), reason)


def load(spec: str) -> Callable[[Prompt, Response], Score]:
    """The judge named by `package.module:function`, with its answers checked.

    The returned function always gives a `Score`; a plain number from the user's function becomes one.

    Raises:
        ConfigError: the module or function is not there, cannot be imported or called. The returned function raises
            it too, naming the prompt, when the user's function fails or gives anything but a finite number.
    """
    function = _resolve(spec)

    def checked(prompt: Prompt, response: Response) -> Score:
        where = f"judge {spec}, prompt {prompt.id}"
        try:
            result = function(prompt, response)
        except Exception as error:
            raise ConfigError(f"{where}: it raised {type(error).__name__}: {error}") from error
        return _as_score(result, where)

    return checked


def judge(
    prompt: Prompt,
    a: Response,
    b: Response,
    score: Callable[[Prompt, Response], Score | float],
    margin: float,
    bad_below: float,
) -> Comparison:
    """Compare two answers to one prompt by their scores.

    Both below `bad_below`: both_bad. Else a difference above `margin`: the better side. Else a tie.
    The confidence is 0.5 at the border between two verdicts, and every further `margin` away from that border halves
    the doubt that is left: a side that leads by two margins has 0.75, by three 0.875. A tie goes from 0.5 at the
    border to 1 where the scores are equal.
    """
    where = f"prompt {prompt.id}"
    left, right = (_as_score(score(prompt, side), where) for side in (a, b))
    told = f"a {left.value:.2f} ({left.reason}), b {right.value:.2f} ({right.reason})"
    if max(left.value, right.value) < bad_below:
        return Comparison("both_bad", _confidence(bad_below - max(left.value, right.value), margin), told)
    lead = abs(left.value - right.value)
    if lead > margin:
        return Comparison("a" if left.value > right.value else "b", _confidence(lead - margin, margin), told)
    return Comparison("tie", 1.0 - 0.5 * lead / margin if margin > 0 else 1.0, told)


def _confidence(distance: float, margin: float) -> float:
    return 1.0 - 0.5 ** (1.0 + distance / margin) if margin > 0 else 1.0


# --- what a user would notice; each gives None where there is nothing to say


def _ending(prompt: Prompt, response: Response) -> _Finding | None:
    """The worst that can be said of how it ends; only the worst, so that a finished answer never scores below its
    own text cut off."""
    if response.finish_reason != "stop":
        return _Finding(UNFINISHED, "cut off before its end")
    words = len(_words(response.text))
    missing = UNFINISHED * _ramp(1.0 - words / _word_range(prompt)[0], 1.0 - HARDLY, 1.0 - 1.0 / FAR)
    blemish = 0.0 if _ends_properly(response.text.rstrip()) else CLOSING
    if max(missing, blemish) == 0.0:
        return None
    reason = f"hardly an answer: {_many(words, 'words')}" if missing > blemish else "does not end like a sentence"
    return _Finding(max(missing, blemish), reason)


def _length(prompt: Prompt, response: Response) -> _Finding | None:
    words = len(_words(response.text))
    by_words = _Finding(
        LENGTH * _far_outside(words, *_word_range(prompt)), f"{_many(words, 'words')}, {_asked(prompt)}"
    )
    asked = _asked_length(prompt)
    if asked is None or asked[0] == "words":
        return by_words if by_words.cost else None
    unit, least, most = asked
    count = _items(response.text) if unit == "items" else _sentences(response.text)
    by_unit = _Finding(LENGTH * _far_outside(count, least, most), f"{_many(count, unit)}, {_asked(prompt)}")
    worst = max(by_unit, by_words, key=lambda finding: finding.cost)
    return worst if worst.cost else None


def _loops(prompt: Prompt, response: Response) -> _Finding | None:
    share = _ramp(_repeated_share(response.text), LOOP_FREE, LOOP_FULL)
    return _Finding(LOOP * share, "repeats itself") if share else None


def _language(prompt: Prompt, response: Response) -> _Finding | None:
    tag = prompt.tags.get("language")
    if tag is None:
        return None
    asked = re.split("[-_]", str(tag).lower())[0]  # "en-GB" is English
    if asked not in STOPWORDS:
        return _Finding(0.0, f"language {tag!r} is not judged")
    share = language_share(response.text, asked)
    if share is None:
        return None
    wrong = _ramp(1.0 - share, 1.0 - LANGUAGE_FREE, 1.0 - LANGUAGE_FULL)
    return _Finding(LANGUAGE * wrong, f"not in {LANGUAGE_NAMES[asked]}") if wrong else None


def _echo(prompt: Prompt, response: Response) -> _Finding | None:
    asked = set(_grams(_words(_question(prompt)), ECHO_GRAM))
    _, _, announced = response.text.partition(":")  # "Here is a polite version: ..." must not hide a copy
    shares = [
        sum(gram in asked for gram in grams) / len(grams)
        for text in (response.text, announced)
        if (grams := _grams(_words(text), ECHO_GRAM))
    ]
    copied = _ramp(max(shares, default=0.0), ECHO_FREE, ECHO_FULL)
    return _Finding(ECHO * copied, "repeats the question") if copied else None


# --- measures


def language_share(text: str, language: str) -> float | None:
    """How far `text` is in `language`, from 0 to 1, against its strongest rival; None where there is no telling.

    Only stopwords that one of the two languages has and the other has not are counted, so that words they share
    ("la", "de", "an") speak for neither. Text mostly in another script than Latin is in none of the known languages.
    """
    letters = [character for character in text if character.isalpha()]
    if sum("LATIN" in unicodedata.name(letter, "") for letter in letters) * 2 < len(letters):
        return 0.0
    words = _words(text.replace("'", " ").replace("’", " "))
    shares = []
    for rival in STOPWORDS.keys() - {language}:
        own = sum(word in _STOPWORDS[language] - _STOPWORDS[rival] for word in words)
        other = sum(word in _STOPWORDS[rival] - _STOPWORDS[language] for word in words)
        if own + other >= STOPWORDS_NEEDED:
            shares.append(own / (own + other))
    return min(shares, default=None)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _repeated_share(text: str) -> float:
    """How much of a text was there before: the largest share among word n-grams, lines and runs of characters."""
    grams = _grams(_words(text), LOOP_GRAM)
    lines = [tuple(_words(line)) for line in text.split("\n") if _words(line)]
    runs = sum(len(match.group()) for match in _CHARACTER_LOOP.finditer(text))
    repeats = [1.0 - len(set(parts)) / len(parts) for parts in (grams, lines) if parts]
    return max([*repeats, runs / len(text)])


def _sentences(text: str) -> int:
    """Sentences as a reader counts them; greetings, headings and signatures on lines of their own are none."""
    pieces = [piece for line in text.split("\n") if line.strip() for piece in _split_line(line)]
    return max(1, sum(_counts_as_sentence(piece) for piece in pieces))


def _split_line(line: str) -> list[str]:
    pieces, start = [], 0
    body = _BULLET.sub("- ", line)  # "1." is no end of a sentence
    for end in _SENTENCE_END.finditer(body):
        if not _ABBREVIATION.search(body[start : end.end()]):
            pieces.append(body[start : end.end()])
            start = end.end()
    return [piece for piece in [*pieces, body[start:]] if _words(piece)]


def _counts_as_sentence(piece: str) -> bool:
    ended = bool(_ENDS_WELL.search(piece.rstrip()))
    return ended or bool(_BULLET.match(piece)) or len(_words(piece)) > _SHORT_LINE


def _items(text: str) -> int:
    """Items of a list: the outermost marked lines, else numbers in running text, else lines, else sentences."""
    lines = [line for line in text.split("\n") if _words(line)]
    indents = [len(match.group(1)) for line in lines if (match := _BULLET.match(line))]
    numbered = len(_INLINE_NUMBER.findall(text))
    if indents:
        return max(indents.count(min(indents)), numbered if len(indents) == 1 else 0)
    if numbered > 1:
        return numbered
    plain = [line for line in lines if not line.rstrip().endswith(":")]
    return len(plain) if len(plain) > 1 else _sentences(text)


def _ends_properly(text: str) -> bool:
    return bool(_ENDS_WELL.search(text)) or _ends_as_a_list_may(text) or _is_signature(text)


def _ends_as_a_list_may(text: str) -> bool:
    last = text.split("\n")[-1]
    return bool(_BULLET.match(last)) and last[-1] not in ",;:-("


def _is_signature(text: str) -> bool:
    *before, last = [line for line in text.split("\n") if line.strip()]
    return bool(before) and len(_words(last)) <= 4 and last.rstrip()[-1] not in ",;:-("


def _question(prompt: Prompt) -> str:
    return prompt.messages[-1].content if prompt.messages else ""


# --- ranges


def _asked_length(prompt: Prompt) -> tuple[str, float, float] | None:
    """(unit, least, most) from the prompt's length tag; None where there is none that can be read."""
    tag: Any = prompt.tags.get("length")
    try:
        unit, least, most = tag["unit"], float(tag["min"]), float(tag["max"])
    except (TypeError, KeyError, ValueError):
        return None
    return (unit, least, most) if unit in ("sentences", "items", "words") and 0 < least <= most else None


def _asked(prompt: Prompt) -> str:
    asked = _asked_length(prompt)
    if asked is None:
        return "no length was asked"
    unit, least, most = asked
    return f"asked {_many(least, unit)}" if least == most else f"asked {least:g} to {most:g} {unit}"


def _many(count: float, unit: str) -> str:
    return f"{count:g} {unit.removesuffix('s') if count == 1 else unit}"


def _word_range(prompt: Prompt) -> tuple[float, float]:
    """How many words an answer may have: as asked, or what the asked sentences or items, or nothing, make likely."""
    asked = _asked_length(prompt)
    if asked is not None and asked[0] == "words":
        return asked[1], asked[2]
    human = [len(_words(text)) for text in prompt.human]
    floor = HUMAN_FLOOR * min(human, default=0)
    if asked is None:
        return max(WORDS_UNASKED[0], floor), max(WORDS_UNASKED[1], HUMAN_CEILING * max(human, default=0))
    each = WORDS_PER_SENTENCE if asked[0] == "sentences" else WORDS_PER_ITEM
    return max(each[0] * asked[1], floor), max(each[1] * asked[2], max(human, default=0))


def _far_outside(count: float, least: float, most: float) -> float:
    """0 inside [least, most], 1 at a quarter of the least or four times the most; in between by the ratio missed."""
    ratio = min(count / least, most / count) if count else 0.0
    return min(1.0, max(0.0, 1.0 - ratio) / (1.0 - 1.0 / FAR))


def _ramp(value: float, free: float, full: float) -> float:
    return min(1.0, max(0.0, (value - free) / (full - free)))


# --- a user's own judge


def _resolve(spec: str) -> Callable[[Prompt, Response], Any]:
    module_name, colon, function_name = spec.partition(":")
    if not (module_name and colon and function_name):
        raise ConfigError(f"judge {spec!r}: write it as package.module:function")
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"judge {spec!r}: cannot import {module_name} ({type(error).__name__}: {error}); "
            "it must be installed or lie in a folder on PYTHONPATH"
        ) from error
    try:
        function = reduce(getattr, function_name.split("."), module)
    except AttributeError as error:
        raise ConfigError(f"judge {spec!r}: {module_name} has no {function_name!r}") from error
    if not callable(function):
        raise ConfigError(f"judge {spec!r}: {function_name} is a {type(function).__name__}, not a function")
    return function


def _as_score(result: Any, where: str) -> Score:
    value, reason = (result.value, result.reason) if isinstance(result, Score) else (result, "")
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where}: it must give a finite number or a Score, not {value!r}")
    return Score(number, str(reason))
