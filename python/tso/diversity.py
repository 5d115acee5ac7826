"""How different the responses of a group are, and how to choose different ones; the work is done in Rust (`tso._core`).

Tokens come in every form that `tso.dedup` takes. Similarity is the Jaccard similarity of sets of token n-grams, with
the same rules for short and empty texts: two empty texts are equal (1), an empty and another one share nothing (0).
Null rows take part in nothing. Ties go to the smaller row. Results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tso import _core
from tso._columns import as_count, as_floats, as_ints, as_number, as_threads, as_tokens, as_word, floats, ints
from tso.errors import DataError

SCORES = ("distinct", "entropy", "self_bleu", "jaccard")  # whose work grows with the tokens, not with pairs of texts
ALL_SCORES = (*SCORES, "vendi")
METHODS = ("max_min", "dpp")
COUNTS = ("group", "responses", "tokens")


def diversity(
    tokens: Any,
    groups: ArrayLike | None = None,
    *,
    ngram: int = 5,
    scores: Iterable[str] = SCORES,
    order: float = 1.0,
    history: Any = None,
    tokenizer: Any = None,
    threads: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Scores of each group of rows: one array per column, one entry per group, ascending by group.

    tokens: one list of token ids or null per row (see `tso.dedup.dedup_texts`), or text with its `tokenizer`.
    groups: one integer a row; None puts all rows into group 0.
    ngram: shingle length of the columns jaccard and novelty; the other scores look at 1- to 4-grams.
    order: order q of the column vendi, above 0: the larger, the less rare texts count; float("inf") is allowed.
    history: rows that the column novelty is taken against, in any form that `tokens` may have.

    Columns, always: group, responses (rows that are not null), tokens (int64). By name in `scores` (float64, NaN where
    a group has too few texts or tokens for it):
    distinct: distinct_1 to distinct_4, distinct n-grams over all n-grams of the group (Li et al., 2016).
    entropy: entropy_1 to entropy_4, Shannon entropy of the group's n-grams, in bits.
    self_bleu: mean BLEU-4 of each text against the others (Zhu et al., 2018), as NLTK's `sentence_bleu` with smoothing
        method 1; higher is less diverse.
    jaccard: mean similarity over all pairs of texts; higher is less diverse.
    vendi (not by default): Vendi score of the given order (Friedman and Dieng, 2023), 1 (all texts the same) to the
        number of texts: the effective number of different texts. Its kernel is that of `ngram_vendi_score` in the
        package vendi-score, the cosine of n-gram counts averaged over n = 1..4, divided by its diagonal (1 already for
        texts of four tokens or more). All texts are compared with all: 10,000 a group at most.
    And where there is a history:
    novelty: mean of `novelty` over the rows of the group; higher is newer.

    Raises DataError (a ValueError) for data or options that cannot be used.
    """
    numbers = None if groups is None else as_ints("groups", groups)
    wanted = None if isinstance(scores, str) or not isinstance(scores, Iterable) else list(scores)
    if wanted is None or not all(isinstance(name, str) for name in wanted):
        raise DataError(f"scores has to be a list of names among {', '.join(ALL_SCORES)}, got {scores!r}")
    past = None if history is None else as_tokens(history, tokenizer)
    found = _core.diversity(
        as_tokens(tokens, tokenizer), numbers, as_count("ngram", ngram), set(wanted), as_number("order", order), past,
        as_threads(threads),
    )  # fmt: skip
    return {name: ints(raw) if name in COUNTS else floats(raw) for name, raw in found.items()}


def pair_similarity(
    tokens: Any, a: ArrayLike, b: ArrayLike, *, ngram: int = 5, threads: int | None = None
) -> NDArray[np.float64]:
    """Similarity of rows a[i] and b[i], float64 [len(a)]; NaN where either is null.

    Raises DataError for rows out of range or columns of unlike length.
    """
    rows = (as_ints("a", a), as_ints("b", b))
    return floats(_core.pair_similarity(as_tokens(tokens), *rows, as_count("ngram", ngram), as_threads(threads)))


def repetition(tokens: Any, *, ngram: int = 5, threads: int | None = None) -> NDArray[np.float64]:
    """Share of each row's n-grams that repeat an earlier one of the row, float64 [rows]: near 1 in a text that loops.

    0 for rows of fewer than `ngram` tokens, NaN for null rows.
    """
    return floats(_core.repetition(as_tokens(tokens), as_count("ngram", ngram), as_threads(threads)))


def novelty(
    tokens: Any, history: Any, *, ngram: int = 5, tokenizer: Any = None, threads: int | None = None
) -> NDArray[np.float64]:
    """How new each row is against the rows of `history`, float64 [rows]: 1 less the similarity to the most similar one.

    0 where a row of the history has the same n-grams, 1 where none shares any, NaN for null rows. An empty row is new
    unless the history has one. Null rows of the history count for nothing; against an empty history all is new. Exact.

    Raises DataError for data or options that cannot be used.
    """
    columns = as_tokens(tokens, tokenizer), as_tokens(history, tokenizer)
    return floats(_core.novelty(*columns, as_count("ngram", ngram), as_threads(threads)))


def select_diverse(
    tokens: Any,
    k: int,
    *,
    method: str = "max_min",
    quality: ArrayLike | None = None,
    ngram: int = 3,
    tokenizer: Any = None,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """Up to k rows, each as unlike those before it as can be, int64, in the order they are chosen.

    The first is the row of the highest quality q; the next one is each time,
    with method "max_min", the one with the largest q * (1 - similarity to the most similar row chosen so far);
    with method "dpp", the one that raises the determinant of the matrix q_i * similarity_ij * q_j of the chosen rows
    most: the greedy mode of a determinantal point process (Chen, Zhang and Zhou, 2018). It looks at all chosen rows at
    once, where max_min sees the nearest one only.
    Copies of chosen rows are worth nothing and come last, when k asks for more than there is. quality: one finite
    number >= 0 a row, 1 where None.

    Raises DataError for data or options that cannot be used.
    """
    weights = None if quality is None else as_floats("quality", quality)
    most, word, n = as_count("k", k, least=0), as_word("method", method), as_count("ngram", ngram)
    return ints(_core.select_diverse(as_tokens(tokens, tokenizer), most, word, weights, n, as_threads(threads)))


def pick_pairs(
    tokens: Any,
    prompt: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    quality: ArrayLike,
    *,
    max_pairs: int,
    max_uses: int,
    ngram: int = 5,
    threads: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick up to `max_pairs` candidate pairs of each prompt: (numbers of the candidates, similarity of their sides).

    Candidate i is a pair of the rows a[i] and b[i] of `tokens`, made for prompt[i], worth quality[i] (finite, >= 0).
    Per prompt, the candidate with the largest quality * (1 - J(a, b)) * (1 - R) is picked until none is worth anything.
    R is the similarity to the most similar pair picked before; two pairs are as similar as their sides on average,
    matched the better way round, so that a pair sharing one side with a picked one is at best worth half. No response
    is used more than `max_uses` times. Prompts come in order of first appearance, pairs in the order they were picked.

    Raises DataError for data or options that cannot be used.
    """
    columns = (as_ints("prompt", prompt), as_ints("a", a), as_ints("b", b), as_floats("quality", quality))
    counts = (as_count("max_pairs", max_pairs, 0), as_count("max_uses", max_uses, 0), as_count("ngram", ngram))
    index, jaccard = _core.pick_pairs(as_tokens(tokens), *columns, *counts, as_threads(threads))
    return ints(index), floats(jaccard)
