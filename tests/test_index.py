"""The index that grows, from Python; its properties are held in rust/core/tests/data/index.rs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tso import DedupIndex, dedup_texts
from tso.errors import DataError, StoreDamaged, StoreLocked


def _rows(count: int) -> list[list[int] | None]:
    """Texts with edited copies, repeats, nulls and empty ones."""
    rng = random.Random(3)
    rows: list[list[int] | None] = [None, []]
    while len(rows) < count:
        known = rng.choice(rows)
        if rng.random() < 0.5 or not known:
            rows.append([rng.randrange(1000) for _ in range(rng.randrange(60))])
        else:
            row = list(known)
            row[rng.randrange(len(row))] = rng.randrange(1000)
            rows.append(row if rng.random() < 0.7 else list(known))
    return rows


@pytest.mark.parametrize("link", ["component", "star"])
def test_batches_give_the_clusters_of_the_whole(tmp_path: Path, link: str) -> None:
    rows = _rows(300)
    groups = [i % 2 for i in range(300)]
    expected = dedup_texts(rows, ngram=3, threshold=0.6, link=link, groups=groups)
    edges = 0
    for start in range(0, 300, 70):  # opened anew for each batch, as iterations of a run are
        with DedupIndex(tmp_path / "history", ngram=3, threshold=0.6, link=link) as index:
            added = index.add(rows[start : start + 70], groups=groups[start : start + 70])
            edges += added.edges.num_rows
            assert len(index) == start + len(added.keep)
            assert added.reason_names(0) in {"", "exact", "near"}
            np.testing.assert_array_equal(added.keep, added.cluster == np.arange(start, start + len(added.keep)))
    with DedupIndex(tmp_path / "history", ngram=3, threshold=0.6, link=link) as index:
        np.testing.assert_array_equal(index.clusters(), expected.cluster)
    assert edges == expected.edges.num_rows


def test_one_batch_is_dedup_texts() -> None:
    rows = _rows(200)
    expected, found = dedup_texts(rows), DedupIndex().add(rows)
    for name in ("keep", "cluster", "reason"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_text_with_its_tokenizer() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {w: i for i, w in enumerate(["never", "give", "all", "your", "heart", "away", "[UNK]"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    index = DedupIndex()
    assert index.add(["never give all", None], tokenizer=tokenizer).keep.tolist() == [True, True]
    assert index.add(["never give all", "give away"], tokenizer=tokenizer).keep.tolist() == [False, True]


def test_what_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with DedupIndex(path) as index:
        index.add([[1, 2, 3]])
        with pytest.raises(StoreLocked, match="in use by another process"):
            DedupIndex(path)
        with pytest.raises(DataError, match="groups has 2 entries for 1 rows"):
            index.add([[1]], groups=[0, 1])
        with pytest.raises(DataError, match=r"row 0 holds token id -1"):
            index.add((np.array([-1]), np.array([0, 1])))
        assert len(index) == 1
    with pytest.raises(DataError, match="closed"):
        index.add([[1]])
    with pytest.raises(DataError, match=r"was made with ngram=5, threshold=0\.8, link=component"):
        DedupIndex(path, ngram=4)
    for link in ("chain", None):
        with pytest.raises(DataError, match="link has to be"):
            DedupIndex(link=link)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no/such"):
        DedupIndex(tmp_path / "no/such/folder")
    (tmp_path / "other").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(StoreDamaged, match="does not begin like one"):
        DedupIndex(tmp_path / "other")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_leaves_the_file_to_its_parent(tmp_path: Path) -> None:
    def refused(index: DedupIndex) -> bool:
        for use in (lambda: index.add([[9, 9, 9]]), lambda: len(index), index.clusters):
            try:
                use()
            except DataError as error:
                if "parent process" not in str(error):
                    return False
            else:
                return False
        return True

    def in_child(test) -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if test() else 1
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with DedupIndex(tmp_path / "history") as index, DedupIndex() as here:
        for own in (index, here):
            own.add([[1, 2, 3]])
        assert in_child(lambda: refused(index)) == 0
        assert in_child(lambda: here.add([[1, 2, 3]]).keep.tolist() == [False]) == 0  # it is the child's own
        index.add([[8, 8, 8]])
    with DedupIndex(tmp_path / "history") as index:
        assert len(index) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_that_lives_on_holds_no_file_that_its_parent_has_closed(tmp_path: Path) -> None:
    index = DedupIndex(tmp_path / "history")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    index.close()
    with DedupIndex(tmp_path / "history") as again:
        again.add([[1, 2, 3]])
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_front_that_cannot_be_written_leaves_an_empty_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (32, 32))
            DedupIndex(tmp_path / "history")
        except OSError as error:
            code = 0 if "File too large" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with DedupIndex(tmp_path / "history") as index:
        assert len(index) == 0


def test_files_that_are_no_index_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for content in (b"my shopping list\n", b"\0", bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(StoreDamaged, match="no index of tso"):
            DedupIndex(path)
        assert path.read_bytes() == content
    path.write_bytes(b"")
    with DedupIndex(path) as index:
        assert len(index) == 0


def test_a_lost_batch_is_damage_also_where_it_is_the_last(tmp_path: Path) -> None:
    path, ends = tmp_path / "history", [0]
    with DedupIndex(path) as index:
        for batch in range(5):
            index.add([[batch, i, 7] for i in range(20)])
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for start, end in pairwise(ends):
        path.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
        with pytest.raises(StoreDamaged):
            DedupIndex(path)
        if start:
            path.write_bytes(whole[:start])
            with pytest.raises(StoreDamaged, match="is gone"):
                DedupIndex(path)


def test_killed_while_adding(tmp_path: Path) -> None:
    """SIGKILL at any moment leaves whole batches, and adding the rest gives the same clusters."""
    rows = _rows(400)
    expected = dedup_texts(rows).cluster
    script = textwrap.dedent("""
        import json, sys
        from tso import DedupIndex
        rows = json.load(sys.stdin)
        with DedupIndex(sys.argv[1]) as index:
            print(len(index), flush=True)
            while len(index) < len(rows):
                index.add(rows[len(index) : len(index) + 5])
                print(len(index), flush=True)
    """)
    path, rng, seen = tmp_path / "history", random.Random(5), 0
    for kill in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(rows))
        process.stdin.close()
        started = int(process.stdout.readline())
        assert started >= seen, "rows that were there are gone"
        for _ in range(rng.randrange(12) if kill < 5 else 10_000):
            line = process.stdout.readline()
            if not line:
                break
            seen = int(line)
        if kill < 5:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with DedupIndex(path) as index:
        assert len(index) == len(rows)
        np.testing.assert_array_equal(index.clusters(), expected)
