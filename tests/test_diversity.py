"""tso.diversity against NLTK, NumPy, Python sets and plain counting."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from tso.diversity import (
    ALL_SCORES,
    METHODS,
    diversity,
    novelty,
    pair_similarity,
    pick_pairs,
    repetition,
    select_diverse,
)
from tso.errors import DataError

from tests.twin import DATA, jaccard, words

texts = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=2, max_size=7)


def nltk_self_bleu(rows: list[list[int]]) -> float:
    smooth = SmoothingFunction().method1
    scores = [sentence_bleu(rows[:i] + rows[i + 1 :], row, smoothing_function=smooth) for i, row in enumerate(rows)]
    return sum(scores) / len(scores)


def grams(rows: list[list[int]], n: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]


@settings(deadline=None, max_examples=150)
@given(texts)
def test_self_bleu_is_nltks(rows):
    assert diversity(rows, scores=["self_bleu"])["self_bleu"][0] == pytest.approx(nltk_self_bleu(rows), abs=1e-9)


@settings(deadline=None, max_examples=80)
@given(texts, st.integers(1, 3))
def test_other_scores_are_plain_counts(rows, ngram):
    found = diversity(rows, ngram=ngram)
    for n in range(1, 5):
        counts = Counter(grams(rows, n))
        total = sum(counts.values())
        if total == 0:
            assert math.isnan(found[f"distinct_{n}"][0])
            assert math.isnan(found[f"entropy_{n}"][0])
            continue
        assert found[f"distinct_{n}"][0] == len(counts) / total
        entropy = -sum(c / total * math.log2(c / total) for c in counts.values())
        assert found[f"entropy_{n}"][0] == pytest.approx(entropy, abs=1e-9)
    pairs = [jaccard(a, b, ngram) for a, b in combinations(rows, 2)]
    assert found["jaccard"][0] == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    rows_a, rows_b = zip(*combinations(range(len(rows)), 2), strict=True)
    assert pair_similarity(rows, rows_a, rows_b, ngram=ngram).tolist() == pairs


def vendi(rows: list[list[int]], order: float) -> float:
    """As the package vendi-score computes it with normalize=True, on its kernel of 1- to 4-grams."""
    kernel = np.zeros((len(rows), len(rows)))
    for n in range(1, 5):
        counts = [Counter(grams([row], n)) for row in rows]
        names = {gram: place for place, gram in enumerate(set().union(*counts))}
        vectors = np.zeros((len(rows), len(names) + 1))
        for vector, count in zip(vectors, counts, strict=True):
            for gram, times in count.items():
                vector[names[gram]] = times
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
        kernel += vectors @ vectors.T / 4
    empty = np.array([not row for row in rows])
    kernel[np.ix_(empty, empty)] = 1
    diagonal = np.sqrt(np.diagonal(kernel))
    shares = np.linalg.eigvalsh(kernel / np.outer(diagonal, diagonal) / len(rows))
    shares = shares[shares > 1e-13]
    if order == 1:
        return float(np.exp(-(shares * np.log(shares)).sum()))
    if order == math.inf:
        return float(1 / shares.max())
    return float((shares**order).sum() ** (1 / (1 - order)))


@settings(deadline=None, max_examples=80)
@given(texts, st.sampled_from([0.5, 1, 1.001, 2, 3.5, math.inf]))
def test_vendi_is_that_of_the_full_matrix(rows, order):
    assert diversity(rows, scores=["vendi"], order=order)["vendi"][0] == pytest.approx(vendi(rows, order), rel=1e-7)


def test_vendi_counts_different_texts():
    apart = [[10 * i + j for j in range(6)] for i in range(5)]
    for order in (0.1, 1, 2, math.inf):
        assert diversity(apart * 3, scores=["vendi"], order=order)["vendi"][0] == pytest.approx(5)
    found = diversity([[1, 2], None, [], []], [0, 1, 2, 2], scores=ALL_SCORES)
    assert found["vendi"][[0, 2]].tolist() == pytest.approx([1, 1])
    assert math.isnan(found["vendi"][1])


@settings(deadline=None, max_examples=80)
@given(texts, texts, st.integers(1, 3))
def test_novelty_is_the_distance_to_the_nearest(rows, history, ngram):
    expected = [1 - max(jaccard(row, old, ngram) for old in history) for row in rows]
    assert novelty(rows, history, ngram=ngram).tolist() == pytest.approx(expected, abs=1e-12)
    found = diversity(rows, ngram=ngram, scores=[], history=history)
    assert list(found) == ["group", "responses", "tokens", "novelty"]
    assert found["novelty"][0] == pytest.approx(np.mean(expected), abs=1e-12)


def test_nulls_and_empty_rows_of_a_history():
    found = novelty([[1, 2], [], None, [9]], [None, [1, 2], None])
    assert found[[0, 1, 3]].tolist() == [0, 1, 1]
    assert math.isnan(found[2])
    assert novelty([[], [1]], [[]]).tolist() == [0, 1]
    assert novelty([[], [1]], []).tolist() == [1, 1]
    groups = diversity([[1, 2], [3], None], [0, 0, 1], scores=[], history=[[1, 2]])["novelty"]
    assert groups[0] == 0.5
    assert math.isnan(groups[1])


def test_groups_come_ascending_and_nulls_do_not_count():
    found = diversity([[1, 2], [3], None, [1, 2]], [5, -1, 5, 5])
    assert found["group"].tolist() == [-1, 5]
    assert found["responses"].tolist() == [1, 2]
    assert found["tokens"].tolist() == [1, 4]
    assert math.isnan(found["self_bleu"][0])
    assert found["jaccard"].tolist()[1] == 1.0
    assert list(diversity([[1]], scores=["jaccard"])) == ["group", "responses", "tokens", "jaccard"]
    assert diversity([])["group"].tolist() == []


def test_real_groups_match_nltk():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: real responses are not part of the repository")
    import pyarrow.parquet as pq

    table = pq.read_table(DATA, columns=["prompt_id", "response"]).to_pydict()
    rows = words(table["response"])
    groups = [int(name[3:]) for name in table["prompt_id"]]
    past = rows[::3]
    one, eight = (diversity(rows, groups, scores=ALL_SCORES, history=past, threads=count) for count in (1, 8))
    for name, column in one.items():
        assert np.array_equal(column, eight[name])
    assert np.isfinite(one["self_bleu"]).all()
    for place in range(0, len(one["group"]), 160):
        members = [row for row, group in zip(rows, groups, strict=True) if group == one["group"][place]]
        assert one["self_bleu"][place] == pytest.approx(nltk_self_bleu(members), abs=1e-9)
        assert one["vendi"][place] == pytest.approx(vendi(members, 1), abs=1e-9)


def test_repetition():
    rows = [[1, 2, 3, 4], [1, 2] * 50, [7] * 10, [1], [], None]
    found = repetition(rows, ngram=2)
    assert found[:5].tolist() == pytest.approx([0.0, 1 - 2 / 99, 1 - 1 / 9, 0.0, 0.0])
    assert math.isnan(found[5])


def test_select_takes_the_farthest_and_the_first_of_equals():
    rows = [[1, 1, 1], [1, 1, 1], [2, 2, 2], None, [3, 3, 3]]
    assert select_diverse(rows, 3).tolist() == [0, 2, 4]
    assert select_diverse(rows, 10).tolist() == [0, 2, 4, 1]
    assert select_diverse(rows, 2, quality=[1, 2, 1, 9, 3]).tolist() == [4, 1]
    assert select_diverse(rows, 0).tolist() == []


@settings(deadline=None, max_examples=60)
@given(texts, st.integers(0, 8), st.integers(1, 3))
def test_dpp_takes_the_largest_determinants(rows, k, ngram):
    kernel = np.array([[jaccard(a, b, ngram) for b in rows] for a in rows])
    chosen: list[int] = []
    while len(chosen) < min(k, len(rows)):
        distinct = [row for place, row in enumerate(chosen) if not np.isclose(kernel[row, chosen[:place]], 1).any()]
        gains = {
            row: np.linalg.det(kernel[np.ix_([*distinct, row], [*distinct, row])])
            / np.linalg.det(kernel[np.ix_(distinct, distinct)])
            for row in range(len(rows))
            if row not in chosen
        }
        gains = {row: gain if gain > 1e-9 else 0.0 for row, gain in gains.items()}
        most = max(gains.values())
        chosen.append(next(row for row, gain in gains.items() if gain >= most * (1 - 1e-8)))
    assert select_diverse(rows, k, method="dpp", ngram=ngram).tolist() == chosen


def test_dpp_weighs_quality_and_keeps_the_rules_of_max_min():
    rows = [[1, 1, 1], [1, 1, 1], [2, 2, 2], None, [3, 3, 3]]
    for method in METHODS:
        assert select_diverse(rows, 3, method=method).tolist() == [0, 2, 4]
        assert select_diverse(rows, 10, method=method).tolist() == [0, 2, 4, 1]
        assert select_diverse(rows, 2, method=method, quality=[1, 2, 1, 9, 3]).tolist() == [4, 1]
        assert select_diverse(rows, 9, method=method, quality=[0, 0, 1, 0, 0]).tolist() == [2, 0, 1, 4]
        assert select_diverse(rows, 0, method=method).tolist() == []
        assert select_diverse([], 3, method=method).tolist() == []
    assert select_diverse(rows, 2, method="dpp", quality=[1, 1, 1e200, 1, 1e200]).tolist() == [2, 4]


def test_max_min_sees_the_nearest_row_and_dpp_all_of_them():
    # To rows 0 and 1, row 2 has the similarities 0.5 and 0.5, row 3 has 0.6 and 0.
    rows = [[1, 2, 3], [4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 8]]
    assert select_diverse(rows, 3, ngram=1).tolist() == [0, 1, 2]
    assert select_diverse(rows, 3, method="dpp", ngram=1).tolist() == [0, 1, 3]


def test_pick_respects_uses_quality_and_prompts():
    rows = [[1] * 4, [2] * 4, [3] * 4, [1] * 4, None]
    prompt = [7, 7, 7, 3, 7, 7]
    a = [0, 0, 1, 0, 0, 0]
    b = [1, 2, 2, 1, 3, 4]
    quality = [1.0, 2.0, 0.5, 1.0, 9.0, 9.0]
    index, alike = pick_pairs(rows, prompt, a, b, quality, max_pairs=2, max_uses=2, ngram=2)
    assert index.tolist() == [1, 0, 3]  # equal sides and null responses are worth nothing
    assert alike.tolist() == [0.0, 0.0, 0.0]
    index, _ = pick_pairs(rows, prompt, a, b, quality, max_pairs=2, max_uses=1, ngram=2)
    assert index.tolist() == [1, 3]
    assert pick_pairs(rows, [], [], [], [], max_pairs=2, max_uses=1)[0].tolist() == []


def test_picked_pairs_are_unlike_each_other():
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 50, 30).tolist() for _ in range(12)]
    a, b = map(list, zip(*combinations(range(12), 2), strict=True))
    index, _ = pick_pairs(rows, [0] * len(a), a, b, [1.0] * len(a), max_pairs=6, max_uses=1, ngram=1)
    used = [row for i in index for row in (a[i], b[i])]
    assert len(used) == len(set(used)) == 12
    assert all(i != j for i, j in pairwise(sorted(used)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: diversity([[1]], [1, 2]),
        lambda: diversity([[1]], scores=["novel"]),
        lambda: diversity([[1]], order=0),
        lambda: diversity([[1]], order=float("nan")),
        lambda: diversity([[1]], order="one"),
        lambda: diversity([[1]], history=["text"]),
        lambda: diversity([[1]] * 10_001, scores=["vendi"]),
        lambda: novelty([[1]], [[-1]]),
        lambda: novelty([[1]], [[1]], ngram=0),
        lambda: select_diverse([[1]], 1, method="nearest"),
        lambda: select_diverse([[1]], 1, method=None),
        lambda: diversity([[1]], ngram=0),
        lambda: pair_similarity([[1]], [0], [1]),
        lambda: pair_similarity([[1]], [0], [-1]),
        lambda: pair_similarity([[1]], [0.5], [0]),
        lambda: select_diverse([[1]], -1),
        lambda: select_diverse([[1]], 1, quality=[-1.0]),
        lambda: pick_pairs([[1]], [0], [0], [0], [float("nan")], max_pairs=1, max_uses=1),
        lambda: repetition([[1]], ngram=0),
        lambda: repetition([[1]], threads=0),
        lambda: repetition([[1]], threads=2**64),
        lambda: select_diverse([[1]], 1.5),
        lambda: pick_pairs([[1]], [0], [0], [0], [1.0], max_pairs=10**20, max_uses=1),
    ],
)
def test_what_cannot_be_used_is_refused(call):
    with pytest.raises(DataError):
        call()
