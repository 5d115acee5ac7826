"""Columns between Python and the native module: whatever holds tokens or numbers in, NumPy and Arrow out.

Knows nothing of what the columns mean. pyarrow is imported on first use, so that `import tso` stays quick.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from tso.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    Edges = tuple[bytearray, bytearray, bytearray]

_PART = 1 << 20  # numbers of Python that become Arrow's at a time
ID_TYPES = (np.int32, np.uint32, np.int64)


def as_tokens(tokens: Any, tokenizer: Any = None) -> Any:
    """An Arrow column of token lists. Arrow objects and (values, offsets) in NumPy are passed on without a copy.

    With a tokenizer, the column is text and its tokens are found first.
    Raises DataError for anything that cannot be read as one list of ids (or None), or one text, per row.
    """
    if tokenizer is not None:
        from tso.texts import encode

        return encode(tokens, tokenizer)
    if hasattr(tokens, "__arrow_c_stream__") or hasattr(tokens, "__arrow_c_array__"):
        return tokens
    import pyarrow as pa

    try:
        if isinstance(tokens, tuple) and len(tokens) == 2 and all(isinstance(part, np.ndarray) for part in tokens):
            return _from_offsets(*tokens)
        return _from_rows(_rows(tokens))
    except (pa.ArrowException, OverflowError, TypeError) as error:
        where = _first_odd(tokens) if isinstance(tokens, list) else ""
        raise DataError(f"tokens have to be one list of token ids (or None) per row: {where}{error}") from error


def _first_odd(tokens: Any) -> str:
    """Which row Arrow cannot take by itself, in words; empty where each can be."""
    import pyarrow as pa

    for number, row in enumerate(tokens):
        try:
            pa.array([row])
        except (pa.ArrowException, OverflowError, TypeError):
            return f"row {number}: "
    return ""


def _rows(tokens: Any) -> list[Any]:
    """One sequence per row. Arrays and tensors become lists; text is refused, since its tokenizer is not known here."""
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in tokens]
    text = next((number for number, row in enumerate(rows) if isinstance(row, str | bytes)), None)
    if text is not None:
        raise TypeError(f"row {text} is text; give its tokenizer with tokenizer=...")
    return rows


def _from_rows(rows: list[Any]) -> Any:
    """An Arrow column, made a part at a time, for Ctrl-C waits for each."""
    import pyarrow as pa

    plain = pa.list_(pa.int64())
    # No type is asked for: pyarrow would silently cut 1.5 to 1. What it finds is checked in Rust.
    parts = [pa.array(rows[start:end]) for start, end in _spans(rows)]
    kind = next((part.type for part in parts if not _says_nothing(part.type)), plain)
    parts = [part.cast(kind) if _says_nothing(part.type) else part for part in parts]
    other = next((part.type for part in parts if part.type != kind), None)
    if other is not None:
        raise TypeError(f"some rows are {kind}, and others {other}")
    if sum(len(part.values) for part in parts if pa.types.is_list(kind)) >= 2**31:
        return pa.chunked_array(parts, kind)
    return pa.concat_arrays(parts) if parts else pa.array([], kind)


def _spans(rows: list[Any]) -> Iterator[tuple[int, int]]:
    """Where parts of about `_PART` numbers begin and end."""
    start = size = 0
    for number, row in enumerate(rows):
        size += 1 + (len(row) if isinstance(row, Sized) else 0)
        if size >= _PART:
            yield start, number + 1
            start, size = number + 1, 0
    if start < len(rows):
        yield start, len(rows)


def _says_nothing(kind: Any) -> bool:
    """Whether rows of this type are all null or empty."""
    import pyarrow as pa

    return bool(pa.types.is_null(kind) or (pa.types.is_list(kind) and pa.types.is_null(kind.value_type)))


def _from_offsets(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Any:
    import pyarrow as pa

    _check_unmasked("token ids", values)
    _check_unmasked("offsets", offsets)
    values = _integers("token ids", values)
    offsets = _integers("offsets", offsets)
    if values.dtype not in ID_TYPES:
        values = values.astype(np.int64)
    ids = _arrow(values)
    if len(offsets) == 0:
        raise DataError("offsets are empty: a batch of N rows has N + 1 offsets")
    if offsets.dtype == np.int32:
        return pa.ListArray.from_arrays(_arrow(offsets), ids)
    return pa.LargeListArray.from_arrays(_arrow(offsets.astype(np.int64, copy=False)), ids)


def _arrow(values: np.ndarray[Any, Any]) -> Any:
    """As pa.array, which imports pandas where there is one: a quarter of a second for nothing."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def as_count(name: str, value: Any, least: int = 1) -> int:
    """A whole number from `least` to the largest of 64 bits. Raises DataError for anything else."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise DataError(f"{name} has to be a whole number, got {value!r}") from error
    if not least <= number < 2**63:
        raise DataError(f"{name} has to be at least {least} and below 2**63, got {number}")
    return number


def as_word(name: str, value: Any) -> str:
    """Raises DataError for what is no text; which words there are is for Rust to say."""
    if not isinstance(value, str):
        raise DataError(f"{name} has to be a word, got {value!r}")
    return value


def as_threads(value: Any) -> int | None:
    """None, or a number of threads; too large a one is refused in Rust. Raises DataError for anything else."""
    return None if value is None else as_count("threads", value)


def as_number(name: str, value: Any) -> float:
    """Raises DataError for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} has to be a number, got {value!r}") from error


def as_ints(name: str, values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A column of int64. Raises DataError for anything that is not one integer per row."""
    try:
        given = np.asarray(values)
    except ValueError as error:  # rows of unlike lengths
        raise DataError(f"{name} have to be one integer each: {error}") from error
    _check_unmasked(name, values)
    return np.ascontiguousarray(_integers(name, given), dtype=np.int64)


def as_floats(name: str, values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A column of float64. Raises DataError for anything that is not one number per row."""
    try:
        given = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} has to be one number per row: {error}") from error
    _check_unmasked(name, values)
    if given.ndim != 1:
        raise DataError(f"{name} has to be one number per row, got {given.ndim} dimensions")
    if given.dtype.kind not in "iufb" and given.size > 0:
        raise DataError(f"{name} has to be one number per row, got {given.dtype}")
    if given.dtype.kind in "iu" and given.size > 0 and max(-int(given.min()), int(given.max())) > 2**53:
        raise DataError(f"{name} has whole numbers beyond 2**53, which would be rounded; scale them")
    return np.ascontiguousarray(given, dtype=np.float64)


def _check_unmasked(name: str, values: Any) -> None:
    """Raises DataError for a masked array with entries that are masked: what lies beneath would be taken for them."""
    if np.ma.is_masked(values):
        raise DataError(f"{name} hold masked entries; fill them, or leave their rows out")


def _integers(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size > 0):
        raise DataError(f"{name} have to be one integer each, got {values.dtype} in {values.ndim} dimensions")
    if values.dtype == np.uint64 and values.size > 0 and int(values.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{name} reach {values.max()}, which does not fit 64 bits with a sign")
    return values if values.size > 0 else values.astype(np.int64)


def ints(raw: bytearray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Native bytes as int64, without a copy."""
    return np.frombuffer(raw, dtype=np.int64)


def floats(raw: bytearray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Native bytes as float64, without a copy."""
    return np.frombuffer(raw, dtype=np.float64)


def edge_table(raw: Edges) -> pa.Table:
    """Links as a table of i (int64), j (int64) and jaccard (float64)."""
    import pyarrow as pa

    i, j, jaccard = raw
    columns = {"i": ints(i), "j": ints(j), "jaccard": floats(jaccard)}
    return pa.table({name: _arrow(values) for name, values in columns.items()})


def names(bits: int, known: Iterable[tuple[int, str]]) -> str:
    """The names of the bits that are set, joined by commas."""
    return ",".join(name for bit, name in known if bits & bit)
