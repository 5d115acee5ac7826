"""Prompts: every usable form is read, every unusable row is named, every unusable file is one clear line."""

import gzip
import json
import os
import re
import subprocess
import sys
from datetime import date
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.config import DataSection
from tso.errors import DataError
from tso.prompts import load_prompts
from tso.records import Message

ROWS = [{"prompt": f"say {i}", "human": f"answer {i}"} for i in range(10)]


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def read(path, **options):
    return load_prompts(DataSection(prompts=str(path), **options))


def load(tmp_path, *rows, **options):
    return read(write(tmp_path / "prompts.jsonl", *rows), **options)


def texts(found):
    return [prompt.messages[-1].content for prompt in found.prompts]


def write_arrow(path, rows, writer=pa.ipc.new_stream):
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, writer(file, table.schema) as out:
        out.write_table(table, max_chunksize=3)


# --- what is read


def test_formats_give_the_same_prompts(tmp_path):
    write(tmp_path / "a.jsonl", *ROWS)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    write_arrow(tmp_path / "a.arrow", ROWS)
    write_arrow(tmp_path / "file.arrow", ROWS, pa.ipc.new_file)
    found = {path.name: read(path).prompts for path in tmp_path.iterdir()}
    assert len(found) == 6
    for name, prompts in found.items():
        assert prompts == found["a.jsonl"], name
    assert sum(p.split == "heldout" for p in found["a.json"]) == 2
    assert found["a.json"][3].human == ("answer 3",)


def test_a_full_row(tmp_path):
    row = {"id": 7, "prompt": "Hi", "human": ["Hello.", " "], "split": "test", "language": "en", "length": {"min": 1}}
    (prompt,) = load(tmp_path, row).prompts
    assert (prompt.id, prompt.split, prompt.human) == ("7", "heldout", ("Hello.",))
    assert prompt.messages == (Message("user", "Hi"),)
    assert prompt.tags == {"language": "en", "length": {"min": 1}}


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_a_conversation(tmp_path, column):
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?")]
    (prompt,) = load(tmp_path, {column: [{"role": role, "content": text} for role, text in turns]}).prompts
    assert prompt.messages == tuple(Message(*turn) for turn in turns)
    assert prompt.tags == {}


def test_each_row_may_have_its_own_of_the_two_columns(tmp_path):
    turn = [{"role": "user", "content": "b"}]
    found = load(tmp_path, {"prompt": "a", "messages": turn}, {"messages": turn}, {"prompt": None, "messages": None})
    assert texts(found) == ["a", "b"]
    assert [(bad.line, bad.reason) for bad in found.rejected] == [(3, "there is no 'prompt'")]


def test_a_missing_id_comes_from_the_content(tmp_path):
    first, second = load(tmp_path, {"prompt": "a"}, {"prompt": "b", "id": None}).prompts
    assert re.fullmatch("p-[0-9a-f]{12}", first.id)
    assert first.id != second.id
    assert load(tmp_path, {"prompt": "b"}, {"prompt": "a"}).prompts[1].id == first.id


def test_columns_can_be_renamed(tmp_path):
    row = {"q": "Hi", "a": "Hello.", "key": 3.0, "part": "dev"}
    named = {"prompt_column": "q", "human_column": "a", "id_column": "key", "split_column": "part"}
    (prompt,) = load(tmp_path, row, **named).prompts
    assert (prompt.id, prompt.human, prompt.split, prompt.tags) == ("3", ("Hello.",), "heldout", {})


def test_a_column_called_none_is_not_read(tmp_path):
    rows = [{"prompt": text, "id": 1, "split": "A", "human": 3} for text in "ab"]
    with pytest.raises(DataError, match=r"data\.split_column=none leaves it unread"):
        load(tmp_path, *({"prompt": row["prompt"], "split": row["split"]} for row in rows))
    found = load(tmp_path, *rows, split_column="none", id_column="none", human_column="none")
    assert [prompt.tags["split"] for prompt in found.prompts] == ["A", "A"]


def test_only_a_newline_ends_a_row(tmp_path):
    text = "one\u2028two\u0085three\x0cfour"
    assert texts(load(tmp_path, {"prompt": text}, "", {"prompt": "next"})) == [text, "next"]


def test_windows_files_are_read(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\nx\r\n')
    found = read(tmp_path / "p.jsonl")
    assert texts(found) == ["a", "b"]
    assert [bad.line for bad in found.rejected] == [4]


def test_a_json_array_may_hold_texts(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"q": "a"}, 3, "b"], indent=1))
    found = read(tmp_path / "p.json", prompt_column="q")
    assert texts(found) == ["a", "b"]
    assert [(bad.line, bad.reason[:17]) for bad in found.rejected] == [(2, "not a JSON object")]
    (tmp_path / "p.json").write_text('["a", "b"]')
    assert texts(read(tmp_path / "p.json")) == ["a", "b"]


def test_a_json_file_may_be_one_object(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"prompt": "a"}, indent=1))
    assert texts(read(tmp_path / "p.json")) == ["a"]
    (tmp_path / "p.json").write_text(json.dumps({"data": [{"prompt": "a"}]}, indent=1))
    with pytest.raises(DataError, match="no column 'prompt', it has data"):
        read(tmp_path / "p.json")


def test_tables_hold_more_than_json(tmp_path):
    conversation = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    columns = {
        "prompt": [conversation, None],
        "human": [["x", "y"], None],
        "day": [date(2024, 5, 1)] * 2,
        "score": [float("nan"), 0.5],
        "image": [b"123", b""],
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    found = read(tmp_path / "p.parquet")
    (prompt,) = found.prompts
    assert prompt.messages == (Message("system", "s"), Message("user", "u"))
    assert prompt.human == ("x", "y")
    assert prompt.tags == {"day": "2024-05-01", "score": None, "image": "<3 bytes>"}
    assert [(bad.line, bad.reason) for bad in found.rejected] == [(2, "there is no 'prompt'")]


values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
tags = st.dictionaries(st.sampled_from(["topic", "level"]), st.one_of(st.none(), st.integers(), values), max_size=2)
full = st.fixed_dictionaries({"prompt": values, "human": st.lists(values)}).flatmap(
    lambda row: tags.map(lambda extra: {**row, **extra})
)


@settings(deadline=None)
@given(st.lists(full, min_size=1, max_size=5, unique_by=lambda row: row["prompt"]), st.booleans())
def test_what_is_written_is_read(tmp_path_factory, written, ascii_only):
    path = tmp_path_factory.mktemp("round") / "p.jsonl"
    path.write_bytes("\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in written).encode())
    found = read(path)
    assert found.rejected == ()
    assert [{"prompt": p.messages[0].content, "human": list(p.human), **p.tags} for p in found.prompts] == written


def test_the_quickstart_prompts():
    found = read(files("tso.quickstart") / "prompts.jsonl")
    assert found.rejected == ()
    assert len(found.prompts) >= 64
    assert sum(p.split == "heldout" for p in found.prompts) * 5 == len(found.prompts)


# --- folders


def test_a_folder_of_files(tmp_path):
    write(tmp_path / "b.jsonl", {"prompt": "b"}, "{", {"prompt": ""})
    write(tmp_path / "dataset_infos.json", {"default": {}})
    (tmp_path / "empty.jsonl").touch()
    for name in ("data", ".cache"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"prompt": [name, "b"]}), tmp_path / name / "c.parquet")
    (tmp_path / "README.md").write_text("not data")
    found = read(tmp_path)
    assert texts(found) == ["b", "data"]
    assert [bad.where for bad in found.rejected] == [
        "b.jsonl line 2",
        "b.jsonl line 3",
        f"{Path('data', 'c.parquet')} line 2",
    ]
    assert [bad.reason for bad in found.rejected][1:] == ["the prompt is empty", "the same prompt as in b.jsonl line 1"]


def test_saved_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    some = datasets.Dataset.from_list(ROWS)
    some.shuffle(seed=1).save_to_disk(tmp_path / "one", num_shards=3)
    datasets.DatasetDict(train_sft=some.select(range(6)), test_sft=some.select([6, 7])).save_to_disk(tmp_path / "two")
    assert sorted(texts(read(tmp_path / "one"))) == [row["prompt"] for row in ROWS]
    assert [p.split for p in read(tmp_path / "two").prompts] == ["train"] * 6 + ["heldout"] * 2


def save_as_datasets_does(folder, rows, **state):
    folder.mkdir(parents=True)
    write_arrow(folder / "data-00000-of-00001.arrow", rows)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], **state})
    )
    (folder / "dataset_info.json").write_text("{}")


def test_saved_splits_need_no_datasets(tmp_path):
    for name, rows in (("train", [*ROWS[:7], {"prompt": ""}]), ("validation", ROWS[7:])):
        save_as_datasets_does(tmp_path / name, rows)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    found = read(tmp_path)
    assert [p.split for p in found.prompts] == ["train"] * 7 + ["heldout"] * 3
    assert [bad.where for bad in found.rejected] == [f"{Path('train', 'data-00000-of-00001.arrow')} line 8"]


def test_a_split_that_is_alone_is_divided(tmp_path):
    save_as_datasets_does(tmp_path / "train", ROWS)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert sum(p.split == "heldout" for p in read(tmp_path).prompts) == 2


def test_a_row_knows_its_split_better_than_its_folder(tmp_path):
    for name in ("train", "test"):
        save_as_datasets_does(
            tmp_path / name, [{"prompt": name, "split": "train"}, {"prompt": name + "2", "split": None}]
        )
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert [p.split for p in read(tmp_path).prompts] == ["train", "train", "train", "heldout"]


def test_a_saved_dataset_with_an_index_is_refused(tmp_path):
    save_as_datasets_does(tmp_path / "saved", ROWS, _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match="rows reordered"):
        read(tmp_path / "saved")


@pytest.mark.parametrize("name", ["state.json", "dataset_dict.json"])
@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"_data_files": [{"filename": "no.arrow"}], "splits": ["no"]}',
        '{"_data_files": [3], "splits": 3}',
    ],
)
def test_a_damaged_saved_dataset(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError):
        read(tmp_path)


# --- rows that are left out


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("3", "not a JSON object"),
        ("9" * 5000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({}, "there is no 'prompt'"),
        ({"text": "x"}, "there is no 'prompt'"),
        ({"prompt": None}, "there is no 'prompt'"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": 3}, "must be text or a list of messages, not int"),
        ({"prompt": {"role": "user"}}, "must be text or a list of messages, not dict"),
        ({"prompt": []}, "the last message must be the user's"),
        ({"prompt": ["hello"]}, "message 1 needs a role"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "message 1 needs a role"),
        ({"prompt": [{"role": ["user"], "content": "x"}]}, "message 1 needs a role"),
        ({"prompt": [{"role": "user", "content": None}]}, "content of message 1 must be text, not NoneType"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "must be text, not list"),
        ({"prompt": [{"role": "system", "content": "x"}]}, "the last message must be the user's"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "the last message must be the user's"),
        ({"prompt": [{"role": "user", "content": "x"}] * 2}, "messages 1 and 2 are both by 'user'"),
        ({"prompt": [{"role": "system", "content": ""}, {"role": "user", "content": "x"}]}, "message 1 is empty"),
        (
            {"prompt": [{"role": role, "content": "x"} for role in ("user", "system", "user")]},
            "message 2 is a system message",
        ),
        ({"prompt": "x", "human": 3}, "'human' must be text"),
        ({"prompt": "x", "human": ["a", None]}, "'human' must be text"),
        ({"prompt": "x", "id": 1.5}, "'id' must be text or a whole number, not float"),
        ({"prompt": "x", "id": True}, "'id' must be text or a whole number, not bool"),
        ({"prompt": "x", "id": "good"}, "the same id 'good' as in line 1"),
        ({"prompt": "a good one"}, "the same prompt as in line 1"),
        ({"prompt": "x", "split": "blue"}, "must say train or heldout"),
        ({"prompt": "x", "split": 1}, "must say train or heldout"),
        ('{"prompt": "\\ud800"}', "surrogate"),
        ('{"prompt": "x", "note": "\\ud800"}', "surrogate"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_row_is_left_out_and_said_why(tmp_path, row, says, first):
    good = {"prompt": "a good one", "id": "good"}
    before = [row, good] if first and "the same" not in says else [good, row]
    found = load(tmp_path, *before)
    assert [prompt.id for prompt in found.prompts] == ["good"]
    (bad,) = found.rejected
    assert says in bad.reason
    assert bad.line == before.index(row) + 1
    assert bad.where == f"line {bad.line}"


@pytest.mark.parametrize("depth", range(100, 1100, 100))
def test_a_row_nested_too_deeply_stops_nothing(tmp_path, depth):
    row = '{"prompt": "x", "note": ' + "[" * depth + "]" * depth + "}"
    found = load(tmp_path, row, {"prompt": "a good one"})
    assert len(found.prompts) + len(found.rejected) == 2
    assert "a good one" in texts(found)
    assert all("deep" in bad.reason or "recursion" in bad.reason for bad in found.rejected)


def test_when_no_row_is_left_the_first_five_are_told(tmp_path):
    with pytest.raises(DataError) as caught:
        load(tmp_path, "", *[{"prompt": ""}] * 7)
    said = str(caught.value)
    assert "can be used (7 left out)" in said
    assert all(f"line {line}: the prompt is empty" in said for line in range(2, 7))
    assert "line 7" not in said
    assert said.endswith("and 2 more")


# --- files that cannot be used


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.jsonl", b"", "is empty"),
        ("p.jsonl", b"\n \n", "is empty"),
        ("p.json", b"[]", "holds no rows"),
        ("p.jsonl", b"x", "line 1 is not JSON (Expecting value, column 1); give JSONL"),
        ("p.jsonl", b"\nhello\nworld\n", "line 2 is not JSON"),
        ("p.jsonl", b"hello\nworld\n", "nor is any other line; give JSONL, JSON, Parquet or Arrow"),
        ("p.csv", b"prompt\nx\n", "line 1 is not JSON"),
        ("p.jsonl", b"3\n", "line 1 is not a JSON object"),
        ("p.json", b'[{"prompt": "x"},', "starts like a JSON array and is none"),
        ("p.jsonl", b"\xff", "is not UTF-8 text (byte 0, line 1); save it as UTF-8"),
        (
            "p.jsonl",
            '{"prompt": "a"}\n{"prompt": "caf\u00e9"}\n'.encode("latin-1"),
            "is not UTF-8 text (byte 31, line 2)",
        ),
        ("p.parquet", b"", "cannot be read as Parquet"),
        ("p.parquet", b"PAR1 this is none PAR1", "cannot be read as Parquet"),
        ("p.arrow", b"", "cannot be read as Arrow"),
        ("p.arrow", b"ARROW1 this is none", "cannot be read as Arrow"),
        ("p.arrow", b"neither is this a stream", "cannot be read as Arrow"),
        ("p.jsonl.gz", b"not packed", "cannot be read as gzip"),
        ("p.jsonl.gz", gzip.compress(b'{"prompt": "x"}', mtime=0)[:-9], "cannot be read as gzip"),
        (
            "p.jsonl",
            b'{"promt": "x", "z": 1}\n',
            "has no column 'prompt', it has promt, z; try data.prompt_column=promt",
        ),
        ("p.jsonl", b'{"instruction": "x", "z": 1}\n', "try data.prompt_column=instruction"),
        ("p.jsonl", b'{"a": "x", "z": 1}\n', "it has a, z; name one of them with data.prompt_column=..."),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["human", "id", "split"])
def test_a_column_that_was_asked_for_must_be_there(tmp_path, part):
    with pytest.raises(DataError, match=rf"no column 'answr', it has prompt, answer; try data\.{part}_column=answer"):
        load(tmp_path, {"prompt": "x", "answer": "y"}, **{f"{part}_column": "answr"})


def test_a_missing_file_and_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no file or folder .*nothing.jsonl; give JSONL"):
        read(tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match="cannot be read as a file or folder: File name too long"):
        read(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match=r"holds no \.jsonl"):
        read(tmp_path)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_file_does_anything_but_a_data_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    for suffix in (".jsonl", ".jsonl.gz", ".parquet", ".arrow"):
        (folder / f"p{suffix}").write_bytes(content)
        with pytest.raises(DataError):
            read(folder / f"p{suffix}")


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may read all")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "p.jsonl", {"prompt": "x"})
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read as text: Permission denied"):
        read(path)


# --- which side


def sides(found):
    return {prompt.messages[-1].content: prompt.split for prompt in found.prompts}


def test_the_share_is_held_out_and_mostly_stays_so(tmp_path):
    many = [{"prompt": f"prompt {number}"} for number in range(1000)]
    whole, half = sides(load(tmp_path, *many)), sides(load(tmp_path, *reversed(many[:500])))
    assert sum(side == "heldout" for side in whole.values()) == 200
    assert sum(side == "heldout" for side in half.values()) == 100
    assert sum(whole[text] != side for text, side in half.items()) < 25


@pytest.mark.parametrize("others", range(1, 12))
def test_the_same_text_is_on_one_side(tmp_path, others):
    variants = ["Why, then?", "why then", "  WHY   then!"]
    found = load(tmp_path, *({"prompt": text} for text in [*variants, *map(str, range(others))]))
    assert len({sides(found)[text] for text in variants}) == 1


@settings(deadline=None)
@given(st.integers(2, 6), st.floats(0.001, 0.999))
def test_some_but_never_all_are_held_out(tmp_path_factory, count, share):
    path = write(tmp_path_factory.mktemp("share") / "p.jsonl", *({"prompt": f"{n}"} for n in range(count)))
    held = [p for p in read(path, holdout=share).prompts if p.split == "heldout"]
    assert 0 < len(held) < count


def test_nothing_is_held_out_where_it_cannot_be(tmp_path):
    assert set(sides(load(tmp_path, {"prompt": "a"}, {"prompt": "b"}, holdout=0.0)).values()) == {"train"}
    assert set(sides(load(tmp_path, {"prompt": "a"}, {"prompt": "A!"}, holdout=0.99)).values()) == {"train"}


def test_a_split_column_decides_alone(tmp_path):
    found = load(tmp_path, {"prompt": "a", "split": "train"}, {"prompt": "b", "split": None}, {"prompt": "c"})
    assert set(sides(found).values()) == {"train"}


def test_max_prompts_counts_each_side(tmp_path):
    rows = [{"prompt": str(n), "split": "test" if n % 2 else "train"} for n in range(6)]
    assert texts(load(tmp_path, *rows, max_prompts=2)) == ["0", "1", "2", "3"]


# --- on the side


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, tso.prompts, tso.correct.rule;"
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'datasets') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
