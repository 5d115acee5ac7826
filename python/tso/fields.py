"""Which columns of rows are compared, and how what they hold becomes text or token ids. Knows no files."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tso.errors import DataError
from tso.rows import Row
from tso.texts import lone_surrogate

Place = Callable[[int], str]  # where the row with a number in a column stood, in words

SIDES = ("chosen", "rejected")
TEXTS = ("text", "response", "completion", "output", "answer", "content", "messages", "prompt")
LISTED = ("removed_reason", "removed_from", "duplicate_of")  # what the list of removed rows says of them
EXACT = 2**53  # the largest whole number up to which a float64 tells neighbours apart
# Roles of messages that are compared as "role: content"; conversations with others are compared as JSON.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "human", "gpt", "model")
_MESSAGE = rf"~*(?:{'|'.join(_ROLES)}): "
_MISTAKABLE = re.compile(rf"{_MESSAGE}|~*[\[{{]")  # how a text begins that might be taken for a conversation
_NEXT = re.compile(rf"\n(?={_MESSAGE})")  # where what a message says might be taken for the next one
NAMED = 5  # lines named of those left out


def problem(row: Row) -> str:
    """Why a line cannot be used as a row of columns; empty where it can."""
    return row.problem or ("plain text, not a row" if row.text is not None else "")


def left_out(bad: Sequence[str], count: int) -> list[str]:
    """Remarks on lines that hold no row: the first few by name, and how many more there are."""
    named = [f"left out: {line}" for line in bad[:NAMED]]
    more = count - len(named)
    return [*named, f"left out: {more} more lines that hold no row"] if more else named


def text_column(names: Iterable[str]) -> str:
    """The column to compare where none is named. Raises DataError where no name is known, and where it could be only the
    prompt of rows that have sides of a pair: it would stand for all of them."""
    names = list(names)
    name = next((name for name in TEXTS if name in names), None)
    sides = [side for side in SIDES if side in names]
    if name == "prompt" and sides:
        raise DataError(f"the rows have {', '.join([name, *sides])}: say with --column which of them is meant")
    if name is not None:
        return name
    raise DataError(f"no column of text is known by name among {', '.join(names)}; name one with --column")


def no_pair(place: str) -> DataError:
    """What to say of a row without one of the sides among rows that are pairs."""
    return DataError(
        f"{place} has not both {SIDES[0]} and {SIDES[1]}, and other rows are pairs of these; complete it, take it out, or "
        "name one --column to compare"
    )


def check_column(name: str, names: Iterable[str]) -> None:
    """Raises DataError where there is no such column."""
    names = list(names)
    if name not in names:
        raise DataError(f"no column {name!r}; there is {', '.join(names)}: name one with --column")


def check_free(names: Iterable[str]) -> None:
    """Raises DataError where rows have a column that the list of removed rows adds."""
    own = set(names).intersection(LISTED)
    if own:
        raise DataError(f"the rows have a column {min(own)!r} already, which the list of removed rows needs; rename it")


def are_ids(kind: Any) -> bool:
    """Whether an Arrow type is one of lists of whole numbers."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)  # views are not read in Rust
    return bool(is_list and pa.types.is_integer(kind.value_type))


def values(column: Any) -> Sequence[Any]:
    """A column as Python values."""
    return list(column) if isinstance(column, list) else column.to_pylist()


@contextmanager
def one_table() -> Iterator[None]:
    """What does not fit one Arrow table, as a line that says what to do."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError) as err:
        raise DataError(f"the rows do not fit one Parquet table ({err}); write .jsonl instead") from err


def holds_ids(column: Any, place: Place) -> bool:
    """Whether a column holds lists of token ids, as its Arrow type or all its values say.

    Raises DataError as `are_all_ids`.
    """
    if hasattr(column, "type"):
        return are_ids(column.type)
    found: dict[str, int] = {}
    for number, value in enumerate(column):
        if (what := kind(value)) is not None:
            found.setdefault(what, number)
    return are_all_ids({what: place(number) for what, number in found.items()})


def kind(value: Any) -> str | None:
    """What a value says of its column: "ids", "text", "empty" (a list; ids where no other is text), None for nothing."""
    if value is None:
        return None
    if not isinstance(value, list):
        return "text"
    return ("ids" if isinstance(value[0], int) else "text") if value else "empty"


def are_all_ids(places: Mapping[str, str]) -> bool:
    """Whether a column holds token ids, from where it first has a value of each kind, the earlier kind first.

    Raises DataError where some of its rows hold ids and others text: neither could be compared with the other.
    """
    if "ids" in places and "text" in places:
        said = {"ids": "token ids", "text": "text"}
        first, other = (what for what in places if what in said)
        raise DataError(
            f"{places[other]} holds {said[other]} where {places[first]} holds {said[first]}; a column has to be one or "
            "the other: mend the row, or take it out"
        )
    return bool(places) and "text" not in places


@contextmanager
def odd_ids_named(columns: Iterable[Any], place: Place) -> Iterator[None]:
    """Names the row where what is done with columns fails for one that holds something else than token ids."""
    try:
        yield
    except DataError as err:
        bad = [odd for column in columns if (odd := _first_odd(column)) is not None]
        if not bad:
            raise
        row, value = min(bad, key=lambda odd: odd[0])
        raise DataError(
            f"{place(row)} holds {reprlib.repr(value)}, which is no token id: those are whole numbers from 0 to "
            "2**32 - 1; mend the row, or take it out"
        ) from err


def _first_odd(column: Any) -> tuple[int, Any] | None:
    """The first list of a column of token ids that holds something else, and what; None where none does, or it has other
    rows."""
    if isinstance(column, list):
        lists = ((number, row) for number, row in enumerate(column) if isinstance(row, list))
        return next(((number, value) for number, row in lists for value in row if not _is_id(value)), None)
    first = 0
    for part in getattr(column, "chunks", [column]):
        if are_ids(part.type) and not _all_ids(part.flatten()):
            found = _first_odd(part.to_pylist())
            return None if found is None else (first + found[0], found[1])
        first += len(part)
    return None


def _all_ids(values: Any) -> bool:
    import pyarrow.compute as pc

    bounds = pc.min_max(values).as_py()
    return not values.null_count and (not len(values) or (bounds["min"] >= 0 and bounds["max"] < 2**32))


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32


def check_tokenizer(tokenizer: Any) -> None:
    """Raises DataError where text has none."""
    if tokenizer is None:
        raise DataError(
            "these columns are text: give the tokenizer whose tokens are to be compared with --tokenizer (the path of a "
            "tokenizer.json or of a model's folder)"
        )


def as_texts(column: Iterable[Any], place: Place) -> list[str | None]:
    """Values as the texts that are compared (`compared`), None where there is none.

    Raises DataError for what no tokenizer takes, with the place of the row.
    """
    return [
        None if value is None else _encodable(compared(value), number, place) for number, value in enumerate(column)
    ]


def _encodable(text: str, number: int, place: Place) -> str:
    if (at := lone_surrogate(text)) is None:
        return text
    raise DataError(
        f"{place(number)}: character {at} of the text is half of a surrogate pair, which no tokenizer takes; mend the "
        "row, or take it out"
    )


def compared(value: Any) -> str:
    """As `as_text`, but unlike conversations never give the same text, nor do a text and a conversation: what a message
    says cannot pass for the next message.

    A ~ goes before what could be mistaken: a line of a message, or a text, that begins as a message does, and a text that
    begins as JSON does. All else stays as it is, for what two conversations have in common makes them seem alike. An empty
    conversation is an empty text; a list of another kind, an object and a number are their JSON.
    """
    if isinstance(value, str):
        return "~" + value if _MISTAKABLE.match(value) else value
    if isinstance(value, list) and all(_is_message(item) and item["role"] in _ROLES for item in value):
        said = [_NEXT.sub("\n~", item["content"]) for item in value]
        return "\n".join(f"{item['role']}: {text}" for item, text in zip(value, said, strict=True))
    if isinstance(value, list | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)
    return as_text(value)


def as_text(value: Any) -> str:
    """For people: a text as it is, a conversation as its messages, one after the other, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        raise DataError("this column holds bytes; give it as text")
    if isinstance(value, list) and all(map(_is_message, value)):
        return "\n".join(f"{item['role']}: {item['content']}" for item in value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_message(item: Any) -> bool:
    """Whether role and content are all that it says; a call of a tool, for one, says more."""
    if not isinstance(item, Mapping):
        return False
    said = {name: value for name, value in item.items() if value is not None}
    return said.keys() == {"role", "content"} and all(isinstance(part, str) for part in said.values())


def first_without_number(column: Iterable[Any]) -> int | None:
    """The first place of a column of scores that holds no number, or a whole one that would be rounded."""
    return next((i for i, value in enumerate(column) if not _is_score(value)), None)


def _is_score(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= EXACT


def no_score(name: str, place: str) -> DataError:
    """What to say of a row without a score."""
    return DataError(
        f"--keep {name}: neither first nor longest, nor a column with a number in every row ({place} has none that is "
        "finite and, if whole, at most 2**53)"
    )
