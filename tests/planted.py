"""Rows with duplicates of all kinds, and what has to be equal between two ways to find them."""

from __future__ import annotations

import numpy as np
from tso.dedup import Deduped


def planted(rng: np.random.Generator, texts: int, copies: int) -> list[list[int] | None]:
    """Random texts, each with some copies in which a few tokens are others; nulls, empties and exact copies too."""
    rows: list[list[int] | None] = []
    for _ in range(texts):
        text = rng.integers(0, 5000, rng.integers(20, 120))
        for _ in range(copies):
            copy = text.copy()
            copy[rng.integers(0, len(copy), rng.integers(0, 4))] = rng.integers(0, 5000)
            rows.append(copy.tolist())
    rows += [None, [], [7], [7, 7]] * 3
    return [rows[i] for i in rng.permutation(len(rows))]


def crowd(rng: np.random.Generator, count: int, start: int) -> list[list[int]]:
    """Unlike texts with one long beginning: they share keys, and few reach the threshold."""
    tails = (rng.integers(10**6, 10**9, rng.integers(2, 14)).tolist() for _ in range(count))
    return [[*range(start, start + 40), *tail] for tail in tails]


def cut(rows: list, sizes: list[int]) -> list[list]:
    """Rows as blocks of these sizes, the last ones in a block of their own."""
    bounds = np.minimum(np.cumsum([0, *sizes]), len(rows)).tolist()
    return [rows[a:b] for a, b in zip(bounds, [*bounds[1:], len(rows)], strict=True)]


def assert_same(ours: Deduped, local: Deduped, link: str = "component") -> None:
    """Equal to the bit, except that components may be held together by other links."""
    for name in ("keep", "cluster", "reason"):
        assert np.array_equal(getattr(ours, name), getattr(local, name)), name
    assert ours.uncompared == local.uncompared
    assert len(ours.edges) == len(local.edges)
    if link == "star":
        assert ours.edges.equals(local.edges)
