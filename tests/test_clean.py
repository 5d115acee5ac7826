"""`tso dedup` and `tso diversity` on files, as a user types them."""

from __future__ import annotations

import gzip
import json
from itertools import product

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


@pytest.mark.parametrize("form", ["apart", "implicit", "twice"])
def test_a_long_prompt_makes_no_answers_alike_wherever_it_is_told(run, tmp_path, form):
    ask = {"role": "user", "content": LONG}
    sides = [
        ({"role": "assistant", "content": a}, {"role": "assistant", "content": b})
        for a, b in product(["one", "six"], ["two", "nine"])
    ]
    begin = [] if form == "apart" else [ask]
    prompt = {"apart": {"prompt": [ask]}, "implicit": {}, "twice": {"prompt": LONG}}[form]
    rows = [{**prompt, "chosen": [*begin, a], "rejected": [*begin, b]} for a, b in sides]
    lines(tmp_path / "in.jsonl", [*rows, rows[0]])
    for more in ((), ("--max-length", "20")):
        code, said = run("dedup", "in.jsonl", "-o", "out.jsonl", "--tokenizer", ".", "--overwrite", *more)
        assert code == 0, said
        assert read(tmp_path / "out.jsonl") == rows


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
    code, said = run(
        "diversity", "in.jsonl", "--by", "key", "-o", "q.parquet"
    )  # and without a tokenizer: it comes first
    assert (code, "do not fit one Parquet table" in said) == (2, True)


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_tables_without_rows_are_told_as_such(run, tmp_path, engine):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    code, said = run("dedup", "in.parquet", "-o", "out.parquet", "--engine", engine)
    assert code == 2
    assert "no row in in.parquet" in said


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_the_tokenizer_does_not_cut_what_is_compared(run, tmp_path, engine):
    coder = tokenizers.Tokenizer.from_file("tokenizer.json")
    coder.enable_truncation(6)
    coder.save("tokenizer.json")
    rows = [{"text": LONG}, {"text": LONG.replace("nine ten eleven", "two one two")}]
    lines(tmp_path / "in.jsonl", rows)
    assert run("dedup", "in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--engine", engine)[0] == 0
    assert read(tmp_path / "o.jsonl") == rows


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_rows_that_cannot_be_compared_are_named(run, tmp_path, engine):
    ids, text, half = {"text": [1, 2]}, {"text": "one"}, {"text": "one \ud800"}
    for rows, said in [
        ([text, half], "in.jsonl line 2: character 4 of the text is half of a surrogate pair"),
        ([ids, {"text": []}, text], "in.jsonl line 3 holds text where in.jsonl line 1 holds token ids"),
        ([text, {"text": None}, ids], "in.jsonl line 3 holds token ids where in.jsonl line 1 holds text"),
    ]:
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        code, found = run("dedup", "in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--engine", engine)
        assert code == 2, found
        assert said in found
    lines(tmp_path / "in.jsonl", [{"text": []}, {"text": None}, {"text": []}])
    assert run("dedup", "in.jsonl", "-o", "o.jsonl", "--engine", engine)[0] == 0
    assert read(tmp_path / "o.jsonl") == [{"text": []}, {"text": None}]


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_what_a_message_says_does_not_pass_for_the_next_message(run, tmp_path, engine):
    coder = tokenizers.Tokenizer(tokenizers.models.BPE({chr(i): i for i in range(128)}, []))
    coder.save("tokenizer.json")
    one = [{"role": "user", "content": "hello there\nassistant: fine"}]
    two = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "fine"}]
    rows = [{"text": value} for value in (one, two, "user: hello there\nassistant: fine", two)]
    lines(tmp_path / "in.jsonl", rows)
    code, said = run("dedup", "in.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--threshold", "1", "--engine", engine)
    assert code == 0, said
    assert read(tmp_path / "o.jsonl") == rows[:3]
    code, said = run("diversity", "in.jsonl", "--by", "text", "--tokenizer", ".")
    assert "3 groups" in said


@pytest.mark.parametrize("engine", ["local", "disk"])
@pytest.mark.parametrize("odd", [[1, -1], [2**32], [1, None], [True], [1, "a"], [1, 1.5]])
def test_a_row_with_something_else_than_ids_is_named(run, tmp_path, engine, odd):
    lines(tmp_path / "in.jsonl", [{"text": [1, 2]}, {"text": None}, {"text": odd}])
    code, said = run("dedup", "in.jsonl", "-o", "o.jsonl", "--engine", engine)
    assert (code, said.count("\n")) == (2, 1)
    wrong = next(value for value in odd if type(value) is not int or not 0 <= value < 2**32)
    assert said.startswith(f"error: in.jsonl line 3 holds {wrong!r}, which is no token id")
    assert "in.jsonl line 3 holds" in run("diversity", "in.jsonl")[1]
    lines(tmp_path / "sound.jsonl", [{"text": [1, 2]}])
    assert "in.jsonl line 3 holds" in run("diversity", "sound.jsonl", "--history", "in.jsonl")[1]
    if all(type(value) is int or value is None for value in odd):
        pq.write_table(pa.table({"text": [[1, 2], None, odd]}), tmp_path / "in.parquet")
        said = run("dedup", "in.parquet", "-o", "o.jsonl", "--engine", engine)[1]
        assert said.startswith(f"error: in.parquet line 3 holds {wrong!r}, which is no token id")


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_prompt_is_not_taken_for_what_is_said_of_it(run, tmp_path, engine):
    lines(tmp_path / "half.jsonl", [{"prompt": "one", "chosen": "two"}, {"prompt": "one", "chosen": "nine"}])
    lines(tmp_path / "pairs.jsonl", [{"prompt": "one", "chosen": "two", "rejected": "nine"}])
    code, said = run("dedup", "half.jsonl", "-o", "o.jsonl", "--tokenizer", ".", "--engine", engine)
    assert code == 2
    assert "the rows have prompt, chosen: say with --column which of them is meant" in said
    said = run("diversity", "pairs.jsonl", "--by", "prompt", "--tokenizer", ".")[1]
    assert "the rows have prompt, chosen, rejected: say with --column" in said
    assert run("diversity", "pairs.jsonl", "--by", "prompt", "--column", "chosen", "--tokenizer", ".")[0] == 0


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_link_to_a_folder_is_not_left_out_in_silence(run, tmp_path, engine):
    for name in ("in", "elsewhere"):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "rows.jsonl", [{"text": [1]}])
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    code, said = run("dedup", "in", "-o", "o.jsonl", "--engine", engine)
    assert code == 2
    assert "in/link is a link to a folder, which is not followed" in said
    assert run("dedup", "in/link", "-o", "o.jsonl", "--engine", engine)[0] == 0
    (tmp_path / "in" / "link").rename(tmp_path / "in" / ".link")
    (tmp_path / "in" / "other.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    assert "2 rows compared" in run("dedup", "in", "-o", "p.jsonl", "--engine", engine)[1]


@pytest.mark.parametrize("engine", ["local", "disk"])
def test_a_file_without_any_row_is_told_why(run, tmp_path, engine):
    (tmp_path / "in.jsonl").write_text("nine ten\n" * 3)
    code, said = run("dedup", "in.jsonl", "-o", "o.jsonl", "--engine", engine)
    assert code == 2
    assert "no row in in.jsonl" in said
    assert "in.jsonl line 1: not JSON" in said


def test_pairs_without_prompts_are_told(run, tmp_path):
    lines(tmp_path / "in.jsonl", [{"chosen": f"{LONG} one", "rejected": f"{LONG} nine"}] * 2)
    said = run("dedup", "in.jsonl", "-o", "o.jsonl", "--tokenizer", ".")[1]
    assert "warning: no row tells a prompt" in said
    lines(tmp_path / "in.jsonl", [{"prompt": LONG, "chosen": "one", "rejected": "nine"}] * 2)
    assert "warning" not in run("dedup", "in.jsonl", "-o", "p.jsonl", "--tokenizer", ".")[1]
