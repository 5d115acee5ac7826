"""What a reader notices in a text: its words, sentences and items, how it ends, what it repeats, its language.

Every measure is a function of one text alone and takes time linear in its length, whatever the text holds. Nothing here
knows of prompts, judges and costs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

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
STOPWORDS_NEEDED = 2  # with fewer there is no telling the language
_STOPWORDS = {language: frozenset(listed.split()) for language, listed in STOPWORDS.items()}

GRAM = 4  # words that have to come again in the same order before it counts as a repetition
SHORT_LINE = 6  # words: a greeting, a heading or a signature, which nobody counts as a sentence
TAIL = 200  # characters at the end that tell how a text ends
EXCERPT = 8_000  # characters: more than answers have; of a longer text, half of it from either end is read

# Chinese and Japanese put no spaces between words: as in a word processor, each of their characters counts as one.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:[-'’][^\W_{_UNSPACED}]+)*")
_BULLET = re.compile(r"(\s*)(?:[-*+•·–—▪◦]\s+|\(?(?:\d{1,3}|[A-Za-z])[.)]\s+)(?=\S)")
_INLINE_NUMBER = re.compile(r"(?:^|\s)\(?\d{1,2}[.)]\s+(?=\S)")
# The look-behind and the possessive quantifiers keep it linear on a long run of full stops or spaces.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_]*+(?=\s++(?:[^\w\s]|_)*+\s*+[A-ZÀ-ÖØ-Þ0-9])|(?<![。！？])[。！？]++"
)
# Full stops that end no sentence although a capital or a number follows.
_ABBREVIATION = re.compile(
    r"\b(?:mrs?|ms|dr|prof|st|vs|sra?|ud|mme|bzw|ca|nr|e\.g|i\.e|z\.\s?b|d\.\s?h|p\.\s?ej|no(?=\.\s\d)"
    r"|\d{1,2}(?=\.\s(?:jan|feb|mär|apr|mai|jun|jul|aug|sep|okt|nov|dez)))\.|(?<!\w)(?-i:[A-Z])\.(?=\s[A-Z])",
    re.IGNORECASE,
)
_CHARACTER_LOOP = re.compile(r"(\S{1,12}?)\1{7,}")
_ENDS_WELL = re.compile(r"(?:[.!?…。！？][^\w,;:]*|```)$")


def words(text: str) -> list[str]:
    """The words in lower case, "don't" and "well-known" being one each."""
    return [word.lower() for word in _WORD.findall(text)]


def excerpt(text: str) -> str:
    """What is read of a text: all of it, or its beginning and its end, where loops are found."""
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT // 2]}\n{text[-EXCERPT // 2 :]}"


def count(text: str, unit: str) -> int:
    """Words, sentences or items; of a text too long to be read whole, as many as its excerpt lets expect."""
    part = excerpt(text)
    counted = {"words": lambda read: len(words(read)), "sentences": sentences, "items": items}[unit](part)
    return round(counted * len(text) / max(1, len(part)))


def grams(parts: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` words."""
    return [tuple(parts[start : start + size]) for start in range(len(parts) - size + 1)]


# --- sentences and items


def sentences(text: str) -> int:
    """Sentences as a reader counts them; greetings, headings and signatures on lines of their own are none."""
    pieces = [piece for line in text.split("\n") if line.strip() for piece in _split_line(line)]
    return max(1, sum(_counts_as_sentence(piece) for piece in pieces))


def _split_line(line: str) -> list[str]:
    body = _BULLET.sub("- ", line, count=1) if _BULLET.match(line) else line  # "1." is no end of a sentence
    body = _ABBREVIATION.sub(lambda found: found[0].replace(".", "·"), body)
    ends = [0, *(end.end() for end in _SENTENCE_END.finditer(body)), len(body)]
    pieces = [body[start:end] for start, end in pairwise(ends)]
    return [piece for piece in pieces if _WORD.search(piece)]


def _counts_as_sentence(piece: str) -> bool:
    ended = bool(_ENDS_WELL.search(piece.rstrip()[-TAIL:]))
    return ended or bool(_BULLET.match(piece)) or len(words(piece)) > SHORT_LINE


def items(text: str) -> int:
    """Items of a list: the outermost marked lines, else numbers in running text, else lines, else sentences."""
    lines = [line for line in text.split("\n") if _WORD.search(line)]
    indents = [len(match[1]) for line in lines if (match := _BULLET.match(line))]
    numbered = len(_INLINE_NUMBER.findall(text))
    if indents:
        return max(indents.count(min(indents)), numbered if len(indents) == 1 else 0)
    if numbered > 1:
        return numbered
    plain = [line for line in lines if not line.rstrip().endswith(":")]
    return len(plain) if len(plain) > 1 else sentences(text)


# --- how it ends


def ends_properly(text: str) -> bool:
    """Whether the last words look like an end: a full stop, an item of a list, a signature, a closed block of code."""
    end = text.rstrip()
    return bool(_ENDS_WELL.search(end[-TAIL:])) or _ends_as_a_list_may(end) or _is_signature(end)


def _ends_as_a_list_may(text: str) -> bool:
    last = text.rpartition("\n")[2]
    return bool(_BULLET.match(last)) and last[-1] not in ",;:-("


def _is_signature(text: str) -> bool:
    before, _, last = text.rpartition("\n")
    return bool(before.strip()) and len(words(last)) <= 4 and last[-1] not in ",;:-("


# --- repetition


def repeated_share(text: str) -> float:
    """How much of a text was there before, 0 to 1: the largest share among word 4-grams, lines and runs of characters."""
    by_line = [tuple(found) for line in text.split("\n") if (found := words(line))]
    runs = sum(len(match[0]) for match in _CHARACTER_LOOP.finditer(text))
    # One repeated gram is free: "half of one hundred and fifty ... one hundred and fifty" is no loop.
    return max(_repeats(grams(words(text), GRAM), free=1), _repeats(by_line), runs / max(1, len(text)))


def _repeats(parts: Sequence[tuple[str, ...]], free: int = 0) -> float:
    return max(0, len(parts) - len(set(parts)) - free) / max(1, len(parts))


# --- language


def language_share(text: str, language: str) -> float | None:
    """How far `text` is in `language`, from 0 to 1, against its strongest rival; None where there is no telling.

    Only stopwords that one of the two languages has and the other has not are counted, so that words they share
    ("la", "de", "an") speak for neither. Text mostly in another script than Latin is in none of the known languages.
    """
    letters = Counter(character for character in text if character.isalpha())
    if 2 * sum(n for letter, n in letters.items() if _is_latin(letter)) < letters.total():
        return 0.0
    seen = Counter(words(text.replace("'", " ").replace("’", " ")))
    shares = []
    for rival in STOPWORDS.keys() - {language}:
        own = _count(seen, _STOPWORDS[language] - _STOPWORDS[rival])
        other = _count(seen, _STOPWORDS[rival] - _STOPWORDS[language])
        if own + other >= STOPWORDS_NEEDED:
            shares.append(own / (own + other))
    return min(shares, default=None)


def _is_latin(letter: str) -> bool:
    return letter.isascii() or "LATIN" in unicodedata.name(letter, "")


def _count(seen: Counter[str], listed: frozenset[str]) -> int:
    return sum(seen[word] for word in listed)
