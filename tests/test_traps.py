"""What deduplication tools get wrong on preference data, one test a trap; benchmarks/dedup.py shows it on the tools themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tso import dedup_pairs, dedup_texts
from tso.errors import DataError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WORDS = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8], [3, 1, 4, 1, 5, 9, 2, 6]]


def _clusters(tokens: Any, **options: Any) -> list[int]:
    return dedup_texts(tokens, **options).cluster.tolist()


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint32()])
def test_1_the_type_of_the_ids_changes_nothing(kind: pa.DataType) -> None:
    assert _clusters(pa.array(WORDS, type=pa.list_(kind))) == [0, 1, 0]


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_2_an_id_that_is_none_is_refused_not_wrapped_round(bad: int) -> None:
    with pytest.raises(DataError, match=f"row 1 holds token id {bad}|{bad}"):
        dedup_texts(pa.array([[1], [bad]], type=pa.list_(pa.int64())))


def test_3_a_slice_is_read_from_where_it_begins() -> None:
    column = pa.array([[9], [9], *WORDS, [9]], type=pa.list_(pa.int32()))
    assert _clusters(column.slice(2, 3)) == [0, 1, 0]


def test_4_chunks_are_one_column() -> None:
    column = pa.chunked_array([pa.array(WORDS[:1]), pa.array([], type=pa.list_(pa.int64())), pa.array(WORDS[1:])])
    assert _clusters(column) == [0, 1, 0]


def test_5_lists_with_small_and_large_offsets_are_the_same() -> None:
    small, large = (pa.array(WORDS, type=kind(pa.int32())) for kind in (pa.list_, pa.large_list))
    assert _clusters(small) == _clusters(large) == [0, 1, 0]


def test_6_null_is_not_empty() -> None:
    found = dedup_texts([None, [], None, []])
    assert found.cluster.tolist() == [0, 1, 2, 1]
    assert found.keep.tolist() == [True, True, True, False]


@pytest.mark.parametrize("mode", ["lsh", "exact"])
def test_7_nothing_without_tokens_is_like_anything(mode: str) -> None:
    assert _clusters([[], None, [1], [1, 2], []], threshold=0.01, mode=mode) == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("mode", ["lsh", "exact"])
def test_8_a_text_shorter_than_an_ngram_is_one_shingle(mode: str) -> None:
    rows = [[7, 7], [7, 7], [7], [7, 8], [7, 7, 7, 7, 7]]
    assert _clusters(rows, ngram=5, threshold=0.01, mode=mode) == [0, 0, 2, 3, 4]


def test_9_sides_that_a_trainer_would_cut_to_the_same_text_are_no_pair() -> None:
    prompt, same = [[1, 2, 3]], list(range(100, 200))
    chosen, rejected = [[*same, 1]], [[*same, 2]]
    assert dedup_pairs(prompt, chosen, rejected, max_length=103).reason_names(0) == "degenerate_truncated"
    assert dedup_pairs(prompt, chosen, rejected, max_length=104).keep.tolist() == [True]


def test_10_one_text_over_and_over_stays_cheap_and_is_told() -> None:
    copies: list[list[int]] = [list(range(50))] * 805
    found = dedup_texts(copies)
    assert (found.cluster == 0).all()
    assert found.uncompared == 0  # copies are found before anything is compared
    alike = [[*range(100, 300), 1000 + i] for i in range(805)]
    found = dedup_texts(alike)
    assert (found.cluster == 0).all()
    assert found.uncompared > 0  # so many that share their sketch are not all compared, and that is said


def test_11_threads_change_nothing() -> None:
    rng = random.Random(1)
    rows = [[rng.randrange(50) for _ in range(rng.randrange(40))] for _ in range(300)]
    rows += [[*row[:-1], 99] for row in rows[:150] if row]
    one = dedup_texts(rows, ngram=2, threshold=0.6, threads=1)
    for threads in (2, 8):
        more = dedup_texts(rows, ngram=2, threshold=0.6, threads=threads)
        assert more.edges.equals(one.edges)
        np.testing.assert_array_equal(more.cluster, one.cluster)


def test_12_another_machine_finds_the_same() -> None:
    """Pinned; the sketches are pinned bit for bit, with and without vectors, in rust/core/src/dedup/minhash.rs.

    Links are verified, so their similarity is a ratio of whole numbers; which are found depends on the sketches.
    """
    rows = [[(i * i + 7 * k) % 40 for k in range(30 + i % 5)] for i in range(60)]
    found = dedup_texts(rows, ngram=3, threshold=0.75)
    told = {"clusters": found.cluster.tolist(), "edges": found.edges.to_pydict()}
    expected = json.loads((Path(__file__).parent / "pinned" / "dedup.json").read_text("utf-8"))
    assert told == expected


@pytest.mark.skipif(not DATA.exists(), reason="the real data is not beside the repository (../shared/data)")
@pytest.mark.parametrize("name", ["matrix_judged.parquet", "matrix_qwen15.parquet"])
def test_real_responses_as_the_exact_mode_has_them(name: str) -> None:
    """Words as tokens. Nothing wrongly removed, nothing missed: the exact mode is held to all pairs elsewhere."""
    texts = pq.read_table(DATA / name, columns=["response"])["response"].to_pylist()
    numbers: dict[str, int] = {}
    rows = [None if t is None else [numbers.setdefault(w, len(numbers)) for w in t.split()] for t in texts]
    lsh, exact = (dedup_texts(rows, mode=mode) for mode in ("lsh", "exact"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(lsh.cluster, exact.cluster)
