"""`tso dedup --engine ray` on a cluster of two nodes: the local files and rows, whatever dies in between."""

from __future__ import annotations

import gzip
import json
import os
import signal
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tso import cli, dedup, ray_engine
from tso.parts import Blocks, dedup_blocks, read_block

from tests.planted import assert_same, crowd, cut, planted

ray = pytest.importorskip("ray", reason="Ray is not installed here")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray comes without its test cluster here")

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@contextmanager
def two_nodes():
    """A cluster of two nodes on this machine, of which the first is the head."""
    made = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as made:
        yield made


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(8)
    rows = [*crowd(rng, 400, 0), *planted(rng, 300, 4)]
    return [rows[i] for i in rng.permutation(len(rows))]


def once(folder, work, *args):
    """The work, but the first worker that begins it dies."""
    try:
        (Path(folder) / work.__name__).touch(exist_ok=False)
    except FileExistsError:
        return work(*args)
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(ray_engine.RayPool):
    """A pool in which a worker dies during every kind of task."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def start(self, work, *args, returns=1):
        deadly = partial(once, str(self.folder), work)
        deadly.__name__ = work.__name__
        return super().start(deadly, *args, returns=returns)


def test_files_are_those_of_the_local_run(cluster, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizers = pytest.importorskip("tokenizers", reason="text needs tokenizers")
    coder = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, **{str(i): i for i in range(1, 5000)}}, "?"))
    coder.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    coder.save("tokenizer.json")
    numbers = range(len(rows))
    with open("texts.jsonl", "w") as file:
        for i in numbers[:700]:
            text = None if rows[i] is None else " ".join(map(str, rows[i]))
            file.write(json.dumps({"n": i % 7, "text": text}) + "\n" + "[1]\n" * (i == 3))
    Path("folder").mkdir()
    columns = pa.table({"id": list(numbers), "output": pa.array(rows, pa.list_(pa.int32()))})
    pq.write_table(columns.slice(0, 600), "folder/a.parquet", row_group_size=200)
    pq.write_table(columns.slice(600), "folder/b.parquet")
    pq.write_table(columns, "one.parquet", row_group_size=300)
    monkeypatch.setattr("tso.pieces.PIECE", 1)  # a row group a piece
    for words, suffix in [
        (["texts.jsonl", "--tokenizer", ".", "--keep", "n"], "jsonl"),
        (["texts.jsonl", "--tokenizer", ".", "--link", "star", "--keep", "longest"], "parquet"),
        (["folder", "one.parquet"], "jsonl.gz"),
        (["one.parquet", "--ngram", "3", "--threshold", "0.6"], "parquet"),
    ]:
        for engine in ("local", "ray"):
            address = ["--ray-address", cluster.address] if engine == "ray" else []
            line = ["dedup", *words, "-o", f"{engine}.{suffix}", "--engine", engine, *address, "--overwrite"]
            assert cli.main(line) == 0
        for name in ("", ".removed"):
            local, ours = Path(f"local{name}.{suffix}"), Path(f"ray{name}.{suffix}")
            if suffix == "jsonl.gz":  # which holds the time and its own name
                assert gzip.decompress(local.read_bytes()) == gzip.decompress(ours.read_bytes())
            else:
                assert local.read_bytes() == ours.read_bytes()
            assert local.stat().st_size > 1000


@pytest.mark.parametrize("link", ["component", "star"])
def test_blocks_are_those_of_the_local_run(cluster, rows, link):
    groups = np.arange(len(rows)) % 2
    found = ray_engine.dedup_texts(
        cut(rows, [500, 500]), address=cluster.address, link=link, keep="longest", groups=groups
    )
    assert_same(found, dedup.dedup_texts(rows, link=link, keep="longest", groups=groups), link)


def test_a_worker_killed_in_every_step_changes_nothing(cluster, rows, tmp_path):
    with ray_engine.connected(cluster.address):
        pool = Deadly(tmp_path)
        read = [pool.start(read_block, block, returns=2) for block in cut(rows, [500, 500])]
        found = dedup_blocks(pool, Blocks.gather(pool, read))
    died = {path.name for path in tmp_path.iterdir()}
    assert died == {"read_block", "sketch_block", "couple_partition", "pick_rows", "equal_rows", "near_rows"}
    assert_same(found, dedup.dedup_texts(rows))


def test_a_node_killed_with_its_blocks_changes_nothing(rows):
    """The second node goes when the keys are there, with the blocks: they are made again."""
    rows = rows * 8  # so that blocks are large enough to lie in a node's store

    NodeAffinitySchedulingStrategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy

    class Loses(ray_engine.RayPool):
        lost = 0

        def start(self, work, *args, returns=1):
            # Left to Ray, all blocks may be read on the first node while the second still starts its worker.
            self._task = on_second if work is read_block else anywhere
            if work.__name__ == "couple_partition" and cluster.worker_nodes:
                node = next(iter(cluster.worker_nodes))
                places = ray.experimental.get_object_locations([block for block, _ in read])
                self.lost = sum(place["node_ids"] == [node.node_id] for place in places.values())
                cluster.remove_node(node, allow_graceful=False)
            return super().start(work, *args, returns=returns)

    with two_nodes() as cluster, ray_engine.connected(cluster.address):
        second = next(iter(cluster.worker_nodes)).node_id
        anywhere = ray.remote(ray_engine._run)
        on_second = ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(second, soft=True))(ray_engine._run)
        pool = Loses()
        read = [pool.start(read_block, block, returns=2) for block in cut(rows, [1500] * 6)]
        found = dedup_blocks(pool, Blocks.gather(pool, read))
        assert pool.lost > 0
    assert_same(found, dedup.dedup_texts(rows))


def test_what_a_task_refuses_is_one_line(cluster, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": [1, -2]}\n')
    line = ["dedup", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "o.jsonl"), "--engine", "ray"]
    assert cli.main([*line, "--ray-address", cluster.address]) == 2
    said = capsys.readouterr().err
    assert "a.jsonl line 1 holds -2, which is no token id" in said
    assert said.count("\n") == 1
    assert not ray.is_initialized()
