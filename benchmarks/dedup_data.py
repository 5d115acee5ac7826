"""What `dedup.py` measures on: token lists, real and planted, and the truth about them, independent of tso."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

NGRAM, THRESHOLD = 5, 0.8
VOCABULARY = 32_000
COPIED, REPLACED, REPLACED_LEAST, LEAST_SIMILAR, UNEDITED = 0.2, 0.25, 16, 0.55, 0.1
SEED = 20261125
FILES = ("matrix_judged.parquet", "matrix_qwen15.parquet")


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
