"""Columns of text as columns of token ids, with a tokenizer of the `tokenizers` library.

That library works on all cores, whatever `threads` the data tools are given; TOKENIZERS_PARALLELISM=false turns that
off. Knows nothing of what the texts are for. tokenizers and pyarrow are imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tso.errors import DataError

_BATCH = 1 << 18  # characters encoded at a time: Ctrl-C waits for them, and what encodings hold beside the ids is large
_ROWS = 8192  # rows that become Python texts, or Arrow's, at a time


def encode(texts: Any, tokenizer: Any, advance: Callable[[int], None] = lambda count: None) -> Any:
    """Token ids of every text, null where it is null: an Arrow LargeList of uint32, without special tokens.

    texts: an Arrow column of strings (any object with `__arrow_c_stream__` or `__arrow_c_array__`), or a list of str
        or None. A list of chat messages is not text; join it first.
    tokenizer: a `tokenizers.Tokenizer`, a fast tokenizer of transformers, or the path of a tokenizer.json or of a
        folder that holds one. Truncation and padding that it is set to are left out: texts are compared whole.
    advance: called with the number of texts just encoded.

    Ctrl-C stops it between batches of texts; a single text is encoded to its end.

    Raises DataError for what is neither, and for a text that is no Unicode, with its row.
    """
    import pyarrow as pa

    column = _strings(texts)
    found = find_tokenizer(tokenizer)
    counts, parts = [np.zeros(1, np.int64)], []
    for batch in _batches(column):
        ids = [encoding.ids for encoding in found.encode_batch_fast(batch, add_special_tokens=False)]
        counts.append(np.fromiter(map(len, ids), np.int64, len(ids)))
        parts.append(np.fromiter(chain.from_iterable(ids), np.uint32, int(counts[-1].sum())))
        advance(len(batch))
    offsets = np.concatenate(counts).cumsum()
    values = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
    missing = column.is_null().combine_chunks() if column.null_count else None
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values), mask=missing)


def _batches(column: Any) -> Iterator[list[str]]:
    """As many texts as make up a batch's characters, or one. A null is an empty text here: it is masked afterwards."""
    batch: list[str] = []
    size = 0
    for start in range(0, len(column), _ROWS):
        for text in _python(column.slice(start, _ROWS), start):
            batch.append(text or "")
            size += len(batch[-1])
            if size >= _BATCH or len(batch) == _ROWS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _python(part: Any, start: int) -> list[str | None]:
    """Arrow's texts as Python's. Raises DataError for one that is not UTF-8; `start`: the row of the first."""
    try:
        return list(part.to_pylist())
    except UnicodeDecodeError:
        for row, value in enumerate(part, start):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"row {row}: byte {error.start} of the text is not UTF-8; mend it, or give None for the row"
                ) from error
        raise


def _strings(texts: Any) -> Any:
    import pyarrow as pa

    try:
        if hasattr(texts, "__arrow_c_stream__"):
            column = pa.chunked_array(texts)
        elif hasattr(texts, "__arrow_c_array__"):
            column = pa.chunked_array([pa.array(texts)])
        else:
            column = _of_list(list(texts))
        if pa.types.is_null(column.type):
            column = column.cast(pa.large_string())
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"with a tokenizer, a column has to hold one text (or None) per row: {error}") from error
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(
            f"with a tokenizer, a column has to hold text, not {kind}; leave the tokenizer out for token ids"
        )
    return column


def _of_list(texts: list[Any]) -> Any:
    """As an Arrow column, a part at a time, for Ctrl-C waits for each."""
    import pyarrow as pa

    parts = []
    for start in range(0, len(texts), _ROWS):
        part = texts[start : start + _ROWS]
        try:
            parts.append(pa.array(part, pa.large_string()))
        except UnicodeEncodeError as error:
            row, at = next((i, at) for i, text in enumerate(part, start) if (at := lone_surrogate(text)) is not None)
            raise DataError(
                f"row {row}: character {at} of the text is half of a surrogate pair, which no tokenizer takes; mend "
                "it, or give None for the row"
            ) from error
    return pa.chunked_array(parts, pa.large_string())


def lone_surrogate(text: Any) -> int | None:
    """Where a text first holds half of a surrogate pair, which JSON can say and UTF-8 cannot."""
    try:
        if isinstance(text, str):
            text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def find_tokenizer(given: Any) -> Any:
    """The `tokenizers.Tokenizer` that `encode` would use, set to neither cut nor pad.

    Raises DataError where there is none.
    """
    found = _find(given)
    if found.truncation is None and found.padding is None:
        return found
    try:
        own = type(found).from_str(found.to_str())  # the caller's stays as it is
    except Exception as error:  # the library raises nothing more special than Exception
        raise DataError(
            f"the tokenizer is set to cut or pad texts and cannot be copied ({error}); call its no_truncation() and "
            "no_padding() first"
        ) from error
    own.encode_special_tokens = found.encode_special_tokens  # which the saved form leaves out
    own.no_truncation()
    own.no_padding()
    return own


def _find(given: Any) -> Any:
    from tokenizers import Tokenizer

    if isinstance(given, Tokenizer):
        return given
    inner = getattr(given, "backend_tokenizer", None)
    if isinstance(inner, Tokenizer):
        return inner
    if not isinstance(given, str | PathLike):
        raise DataError(
            "tokenizer has to be a tokenizers.Tokenizer, a fast tokenizer of transformers, or the path of a "
            f"tokenizer.json, got {type(given).__name__}"
        )
    path = Path(given)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"no tokenizer at {path}; give the path of a tokenizer.json, or of a folder that holds one")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special than Exception
        raise DataError(f"{file} is no tokenizer: {error}") from error
