"""From blocks to what stays: exact copies, keys, couples, links, clusters, step by step (see `tso.parts`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tso import _core
from tso._columns import as_count, as_floats, as_ints, as_number
from tso.dedup import Deduped, Link, deduped
from tso.errors import DataError
from tso.parts.blocks import Blocks, Ints, Pool
from tso.parts.compare import compare, sizes
from tso.parts.work import Couples, Search, couple_partition, equal_rows, near_rows, pack, sketch_block, unpack

_MOST_ROWS = 2**31 - 2  # as in one call of the local search
PARTITION = 1 << 24  # keys at most, about, that one task groups


def dedup_blocks(
    pool: Pool,
    blocks: Blocks,
    *,
    ngram: int = 5,
    threshold: float = 0.8,
    link: Link = "component",
    keep: Literal["first", "longest"] | ArrayLike = "first",
    groups: ArrayLike | None = None,
) -> Deduped:
    """Find exact and near-duplicate texts, as `tso.dedup_texts` does. Raises DataError for options out of range."""
    search = Search(as_count("ngram", ngram), as_number("threshold", threshold))
    rows = len(blocks.lengths)
    if rows > _MOST_ROWS:
        raise DataError(f"too many rows: {rows:,}; at most {_MOST_ROWS:,} can be compared at once")
    scores = _scores(keep, blocks.lengths)
    of_group = _groups(groups, blocks.lengths)
    search.check()
    # With no row and no link there is nothing to settle, but options are checked before any work is sent out.
    _settle(np.full(rows, -1), _Links.none(), link, scores, 0)
    owners = _owners(pool, blocks, of_group)
    links, uncompared = _links(pool, blocks, owners, of_group, search, link)
    return _settle(owners, links, link, scores, uncompared)


# --- exact copies


def _owners(pool: Pool, blocks: Blocks, groups: Ints | None) -> Ints:
    """The first row with the same tokens and group; -1 for a null row. Rows of one hash are compared, not trusted."""
    owners = np.full(len(blocks.lengths), -1, np.int64)
    rows = np.flatnonzero(blocks.lengths >= 0)
    keys: list[NDArray[Any]] = [blocks.hashes[rows]] if groups is None else [blocks.hashes[rows], groups[rows]]
    order = np.lexsort(keys)  # stable: rows of one key stay ascending
    rows = rows[order]
    while len(rows):
        leads = _changes([key[order] for key in keys])
        owners[rows] = rows[leads][np.cumsum(leads) - 1]
        copies = rows[owners[rows] != rows]
        couples = np.sort(pack(owners[copies], copies))
        equal = [np.zeros(0, np.bool_), *compare(pool, blocks, couples, equal_rows)]
        # Unlike rows with one hash: the first of them owns the next ones.
        rows = unpack(couples[~np.concatenate(equal)])[1]
        keys, order = [owners[rows]], np.arange(len(rows))
    return owners


def _changes(keys: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Where a run of equal keys begins."""
    found = np.zeros(len(keys[0]), np.bool_)
    found[:1] = True
    for key in keys:
        found[1:] |= key[1:] != key[:-1]
    return found


# --- near-duplicates


@dataclass(frozen=True, slots=True, eq=False)
class _Links:
    i: Ints
    j: Ints
    jaccard: NDArray[np.float64]

    @classmethod
    def none(cls) -> _Links:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    def more(self, other: _Links) -> _Links:
        columns = zip((self.i, self.j, self.jaccard), (other.i, other.j, other.jaccard), strict=True)
        return _Links(*(np.concatenate(column) for column in columns))


def _links(
    pool: Pool, blocks: Blocks, owners: Ints, groups: Ints | None, search: Search, link: Link
) -> tuple[_Links, int]:
    """Verified links between first rows: all of them for stars; else enough of them to connect what is connected.

    Neighbours in a bucket come first then: mostly they connect its copies, and the rest of a crowd need no comparison.
    """
    parts, split = _sketches(pool, blocks, owners, groups, search)
    links, uncompared = _Links.none(), 0
    labels = None
    for reach in ("all",) if link == "star" else ("neighbours", "others"):
        started = [pool.start(couple_partition, split, reach, labels, *part)[0] for part in parts]
        found = pool.fetch(started)
        couples = np.unique(np.concatenate([np.zeros(0, np.uint64), *(couples for couples, _ in found)]))
        uncompared += sum(left_out for _, left_out in found)
        links = links.more(_verified(pool, blocks, _of_one_group(couples, groups), search))
        if reach == "neighbours":
            labels = pool.share(_settle(owners, links, link, None, 0).cluster)
    return links, uncompared


def _sketches(
    pool: Pool, blocks: Blocks, owners: Ints, groups: Ints | None, search: Search
) -> tuple[list[list[Any]], int]:
    """Handles of the pieces of each partition, in the order of blocks; and how many first bits of a key choose one."""
    members = np.flatnonzero((owners == np.arange(len(owners))) & (blocks.lengths > 0))
    split = max(len(members) // PARTITION, 0).bit_length()
    count = _core._bands(search.threshold) << split
    bounds = np.searchsorted(members, blocks.starts)
    pieces = []
    for block, start, (first, end) in zip(blocks.handles, blocks.starts, pairwise(bounds), strict=False):
        if first < end:
            rows = members[first:end]
            of_rows = None if groups is None else groups[rows]
            work = (sketch_block, block, int(start), rows - start, of_rows, search, split)
            pieces.append(pool.start(*work, returns=count))
    return [list(part) for part in zip(*pieces, strict=True)], split


def _of_one_group(couples: Couples, groups: Ints | None) -> Couples:
    """Keys of unlike groups are unlike but for collisions."""
    if groups is None:
        return couples
    i, j = unpack(couples)
    wanted: Couples = couples[groups[i] == groups[j]]
    return wanted


def _verified(pool: Pool, blocks: Blocks, couples: Couples, search: Search) -> _Links:
    found = compare(pool, blocks, couples, near_rows, search)
    i, j = unpack(couples)
    at, jaccard, start = [np.zeros(0, np.int64)], [np.zeros(0)], 0
    for (places, similar), size in zip(found, sizes(blocks, couples), strict=True):
        at.append(places + start)
        jaccard.append(similar)
        start += size
    linked = np.concatenate(at)
    return _Links(i[linked], j[linked], np.concatenate(jaccard))


# --- columns


def _settle(owners: Ints, links: _Links, link: Link, scores: NDArray[np.float64] | None, uncompared: int) -> Deduped:
    return deduped(_core._settle(owners, links.i, links.j, links.jaccard, link, scores, uncompared))


def _scores(keep: Literal["first", "longest"] | ArrayLike, lengths: Ints) -> NDArray[np.float64] | None:
    if not isinstance(keep, str):
        return as_floats("keep", keep)
    if keep not in ("first", "longest"):
        raise DataError(f"keep has to be 'first', 'longest' or a score per row, got {keep!r}")
    return lengths.astype(np.float64) if keep == "longest" else None


def _groups(groups: ArrayLike | None, lengths: Ints) -> Ints | None:
    """None where all rows that count are of one group, as the local search sees it."""
    if groups is None:
        return None
    found = as_ints("groups", groups)
    if len(found) != len(lengths):
        raise DataError(f"groups has {len(found)} entries for {len(lengths)} rows")
    return found if len(np.unique(found[lengths >= 0])) > 1 else None
