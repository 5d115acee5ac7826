"""The native module. Token columns are Arrow objects, numbers contiguous arrays of int64 or float64; results are bytes
that `tso._columns` turns into arrays. What they mean is told in tso/dedup.py and tso/diversity.py."""

import numpy as np
from numpy.typing import NDArray

_Edges = tuple[bytearray, bytearray, bytearray]
"""i (int64), j (int64), jaccard (float64)."""
_Rows = tuple[bytearray, bytearray, bytearray, _Edges, int]
"""keep (bool), cluster (int64), reason (uint8), edges, uncompared."""

def dedup_texts(
    tokens: object,
    groups: NDArray[np.int64] | None,
    ngram: int,
    threshold: float,
    mode: str,
    link: str,
    keep: str,
    score: NDArray[np.float64] | None,
    threads: int | None,
) -> _Rows: ...
def dedup_pairs(
    prompt: object,
    chosen: object,
    rejected: object,
    scope: str,
    ngram: int,
    threshold: float,
    max_length: int | None,
    mode: str,
    link: str,
    keep: str,
    score: NDArray[np.float64] | None,
    threads: int | None,
) -> tuple[_Rows, _Edges]: ...
def diversity(
    tokens: object, groups: NDArray[np.int64] | None, ngram: int, scores: set[str], threads: int | None
) -> dict[str, bytearray]: ...
def pair_similarity(
    tokens: object, a: NDArray[np.int64], b: NDArray[np.int64], ngram: int, threads: int | None
) -> bytearray: ...
def repetition(tokens: object, ngram: int, threads: int | None) -> bytearray: ...
def select_diverse(
    tokens: object, k: int, quality: NDArray[np.float64] | None, ngram: int, threads: int | None
) -> bytearray: ...
def pick_pairs(
    tokens: object,
    prompt: NDArray[np.int64],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    quality: NDArray[np.float64],
    max_pairs: int,
    max_uses: int,
    ngram: int,
    threads: int | None,
) -> tuple[bytearray, bytearray]: ...
def _panic(message: str) -> None: ...
