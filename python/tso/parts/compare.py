"""Brings couples and the blocks of their rows together. What the comparison says, `work.py` knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tso.parts.blocks import Blocks, Ints, Pool
from tso.parts.work import Couples, pick_rows, unpack

AT_ONCE = 1 << 20  # couples at most that one task verifies
TOKENS = 1 << 25  # tokens of their larger rows at most, about


def compare(
    pool: Pool, blocks: Blocks, couples: Couples, work: Callable[..., Iterable[Any]], *options: Any
) -> list[Any]:
    """What `work` says of sorted couples, piece by piece. A piece is compared where its smaller rows lie; the larger
    ones are sent there."""
    jobs = [_job(blocks, piece) for piece in _pieces(blocks, couples)]
    sent: list[list[Any]] = [[] for _ in jobs]
    wanted: dict[int, list[tuple[int, Ints]]] = {}
    for number, job in enumerate(jobs):
        for block, places in job.others:
            wanted.setdefault(block, []).append((number, places))
    for block, asked in sorted(wanted.items()):  # so that what is sent comes in the order of rows
        picked = pool.start(pick_rows, blocks.handles[block], *(places for _, places in asked), returns=len(asked))
        for (number, _), handle in zip(asked, picked, strict=True):
            sent[number].append(handle)
    started = [
        pool.start(work, *options, blocks.handles[job.block], job.left, job.right, job.own, *others)[0]
        for job, others in zip(jobs, sent, strict=True)
    ]
    return pool.fetch(started)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Couples whose smaller rows lie in one block, by places in it and among the larger rows, and where those lie."""

    block: int
    left: Ints
    right: Ints
    own: Ints
    others: list[tuple[int, Ints]]


def _job(blocks: Blocks, couples: Couples) -> _Job:
    i, j = unpack(couples)
    block = int(blocks.of_row(i[:1])[0])
    rows, right = np.unique(j, return_inverse=True)
    of_row = blocks.of_row(rows)
    places = rows - blocks.starts[of_row]
    others = [(int(other), places[of_row == other]) for other in np.unique(of_row) if other != block]
    return _Job(block, i - blocks.starts[block], right.astype(np.int64), places[of_row == block], others)


def _pieces(blocks: Blocks, couples: Couples) -> Iterator[Couples]:
    start = 0
    for size in sizes(blocks, couples):
        yield couples[start : start + size]
        start += size


def sizes(blocks: Blocks, couples: Couples) -> list[int]:
    """Sorted couples are cut where the block of the smaller rows changes, and where a piece would be too large."""
    i, j = unpack(couples)
    tokens = np.concatenate([[0], np.cumsum(blocks.lengths[j])])
    bounds = np.searchsorted(i, blocks.starts)
    found = []
    for start, end in pairwise(bounds.tolist()):
        while start < end:
            enough = int(np.searchsorted(tokens, tokens[start] + TOKENS))
            size = min(AT_ONCE, max(enough - start, 1), end - start)
            found.append(size)
            start += size
    return found
