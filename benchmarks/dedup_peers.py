"""Who `dedup.py` measures: ours and every peer, each from token ids to the rows it would remove or flags."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from dedup_data import (
    NGRAM,
    SEED,
    THRESHOLD,
    Flags,
    Hashes,
    Ints,
    Tokens,
    after_first,
    distinct,
    jaccards,
    removed_by,
    shingles,
    take,
)
from numpy.typing import NDArray

MINIMA, BANDS = 128, 8  # FastSketchLSH and rensa both measure themselves with these at a threshold of 0.8
VERIFIED = 1 << 15  # pairs whose hashes are in memory at a time
SAME = 64, 16  # as ours: 16 bands of 4 find 0.9998 of what is just near enough


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


def fast_sketch(clusters: bool, minima: int = MINIMA, bands: int = BANDS, verify: bool = False) -> Job:
    from FastSketchLSH import LSH, FastSimilaritySketch

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        sketch = FastSimilaritySketch(size=minima)
        matrix = np.empty((tokens.rows, minima), np.uint64)
        for first, last, part in tokens.blocks():
            with clock:
                hashes, offsets = shingles(part, threads), part.offsets.astype(np.uint64)
            matrix[first:last] = sketch.batch_csr(hashes, offsets, prehashed=True, num_threads=threads)
        lsh = LSH(num_perm=minima, num_bands=bands, num_threads=threads)
        if not clusters:
            return np.asarray(lsh.insert_and_query_duplicates(matrix)).astype(np.bool_)
        lsh.insert(matrix)
        found, ends = lsh.query(matrix, format="csr")
        row, found = np.repeat(np.arange(tokens.rows), np.diff(ends.astype(np.int64))), found.astype(np.int64)
        if verify:
            row, found = verified(tokens, row, found, threads)
        return removed_by(tokens.rows, row, found)

    return job


def verified(tokens: Tokens, left: Ints, right: Ints, threads: int) -> tuple[Ints, Ints]:
    """The pairs that reach the threshold, each once. No peer does this for itself."""
    pairs = distinct(np.minimum(left, right) * tokens.rows + np.maximum(left, right))
    left, right = (side.astype(np.int64) for side in np.divmod(pairs, tokens.rows))
    left, right = left[left != right], right[left != right]
    near = [np.zeros(0, np.bool_)]
    for start in range(0, len(left), VERIFIED):  # with the hashes of some rows at a time
        sides = left[start : start + VERIFIED], right[start : start + VERIFIED]
        rows = distinct(np.concatenate(sides))
        part = take(tokens, rows)
        hashes = shingles(part, threads)
        places = (np.searchsorted(rows, side) for side in sides)
        near.append(jaccards(hashes, part.offsets, *places) >= THRESHOLD)
    keep = np.concatenate(near)
    return left[keep], right[keep]


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


def rensa_clusters(minima: int = MINIMA, bands: int = BANDS, verify: bool = False) -> Job:
    """Its index gives flags, no pairs, for a matrix: the bands of its signatures are matched in NumPy."""
    from rensa import RMinHash

    def job(tokens: Tokens, threads: int, clock: Clock) -> Flags:
        keys = np.empty((bands, tokens.rows), np.uint64)
        weights = np.random.default_rng(SEED).integers(1 << 63, size=minima // bands, dtype=np.uint64) | np.uint64(1)
        for first, last, part in tokens.blocks():
            with clock:
                hashes, offsets = shingles(part, threads), part.offsets.astype(np.uint64)
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, num_perm=minima, seed=SEED)
            signatures = np.array(matrix.to_rows(), np.uint64).reshape(last - first, bands, -1)
            keys[:, first:last] = (signatures @ weights).T
        pairs = _same_keys(keys)
        return removed_by(tokens.rows, *(verified(tokens, *pairs, threads) if verify else pairs))

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
    Contestant("FastSketchLSH, 16 x 4", functools.partial(fast_sketch, True, *SAME), "FastSketchLSH", "FastSketchLSH"),
    Contestant(
        "FastSketchLSH, 16 x 4, verified",
        functools.partial(fast_sketch, True, *SAME, verify=True),
        "FastSketchLSH",
        "FastSketchLSH",
    ),
    Contestant("rensa, bands matched in NumPy", rensa_clusters, "rensa", "rensa"),
    Contestant("rensa, 16 x 4, verified", functools.partial(rensa_clusters, *SAME, verify=True), "rensa", "rensa"),
    Contestant("rensa, flags", functools.partial(rensa_flags, False), "rensa", "rensa", flags=True),
    Contestant("rensa rho, flags", functools.partial(rensa_flags, True), "rensa", "rensa", flags=True),
    Contestant("gaoya", gaoya, "gaoya", "gaoya"),
    Contestant("datasketch", datasketch, "datasketch", "datasketch", threads=False),
    Contestant("datatrove", datatrove, "datatrove", "datatrove", threads=False),
    Contestant("text-dedup", text_dedup, "text-dedup", "text_dedup", threads=False),
]
