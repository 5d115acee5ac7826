"""Deduplication of tokenised responses, from token ids to clusters, against every peer that is installed.

    python benchmarks/dedup.py               # real data, then planted data of size 1, 10 and 100
    python benchmarks/dedup.py --sizes 1     # real data and the smallest planted data; minutes
    python benchmarks/dedup.py --quick       # a look at whether everything runs; its times mean nothing

A job is to find near-duplicates: sets of token 5-grams with a Jaccard similarity of at least 0.8. Every contestant gets
the same NumPy arrays of token ids and runs in a process of its own, with 1 and, where it has that choice, 2 threads.
Peers get 128 minima (or their default) and the bands that their own documentation or optimiser has for 0.8. What has to
be prepared for them is part of their time and also shown alone: 64-bit hashes of the 5-grams, made block by block in
NumPy, on as many threads as the contestant has, or, for peers that take nothing but text, strings of ids joined in
Arrow. Time of imports and of loading the ids is nobody's. Rounds are interleaved: seven at most, and for a contestant
no more once it has taken 20 seconds in all; the medians count. Peak memory is what is resident above the loaded ids.

Real data: the responses of the two matrix files, tokenised by a 32k byte-level BPE trained on them; a response without
tokens is left out, for peers differ in what that is. Truth: all pairs by an inverted index in NumPy, independent of tso.
Planted data of size S: S times all real responses of five tokens or more, with 25 % of the tokens replaced at random (16
tokens where that is more, lest two versions of a short text be near-duplicates), in random order; a fifth of the rows
has an edited copy with a known number of random substitutions, some with none. Truth: the similarity of each row and its
copy, computed here on 64-bit hashes without tso.

Rows removed are all but the first of each cluster. Wrong: the share of those which the truth keeps, rows that have no
near-duplicate before them. Missed: the share of the rows which the truth removes that are still there. Contestants marked
"flags" give no clusters, only whether a row has a duplicate anywhere: they are held against rows that have one.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

NGRAM, THRESHOLD = 5, 0.8
MINIMA, BANDS = 128, 8  # FastSketchLSH and rensa both measure themselves with these at a threshold of 0.8
VOCABULARY = 32_000
COPIED, REPLACED, REPLACED_LEAST, LEAST_SIMILAR, UNEDITED = 0.2, 0.25, 16, 0.55, 0.1
SEED = 20261125
RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = ("matrix_judged.parquet", "matrix_qwen15.parquet")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ENOUGH = 20.0  # seconds of a contestant in one case, after which it runs no more rounds


# Token lists, and what is made of them in NumPy


class Tokens(NamedTuple):
    values: NDArray[np.int32]  # the ids of all rows
    offsets: Ints  # [N + 1] where each row starts and ends

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    def part(self, first: int, last: int) -> Tokens:
        """Rows from first to before last, without a copy of their ids."""
        start, end = self.offsets[first], self.offsets[last]
        return Tokens(self.values[start:end], self.offsets[first : last + 1] - start)

    def blocks(self, tokens: int = 1 << 22) -> Iterator[tuple[int, int, Tokens]]:
        """Parts of about so many tokens, with their first row and the one after their last."""
        first = 0
        while first < self.rows:
            reach = int(np.searchsorted(self.offsets, self.offsets[first] + tokens))
            last = min(max(reach, first + 1), self.rows)
            yield first, last, self.part(first, last)
            first = last


def positions(starts: Ints, lengths: Ints) -> Ints:
    """Indices of ranges, one after the other."""
    skipped = np.cumsum(lengths) - lengths
    return np.repeat(starts - skipped, lengths) + np.arange(int(lengths.sum()))


def offsets_of(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def take(tokens: Tokens, rows: Ints) -> Tokens:
    lengths = tokens.lengths[rows]
    return Tokens(tokens.values[positions(tokens.offsets[rows], lengths)], offsets_of(lengths))


MULTIPLIERS = np.random.default_rng(SEED).integers(1 << 63, size=NGRAM, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
MIX = np.uint64(0x9E3779B97F4A7C15)
NO_TOKEN = np.uint64(1 << 40)
CACHED = 1 << 14  # tokens of a step, so that its few arrays stay in the cache of a core


def shingles(tokens: Tokens, threads: int = 1) -> Hashes:
    """Hashes [tokens] of the 5-grams of each row, in the row's own place.

    A row has four 5-grams fewer than tokens: its last one fills up its place, for a repetition changes no set. A row of
    fewer than five tokens is one shingle.
    """
    out = np.empty(len(tokens.values), np.uint64)
    cuts = np.linspace(0, len(out), threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets go of the interpreter while it works
        list(pool.map(functools.partial(_hash_range, tokens.values, out), cuts[:-1], cuts[1:]))
    lengths = tokens.lengths
    ends = tokens.offsets[1:][lengths >= NGRAM]
    for back in range(1, NGRAM):
        out[ends - back] = out[ends - NGRAM]
    for length in range(1, NGRAM):
        _hash_short(tokens, np.flatnonzero(lengths == length), length, out)
    return out


def _hash_range(values: NDArray[np.int32], out: Hashes, first: int, last: int) -> None:
    """Hashes of the 5-grams that start from first to before last; what runs over the end is never looked at."""
    ids, scratch = np.zeros(CACHED + NGRAM, np.uint64), np.empty(CACHED, np.uint64)
    for start in range(first, last, CACHED):
        sums = out[start : min(start + CACHED, last)]
        count = len(sums)
        ahead = values[start : start + count + NGRAM]
        ids[: len(ahead)] = ahead
        np.multiply(ids[:count], MULTIPLIERS[0], out=sums)
        for place in range(1, NGRAM):
            sums += np.multiply(ids[place : place + count], MULTIPLIERS[place], out=scratch[:count])
        _mix(sums, scratch[:count])


def _hash_short(tokens: Tokens, rows: Ints, length: int, out: Hashes) -> None:
    starts = tokens.offsets[rows]
    sums = np.zeros(len(rows), np.uint64)
    for place in range(NGRAM):
        ids = tokens.values[starts + place].astype(np.uint64) if place < length else np.full(len(rows), NO_TOKEN)
        sums += ids * MULTIPLIERS[place]
    _mix(sums, np.empty_like(sums))
    for place in range(length):
        out[starts + place] = sums


def _mix(sums: Hashes, scratch: Hashes) -> None:
    """Spread the bits of each sum, in place."""
    sums ^= np.right_shift(sums, np.uint64(32), out=scratch)
    sums *= MIX
    sums ^= np.right_shift(sums, np.uint64(29), out=scratch)


def components(rows: int, left: Ints, right: Ints) -> Ints:
    """The smallest row that each row is connected with."""
    label = np.arange(rows)
    while True:
        low = np.minimum(label[left], label[right])
        lower = label.copy()
        for side in (left, right):
            np.minimum.at(lower, label[side], low)
            np.minimum.at(lower, side, low)
        while not np.array_equal(lower, lower[lower]):
            lower = lower[lower]
        if np.array_equal(lower, label):
            return label
        label = lower


def after_first(labels: Ints) -> Flags:
    """Every row but the first of each label."""
    removed = np.ones(len(labels), np.bool_)
    removed[np.unique(labels, return_index=True)[1]] = False
    return removed


def removed_by(rows: int, left: Ints, right: Ints) -> Flags:
    return components(rows, left, right) != np.arange(rows)


# Truth


PAIRS_AT_ONCE, PAIR_SHIFT = 1 << 12, np.uint64(52)  # the pair's number and 52 bits of a hash share 64 bits


def jaccards(hashes: Hashes, offsets: Ints, left: Ints, right: Ints) -> NDArray[np.float64]:
    """Similarity of each row in `left` and the one in `right`."""
    found = np.empty(len(left))
    for start in range(0, len(left), PAIRS_AT_ONCE):
        pairs = slice(start, start + PAIRS_AT_ONCE)
        sets = [_sets(hashes, offsets, side[pairs]) for side in (left, right)]
        both = np.sort(np.concatenate(sets))
        count = len(found[pairs])
        common = _sizes(both[1:][both[1:] == both[:-1]], count)
        found[pairs] = common / (sum(_sizes(each, count) for each in sets) - common)
    return found


def _sets(hashes: Hashes, offsets: Ints, rows: Ints) -> Hashes:
    lengths = offsets[rows + 1] - offsets[rows]
    pair = np.repeat(np.arange(len(rows), dtype=np.uint64), lengths)
    keys = (pair << PAIR_SHIFT) | (hashes[positions(offsets[rows], lengths)] >> (np.uint64(64) - PAIR_SHIFT))
    return distinct(keys)


def _sizes(keys: Hashes, count: int) -> Ints:
    return np.bincount((keys >> PAIR_SHIFT).astype(np.int64), minlength=count)


def distinct(keys: NDArray[Any]) -> NDArray[Any]:
    keys = np.sort(keys)
    return keys[np.concatenate([np.ones(min(1, len(keys)), np.bool_), keys[1:] != keys[:-1]])]


def near_pairs(tokens: Tokens) -> tuple[Ints, Ints]:
    """All pairs at the threshold: two such rows share one of the rarest shingles of each."""
    hashes = shingles(tokens)
    row, rank, sizes = _by_rarity(hashes, tokens)
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Rows that share none of these cannot have 0.8 of the larger one's shingles in common.
    rare = place <= sizes[row] - np.ceil(THRESHOLD * sizes[row] - 1e-9)
    order = np.lexsort((row[rare], rank[rare]))
    left, right = _candidates(row[rare][order], rank[rare][order], sizes)
    near = jaccards(hashes, tokens.offsets, left, right) >= THRESHOLD
    return left[near], right[near]


def _by_rarity(hashes: Hashes, tokens: Tokens) -> tuple[Ints, Ints, Ints]:
    """The rows and their distinct shingles, numbered and sorted from the rarest, and the number of them in each row."""
    _, number = np.unique(hashes, return_inverse=True)
    keys = distinct(np.repeat(np.arange(tokens.rows) << 32, tokens.lengths) | number)
    row, number = keys >> 32, keys & 0xFFFFFFFF
    rank = np.empty(int(number.max()) + 1, np.int64)
    rank[np.argsort(np.bincount(number), kind="stable")] = np.arange(len(rank))
    keys = np.sort((row << 32) | rank[number])
    return keys >> 32, keys & 0xFFFFFFFF, np.bincount(row, minlength=tokens.rows)


def _candidates(row: Ints, rank: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """Pairs of rows with a shingle in common, of sizes that allow the threshold. Entries are sorted by shingle and row."""
    found = [np.empty(0, np.int64)]
    first = np.arange(len(row))
    for distance in range(1, len(row)):
        first = first[first + distance < len(row)]
        first = first[rank[first] == rank[first + distance]]
        if len(first) == 0:
            break
        left, right = row[first], row[first + distance]
        fits = np.minimum(sizes[left], sizes[right]) >= THRESHOLD * np.maximum(sizes[left], sizes[right]) - 1e-9
        found.append(distinct((left[fits] << 32) | right[fits]))
    keys = distinct(np.concatenate(found))
    return keys >> 32, keys & 0xFFFFFFFF


@dataclass
class Truth:
    removable: Flags  # [N] has a near-duplicate before it, or one that has
    partnered: Flags  # [N] has a near-duplicate anywhere

    @staticmethod
    def of(rows: int, left: Ints, right: Ints) -> Truth:
        partnered = np.zeros(rows, np.bool_)
        partnered[left] = partnered[right] = True
        return Truth(removed_by(rows, left, right), partnered)


# Data


@dataclass
class Case:
    name: str
    title: str
    tokens: int
    rows: int
    truth: Truth
    size: int  # in multiples of the real data


def real_tokens(folder: Path) -> Tokens:
    """The responses of both files as token ids; made once and kept in the temporary folder."""
    mark = hashlib.sha256(b"".join((folder / name).read_bytes() for name in FILES)).hexdigest()[:16]
    cache = Path(tempfile.gettempdir()) / "tso-bench-dedup" / f"{mark}-{VOCABULARY}.npz"
    if not cache.exists():
        cache.parent.mkdir(exist_ok=True)
        values, offsets = _tokenise(folder)
        np.savez(cache, values=values, offsets=offsets)
    with np.load(cache) as kept:
        return Tokens(kept["values"], kept["offsets"])


def _tokenise(folder: Path) -> Tokens:
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = [t for name in FILES for t in pq.read_table(folder / name, columns=["response"])["response"].to_pylist()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ids = [coded.ids for coded in tokenizer.encode_batch(texts) if coded.ids]
    values = np.fromiter(chain.from_iterable(ids), np.int32)
    return Tokens(values, offsets_of(np.array([len(row) for row in ids])))


def real_case(tokens: Tokens, folder: Path) -> Case:
    truth = Truth.of(tokens.rows, *near_pairs(tokens))
    return _stored(folder, "real", 1, tokens, truth, "")


def planted_case(base: Tokens, size: int, folder: Path) -> Case:
    tokens, left, right, similar = plant(take(base, np.flatnonzero(base.lengths >= NGRAM)), size)
    near = similar >= THRESHOLD
    truth = Truth.of(tokens.rows, left[near], right[near])
    return _stored(folder, f"planted x{size}", size, tokens, truth, f"{len(left):,} edited copies, ")


def _stored(folder: Path, name: str, size: int, tokens: Tokens, truth: Truth, planted: str) -> Case:
    np.save(folder / "values.npy", tokens.values)
    np.save(folder / "offsets.npy", tokens.offsets)
    count = len(tokens.values)
    numbers = (
        f"{tokens.rows:,} responses, {count / 1e6:.1f} M tokens, {planted}{truth.removable.sum():,} rows to remove"
    )
    return Case(name, f"{name}: {numbers}", count, tokens.rows, truth, size)


def plant(base: Tokens, size: int) -> tuple[Tokens, Ints, Ints, NDArray[np.float64]]:
    """Replicas of `base` and edited copies, shuffled; and each copied row, its copy, and their similarity."""
    rng = np.random.default_rng(SEED)
    copies = round(base.rows * COPIED)
    made = base.rows + copies
    chosen = [rng.permutation(base.rows)[:copies] for _ in range(size)]
    lengths = np.concatenate([part for rows in chosen for part in (base.lengths, base.lengths[rows])])
    place = rng.permutation(size * made)  # where each row that is made ends up
    shuffled = np.empty_like(lengths)
    shuffled[place] = lengths
    offsets = offsets_of(shuffled)
    values = np.empty(offsets[-1], np.int32)
    similar = []
    for number, rows in enumerate(chosen):
        both = _replica(base, rows, rng)
        ends = place[number * made : (number + 1) * made]
        values[positions(offsets[ends], both.lengths)] = both.values
        similar.append(jaccards(shingles(both), both.offsets, rows, np.arange(base.rows, made)))
    left = np.concatenate([place[number * made + rows] for number, rows in enumerate(chosen)])
    right = np.concatenate([place[number * made + np.arange(base.rows, made)] for number in range(size)])
    return Tokens(values, offsets), left, right, np.concatenate(similar)


def _replica(base: Tokens, chosen: Ints, rng: np.random.Generator) -> Tokens:
    """All rows with many tokens replaced; behind them copies of the chosen ones with few tokens replaced."""
    share = np.clip(REPLACED_LEAST / base.lengths, REPLACED, 1).astype(np.float32)
    hit = rng.random(len(base.values), dtype=np.float32) < np.repeat(share, base.lengths)
    fresh = Tokens(base.values.copy(), base.offsets)
    substitute(fresh.values, np.flatnonzero(hit), rng)
    copies = take(fresh, chosen)
    similar = rng.uniform(LEAST_SIMILAR, 1, len(chosen))
    similar[rng.random(len(chosen)) < UNEDITED] = 1
    # n of N shingles lost on each side leave (N - n) / (N + n); a token in five shingles takes them all along.
    lost = (1 - similar) / (1 + similar)
    edits = np.rint((1 - (1 - lost) ** (1 / NGRAM)) * copies.lengths).astype(np.int64)
    within = rng.random(int(edits.sum())) * np.repeat(copies.lengths, edits)
    substitute(copies.values, np.repeat(copies.offsets[:-1], edits) + within.astype(np.int64), rng)
    values = np.concatenate([fresh.values, copies.values])
    return Tokens(values, offsets_of(np.concatenate([fresh.lengths, copies.lengths])))


def substitute(values: NDArray[np.int32], where: Ints, rng: np.random.Generator) -> None:
    """Another id at each of these places."""
    steps = rng.integers(1, VOCABULARY, len(where), dtype=np.int32)
    values[where] = (values[where] + steps) % VOCABULARY


# Contestants


class Clock:
    """Seconds spent on what a contestant needs prepared."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.start


Job = Callable[[Tokens, int, Clock], Flags]  # tokens, threads, clock -> rows to remove, or flagged


def load_arrow() -> None:
    """All of it: where pandas is installed, Arrow imports that too, when it makes its first array from NumPy."""
    import pyarrow as pa
    import pyarrow.compute

    pa.array(np.zeros(1))


def ours(mode: str) -> Job:
    from tso import dedup_texts

    load_arrow()

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        return ~dedup_texts(tokens, ngram=NGRAM, threshold=THRESHOLD, mode=mode, threads=threads).keep

    return job


def fast_sketch(clusters: bool) -> Job:
    from FastSketchLSH import LSH, FastSimilaritySketch

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        sketch = FastSimilaritySketch(size=MINIMA)
        matrix = np.empty((tokens.rows, MINIMA), np.uint64)
        for first, last, part in tokens.blocks():
            with clock:
                hashes, offsets = shingles(part, threads), part.offsets.astype(np.uint64)
            matrix[first:last] = sketch.batch_csr(hashes, offsets, prehashed=True, num_threads=threads)
        lsh = LSH(num_perm=MINIMA, num_bands=BANDS, num_threads=threads)
        if not clusters:
            return np.asarray(lsh.insert_and_query_duplicates(matrix)).astype(np.bool_)
        lsh.insert(matrix)
        found, ends = lsh.query(matrix, format="csr")
        row = np.repeat(np.arange(tokens.rows), np.diff(ends.astype(np.int64)))
        return removed_by(tokens.rows, row, found.astype(np.int64))

    return job


def rensa_flags(rho: bool) -> Job:
    """Its one-shot path. Rho is the sampling sketch that its own benchmark uses, with four probes."""
    from rensa import RMinHash, RMinHashLSH

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        with clock:
            data = shingles(tokens, threads), tokens.offsets.astype(np.uint64)
        if rho:
            matrix = RMinHash.digest_matrix_from_flat_token_hashes_rho(*data, num_perm=MINIMA, seed=SEED, probes=4)
        else:
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(*data, num_perm=MINIMA, seed=SEED)
        lsh = RMinHashLSH(threshold=THRESHOLD, num_perm=MINIMA, num_bands=BANDS)
        return np.array(lsh.query_duplicate_flags_matrix_one_shot(matrix), np.bool_)

    return job


def rensa_clusters() -> Job:
    """Its index gives flags, no pairs, for a matrix: the bands of its signatures are matched in NumPy."""
    from rensa import RMinHash

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        keys = np.empty((BANDS, tokens.rows), np.uint64)
        weights = np.random.default_rng(SEED).integers(1 << 63, size=MINIMA // BANDS, dtype=np.uint64) | np.uint64(1)
        for first, last, part in tokens.blocks():
            with clock:
                hashes, offsets = shingles(part, threads), part.offsets.astype(np.uint64)
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, num_perm=MINIMA, seed=SEED)
            minima = np.array(matrix.to_rows(), np.uint64).reshape(last - first, BANDS, -1)
            keys[:, first:last] = (minima @ weights).T
        return removed_by(tokens.rows, *_same_keys(keys))

    return job


def _same_keys(keys: Hashes) -> tuple[Ints, Ints]:
    """Neighbours among the rows with the same key in a band."""
    pairs = []
    for band in keys:
        order = np.argsort(band)
        same = np.flatnonzero(band[order[1:]] == band[order[:-1]])
        pairs.append((order[same], order[same + 1]))
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return left, right


def datasketch() -> Job:
    """A row is looked up before it is inserted, so that one pass is enough and no sketch has to be kept."""
    from datasketch import MinHash, MinHashLSH

    def whole(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return hashes  # the only "value" of a row is the array of all its hashes: no Python call a shingle

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        lsh = MinHashLSH(threshold=THRESHOLD, num_perm=MINIMA)
        left, right = [], []
        for first, _, part in tokens.blocks():
            with clock:
                hashes = (shingles(part) >> np.uint64(32)).astype(np.uint32)
                rows = ([hashes[start:end]] for start, end in zip(part.offsets[:-1], part.offsets[1:], strict=True))
            for row, sketch in enumerate(MinHash.generator(rows, num_perm=MINIMA, hashfunc=whole), first):
                found = lsh.query(sketch)
                left += found
                right += [row] * len(found)
                lsh.insert(row, sketch, check_duplication=False)
        return removed_by(tokens.rows, np.array(left, np.int64), np.array(right, np.int64))

    return job


def texts(tokens: Tokens) -> list[str]:
    """Rows as ids in words, at least five of them, so that a short row is one shingle here too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pa.array(tokens.values).cast(pa.string())
    rows = pc.binary_join(pa.ListArray.from_arrays(tokens.offsets.astype(np.int32), words), " ").to_pylist()
    for row in np.flatnonzero(tokens.lengths < NGRAM):
        rows[row] += " x" * int(NGRAM - tokens.lengths[row])
    return rows


def gaoya() -> Job:
    """It chooses the bands itself, and keeps only pairs whose signatures agree enough."""
    from gaoya.minhash import MinHashStringIndex

    load_arrow()

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        index = MinHashStringIndex(
            hash_size=32, jaccard_threshold=THRESHOLD, num_bands=None, band_size=None, num_hashes=MINIMA,
            analyzer="word", ngram_range=(NGRAM, NGRAM), id_container="smallvec",
        )  # fmt: skip
        with clock:
            rows = [text for _, _, part in tokens.blocks() for text in texts(part)]
        index.par_bulk_insert_docs(list(range(len(rows))), rows)
        found = index.par_bulk_query(rows)
        left = np.repeat(np.arange(len(rows)), [len(each) for each in found])
        return removed_by(len(rows), left, np.fromiter(chain.from_iterable(found), np.int64))

    return job


def datatrove() -> Job:
    """Its three steps over files, in this process, with all defaults but buffers of whole files and hashes made here."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer

    class Signature(MinhashDedupSignature):
        rows: list[Hashes]

        def get_shingles(self, text: str) -> Hashes:
            return self.rows[int(text)]

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        with clock:
            hashes = shingles(tokens)[:, None]
        with tempfile.TemporaryDirectory() as folder:
            step = Signature(f"{folder}/signatures", language=WhitespaceTokenizer())
            step.rows = np.split(hashes, tokens.offsets[1:-1])
            step.run(Document(text=str(row), id=str(row)) for row in range(tokens.rows))
            buckets = MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/pairs", lines_to_buffer=-1)
            for bucket in range(step.config.num_buckets):
                buckets.run(None, bucket, step.config.num_buckets)
            MinhashDedupCluster(f"{folder}/pairs", folder, save_cluster_id=True, lines_to_buffer=-1).run()
            clusters = Path(folder) / "000000.clusters"
            found = np.fromfile(clusters, np.uint32).reshape(-1, 2) if clusters.exists() else np.empty((0, 2), int)
        labels = np.arange(tokens.rows)
        labels[found[:, 0]] = tokens.rows + found[:, 1].astype(np.int64)
        return after_first(labels)

    return job


def text_dedup() -> Job:
    """Its signature of a text, its hash tables and its union-find; its own loops are inside a command, so they are here."""
    from text_dedup.minhash import RNG, embed_func
    from text_dedup.utils import UnionFind, optimal_param, xxh3_32hash

    load_arrow()
    most, prime = np.uint32((1 << 32) - 1), np.uint64((1 << 61) - 1)  # its default of 64 bits, with its faster hash
    bands, width = optimal_param(THRESHOLD, MINIMA)

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        options = {
            "num_perm": MINIMA, "ngram_size": NGRAM, "min_length": NGRAM, "hash_func": xxh3_32hash,
            "hashranges": [(band * width, (band + 1) * width) for band in range(bands)],
            "permutations": tuple(RNG.randint(low, prime, size=MINIMA, dtype=np.uint64) for low in (1, 0)),
            "dtype": np.uint64, "max_hash": most, "modulo_prime": prime,
        }  # fmt: skip
        tables: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(bands)]
        for first, _, part in tokens.blocks():
            with clock:
                rows = texts(part)
            for row, text in enumerate(rows, first):
                for table, key in zip(tables, embed_func(text, row, **options)["__signatures__"], strict=True):
                    table[key].append(row)
        union = UnionFind()
        for group in chain.from_iterable(table.values() for table in tables):
            for row in group[1:]:
                union.union(row, group[0])
        return after_first(np.array([union.find(row) for row in range(tokens.rows)]))

    return job


@dataclass
class Contestant:
    name: str
    load: Callable[[], Job]  # with all imports
    package: str
    module: str
    threads: bool = True  # whether it has a choice
    flags: bool = False
    largest: int | None = None  # size of planted data

    @property
    def missing(self) -> str | None:
        return None if importlib.util.find_spec(self.module) else f"{self.module} is not installed"


OURS = "tso, lsh"
CONTESTANTS = [
    Contestant(OURS, functools.partial(ours, "lsh"), "tso-align", "tso"),
    Contestant("tso, exact", functools.partial(ours, "exact"), "tso-align", "tso", largest=1),
    Contestant("FastSketchLSH", functools.partial(fast_sketch, True), "FastSketchLSH", "FastSketchLSH"),
    Contestant(
        "FastSketchLSH, flags", functools.partial(fast_sketch, False), "FastSketchLSH", "FastSketchLSH", flags=True
    ),
    Contestant("rensa, bands matched in NumPy", rensa_clusters, "rensa", "rensa"),
    Contestant("rensa, flags", functools.partial(rensa_flags, False), "rensa", "rensa", flags=True),
    Contestant("rensa rho, flags", functools.partial(rensa_flags, True), "rensa", "rensa", flags=True),
    Contestant("gaoya", gaoya, "gaoya", "gaoya"),
    Contestant("datasketch", datasketch, "datasketch", "datasketch", threads=False),
    Contestant("datatrove", datatrove, "datatrove", "datatrove", threads=False),
    Contestant("text-dedup", text_dedup, "text-dedup", "text_dedup", threads=False),
]


# Runs


@dataclass
class Run:
    seconds: float
    prepared: float
    peak: float  # MiB


@dataclass
class Entry:
    """A contestant with a number of threads in one case."""

    contestant: Contestant
    threads: int
    runs: list[Run] = field(default_factory=list)
    removed: int = 0
    wrong: float = 0.0
    missed: float = 0.0
    failed: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.contestant.name, self.threads

    @property
    def title(self) -> str:
        return f"{self.contestant.name}, {self.threads} thread{'s' * (self.threads > 1)}"

    def median(self, what: str) -> float:
        return statistics.median(getattr(run, what) for run in self.runs)


def resident(what: str) -> float:
    """MiB of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def run_here(name: str, threads: int, folder: Path) -> None:
    """One job, in a process made for it. Results go into the folder, for peers may print."""
    job = next(c for c in CONTESTANTS if c.name == name).load()
    tokens = Tokens(np.load(folder / "values.npy"), np.load(folder / "offsets.npy"))
    clock = Clock()
    before = resident("VmRSS")
    # Not ru_maxrss: a new process inherits that from the one that started it.
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    removed = job(tokens, threads, clock)
    seconds = time.perf_counter() - start
    peak = resident("VmHWM") - before
    np.save(folder / "removed.npy", removed)
    found = {"seconds": seconds, "prepared": clock.seconds, "peak": peak}
    (folder / "run.json").write_text(json.dumps(found), encoding="utf-8")


def run_apart(entry: Entry, case: Case, folder: Path, limit: float) -> None:
    """Start `run_here` in a fresh process and take note of its results."""
    command = [sys.executable, __file__, "--contestant", entry.contestant.name, "--threads", str(entry.threads)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(entry.threads))
    try:
        done = subprocess.run(
            [*command, "--folder", str(folder)], env=environment, timeout=2 * limit, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        entry.failed = f"stopped after {2 * limit:.0f} s"
        return
    if done.returncode:
        entry.failed = f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['-'])[-1][:90]}"
        return
    entry.runs.append(Run(**json.loads((folder / "run.json").read_text(encoding="utf-8"))))
    judge(entry, np.load(folder / "removed.npy"), case.truth)


def judge(entry: Entry, removed: Flags, truth: Truth) -> None:
    right = truth.partnered if entry.contestant.flags else truth.removable
    entry.removed = int(removed.sum())
    entry.wrong = 100 * float((removed & ~right).sum()) / max(1, entry.removed)
    entry.missed = 100 * float((right & ~removed).sum()) / max(1, int(right.sum()))


Past = dict[tuple[str, int], tuple[int, Entry]]  # the last case that a contestant ran in: its tokens, and the entry


def too_much(entry: Entry, case: Case, past: Past, limit: float) -> str | None:
    """Why the contestant is left out of this case, by what it took in the one before."""
    largest = entry.contestant.largest
    if largest is not None and case.size > largest:
        return f"runs up to size {largest}"
    if entry.key not in past:
        return None
    tokens, before = past[entry.key]
    if not before.runs:
        return "failed in a smaller case"
    more = case.tokens / tokens
    if more * before.median("seconds") > limit:
        return f"would take about {more * before.median('seconds'):,.0f} s, the limit is {limit:.0f} s"
    needed = (more * before.median("peak") + case.tokens * 4 / 2**20) / 1024
    if needed > available():
        return f"would need about {needed:.0f} GiB of memory"
    return None


def available() -> float:
    """GiB of memory that is free or can be freed."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2**20


def run_case(case: Case, folder: Path, entries: list[Entry], past: Past, args: argparse.Namespace) -> list[str]:
    reasons = {entry.key: too_much(entry, case, past, args.limit) for entry in entries}
    running = [entry for entry in entries if reasons[entry.key] is None]
    for _ in range(args.rounds):
        for entry in running:
            if entry.failed is None and sum(run.seconds for run in entry.runs) < ENOUGH:
                run_apart(entry, case, folder, args.limit)
    past |= {entry.key: (case.tokens, entry) for entry in running}
    lines = [
        case.title,
        f"{'':32}{'threads':>8}{'seconds':>10}{'prepared':>10}{'/ ours':>8}{'peak MiB':>10}"
        f"{'removed':>10}{'wrong %':>9}{'missed %':>9}",
    ]
    mine = {e.threads: e.median("seconds") for e in running if e.contestant.name == OURS and e.failed is None}
    lines += [table_row(entry, mine.get(entry.threads)) for entry in running if entry.failed is None]
    lines += [f"left out at this size: {e.title} ({why})" for e in entries if (why := reasons[e.key])]
    lines += [f"failed: {entry.title} ({entry.failed})" for entry in running if entry.failed]
    return lines


def table_row(entry: Entry, mine: float | None) -> str:
    seconds, prepared, peak = (entry.median(what) for what in ("seconds", "prepared", "peak"))
    ratio = f"{seconds / mine:.2f}" if mine else "-"
    return (
        f"{entry.contestant.name:32}{entry.threads:8}{seconds:10.3f}{prepared:10.3f}{ratio:>8}{peak:10.0f}"
        f"{entry.removed:10,}{entry.wrong:9.2f}{entry.missed:9.2f}"
    )


def growth(ours_by_size: dict[int, dict[int, float]]) -> list[str]:
    """Our time a row at each size, and as a multiple of that at the smallest."""
    lines = ["", "our time a row, and as a multiple of that at the smallest size"]
    threads = sorted({count for each in ours_by_size.values() for count in each})
    for count in threads:
        by_size = {size: each[count] for size, each in sorted(ours_by_size.items()) if count in each}
        first = next(iter(by_size.values()))
        cells = [f"x{size}: {micro:.2f} us ({micro / first:.2f})" for size, micro in by_size.items()]
        lines.append(f"{count} thread{'s' * (count > 1)}: " + ", ".join(cells))
    return lines if threads else []


def per_row(case: Case, entries: list[Entry]) -> dict[int, float]:
    """Microseconds of ours by threads."""
    mine = [entry for entry in entries if entry.contestant.name == OURS and entry.runs]
    return {entry.threads: entry.median("seconds") * 1e6 / case.rows for entry in mine}


def describe() -> list[str]:
    versions = []
    for package in dict.fromkeys(["numpy", "pyarrow"] + [c.package for c in CONTESTANTS]):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            here = package == "tso-align" and importlib.util.find_spec("tso")
            versions.append(f"{package} {'from the source tree' if here else 'absent'}")
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    machine = f"{_processor()}, {os.cpu_count()} cores, {int(memory.split()[1]) / 2**20:.0f} GiB"
    return [
        f"date: {date.today().isoformat()}",
        f"machine: {machine}; {platform.system()} {platform.machine()}; Python {platform.python_version()}",
        "versions: " + ", ".join(versions),
        "command: python benchmarks/dedup.py " + " ".join(sys.argv[1:]),
        *[f"left out: {c.name} ({c.missing})" for c in CONTESTANTS if c.missing],
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    return next(line.split(": ")[1] for line in info.read_text().splitlines() if line.startswith("model name"))


def make_cases(base: Tokens, sizes: list[int]) -> Iterator[tuple[Case, Path]]:
    """One after the other, real data first; the files of one go before the next is made."""
    makers = [functools.partial(real_case, base)]
    makers += [functools.partial(planted_case, base, size) for size in sorted(sizes)]
    for make in makers:
        with tempfile.TemporaryDirectory(prefix="tso-bench-dedup-") as name:
            yield make(folder=Path(name)), Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the matrix files")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 10, 100], help="of planted data")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--limit", type=float, default=300, help="seconds that a contestant may be expected to take")
    parser.add_argument("--only", default="", help="run contestants whose name has this in it, and ours")
    parser.add_argument("--rounds", type=int, default=7, help="at most")
    parser.add_argument("--quick", action="store_true", help="500 responses, one round, nothing stored")
    for hidden in ("--contestant", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        run_here(args.contestant, args.threads[0], Path(args.folder))
        return
    run_all(args)


def run_all(args: argparse.Namespace) -> None:
    lines = describe()
    print("\n".join(lines), flush=True)
    base = real_tokens(args.data)
    if args.quick:
        base, args.sizes, args.rounds = base.part(0, 500), [1], 1
    path = RESULTS / f"{date.today().isoformat()}-dedup.txt"
    present = [c for c in CONTESTANTS if c.missing is None and (args.only in c.name or c.name == OURS)]
    past: Past = {}
    ours_by_size: dict[int, dict[int, float]] = {}
    for case, folder in make_cases(base, args.sizes):
        entries = [Entry(c, count) for c in present for count in (args.threads if c.threads else [1])]
        found = ["", *run_case(case, folder, entries, past, args)]
        print("\n".join(found), flush=True)
        lines += found
        if case.name != "real":
            ours_by_size[case.size] = per_row(case, entries)
        if not args.quick:  # after every case, for the next one may take long
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    last = growth(ours_by_size)
    print("\n".join(last), flush=True)
    if not args.quick:
        path.write_text("\n".join(lines + last) + "\n", encoding="utf-8")
        print(f"\nstored in benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
