"""What runs in the pool: pure functions of blocks, keys and couples. Each returns entries, one a handle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso import _core
from tso._columns import as_tokens, floats, ints
from tso.parts.blocks import Ints

Couples = NDArray[np.uint64]  # the smaller row above the larger one, in one number: they sort by both


@dataclass(frozen=True, slots=True)
class Search:
    """What is near: tokens in a shingle, and the Jaccard similarity from which two texts are."""

    ngram: int
    threshold: float

    def check(self) -> None:
        """Raises DataError for what is out of range."""
        none = np.zeros(0, np.int64)
        _core._verify(as_tokens([]), as_tokens([]), none, none, self.ngram, self.threshold)


def read_block(tokens: Any, tokenizer: Any = None) -> list[Any]:
    """The block of a column, and (hashes, lengths) of its rows. Raises DataError as `tso.dedup_texts`."""
    column = as_tokens(tokens, tokenizer)
    hashes = np.frombuffer(_core._hashes(column), np.uint64)  # which checks the column
    block = _compact(column)
    return [block, (hashes, _lengths(block))]


def sketch_block(
    block: Any, start: int, places: Ints, groups: Ints | None, search: Search, split: int
) -> list[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """Keys and rows of some rows of a block, by partition: for each band, 2**split of them by the keys' first bits."""
    found = _core._sketch(block.take(places), groups, search.ngram, search.threshold)
    keys = np.frombuffer(found, np.uint32).reshape(_core._bands(search.threshold), len(places))
    rows = (start + places).astype(np.uint32)
    return [part for band in keys for part in _split(band, rows, split)]


def couple_partition(split: int, reach: str, labels: Ints | None, *parts: Any) -> list[tuple[Couples, int]]:
    """Couples of rows that share a key, and how many the rule for crowds left out. `parts` are in the order of rows."""
    keys, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    of_member = None if labels is None else labels[rows]
    a, b, left_out = _core._couple(keys, split, of_member, reach)
    return [(pack(rows[np.frombuffer(a, np.uint32)], rows[np.frombuffer(b, np.uint32)]), left_out)]


def pick_rows(block: Any, *places: Ints) -> Iterator[Any]:
    """Some rows of a block, for each of those who asked."""
    return (block.take(wanted) for wanted in places)


def equal_rows(block: Any, left: Ints, right: Ints, own: Ints, *others: Any) -> list[NDArray[np.bool_]]:
    """Whether rows `left` of a block have the tokens of rows `right` among those picked from this and other blocks."""
    return [np.frombuffer(_core._same(block, _picked(block, own, others), left, right), np.bool_)]


def near_rows(search: Search, block: Any, left: Ints, right: Ints, own: Ints, *others: Any) -> list[Any]:
    """Which of the couples reach the threshold, and their similarity; arguments as of `equal_rows`."""
    picked = _picked(block, own, others)
    places, jaccard = _core._verify(block, picked, left, right, search.ngram, search.threshold)
    return [(ints(places), floats(jaccard))]


def _compact(column: Any) -> Any:
    import pyarrow as pa

    chunked = pa.chunked_array(column if hasattr(column, "__arrow_c_stream__") else [pa.array(column)])
    whole = pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], chunked.type)
    if whole.null_count:  # what lies beneath a null row was not checked, and need not fit
        whole = whole.take(pa.array(np.arange(len(whole))))
    return whole.cast(pa.large_list(pa.uint32()))


def _lengths(block: Any) -> Ints:
    import pyarrow.compute as pc

    found: Ints = pc.fill_null(pc.list_value_length(block), -1).to_numpy(zero_copy_only=False)
    return found


def _split(keys: NDArray[np.uint32], rows: NDArray[np.uint32], split: int) -> list[Any]:
    if split == 0:
        return [(keys, rows)]
    prefix = keys >> np.uint32(32 - split)
    order = np.argsort(prefix, kind="stable")
    bounds = np.searchsorted(prefix[order], np.arange(2**split + 1))
    return [(keys[order[a:b]], rows[order[a:b]]) for a, b in pairwise(bounds)]


def _picked(block: Any, own: Ints, others: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_arrays([block.take(own), *others])


# --- couples in one number


def pack(i: NDArray[Any], j: NDArray[Any]) -> Couples:
    packed: Couples = i.astype(np.uint64) << np.uint64(32) | j.astype(np.uint64)
    return packed


def unpack(couples: Couples) -> tuple[Ints, Ints]:
    return (couples >> np.uint64(32)).astype(np.int64), (couples & np.uint64(2**32 - 1)).astype(np.int64)
