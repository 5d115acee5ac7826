"""tso.dedup against Python sets and networkx, for every kind of column, and on real responses."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso import _core
from tso._columns import as_tokens
from tso.dedup import REASONS, Deduped, dedup_pairs, dedup_texts
from tso.errors import DataError, InternalError

from tests.twin import DATA, jaccard, shingles, words

ROWS = [[1, 2, 3, 4, 5, 6], [], None, [1, 2, 3, 4, 5, 6], [7], None, [], [9, 9, 9]]
texts = st.lists(st.none() | st.lists(st.integers(0, 3), max_size=8), max_size=14)


def same(a: Deduped, b: Deduped) -> bool:
    columns = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("keep", "cluster", "reason"))
    return columns and a.edges.equals(b.edges)


@pytest.fixture(scope="module")
def matrix() -> dict[str, list]:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: real responses are not part of the repository")
    import pyarrow.parquet as pq

    return pq.read_table(DATA, columns=["prompt_id", "response"]).to_pydict()


@settings(deadline=None, max_examples=60)
@given(texts, st.integers(1, 3), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_clusters_are_the_components_of_all_similar_pairs(rows, ngram, threshold):
    found = dedup_texts(rows, ngram=ngram, threshold=threshold, mode="exact", threads=1)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(rows)))
    for (i, a), (j, b) in combinations(enumerate(rows), 2):
        both = a is not None and b is not None
        if both and (a == b or (a and b and jaccard(a, b, ngram) >= threshold)):
            graph.add_edge(i, j)
    for component in nx.connected_components(graph):
        assert {int(found.cluster[i]) for i in component} == {min(component)}
    assert found.keep.tolist() == [found.cluster[i] == i for i in range(len(rows))]
    for edge in found.edges.to_pylist():
        a, b = rows[edge["i"]], rows[edge["j"]]
        assert edge["jaccard"] == (1.0 if a == b else jaccard(a, b, ngram))


def columns():
    """The same rows in every form that a column can come in."""
    for item in (pa.int32(), pa.int64(), pa.uint32()):
        for kind in (pa.list_, pa.large_list):
            whole = pa.array(ROWS, type=kind(item))
            yield f"{kind(item)}", whole
            padded = pa.array([[5] * 7, *ROWS, [8]], type=kind(item))
            yield f"{kind(item)} sliced", padded.slice(1, len(ROWS))
            yield f"{kind(item)} chunked", pa.chunked_array([whole.slice(0, 3), whole.slice(3, 0), whole.slice(3)])
            yield f"{kind(item)} one chunk", pa.chunked_array([padded.slice(1, len(ROWS))])


@pytest.mark.parametrize(("name", "column"), list(columns()))
def test_every_column_gives_the_same(name, column):
    assert same(dedup_texts(column), dedup_texts(ROWS))


def test_lists_of_a_fixed_size():
    rows = [[1, 2], [1, 2], None, [3, 4], [1, 2]]
    column = pa.array([[9, 9], *rows], type=pa.list_(pa.uint32(), 2)).slice(1)
    assert same(dedup_texts(column, ngram=1), dedup_texts(rows, ngram=1))


def test_the_rows_used_above_show_null_empty_and_copies():
    found = dedup_texts(ROWS)
    assert found.cluster.tolist() == [0, 1, 2, 0, 4, 5, 1, 7]
    assert found.keep.tolist() == [True, True, True, False, True, True, False, True]
    assert [found.reason_names(i) for i in (0, 3)] == ["", "exact"]
    assert found.edges.to_pydict() == {"i": [0, 1], "j": [3, 6], "jaccard": [1.0, 1.0]}


def test_numpy_values_and_offsets():
    rows = [row or [] for row in ROWS]
    values = np.array([0, 0, *(t for row in rows for t in row)])
    offsets = np.cumsum([2, *map(len, rows)])
    for ids in (np.int64, np.int32, np.uint32, np.uint64, np.int16):
        for places in (np.int64, np.int32):
            found = dedup_texts((values.astype(ids), offsets.astype(places)))
            assert same(found, dedup_texts(rows))


def test_rows_may_be_arrays_and_the_column_may_be_empty():
    assert same(dedup_texts([np.array([1, 2]), None, (3,)]), dedup_texts([[1, 2], None, [3]]))
    for empty in ([], pa.array([], type=pa.list_(pa.int64())), pa.chunked_array([], type=pa.list_(pa.int64()))):
        assert len(dedup_texts(empty).keep) == 0
    assert dedup_texts(pa.array([[], []])).cluster.tolist() == [0, 0]  # a list of type null


def test_a_polars_column():
    polars = pytest.importorskip("polars")
    assert same(dedup_texts(polars.Series(ROWS)), dedup_texts(ROWS))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1], [-2]], "row 1 holds token id -2"),
        ([[2**32]], "4294967296"),
        (pa.array([[-1]], type=pa.list_(pa.int32())), "row 0 holds token id -1"),
        (pa.chunked_array([[[1]], [[2], [-3]]]), "in chunk 1: row 1"),
        ((np.array([1, -1]), np.array([0, 2])), "-1"),
        ((np.array([1, 2]), np.array([0, 3])), "3"),
        ((np.array([1, 2]), np.array([], dtype=np.int64)), "offsets are empty"),
        ((np.array([1.5]), np.array([0, 1])), "float64"),
        ([[1, None]], "null"),
        (["text"], "tokenize"),
        ([["a"]], "int32, int64 or uint32"),
        ([[1, 1.5]], "int32, int64 or uint32"),
        ([[True]], "int32, int64 or uint32"),
        ([1, 2], "lists of ids"),
        ([[1], 2], "one list of token ids"),
        (pa.array(["text"]), "lists of ids"),
        (pa.array([[1.5]]), "int32, int64 or uint32"),
        (pa.table({"x": [[1]]}), "one column"),
        (7, "one list of token ids"),
    ],
)
def test_what_cannot_be_read_is_refused(tokens, message):
    with pytest.raises(DataError, match=re.escape(message)):
        dedup_texts(tokens)


@given(st.lists(st.none() | st.lists(st.integers(0, 2**32 - 1), max_size=4), max_size=12), st.integers(1, 6))
def test_python_lists_are_read_in_parts_as_at_once(rows, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tso._columns._PART", part)
        found = as_tokens(rows)
    assert found.to_pylist() == rows
    assert found.type == pa.list_(pa.int64())


def test_no_part_of_a_python_list_is_more_than_ctrl_c_may_wait_for(monkeypatch):
    sizes, array = [], pa.array

    def counting(rows, *kind):
        sizes.append(sum(len(row) for row in rows[:-1] if row))
        return array(rows, *kind)

    monkeypatch.setattr(pa, "array", counting)
    as_tokens([[1] * 1000] * 5000 + [[2] * 3_000_000] + [None, []] * 10)
    assert len(sizes) > 5
    assert max(sizes) < 1 << 20


@pytest.mark.parametrize("part", [1, 100])
@pytest.mark.parametrize("other", [[1.5], ["a"], [2**63], [True], "text", 2, 1.5])
def test_rows_of_different_kinds_are_refused_in_whatever_parts(monkeypatch, part, other):
    monkeypatch.setattr("tso._columns._PART", part)
    for rows in ([[1], None, other], [other, [], [1]]):
        with pytest.raises(DataError):
            dedup_texts(rows)


def test_a_null_id_outside_a_slice_is_not_looked_at():
    column = pa.array([[1, None], [2]], type=pa.list_(pa.int64()))
    assert dedup_texts(column.slice(1)).cluster.tolist() == [0]


@pytest.mark.parametrize(
    "options",
    [
        {"ngram": 0},
        {"ngram": -1},
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"mode": "fast"},
        {"mode": None},
        {"link": None},
        {"keep": None},
        {"link": "chain"},
        {"keep": "last"},
        {"keep": [1.0]},
        {"keep": [1.0, float("nan")]},
        {"keep": ["a", "b"]},
        {"groups": [1]},
        {"groups": [1.5, 2.5]},
        {"threads": 0},
        {"threads": -1},
        {"threads": 1025},
        {"threads": 10**11},
        {"threads": 1.5},
        {"threads": "2"},
        {"ngram": 2**64},
        {"ngram": 2.0},
        {"threshold": "high"},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(DataError):
        dedup_texts([[1], [2]], **options)


def test_no_more_threads_are_started_than_there_are_cores():
    """So many threads that memory for their stacks would not be there if all of them were started."""
    script = (
        "import resource\n"
        "from tso.dedup import dedup_texts\n"
        "dedup_texts([[1], [1]])\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))\n"
        "assert dedup_texts([[1], [1]], threads=1024).keep.tolist() == [True, False]\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("how much memory is in use is read from /proc")
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_groups_scores_and_stars():
    rows = [[1, 2, 3], [1, 2, 3], [1, 2, 3]]
    assert dedup_texts(rows, groups=[0, 1, 0]).cluster.tolist() == [0, 1, 0]
    assert dedup_texts(rows, keep=[0.1, 0.3, 0.3]).keep.tolist() == [False, True, False]
    chain = [list(range(i, i + 20)) for i in range(5)]
    star = dedup_texts(chain, ngram=1, threshold=0.9, link="star", keep=[0, 0, 9, 0, 0], mode="exact")
    assert star.cluster.tolist() == [0, 1, 1, 1, 4]
    assert star.keep.tolist() == [True, False, True, False, True]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 4)), max_size=14))
def test_cycles_are_strongly_connected_components(rows):
    found = dedup_pairs([[p] for p, _, _ in rows], [[c] for _, c, _ in rows], [[r] for _, _, r in rows], threads=1)
    for prompt in (0, 1):
        graph = nx.DiGraph([(c, r) for p, c, r in rows if p == prompt and c != r])
        left = nx.DiGraph([(c, r) for c, r in graph.edges if not graph.has_edge(r, c)])
        cyclic = [nodes for nodes in nx.strongly_connected_components(left) if len(nodes) > 2]
        for i, (p, c, r) in enumerate(rows):
            if p == prompt and c != r:
                assert bool(found.reason[i] & 32) == (left.has_edge(c, r) and any({c, r} <= nodes for nodes in cyclic))
                assert bool(found.reason[i] & 4) == graph.has_edge(r, c)
    contradicted = (found.reason & 36) > 0
    assert not (found.keep & contradicted).any()


def test_scores_leave_no_contradiction_and_no_cycle():
    rng = np.random.default_rng(0)
    sides = rng.integers(0, 12, size=(200, 2))
    scores = rng.random(200)
    found = dedup_pairs([[0]] * 200, sides[:, :1].tolist(), sides[:, 1:].tolist(), keep=scores)
    graph = nx.DiGraph([tuple(pair) for pair in sides[found.keep]])
    assert nx.is_directed_acyclic_graph(graph)
    assert found.keep.sum() > 10


def test_each_reason_of_a_pair():
    long = list(range(100))
    near = [*range(99), 500]
    rows = [
        ([1], long, [7]),
        ([1], long, [7]),  # exact
        ([1], near, [7]),  # near
        ([1], [5], [5]),  # degenerate
        ([1], [6, 6, 1], [6, 6, 2]),  # degenerate once cut
        ([2], [8], [9]),
        ([2], [9], [8]),  # the opposite
        ([1], None, [3]),
    ]
    found = dedup_pairs(*map(list, zip(*rows, strict=True)), max_length=3)
    expected = ["", "exact", "near", "degenerate", "degenerate_truncated", "reversed", "reversed", ""]
    assert [found.reason_names(i) for i in range(len(rows))] == expected
    assert found.keep.tolist() == [reason == "" for reason in expected]
    assert found.reversed.to_pydict() == {"i": [5], "j": [6], "jaccard": [1.0]}
    assert [name for _, name in REASONS][-1] == "cycle"


def test_global_scope_needs_prompts_that_match():
    prompt = list(range(50))
    near = [*range(49), 99]
    sides = ([[1], [1], [1]], [[2], [2], [2]])
    prompts = [prompt, near, [3]]
    assert dedup_pairs(prompts, *sides).cluster.tolist() == [0, 1, 2]
    assert dedup_pairs(prompts, *sides, scope="global").cluster.tolist() == [0, 0, 2]
    with pytest.raises(DataError, match="scope has to be a word, got None"):
        dedup_pairs(prompts, *sides, scope=None)


def test_masked_entries_are_no_numbers():
    masked = np.ma.array([1, 9], mask=[False, True])
    for options in ({"keep": masked}, {"keep": masked * 1.5}, {"groups": masked}):
        with pytest.raises(DataError, match="masked entries"):
            dedup_texts([[1], [1]], **options)
    with pytest.raises(DataError, match="token ids hold masked entries"):
        dedup_texts((masked, np.array([0, 1, 2])))
    assert dedup_texts([[1], [1]], keep=np.ma.array([1, 9])).keep.tolist() == [False, True]


def test_near_prompts_hide_no_contradiction():
    """Both orders match, the opposite one to the token, and the prompts are less similar than the sides are."""
    prompts = [[1, 2, 3, 4], [1, 2, 3, 5]]
    good, bad = list(range(10)), [*range(9), 99]
    found = dedup_pairs(prompts, [good, bad], [bad, good], scope="global", ngram=1, threshold=0.6)
    assert found.reason.tolist() == [4, 4]
    assert found.reversed.to_pydict() == {"i": [0], "j": [1], "jaccard": [1.0]}
    same = dedup_pairs(prompts, [good, good], [bad, bad], scope="global", ngram=1, threshold=0.6)
    assert same.cluster.tolist() == [0, 0]
    assert same.edges["jaccard"].to_pylist() == [0.6]


def test_columns_of_pairs_have_to_be_equally_long():
    with pytest.raises(DataError, match="rejected has 1 entries for 2 rows"):
        dedup_pairs([[1], [1]], [[1], [1]], [[1]])


def test_a_panic_becomes_an_error():
    with pytest.raises(InternalError, match="please report it: boom"):
        _core._panic("boom")


def test_importing_tso_brings_no_heavy_package():
    script = "import sys, tso; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.mark.parametrize("mode", ["lsh", "exact"])
def test_threads_change_nothing_on_real_responses(matrix, mode):
    rows = words(matrix["response"][:3000])
    one, two, eight = (dedup_texts(rows, mode=mode, threads=n) for n in (1, 2, 8))
    assert same(one, two)
    assert same(one, eight)


def test_real_responses_of_one_prompt_match_python_sets(matrix):
    rows = words(matrix["response"])
    groups = [int(name[3:]) for name in matrix["prompt_id"]]
    expected = nx.Graph()
    expected.add_nodes_from(range(len(rows)))
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    sets = [shingles(row, 5) for row in rows]
    for rows_of_one in members.values():
        for i, j in combinations(rows_of_one, 2):
            if sets[i] and sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8:
                expected.add_edge(i, j)
    clusters = {i: min(nodes) for nodes in nx.connected_components(expected) for i in nodes}
    exact = dedup_texts(rows, groups=groups, mode="exact")
    assert exact.cluster.tolist() == [clusters[i] for i in range(len(rows))]
    lsh = dedup_texts(rows, groups=groups)
    assert lsh.cluster.tolist() == exact.cluster.tolist()
    assert 0 < (~lsh.keep).sum() < 200


@pytest.mark.parametrize("shingles", [6, 10, 20, 40, 80, 340])
def test_pairs_right_at_the_threshold_are_hardly_ever_missed(shingles):
    """Short texts too, whose sketches take several rounds."""
    rng = np.random.default_rng(shingles)
    shared = math.ceil(1.6 * shingles / 1.8)  # of the shingles of either side, as few as 0.8 allows
    rows = rng.integers(0, 2**31, (4000, shingles + 4), dtype=np.int32)
    copies = rows.copy()
    copies[:, shared + 4 :] = rng.integers(0, 2**31, (4000, shingles - shared), dtype=np.int32)
    values = np.concatenate([rows, copies]).ravel()
    found = dedup_texts((values, np.arange(8001) * (shingles + 4)))
    assert found.keep[:4000].all()
    assert found.keep[4000:].sum() <= 4  # one in a thousand
