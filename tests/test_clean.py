"""`tso dedup` and `tso diversity` on files, as a user types them."""

from __future__ import annotations

import gzip
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
from tso import cli

tokenizers = pytest.importorskip("tokenizers", reason="text needs tokenizers")

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """tso WORDS in a folder with a tokenizer of single letters; returns exit code and output."""
    monkeypatch.chdir(tmp_path)
    coder = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"?": 0, **{w: i for i, w in enumerate(LONG.split(), 1)}}, "?")
    )
    coder.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    coder.save("tokenizer.json")

    def call(*words):
        code = cli.main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read(path):
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.name.endswith(".gz") else content).decode()
    return [json.loads(line) for line in text.split("\n") if line]


def test_texts_keep_their_columns_and_every_removed_row_is_listed(run, tmp_path):
    rows = [{"id": i, "text": text} for i, text in enumerate([LONG, "nine ten", LONG, LONG + " one", "ten nine", None])]
    lines(tmp_path / "in.jsonl", rows)
    code, said = run("dedup", "in.jsonl", "-o", "out.jsonl.gz", "--tokenizer", "tokenizer.json")
    assert code == 0, said
    assert read(tmp_path / "out.jsonl.gz") == [rows[0], rows[1], rows[4], rows[5]]
    removed = read(tmp_path / "out.removed.jsonl.gz")
    assert removed == [
        {**rows[2], "removed_reason": "exact", "removed_from": "in.jsonl line 3", "duplicate_of": "in.jsonl line 1"},
        {**rows[3], "removed_reason": "near", "removed_from": "in.jsonl line 4", "duplicate_of": "in.jsonl line 1"},
    ]
    assert "6 rows compared by column 'text', 1 of them without a value, 4 stay" in said
    assert "16.7%" in said


def test_pairs_by_their_columns_conversations_too(run, tmp_path):
    ask, yes, no = (
        {"role": r, "content": c} for r, c in (("user", "one"), ("assistant", "two three"), ("assistant", "nine"))
    )
    rows = [
        {"chosen": [ask, yes], "rejected": [ask, no], "score": 1.0},
        {"chosen": [ask, no], "rejected": [ask, yes], "score": 2.0},
        {"chosen": [ask, yes], "rejected": [ask, yes], "score": 3.0},
    ]
    lines(tmp_path / "in.jsonl", rows)
    code, said = run("dedup", "in.jsonl", "-o", "a.jsonl", "--tokenizer", ".", "--keep", "score")
    assert code == 0, said
    assert read(tmp_path / "a.jsonl") == [rows[1]]
    assert [row["removed_reason"] for row in read(tmp_path / "a.removed.jsonl")] == ["reversed", "degenerate"]
    code, _ = run("dedup", "in.jsonl", "-o", "b.jsonl", "--tokenizer", ".", "--column", "chosen")
    assert code == 0
    assert read(tmp_path / "b.jsonl") == rows[:2]


def test_parquet_keeps_its_types_and_ids_need_no_tokenizer(run, tmp_path):
    table = pa.table(
        {"text": pa.array([[1, 2], [1, 2], [3]], pa.list_(pa.int32())), "n": pa.array([1, 2, None], pa.int16())}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    code, said = run("dedup", "in.parquet", "-o", "out.parquet")
    assert code == 0, said
    assert pq.read_table(tmp_path / "out.parquet").equals(table.take([0, 2]))
    assert pq.read_table(tmp_path / "out.removed.parquet").to_pylist()[0]["duplicate_of"] == "in.parquet line 1"


def test_parquet_from_rows_of_unlike_columns(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "two", "n": 5}, {"text": "two", "m": True}])
    code, said = run("dedup", "in.jsonl", "-o", "out.parquet", "--tokenizer", ".")
    assert code == 0, said
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [{"text": "one", "n": None}, {"text": "two", "n": 5}]
    assert pq.read_table(tmp_path / "out.removed.parquet").to_pylist()[0]["m"] is True


def test_parquet_of_several_row_groups(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tso.arrow_files._BATCH_ROWS", 2)
    monkeypatch.setattr("tso.output._ROWS", 3)
    table = pa.table({"text": pa.array([[i // 2] for i in range(20)], pa.list_(pa.int64())), "n": pa.array(range(20))})
    pq.write_table(table, tmp_path / "in.parquet")
    assert run("dedup", "in.parquet", "-o", "out.parquet")[0] == 0
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == list(range(0, 20, 2))
    removed = pq.read_table(tmp_path / "out.removed.parquet")
    assert removed["n"].to_pylist() == list(range(1, 20, 2))
    assert removed.schema.names == ["text", "n", "removed_reason", "removed_from", "duplicate_of"]


def test_nothing_to_remove_leaves_an_empty_list(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "two"}])
    for suffix in ("jsonl", "parquet"):
        code, said = run("dedup", "in.jsonl", "-o", f"out.{suffix}", "--tokenizer", ".")
        assert code == 0, said
        assert (tmp_path / f"out.removed.{suffix}").exists()


def test_lines_that_hold_no_row_are_named(run, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "one"}\n[1]\nno json\n')
    code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".")
    assert code == 0
    assert "left out: in.jsonl line 2: not a JSON object" in said
    assert "left out: in.jsonl line 3: not JSON" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.jsonl", "-o", "o.jsonl"], "input: no file or folder missing.jsonl"),
        (["in.jsonl", "-o", "o.jsonl"], "give the tokenizer"),
        (["in.jsonl", "-o", "o.csv", "--tokenizer", "."], "o.csv: the output's name has to end in .parquet, .jsonl"),
        (["in.jsonl", "-o", "in.jsonl", "--tokenizer", "."], "in.jsonl exists; give another name, or --overwrite"),
        (["in.jsonl", "-o", "no/o.jsonl", "--tokenizer", "."], "there is no folder no"),
        (["in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--column", "body"], "no column 'body'; there is text, n"),
        (
            ["in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--keep", "text"],
            "a column with a number in every row (in.jsonl line 1",
        ),
        (["in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--scope", "global"], "--scope is for pairs"),
        (["in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--threshold", "2"], "threshold has to lie in (0, 1]"),
        (["in.jsonl", "-o", "o.jsonl", "--tokenizer", "nowhere"], "no tokenizer at nowhere"),
        (["in.jsonl", "-o", "o.jsonl", "--ray-address", "h:1"], "--ray-address is for --engine ray"),
        (
            ["in.jsonl", "-o", "o.jsonl", "--engine", "ray", "--mode", "exact"],
            "--mode exact needs all texts in one place",
        ),
        (["in.jsonl", "-o", "o.jsonl", "--engine", "ray", "--threads", "2"], "--threads is for --engine local"),
        (["in.jsonl", "-o", "o.jsonl", "--engine", "ray", "--scope", "global"], "--scope is for --engine local"),
        (["missing.jsonl", "-o", "o.jsonl", "--engine", "ray"], "input: no file or folder missing.jsonl"),
    ],
)
def test_mistakes_cost_a_line_and_no_file(run, tmp_path, words, said):
    lines(tmp_path / "in.jsonl", [{"text": "one", "n": 1}, {"text": "two", "n": 2}])
    before = sorted(tmp_path.iterdir())
    code, found = run("dedup", *words)
    assert code == 2
    assert said in found
    assert found.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_diversity_of_each_prompt(run, tmp_path):
    rows = [
        {"prompt": p, "response": r}
        for p, r in (("a", LONG), ("a", LONG), ("b", LONG), ("b", "nine ten one two three"))
    ]
    lines(tmp_path / "in.jsonl", rows)
    code, said = run("diversity", "in.jsonl", "--by", "prompt", "--tokenizer", ".", "-o", "scores.jsonl")
    assert code == 0, said
    assert "2 groups of 'response'" in said
    scores = read(tmp_path / "scores.jsonl")
    assert [row["prompt"] for row in scores] == ["a", "b"]
    assert scores[0]["jaccard"] == 1.0
    assert scores[1]["jaccard"] < 1.0
    code, said = run("diversity", "in.jsonl", "--by", "nothing", "--tokenizer", ".")
    assert code == 2
    assert "no column 'nothing'; there is prompt, response" in said


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_by_way_of_the_disk_the_files_are_the_same(run, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("tso.pieces.PIECE", 1)  # a piece for each row group
    rows = [{"id": i, "text": text} for i, text in enumerate(planted_texts(120))]
    lines(tmp_path / "in.jsonl", rows)
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet", row_group_size=17)
    (tmp_path / "scratch").mkdir()
    options = ["--tokenizer", "tokenizer.json", "--threshold", "0.6", "--ngram", "3"]
    for link in ("component", "star"):
        for name, more in (("here", []), ("disk", ["--engine", "disk", "--work-dir", "scratch"])):
            code, said = run("dedup", f"in{suffix}", "-o", f"{name}-{link}{suffix}", "--link", link, *options, *more)
            assert code == 0, said
        for part in ("", ".removed"):
            here, disk = (tmp_path / f"{name}-{link}{part}{suffix}" for name in ("here", "disk"))
            assert here.read_bytes() == disk.read_bytes()
            assert here.stat().st_size > 0
    assert not list((tmp_path / "scratch").iterdir())


def planted_texts(count):
    """Texts of known words, some with another word here and there."""
    words = LONG.split()
    texts = []
    for i in range(count):
        text = [words[(i // 3 * 7 + k * k + i // 40) % 15] for k in range(12 + i // 3 % 5)]
        if i % 3 == 2:
            text[i % len(text)] = words[i % 15]
        texts.append(" ".join(text))
    return [*texts, None, ""]


def test_what_the_disk_does_not_do_is_refused(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": LONG}])
    for words, message in [
        (["--engine", "disk", "--mode", "exact"], "--mode exact needs all texts in one place"),
        (["--engine", "disk", "--threads", "1"], "--threads is for --engine local"),
        (["--engine", "disk", "--work-dir", "nowhere"], "no such folder"),
        (["--work-dir", "."], "--work-dir is for --engine disk"),
    ]:
        code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", "tokenizer.json", *words)
        assert code == 2
        assert message in said
        assert not (tmp_path / "out.jsonl").exists()


def test_a_page_of_what_was_taken_out(run, tmp_path):
    bad = LONG.replace("two", "<script>alert(1)</script>")
    rows = [{"text": text} for text in [bad, bad, LONG, LONG + " one", "nine"]]
    lines(tmp_path / "in.jsonl", rows)
    code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", "tokenizer.json", "--report", "html")
    assert code == 0, said
    page = (tmp_path / "out.jsonl.report.html").read_text("utf-8")
    assert "out.jsonl.report.html" in said
    assert "2 of 5 rows taken out" in page
    assert "in.jsonl line 4" in page
    assert "<ins>one</ins>" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", "tokenizer.json", "--report", "html")
    assert code == 2
    assert "exists" in said


def test_a_page_of_pairs_and_of_nothing(run, tmp_path):
    pair = {"prompt": "one", "chosen": LONG, "rejected": "two three"}
    lines(tmp_path / "in.jsonl", [pair, pair, {**pair, "rejected": LONG}])
    assert run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".", "--report", "html")[0] == 0
    page = (tmp_path / "out.jsonl.report.html").read_text("utf-8")
    assert "both sides are the same" in page
    assert f"chosen: {LONG}" in page
    lines(tmp_path / "in.jsonl", [pair])
    assert run("dedup", "in.jsonl", "-o", "b.jsonl", "--tokenizer", ".", "--report", "html")[0] == 0
    assert "no two rows are alike" in (tmp_path / "b.jsonl.report.html").read_text("utf-8")


def test_diversity_by_chosen_scores_and_against_a_history(run, tmp_path):
    rows = [{"prompt": p, "response": r} for p, r in (("a", LONG), ("a", LONG), ("b", LONG), ("b", "nine ten"))]
    lines(tmp_path / "new.jsonl", rows)
    lines(tmp_path / "old.jsonl", [{"response": LONG}, {"response": None}])
    lines(tmp_path / "older.jsonl", [{"response": "one two three"}])
    past = ["--history", "old.jsonl", "--history", "older.jsonl"]
    words = ["new.jsonl", "--by", "prompt", "--tokenizer", ".", "-o", "scores.jsonl", "--scores", "vendi,jaccard"]
    code, said = run("diversity", *words, *past)
    assert code == 0, said
    first, second = read(tmp_path / "scores.jsonl")
    assert list(first) == ["prompt", "responses", "tokens", "jaccard", "vendi", "novelty"]
    assert (first["vendi"], first["novelty"]) == (pytest.approx(1), 0)
    assert second["vendi"] > 1.5
    assert second["novelty"] == 0.5
    assert "novelty" in said
    (tmp_path / "scores.jsonl").unlink()
    code, _ = run("diversity", *words, "--order", "inf")
    assert code == 0
    assert read(tmp_path / "scores.jsonl")[1]["vendi"] < second["vendi"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scores", "vendi,new"], "there is no score 'new'; there are distinct, entropy, self_bleu, jaccard, vendi"),
        (["--scores", "vendi", "--order", "0"], "order has to be above 0"),
        (["--history", "missing.jsonl"], "--history: no file or folder missing.jsonl"),
        (["--history", "ids.jsonl"], "--history: 'text' holds token ids on one side and text on the other"),
        (["--history", "other.jsonl"], "no column 'text'; there is n"),
    ],
)
def test_mistakes_in_scores_cost_a_line(run, tmp_path, words, said):
    lines(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "two"}])
    lines(tmp_path / "ids.jsonl", [{"text": [1, 2]}])
    lines(tmp_path / "other.jsonl", [{"n": 1}])
    code, found = run("diversity", "in.jsonl", "--tokenizer", ".", *words)
    assert code == 2
    assert said in found
    assert found.count("\n") == 1


def test_messages_that_say_more_than_role_and_content_are_compared_whole(run, tmp_path):
    turns = [[{"from": "gpt", "value": word}] for word in LONG.split()[:3]]
    calls = [[{"role": "assistant", "content": None, "tool_calls": [{"f": word}]}] for word in LONG.split()[:3]]
    for rows in (turns, calls):
        lines(tmp_path / "in.jsonl", [{"messages": row} for row in rows])
        code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".", "--overwrite", "--threshold", "1")
        assert code == 0, said
        assert len(read(tmp_path / "out.jsonl")) == 3


def test_an_input_is_never_written_to(run, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("in.jsonl", "folder/in.jsonl"):
        lines(tmp_path / name, [{"text": "one"}, {"text": "one"}])
    words = ("--tokenizer", ".", "--overwrite")
    for output, engine in product(("in.jsonl", "./folder/../in.jsonl"), ("local", "disk")):
        assert "is an input" in run("dedup", "in.jsonl", "-o", output, "--engine", engine, *words)[1]
    assert "be read as input" in run("dedup", "folder", "-o", "folder/out.jsonl", *words)[1]
    (tmp_path / "dir.jsonl").mkdir()
    assert "is a folder" in run("dedup", "in.jsonl", "-o", "dir.jsonl", *words)[1]
    assert len(read(tmp_path / "in.jsonl")) == 2


def test_no_file_is_written_unless_both_are(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"text": "one", "removed_reason": "mine"}, {"text": "one", "removed_reason": "x"}])
    for engine in ("local", "disk"):
        code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".", "--engine", engine)
        assert code == 2
        assert "have a column 'removed_reason' already" in said
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name or "part" in p.name] == []


def test_what_was_compared_is_said(run, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.Table.from_pylist([pair, pair]), tmp_path / "pairs" / "b.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "pairs" / "a.parquet")
    assert (
        "2 rows compared by prompt, chosen and rejected"
        in run("dedup", "pairs", "-o", "o.parquet", "--tokenizer", ".")[1]
    )
    lines(tmp_path / "in.jsonl", [{"text": "hi"}, {"n": 1}])
    for engine in ("local", "disk"):
        said = run("dedup", "in.jsonl", "-o", f"{engine}.jsonl", "--tokenizer", ".", "--engine", engine)[1]
        assert "2 rows compared by column 'text', 1 of them without a value" in said


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_row_that_is_no_pair_among_pairs_is_named(run, tmp_path, engine):
    pair = {"prompt": "one", "chosen": "two", "rejected": "three"}
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.Table.from_pylist([pair, pair]), tmp_path / "tables" / "a.parquet")
    pq.write_table(pa.Table.from_pylist([{"text": "one"}]), tmp_path / "tables" / "b.parquet")
    lines(tmp_path / "half.jsonl", [pair, pair, {"prompt": "one", "chosen": "two"}])
    lines(tmp_path / "text.jsonl", [{"text": "one"}, pair])
    words = ("-o", "out.jsonl", "--tokenizer", ".", "--engine", engine)
    for source, place in [("half.jsonl", "line 3"), ("text.jsonl", "line 1"), ("tables", "b.parquet line 1")]:
        code, said = run("dedup", source, *words)
        assert code == 2
        assert f"{source} {place} has not both chosen and rejected" in said
    assert not (tmp_path / "out.jsonl").exists()
    assert run("dedup", "half.jsonl", *words, "--column", "chosen")[0] == 0
    assert len(read(tmp_path / "out.jsonl")) == 1


def test_pairs_with_a_null_are_kept_and_counted(run, tmp_path):
    pair = {"prompt": "one", "chosen": "two", "rejected": "three"}
    lines(tmp_path / "in.jsonl", [{**pair, "chosen": None}, {**pair, "chosen": None}, pair])
    code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".")
    assert code == 0
    assert "3 rows compared by prompt, chosen and rejected, 2 of them without one of the three" in said
    assert len(read(tmp_path / "out.jsonl")) == 3


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_ids_of_any_arrow_kind(run, tmp_path, engine):
    empty = pa.array([None, []], pa.list_(pa.int32()))
    pq.write_table(pa.table({"tokens": empty}), tmp_path / "empty.parquet")
    words = ("--column", "tokens", "--engine", engine)
    assert run("dedup", "empty.parquet", "-o", "e.parquet", *words)[0] == 0
    views = pa.array([[1, 2], [1, 2], [3]], pa.list_view(pa.int64()))
    with pa.ipc.new_stream(tmp_path / "views.arrow", pa.schema({"tokens": views.type})) as file:
        file.write_table(pa.table({"tokens": views}))
    code, said = run("dedup", "views.arrow", "-o", "v.jsonl", *words)
    assert code == 0, said
    assert read(tmp_path / "v.jsonl") == [{"tokens": [1, 2]}, {"tokens": [3]}]


@pytest.mark.parametrize(
    ("row", "output", "said"),
    [
        ({"n": 2**70}, "o.parquet", "do not fit one Parquet table"),
        ({"n": "\ud800"}, "o.parquet", "do not fit one Parquet table"),
        ({"n": "\ud800"}, "o.jsonl", ""),
        ({"n": 10**400}, "o.jsonl", ""),
    ],
)
def test_values_that_a_file_cannot_hold(run, tmp_path, row, output, said):
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "one", **row}))
    code, told = run("dedup", "in.jsonl", "-o", output, "--tokenizer", ".")
    assert code == (2 if said else 0), told
    assert said in told
    if not said:
        assert read(tmp_path / output) == [{"text": "one", **row}]


def test_what_json_would_change_is_refused(run, tmp_path):
    table = pa.table({"tokens": [[1], [2]], "raw": [b"\xff", b""], "day": pa.array([1, 2], pa.date32())})
    pq.write_table(table, tmp_path / "in.parquet")
    assert "bytes has no form in JSON" in run("dedup", "in.parquet", "-o", "o.jsonl", "--column", "tokens")[1]
    pq.write_table(table.drop_columns("raw"), tmp_path / "in.parquet")
    assert run("dedup", "in.parquet", "-o", "o.jsonl", "--column", "tokens")[0] == 0
    assert [row["day"] for row in read(tmp_path / "o.jsonl")] == ["1970-01-02", "1970-01-03"]


def test_columns_of_one_name_are_refused(run, tmp_path):
    twice = pa.Table.from_arrays([pa.array([[1]]), pa.array([1]), pa.array([2])], ["tokens", "d", "d"])
    pq.write_table(twice, tmp_path / "in.parquet")
    for engine in ("local", "disk"):
        words = ("--column", "tokens", "--engine", engine)
        assert "more than one column 'd'" in run("dedup", "in.parquet", "-o", "o.jsonl", *words)[1]


@pytest.mark.parametrize("score", [2**53 + 1, 10**400, float("nan"), True, "1"])
def test_scores_that_would_be_rounded_are_refused(run, tmp_path, score):
    lines(tmp_path / "in.jsonl", [{"text": "one", "s": 1}, {"text": "one", "s": score}])
    for engine in ("local", "disk"):
        said = run("dedup", "in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--keep", "s", "--engine", engine)[1]
        assert "in.jsonl line 2 has none" in said


def test_groups_are_told_apart_by_kind_and_keep_their_values(run, tmp_path):
    keys = [1, "1", None, "null", [], "", True, "true"]
    lines(tmp_path / "in.jsonl", [{"text": f"t {i}", "key": key} for i, key in enumerate(keys)])
    assert run("diversity", "in.jsonl", "--by", "key", "--tokenizer", ".", "-o", "o.jsonl")[0] == 0
    assert [row["key"] for row in read(tmp_path / "o.jsonl")] == keys
    assert "give another name\n" in run("diversity", "in.jsonl", "--by", "key", "--tokenizer", ".", "-o", "o.jsonl")[1]
    lines(tmp_path / "by.jsonl", [{"text": "t", "jaccard": 1}])
    said = run("diversity", "by.jsonl", "--by", "jaccard", "--tokenizer", ".", "-o", "p.jsonl")[1]
    assert "the scores have a column of that name" in said


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_tables_without_rows_are_told_as_such(run, tmp_path, engine):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    code, said = run("dedup", "in.parquet", "-o", "out.parquet", "--engine", engine)
    assert code == 2
    assert "no row in in.parquet" in said


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
