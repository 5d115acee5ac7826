"""Input files in pieces, in one process: together they are what the local run reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tso import cli, pieces, ray_engine, rows, tables
from tso.errors import ClusterError, DataError, MissingDependency


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """in.jsonl with bad lines, ids.parquet of five row groups, and a folder that holds both kinds."""
    monkeypatch.chdir(tmp_path)
    bad = "[1]\nno json\n"
    lines = [json.dumps({"id": i, "text": f"text {i}", "score": i / 2}) + "\n" for i in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(lines[:3]) + bad + "\n" + "".join(lines[3:]))
    table = pa.table({"n": list(range(10)), "text": [[i, i] for i in range(10)]})
    pq.write_table(table, tmp_path / "ids.parquet", row_group_size=2)
    (tmp_path / "both" / "sub").mkdir(parents=True)
    (tmp_path / "both" / "b.jsonl").write_text(lines[0])
    pq.write_table(table.slice(0, 3), tmp_path / "both" / "sub" / "a.parquet")
    return tmp_path


def facts(paths, column=None, score=None):
    return [pieces.look(piece, column, score)[0] for piece in pieces.cut(paths)]


def summary(paths, column=None, score=None):
    return pieces.summary(paths, facts(paths, column, score), column, score)


@pytest.mark.parametrize("size", [1, 40, 1 << 30])
def test_pieces_hold_the_rows_of_the_files_at_their_places(folder, size, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", size)
    paths = [Path("in.jsonl"), Path("ids.parquet"), Path("both"), folder / "ids.parquet"]
    found = [row for piece in pieces.cut(paths) for row in piece.rows()]
    passing = tables.Files(tuple(paths), 30).chunks()
    seen = [(chunk.values(i), chunk.place(i)) for chunk in passing for i in range(len(chunk))]
    assert [(values, place) for values, place, problem in found if not problem] == seen
    whole = [(row.values, f"{path} {row.where(path)}") for path in paths for row in rows.read(path)]
    assert [(values, place) for values, place, _ in found] == whole
    assert len(pieces.cut(paths)) == {1: 9 + 10 + 1 + 3 + 10, 1 << 30: 5}.get(size, len(pieces.cut(paths)))


def test_what_a_block_holds(folder):
    piece = pieces.cut([folder / "ids.parquet"])[0]
    block, (_, lengths) = pieces.read(piece, "text", None)
    assert block.to_pylist() == [[i, i] for i in range(10)]
    assert lengths.tolist() == [2] * 10
    with pytest.raises(DataError, match=r"ids.parquet, column 'n': tokens have to be"):
        pieces.read(piece, "n", None)


def test_what_the_pieces_say_together(folder):
    text, ids = folder / "in.jsonl", folder / "ids.parquet"
    found = summary([text], score="score")
    assert (found.column, found.ids, found.scores.tolist()) == ("text", False, [0, 0.5, 1, 1.5, 2, 2.5])
    assert [line.split("in.jsonl ")[1] for line in found.bad] == [
        'line 4: not a JSON object such as {"prompt": "..."}',
        "line 5: not JSON (Expecting value, column 1)",
    ]
    assert summary([ids]).ids
    assert summary([ids], column="text").ids
    with pytest.raises(DataError, match=r"ids.parquet line 1 holds token ids where .*in.jsonl line 1 holds text"):
        summary([text, ids])
    with pytest.raises(DataError, match=r"in.jsonl line 1 holds text where .*ids.parquet line 1 holds token ids"):
        summary([ids, text])
    many = folder / "many.jsonl"
    many.write_text("no json\n" * 9 + '{"text": null}\n')
    assert summary([many]).bad[-1] == "left out: 4 more lines that hold no row"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("[1]\n", {}, "no row in"),
        ('{"a": 1}\n', {}, "no column of text is known by name among a"),
        ('{"text": "a"}\n', {"column": "b"}, "no column 'b'; there is text"),
        ('{"text": "a", "s": 1}\n{"text": "a"}\n', {"score": "s"}, "a column with a number in every row"),
        ('{"chosen": "a", "rejected": "b"}\n', {}, "these rows are pairs"),
        ('{"text": "a"}\n[', {}, ""),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, content, options, message):
    path = tmp_path / "in.jsonl"
    path.write_text(content)
    if message:
        with pytest.raises(DataError, match=message):
            summary([path], **options)
    else:
        assert summary([path], **options).column == "text"


def test_pairs_are_compared_by_one_column(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"chosen": "a", "rejected": "b"}\n')
    assert summary([path], column="chosen").column == "chosen"


def test_a_file_that_changes_meanwhile_is_noticed(folder):
    path = (folder / "in.jsonl",)
    for count in (5, 7):
        with pytest.raises(DataError, match="changed while it was read"):
            list(tables.Files(path, count).chunks())


def test_without_ray_the_way_to_it_is_named(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency), ray_engine.connected(None):
        pass
    assert cli.main(["dedup", "ids.parquet", "-o", "o.jsonl", "--engine", "ray"]) == 2
    assert capsys.readouterr().err == "error: Ray is not installed: pip install 'tso-align[ray]'\n"
    assert not (folder / "o.jsonl").exists()


@pytest.mark.parametrize("address", ["nowhere", "ray://host:1", ":1", "host:port"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(DataError, match="host:port"):
        ray_engine._check_reachable(address)


def test_a_cluster_that_is_not_there():
    with pytest.raises(ClusterError, match=r"no Ray cluster at 127\.0\.0\.1:1: "):
        ray_engine._check_reachable("127.0.0.1:1")


def test_a_node_with_another_version_is_refused():
    with pytest.raises(ClusterError, match="install the same"):
        ray_engine._run("0.0.0", list)
