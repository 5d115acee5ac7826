"""Deduplication of tokenised texts and of preference pairs; the work is done in Rust (`tso._core`).

Two texts are near-duplicates if the Jaccard similarity of their sets of token n-grams reaches the threshold. A text of
fewer than `ngram` tokens counts as one shingle, the whole text. Empty texts are exact duplicates of one another and
near-duplicates of nothing. A null row takes part in nothing: it is kept, alone in its cluster.

Every link is verified on the whole n-gram sets. Mode "lsh" finds candidates by their sketches (64 minima; Broder, 1997;
Li, Owen and Zhang, 2012) and misses less than one in a thousand pairs right at the threshold, fewer above it;
mode "exact" finds them by prefix filtering (Chaudhuri, Ganti and Kaushik, 2006) and misses none. Results do not depend on
the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tso import _core
from tso._columns import (
    as_count,
    as_floats,
    as_ints,
    as_number,
    as_threads,
    as_tokens,
    as_word,
    edge_table,
    ints,
    names,
)

if TYPE_CHECKING:
    import pyarrow as pa

EXACT, NEAR, REVERSED, DEGENERATE, DEGENERATE_TRUNCATED, CYCLE = 1, 2, 4, 8, 16, 32
REASONS = (
    (EXACT, "exact"),
    (NEAR, "near"),
    (REVERSED, "reversed"),
    (DEGENERATE, "degenerate"),
    (DEGENERATE_TRUNCATED, "degenerate_truncated"),
    (CYCLE, "cycle"),
)

Mode = Literal["lsh", "exact"]
Link = Literal["component", "star"]


@dataclass(frozen=True, slots=True, eq=False)
class Deduped:
    """What became of each row.

    keep: bool [rows], whether the row stays.
    cluster: int64 [rows], the smallest row of the row's cluster; a row without duplicates is its own.
    reason: uint8 [rows], bits EXACT (as an identical row that is preferred), NEAR (in a cluster with a preferred row,
        none identical), REVERSED, DEGENERATE, DEGENERATE_TRUNCATED, CYCLE. Every dropped row has one; a kept row can
        have REVERSED or CYCLE, if it won.
    edges: table of i, j (int64, i < j) and jaccard (float64): verified links that connect each cluster, one fewer than
        its rows.
    uncompared: candidate pairs left uncompared because very many texts share a MinHash key; 0 in mode "exact".
    """

    keep: NDArray[np.bool_]
    cluster: NDArray[np.int64]
    reason: NDArray[np.uint8]
    edges: pa.Table
    uncompared: int

    def reason_names(self, row: int) -> str:
        """The reasons of a row in words, joined by commas; empty where there is none."""
        return names(int(self.reason[row]), REASONS)


@dataclass(frozen=True, slots=True, eq=False)
class DedupedPairs(Deduped):
    """What became of each pair.

    reversed: table like `edges`: every two distinct pairs that contradict each other, by their first rows; jaccard is
        the similarity of the less similar sides.
    """

    reversed: pa.Table


def dedup_texts(
    tokens: Any,
    *,
    ngram: int = 5,
    threshold: float = 0.8,
    mode: Mode = "lsh",
    link: Link = "component",
    keep: Literal["first", "longest"] | ArrayLike = "first",
    groups: ArrayLike | None = None,
    tokenizer: Any = None,
    threads: int | None = None,
) -> Deduped:
    """Find exact and near-duplicate texts.

    tokens: one list of token ids (0 to 2**32 - 1) or null per row: an Arrow column of List, LargeList or
        FixedSizeList of int32, int64 or uint32 (any object with `__arrow_c_stream__` or `__arrow_c_array__`), a tuple of NumPy (values, offsets), or
        a Python list of lists.
    link: what makes a cluster: "component" joins all rows connected by a chain of links; "star" only rows directly
        linked to the row that is kept.
    keep: which row of a cluster stays: the "first", the "longest", or the one with the highest of the given scores
        (one finite number a row); the first of equal ones.
    groups: one integer a row; only rows of the same group can be duplicates.
    tokenizer: given, `tokens` is a column of text, encoded with it: see `tso.texts.encode`.
    threads: from 1 to 1024; no more are started than there are cores, and one a core where None.

    Raises DataError (a ValueError) for data or options that cannot be used.
    """
    word, score = _keep(keep)
    columns = None if groups is None else as_ints("groups", groups)
    search = (as_count("ngram", ngram), as_number("threshold", threshold))
    words = (as_word("mode", mode), as_word("link", link), word)
    found = _core.dedup_texts(as_tokens(tokens, tokenizer), columns, *search, *words, score, as_threads(threads))
    return deduped(found)


def dedup_pairs(
    prompt: Any,
    chosen: Any,
    rejected: Any,
    *,
    scope: Literal["prompt", "global"] = "prompt",
    ngram: int = 5,
    threshold: float = 0.8,
    max_length: int | None = None,
    mode: Mode = "lsh",
    link: Link = "component",
    keep: Literal["first", "longest"] | ArrayLike = "first",
    tokenizer: Any = None,
    threads: int | None = None,
) -> DedupedPairs:
    """Find pairs that teach nothing, contradict one another, or repeat one another.

    The rules, in this order; a row that one of them drops is not seen by the next:

    1. Degenerate: both sides are the same, at once or once prompt and completion are cut to `max_length` tokens from
       the completion's end, as DPO trainers do. Dropped.
    2. Reversed: the sides of another pair in the opposite order, each the same or near. Sides that are near each other
       match in both orders; then the order whose less similar sides are more similar counts. With scores, a row stays
       only if its score is higher than that of every row that contradicts it; without, or where they are equal, none
       stays.
    3. Cycle: a over b, b over c, c over a, between three or more responses of one prompt (the same tokens, not near).
       With scores, the weakest rows of each cycle go, all of them where several are equally weak; without, all rows go.
    4. Duplicates: prompt, chosen and rejected side all the same or near. The preferred row of each cluster stays.

    scope: "prompt" compares only pairs whose prompts have the same tokens; "global" compares all, and then prompts
        have to be the same or near too. Cycles are always looked for within one prompt.
    keep: "longest" counts the tokens of both sides. Scores (a confidence, say) also settle rules 2 and 3.

    Other arguments and errors as for `dedup_texts`; a row with a null in any of its columns takes part in nothing.
    The jaccard of a link is that of its least similar part.
    """
    word, score = _keep(keep)
    columns = (as_tokens(prompt, tokenizer), as_tokens(chosen, tokenizer), as_tokens(rejected, tokenizer))
    search = (as_count("ngram", ngram), as_number("threshold", threshold))
    length = None if max_length is None else as_count("max_length", max_length, least=0)
    within, words = as_word("scope", scope), (as_word("mode", mode), as_word("link", link), word)
    found, reversals = _core.dedup_pairs(*columns, within, *search, length, *words, score, as_threads(threads))
    return DedupedPairs(*_rows(found), edge_table(reversals))


def deduped(found: _core._Rows) -> Deduped:
    """What the native module found, as arrays."""
    return Deduped(*_rows(found))


def _keep(keep: str | ArrayLike) -> tuple[str, NDArray[np.float64] | None]:
    return (keep, None) if isinstance(keep, str) else ("score", as_floats("keep", keep))


def _rows(found: _core._Rows) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.uint8], pa.Table, int]:
    keep, cluster, reason, edges, uncompared = found
    return (
        np.frombuffer(keep, dtype=np.bool_),
        ints(cluster),
        np.frombuffer(reason, dtype=np.uint8),
        edge_table(edges),
        uncompared,
    )
