"""The native module. Token columns are Arrow objects, numbers contiguous arrays of int64 or float64; results are bytes
that `tso._columns` turns into arrays. What they mean is told in tso/dedup.py and tso/diversity.py."""

import os
from typing import Any, final

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

@final
class Ledger:
    """The run store: one SQLite file, append-only, written a unit at a time.

    A unit is (iteration, stage, unit number) with its rows and an info text: all of it is durable, or none. Exactly
    one process writes (StoreLocked for a second one); any number may read. Errors are those of tso.errors.
    """

    @staticmethod
    def create(path: str | os.PathLike[str], meta: dict[str, str]) -> Ledger: ...
    @staticmethod
    def open(path: str | os.PathLike[str], *, read_only: bool = False) -> Ledger: ...
    def write(
        self,
        iteration: int,
        stage: str,
        unit: int,
        info: str,
        rows: dict[str, tuple[list[str], list[tuple[Any, ...]]]],
    ) -> None: ...
    def is_done(self, iteration: int, stage: str, unit: int = 0) -> bool: ...
    def info(self, iteration: int, stage: str, unit: int = 0) -> str | None: ...
    def units(self, iteration: int | None = None, stage: str | None = None) -> list[tuple[int, str, int, str]]: ...
    def meta(self) -> dict[str, str]: ...
    def query(self, sql: str, params: Any | None = None) -> tuple[list[str], list[tuple[Any, ...]]]: ...
    def choose_prompts(
        self, iteration: int, size: int, run_seed: int, weights: dict[str, float] | None = None
    ) -> list[str]: ...
    def plan_draws(
        self,
        iteration: int,
        purpose: str,
        run_seed: int,
        prompts: list[str],
        cells: list[tuple[str, int, list[str] | None]],
        batch_size: int,
    ) -> list[tuple[int, str, str, int, int, int]]: ...
    def pending(self, iteration: int, purpose: str) -> list[int]: ...
    def fork(self, path: str | os.PathLike[str]) -> None: ...
    def check(self) -> list[str]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Ledger: ...
    def __exit__(self, *_exc: object) -> None: ...
