"""The native module. Token columns are Arrow objects, numbers contiguous arrays of int64 or float64; results are bytes
that `tso._columns` turns into arrays. What they mean is told in tso/dedup.py and tso/diversity.py."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DedupIndex",
    "Ledger",
    "Plan",
    "_bands",
    "_couple",
    "_hashes",
    "_panic",
    "_same",
    "_settle",
    "_sketch",
    "_verify",
    "allot",
    "dedup_pairs",
    "dedup_texts",
    "diversity",
    "novelty",
    "pair_similarity",
    "pick_pairs",
    "repetition",
    "select_diverse",
]

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
    tokens: object,
    groups: NDArray[np.int64] | None,
    ngram: int,
    scores: set[str],
    order: float,
    history: object | None,
    threads: int | None,
) -> dict[str, bytearray]: ...
def pair_similarity(
    tokens: object, a: NDArray[np.int64], b: NDArray[np.int64], ngram: int, threads: int | None
) -> bytearray: ...
def repetition(tokens: object, ngram: int, threads: int | None) -> bytearray: ...
def novelty(tokens: object, history: object, ngram: int, threads: int | None) -> bytearray: ...
def select_diverse(
    tokens: object, k: int, method: str, quality: NDArray[np.float64] | None, ngram: int, threads: int | None
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
def _bands(threshold: float) -> int:
    """Keys of a text at this threshold."""

def _hashes(tokens: object) -> bytearray:
    """uint64 [rows]: a hash of each row's tokens, 0 where it is null."""

def _sketch(tokens: object, groups: NDArray[np.int64] | None, ngram: int, threshold: float) -> bytearray:
    """uint32 [bands, rows]: the keys of each row."""

def _couple(
    keys: NDArray[np.uint32], prefix: int, labels: NDArray[np.int64] | None, reach: str
) -> tuple[bytearray, bytearray, int]:
    """Positions of couples that share a key (uint32, the smaller first), and couples that the rule for crowds left out.

    prefix: first bits that all keys share. reach: "neighbours", "others" or "all".
    """

def _same(left: object, right: object, a: NDArray[np.int64], b: NDArray[np.int64]) -> bytearray:
    """bool [couples]: whether rows a of left and b of right have the same tokens."""

def _verify(
    left: object, right: object, a: NDArray[np.int64], b: NDArray[np.int64], ngram: int, threshold: float
) -> tuple[bytearray, bytearray]:
    """Positions (int64) of the couples that reach the threshold, and their Jaccard similarity (float64)."""

def _settle(
    owners: NDArray[np.int64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    jaccard: NDArray[np.float64],
    link: str,
    score: NDArray[np.float64] | None,
    uncompared: int,
) -> _Rows:
    """What becomes of each row. owners: its first copy, -1 where it is null; i, j, jaccard: links of first rows."""

def allot(total: int, weights: list[float], floors: list[int]) -> list[int]:
    """See tso/budgets.py."""

def _panic(message: str) -> None: ...

_Draw = tuple[int, str, str, int, int, int]
"""draw_id, prompt_id, cell, draw, seed (0 to 2**64 - 1), batch."""

@final
class Plan:
    """The draws of an iteration, in order. They are computed when asked for, so a plan of a hundred million of them
    takes the memory of its prompts. IndexError for a draw or a batch that there is not."""

    @property
    def batches(self) -> int:
        """How many batches the draws are computed in."""

    def batch(self, batch: int) -> list[_Draw]:
        """The draws of a batch. Raises DataError for more than 4,194,304: go through the plan itself then."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> _Draw: ...
    def __iter__(self) -> Iterator[_Draw]: ...

@final
class DedupIndex:
    """See tso/index.py. DataError for an index that is closed; a path of None keeps everything in memory."""

    def __new__(
        cls, path: str | os.PathLike[str] | None, ngram: int, threshold: float, link: str, threads: int | None
    ) -> DedupIndex: ...
    def add(self, tokens: object, groups: NDArray[np.int64] | None, threads: int | None) -> _Rows: ...
    def clusters(self) -> bytearray: ...
    def rows(self) -> int: ...
    def bytes(self) -> int: ...
    def close(self) -> None: ...

@final
class Ledger:
    """The run store: one SQLite file, append-only, written a unit at a time.

    A unit is (iteration, stage, unit number) with its rows and an info text: all of it is durable, or none. Exactly
    one process writes (StoreLocked for a second one), or several samplers record draws (`join`); any number may read,
    also meanwhile and from a folder without write access. The lock is a file beside the store and ends with the
    process, however that ends; a forked child shares it, but has to open the store again itself.

    Errors are those of tso.errors: DataError for an argument that cannot be used, StoreConflict for what contradicts
    the record, StoreFull when the disk is (nothing is written then), StoreError for a closed ledger, and the
    OSError of the kind for what the operating system refuses (FileNotFoundError, PermissionError, ...).
    """

    @property
    def path(self) -> Path:
        """The store's file, absolute."""

    @staticmethod
    def create(path: str | os.PathLike[str], meta: dict[str, str]) -> Ledger:
        """Make a new store and open it for writing. It appears whole or not at all.

        Raises StoreConflict if something of that name exists.
        """

    @staticmethod
    def open(path: str | os.PathLike[str], *, read_only: bool = False) -> Ledger:
        """Open a store. Raises StoreLocked, StoreVersionError, or StoreDamaged for what is no healthy store."""

    @staticmethod
    def join(path: str | os.PathLike[str], sampler: str) -> Ledger:
        """Open a store to lease and record draws beside other samplers; it reads too, and refuses all other writing.

            with Ledger.join(path, "gpu0") as ledger:
                plan = ledger.plan(iteration, "train")
                while (batch := ledger.lease(iteration, "train", 600)) is not None:
                    ledger.record(iteration, "train", batch, [answer(draw) for draw in plan.batch(batch)])

        The name (letters, digits, '.', '-', '_'; at most 64) is this process's own: StoreConflict while a sampler of that
        name lives; what an ended one had leased is free at once. StoreLocked while a process has the store open for
        writing, which in turn is refused while samplers are there. All have to run on one machine: the log of SQLite
        is shared through memory, and a store on a network file system is for one machine at a time.
        """

    @staticmethod
    def annotate(path: str | os.PathLike[str]) -> Ledger:
        """Open a store for people's verdicts, also while a run or samplers are at work on it; it reads, and may
        `assign` and `say`. No lock is taken: each of the two is one short transaction on tables of its own."""

    @staticmethod
    def draw_seed(run_seed: int, iteration: int, prompt_id: str, cell: str, draw: int) -> int:
        """The seed of a draw, 0 to 2**64 - 1: a function of nothing but its arguments, the same on every platform."""

    def write(
        self,
        iteration: int,
        stage: str,
        unit: int,
        info: str,
        rows: Mapping[str, tuple[Sequence[str], Iterable[Sequence[Any]]]],
    ) -> None:
        """Record a finished unit and its rows (table -> column names, rows) in one transaction.

        Values are None, bool, int, float, str or bytes; no NaN. An int beyond 64-bit signed is taken for responses.seed
        only, and stored as the signed integer of the same bits. Tables may come in any order. Plans and their batches
        are not written this way, but by `plan_draws` and `record`.
        Raises StoreConflict if the unit or a row is there already, or a row refers to one that is not.
        """

    def is_done(self, iteration: int, stage: str, unit: int = 0) -> bool: ...
    def info(self, iteration: int, stage: str, unit: int = 0) -> str | None:
        """What a finished unit noted down; None while it is not finished."""

    def units(self, iteration: int | None = None, stage: str | None = None) -> list[tuple[int, str, int, str]]:
        """Finished units (iteration, stage, unit, info) in order, of one iteration or stage where given."""

    def meta(self) -> dict[str, str]: ...
    def query(self, sql: str, params: Iterable[Any] | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of one SELECT, WITH, VALUES or EXPLAIN; DataError for any other statement.

        Seeds come as stored: a negative number stands for itself plus 2**64.
        """

    def choose_prompts(
        self, iteration: int, size: int, run_seed: int, weights: dict[str, float] | None = None
    ) -> list[str]:
        """The mini-batch of an iteration: a pure function of the train prompts, earlier batches and the arguments.

        Without replacement: no prompt comes again before all others have come, in an order shuffled anew for each
        such epoch. An epoch's last prompts share a batch with the next epoch's first; no prompt is twice in a batch.
        A prompt of weight w (0 to 1, default 1) sits out an epoch with probability 1 - w; it then comes only if a
        batch could not be filled otherwise, with weight 0 not even then. A size beyond the prompts gives them all.
        """

    def plan_draws(
        self,
        iteration: int,
        purpose: str,
        run_seed: int,
        prompts: list[str],
        cells: Sequence[
            tuple[str, int] | tuple[str, int, list[str] | None] | tuple[str, int, list[str] | None, str | None]
        ],
        batch_size: int,
    ) -> Plan:
        """Lay down the plan of an iteration, or return the one that is there.

        A cell is its name, its draws a prompt, its prompts where these are not all, and the model that answers where
        it shares batches with its neighbours of the same model. Draws go by model, prompt, cell and draw, in the order
        given; a batch holds up to batch_size draws of one model. Draws are numbered over the whole run, batches from 0
        over the plan. The plan is unit 0 of stage "plan/<purpose>".
        Raises StoreConflict if another plan is recorded.
        """

    def plan(self, iteration: int, purpose: str) -> Plan:
        """The plan that was laid down. Raises DataError without one."""

    def pending(self, iteration: int, purpose: str) -> list[int]:
        """Batches of a plan that are not recorded, ascending. Raises DataError without a plan, and for more than
        16,777,216 of them."""

    def free_response_id(self) -> int:
        """The smallest number for a response that no plan has asked for, such as an edited text."""

    def lease(self, iteration: int, purpose: str, seconds: float) -> int | None:
        """Take the first batch that is neither recorded nor leased, for so many seconds; None where there is none.

        A batch whose lease has run out is free. None does not mean that all is done: the rest may be with others, and
        `pending` tells. A sampler may hold several batches. Raises DataError where the store was not joined.
        """

    def renew(self, iteration: int, purpose: str, batch: int, seconds: float) -> None:
        """Make a lease last so many seconds from now. Raises StoreConflict if it was taken over."""

    def release(self, iteration: int, purpose: str, batch: int) -> None:
        """Give a leased batch back unanswered. Raises StoreConflict if it was taken over."""

    def record(self, iteration: int, purpose: str, batch: int, answers: Iterable[tuple[str, bytes, str]]) -> None:
        """Record the answers to a batch's draws, in their order, as unit `batch` of stage "sample/<purpose>".

        An answer is its text, its token ids (little-endian u32) and "stop" or "length"; its response has the number of
        the draw. All are durable with the unit, or none. Where the store was joined, the batch has to be leased by
        this sampler; a lease that ran out will do until another sampler takes the batch.
        Raises StoreConflict if the batch is recorded already, or the lease was taken over.
        """

    def assign(
        self, annotator: str, candidates: list[tuple[str, int, str]], per_item: int, seconds: float
    ) -> int | None:
        """Give a person the first candidate (pair id, round, "a" or "b" for the answer on the left) that is to be had;
        the number of the row in `assignments`, None where there is none.

        In round 0 that is one which fewer than per_item others have judged or hold; in a later round, where somebody
        judges a pair once more, any. A person holds a pair until the verdict, or for so many seconds.
        """

    def say(self, verdicts: Iterable[Sequence[Any]]) -> list[int]:
        """Record verdicts, all or none, and return their numbers: rows of `verdicts` in the order of its columns, without
        the number: (pair_id, annotator, round, said, side, text, reason, confidence, takes_back, request, given).

        given: milliseconds since 1970, None for now. A request that is recorded already is not recorded again.
        Raises StoreConflict for a pair that there is not, a second verdict of a person on a pair in a round, or one that
        is taken back twice; DataError for a value that cannot be stored.
        """

    def fork(self, path: str | os.PathLike[str]) -> None:
        """Copy the store as it is at this moment to a new file. Raises StoreConflict if that exists."""

    def check(self) -> list[str]:
        """What is wrong with the file (structure, rules, references), one line each; empty when it is sound."""

    def close(self) -> None: ...
    def __enter__(self) -> Ledger: ...
    def __exit__(self, *_exc: object) -> None: ...
