"""The files that `tso dedup` and `tso diversity` read and write: pipes, links, names, kinds of values, several at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tso import output as out

from tests import test_clean
from tests.test_clean import lines, read

run = test_clean.run  # the fixture


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_pipe_is_read_once_or_refused(run, tmp_path):
    content = "".join(json.dumps({"text": ids}) + "\n" for ids in ([1, 2], [1, 2], [3]))
    for name in ("pipe", "pipe.jsonl"):
        os.mkfifo(tmp_path / name)
        writer = threading.Thread(target=(tmp_path / name).write_text, args=(content,))
        writer.start()
        code, said = run("dedup", name, "-o", f"{name}.out.jsonl")
        writer.join()
        assert code == 0, said
        assert read(tmp_path / f"{name}.out.jsonl") == [{"text": [1, 2]}, {"text": [3]}]
    os.mkfifo(tmp_path / "pipe.parquet")
    for words in (["pipe", "--engine", "disk"], ["pipe.jsonl", "--engine", "disk"], ["pipe.parquet"]):
        code, said = run("dedup", *words, "-o", "none.jsonl")
        assert code == 2
        assert f"input: {words[0]} is no regular file, and can be read only once; save" in said
    assert not (tmp_path / "none.jsonl").exists()


def test_text_in_data_and_names_is_shown_as_text(run, tmp_path):
    folder = tmp_path / "[" / "x]"
    folder.mkdir(parents=True)
    odd = "[/INST] [bold]:smile: \x1b]0;pwned\x07"
    lines(folder / "in.jsonl", [{"[/x]": odd}, {"[/x]": odd}])
    words = ("[/x]/in.jsonl", "--column", "[/x]", "--tokenizer", ".")
    code, said = run("dedup", *words, "-o", "out.jsonl", "--report", "html")
    assert code == 0, said
    assert "[/INST] [bold]:smile:" in said
    assert "\x1b" not in said
    assert (tmp_path / "out.jsonl.report.html").exists()
    code, said = run("diversity", *words)
    assert code == 0, said
    assert "groups of '[/x]'" in said


@pytest.mark.parametrize("engine", ["local", "disk"])
@pytest.mark.parametrize(("suffix", "output"), [*product(("arrow", "parquet"), ("parquet", "jsonl"))])
def test_views_of_strings_go_through(run, tmp_path, engine, suffix, output):
    texts = ["one", "one", "two", "two", "three"]
    nested = pa.array([{"a": ["x"]}] * 5, pa.struct([("a", pa.list_(pa.string_view()))]))
    raw = pa.array([b"1", b"2", b"3", b"4", b"5"], pa.binary_view())
    columns = {"text": pa.array(texts, pa.string_view()), "nested": nested}
    table = pa.table(columns if output == "jsonl" else {**columns, "raw": raw})
    if suffix == "parquet":
        pq.write_table(table, tmp_path / "in.parquet")
    else:
        with pa.ipc.new_file(tmp_path / "in.arrow", table.schema) as file:
            file.write_table(table)
    code, said = run("dedup", f"in.{suffix}", "-o", f"o.{output}", "--tokenizer", ".", "--engine", engine)
    assert code == 0, said
    if output == "parquet":
        kept = pq.read_table(tmp_path / "o.parquet")
        assert kept.schema.field("text").type == pa.string_view()
        kept = kept.to_pylist()
    else:
        kept = read(tmp_path / "o.jsonl")
    assert kept == [table.to_pylist()[i] for i in (0, 2, 4)]


def test_views_of_strings_are_written_in_large_groups(tmp_path):
    texts = pa.table({"text": pa.array(["x" * 600] * 4000, pa.string_view())})
    parts = [texts.slice(start, 100) for start in range(0, 4000, 100)]
    out._write_groups(tmp_path / "o.parquet", parts, texts.schema)
    assert pq.ParquetFile(tmp_path / "o.parquet").num_row_groups == 1


def test_a_page_or_a_name_that_cannot_be_written_is_told_before_the_work(run, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": [1, 2]}\n' * 3)
    (tmp_path / "o.jsonl.report.html").mkdir()
    code, said = run("dedup", "in.jsonl", "-o", "o.jsonl", "--report", "html", "--overwrite")
    assert (code, "o.jsonl.report.html is no regular file" in said) == (2, True), said
    assert not (tmp_path / "o.jsonl").exists()
    code, said = run("dedup", "in.jsonl", "-o", "o\udcff.parquet")
    assert (code, "is not UTF-8, which Parquet needs" in said) == (2, True), said


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_kinds_that_a_file_does_not_take_are_said_so(run, tmp_path, engine):
    ends = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", "b"]))
    far = pa.array([2**45] * 3, pa.timestamp("s"))
    for name, column in (("ends", ends), ("far", far)):
        table = pa.table({"text": pa.array([[1], [1], [2]]), "more": column})
        with pa.ipc.new_file(tmp_path / f"{name}.arrow", table.schema) as file:
            file.write_table(table)
    words = ("--engine", engine)
    assert run("dedup", "ends.arrow", "-o", "ends.jsonl", *words)[0] == 0
    assert [row["more"] for row in read(tmp_path / "ends.jsonl")] == ["a", "b"]
    assert "do not fit one Parquet table" in run("dedup", "ends.arrow", "-o", "ends.parquet", *words)[1]
    code, said = run("dedup", "far.arrow", "-o", "far.jsonl", *words)
    assert code == 2
    assert "a value cannot be read from Arrow" in said
    assert not (tmp_path / "far.jsonl").exists()
    assert run("dedup", "far.arrow", "-o", "far.parquet", *words)[0] == 0
    assert pq.read_table(tmp_path / "far.parquet")["more"].type == pa.timestamp("ms")


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_part_that_is_always_null_goes_through(run, tmp_path, engine):
    """As of messages of which none calls a tool."""
    said = pa.array([[{"role": "user", "calls": None}] * 2] * 3)
    table = pa.table({"text": pa.array([[1], [1], [2]]), "messages": said, "one": pa.array([{"calls": None}] * 3)})
    pq.write_table(table, tmp_path / "in.parquet")
    code, told = run("dedup", "in.parquet", "-o", "out.parquet", "--column", "text", "--engine", engine)
    assert code == 0, told
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == table.take([0, 2]).to_pylist()


def test_what_json_does_not_know_is_null(run, tmp_path):
    rows = '{"text": "one", "n": [1e400, {"a": -1e400}, 1.5]}\n{"text": "one", "n": NaN}\n{"text": "two", "n": 2}\n'
    (tmp_path / "in.jsonl").write_text(rows)
    code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".")
    assert code == 0
    assert "warning: 2 rows hold numbers that JSON does not know" in said
    for name in ("out.jsonl", "out.removed.jsonl"):
        assert not {"NaN", "Infinity"} & set((tmp_path / name).read_text().replace("]", " ").split())
    assert read(tmp_path / "out.jsonl") == [{"text": "one", "n": [None, {"a": None}, 1.5]}, {"text": "two", "n": 2}]
    assert read(tmp_path / "out.removed.jsonl")[0]["n"] is None
    deep = "[" * 600 + "NaN" + "]" * 600
    (tmp_path / "deep.jsonl").write_text(f'{{"text": "one", "n": {deep}}}\n')
    code, said = run("dedup", "deep.jsonl", "-o", "deeper.jsonl", "--tokenizer", ".")
    assert (code, "nested too deeply" in said) == (2, True)
    assert not (tmp_path / "deeper.jsonl").exists()
    lines(tmp_path / "one.jsonl", [{"text": [1]}])
    assert run("diversity", "one.jsonl", "-o", "scores.jsonl")[0] == 0
    assert "NaN" not in (tmp_path / "scores.jsonl").read_text()
    assert read(tmp_path / "scores.jsonl")[0]["jaccard"] is None


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_parquet_file_without_rows_has_its_columns(run, tmp_path, engine):
    pair = {"prompt": "one", "chosen": "two", "rejected": "three", "n": 1}
    lines(tmp_path / "in.jsonl", [{"text": "one", "n": 1}, {"text": "two", "m": 1.5}])
    lines(tmp_path / "bad.jsonl", [{**pair, "rejected": "two"}])
    code, said = run("dedup", "in.jsonl", "-o", "out.parquet", "--tokenizer", ".", "--engine", engine)
    assert code == 0, said
    text, n, m = pa.field("text", pa.string()), pa.field("n", pa.int64()), pa.field("m", pa.float64())
    why = [pa.field(name, pa.string()) for name in ("removed_reason", "removed_from", "duplicate_of")]
    assert pq.read_schema(tmp_path / "out.removed.parquet") == pa.schema([text, n, m, *why])
    assert run("dedup", "bad.jsonl", "-o", "kept.parquet", "--tokenizer", ".")[0] == 0
    kept = pq.read_table(tmp_path / "kept.parquet")
    assert (kept.num_rows, kept.schema.names) == (0, list(pair))
    assert pq.read_schema(tmp_path / "kept.removed.parquet").field("duplicate_of") == why[2]


def test_a_report_of_earlier_outputs_does_not_stay(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "one"}])
    words, page = ("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", "."), tmp_path / "out.jsonl.report.html"
    assert run(*words, "--report", "html")[0] == 0
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.removed.jsonl").unlink()
    assert "report.html exists; give another name, or --overwrite" in run(*words)[1]
    code, said = run(*words, "--overwrite")
    assert code == 0
    assert "removed the report of the earlier outputs" in said
    assert not page.exists()


def test_links_are_written_through(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "one"}])
    words = ("dedup", "in.jsonl", "--tokenizer", ".")
    (tmp_path / "far").mkdir()
    there, link = tmp_path / "far" / "there.jsonl", tmp_path / "out.jsonl"
    link.symlink_to(there)
    assert run(*words, "-o", "out.jsonl")[0] == 0  # what it names is not there yet
    assert link.is_symlink()
    assert read(there) == [{"text": "one"}]
    (tmp_path / "out.removed.jsonl").unlink()
    there.write_text("old")
    assert "out.jsonl exists" in run(*words, "-o", "out.jsonl")[1]
    assert run(*words, "-o", "out.jsonl", "--overwrite")[0] == 0
    assert link.is_symlink()
    assert read(there) == [{"text": "one"}]
    assert sorted(p.name for p in tmp_path.rglob(".*")) == []
    (tmp_path / "lost.jsonl").symlink_to(tmp_path / "nowhere" / "lost.jsonl")
    assert f"there is no folder {tmp_path / 'nowhere'}" in run(*words, "-o", "lost.jsonl")[1]
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    assert "a link that leads to itself" in run(*words, "-o", "loop.jsonl")[1]
    (tmp_path / "null.jsonl").symlink_to(os.devnull)
    assert "is no regular file" in run(*words, "-o", "null.jsonl", "--overwrite")[1]
    (tmp_path / "two.removed.jsonl").symlink_to("two.jsonl")
    assert "are links to one file" in run(*words, "-o", "two.jsonl", "--overwrite")[1]


def test_long_words_are_cut_in_the_report(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "x" * 50_000}, {"text": "x" * 50_000}, {"text": "y" * 50_000}])
    lines(tmp_path / "pairs.jsonl", [{"prompt": "p", "chosen": "z" * 50_000, "rejected": "z" * 50_000}])
    for name in ("in", "pairs"):
        words = ("-o", f"{name}.out.jsonl", "--tokenizer", ".", "--report", "html")
        assert run("dedup", f"{name}.jsonl", *words)[0] == 0
        assert (tmp_path / f"{name}.out.jsonl.report.html").stat().st_size < 40_000


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_what_can_be_known_before_the_work_is_said_before_it(run, tmp_path, engine, monkeypatch):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "two"}])
    lines(tmp_path / "own.jsonl", [{"text": "one", "duplicate_of": 1}, {"text": "two"}])
    pq.write_table(pa.table({"text": ["one", "two"], "duplicate_of": [1, 2]}), tmp_path / "own.parquet")
    words = ("--tokenizer", ".", "--engine", engine)
    name = "n" * 241 + ".jsonl"
    assert run("dedup", "in.jsonl", "-o", name, *words)[0] == 0
    assert (tmp_path / name).exists()

    def compared(*args, **options):
        raise AssertionError("this is the work")

    monkeypatch.setattr("tso.clean.dedup_texts", compared)
    monkeypatch.setattr("tso.engine.dedup_blocks", compared)
    for source, output in (("own.jsonl", "o.jsonl"), ("own.parquet", "o.jsonl"), ("own.parquet", "o.parquet")):
        assert "have a column 'duplicate_of' already" in run("dedup", source, "-o", output, *words)[1]
    pq.write_table(pa.table({"text": ["one", "two"], "picture": [b"", None]}), tmp_path / "bytes.parquet")
    assert "type bytes has no form in JSON" in run("dedup", "bytes.parquet", "-o", "o.jsonl", *words)[1]
    assert "File name too long" in run("dedup", "in.jsonl", "-o", "n" * 255 + ".jsonl", *words)[1]

    def refused(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refused)
    code, said = run("dedup", "in.jsonl", "-o", "o.jsonl", *words)
    assert code == 2
    assert "o.jsonl cannot be written: Permission denied" in said


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_name_that_is_no_utf8(run, tmp_path, engine):
    name = os.fsdecode(b"b\xff.jsonl")
    lines(tmp_path / name, [{"text": "one"}, {"text": "one"}])
    for suffix in ("jsonl", "parquet"):
        words = ("-o", f"o.{suffix}", "--tokenizer", ".", "--engine", engine, "--report", "html")
        code, said = run("dedup", name, *words)
        assert code == 0, said
        page = (tmp_path / f"o.{suffix}.report.html").read_text("utf-8")
        assert "b\\udcff.jsonl line 2" in page
    assert read(tmp_path / "o.removed.jsonl")[0]["removed_from"] == "b\\udcff.jsonl line 2"
    assert run("dedup", name, "-o", os.fsdecode(b"o\xff.jsonl"), "--tokenizer", ".", "--engine", engine)[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_leaves_stops_no_work(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": [1]}, {"text": [1]}])
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "tso", "dedup", "in.jsonl", "-o", "out.jsonl", "--report", "html"]
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("out.jsonl", "out.removed.jsonl", "out.jsonl.report.html"):
        assert (tmp_path / name).exists()


def test_runs_at_the_same_time_do_not_meet(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": [i % 700] * 20} for i in range(1000)])
    own = {name: tmp_path / name for name in (".out.jsonl.part.jsonl", ".out.removed.jsonl.part.jsonl")}
    for path in own.values():
        path.write_text("mine")
    line = [sys.executable, "-m", "tso", "dedup", "in.jsonl", "-o", "out.jsonl", "--overwrite", "--quiet"]
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(*process.communicate(), process.returncode) for process in both] == [(None, "", 0)] * 3
    assert (len(read(tmp_path / "out.jsonl")), len(read(tmp_path / "out.removed.jsonl"))) == (700, 300)
    assert {path.read_text() for path in own.values()} == {"mine"}
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(own)


def test_a_column_without_a_name_is_refused(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one"}])
    for words in (["diversity", "in.jsonl"], ["dedup", "in.jsonl", "-o", "o.jsonl"]):
        code, said = run(*words, "--column", "", "--tokenizer", ".")
        assert (code, said) == (2, "error: --column needs a name\n")


def test_a_packed_file_is_the_same_for_the_same_rows(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "one"}])
    for name in ("a", "b"):
        assert run("dedup", "in.jsonl", "-o", f"{name}.jsonl.gz", "--tokenizer", ".")[0] == 0
    content = (tmp_path / "a.jsonl.gz").read_bytes()
    assert content == (tmp_path / "b.jsonl.gz").read_bytes()
    assert b"part" not in content
