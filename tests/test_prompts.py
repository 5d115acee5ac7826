"""Reading prompts: every format, every way a row or a file can be wrong, and the held-out share."""

import json
import os
import subprocess
import sys
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso.errors import ConfigError, DataError
from tso.prompts import BadRow, PromptSet, load_prompts
from tso.records import Message

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at {DATA}")


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def load(tmp_path: Path, *rows: Any, **options: Any) -> PromptSet:
    return load_prompts(write(tmp_path / "prompts.jsonl", *rows), **options)


def refused(tmp_path: Path, row: Any, **options: Any) -> str:
    """Why a row is refused, next to one that is not."""
    result = load(tmp_path, {"prompt": "a good one", "id": "good"}, row, **options)
    assert [prompt.id for prompt in result.prompts] == ["good"]
    ((line, reason),) = [(bad.line, bad.reason) for bad in result.rejected]
    assert line == 2
    return reason


# --- what is read


def test_a_full_row(tmp_path: Path) -> None:
    row = {"id": 7, "prompt": "Hi", "human": ["Hello.", " "], "split": "test", "language": "en", "length": {"min": 1}}
    (prompt,) = load(tmp_path, row).prompts
    assert (prompt.id, prompt.split, prompt.human) == ("7", "heldout", ("Hello.",))
    assert prompt.messages == (Message("user", "Hi"),)
    assert prompt.tags == {"language": "en", "length": {"min": 1}}


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_a_conversation(tmp_path: Path, column: str) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?")]
    (prompt,) = load(tmp_path, {column: [{"role": role, "content": text} for role, text in turns]}).prompts
    assert prompt.messages == tuple(Message(*turn) for turn in turns)
    assert prompt.tags == {}


def test_a_missing_id_comes_from_the_content(tmp_path: Path) -> None:
    first, second = load(tmp_path, {"prompt": "a"}, {"prompt": "b", "id": None}).prompts
    assert first.id.startswith("p-") and len(first.id) == 14
    assert first.id != second.id
    assert load(tmp_path, {"prompt": "b"}, {"prompt": "a"}).prompts[1].id == first.id


def test_columns_can_be_renamed(tmp_path: Path) -> None:
    row = {"q": "Hi", "a": "Hello.", "key": "k", "part": "dev"}
    options = {"prompt_column": "q", "human_column": "a", "id_column": "key", "split_column": "part"}
    (prompt,) = load(tmp_path, row, **options).prompts
    assert (prompt.id, prompt.human, prompt.split, prompt.tags) == ("k", ("Hello.",), "heldout", {})


def test_only_a_newline_ends_a_row(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x0cfour"
    result = load(tmp_path, {"prompt": text}, "", {"prompt": "next"})
    assert [prompt.messages[0].content for prompt in result.prompts] == [text, "next"]


def test_windows_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
    assert [p.messages[0].content for p in load_prompts(tmp_path / "p.jsonl").prompts] == ["a", "b"]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_json_array(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps([{"prompt": "a"}, 3, {"prompt": "b"}], indent=1))
    result = load_prompts(tmp_path / name)
    assert len(result.prompts) == 2
    assert result.rejected == (BadRow(2, "a row must be a JSON object, not int"),)


def test_json_may_hold_lines(tmp_path: Path) -> None:
    assert len(load_prompts(write(tmp_path / "p.json", {"prompt": "a"}, {"prompt": "b"})).prompts) == 2


def test_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": ["a", None, "c"],
            "human": [["x"], None, ["y", "z"]],
            "day": [date(2024, 5, 1)] * 3,
            "score": [float("nan"), 1.0, 0.5],
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    result = load_prompts(tmp_path / "p.parquet")
    assert [prompt.human for prompt in result.prompts] == [("x",), ("y", "z")]
    assert result.prompts[0].tags == {"day": "2024-05-01", "score": None}
    assert result.rejected == (BadRow(2, "there is no 'prompt'"),)


def test_parquet_conversations(tmp_path: Path) -> None:
    conversation = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    pq.write_table(pa.table({"prompt": [conversation]}), tmp_path / "p.parquet")
    assert load_prompts(tmp_path / "p.parquet").prompts[0].messages == (Message("system", "s"), Message("user", "u"))


def test_a_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", {"prompt": "b"}, {"prompt": ""})
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"prompt": ["c", "b"]}), tmp_path / "data" / "c.parquet")
    (tmp_path / "README.md").write_text("not data")
    result = load_prompts(tmp_path)
    assert [prompt.messages[0].content for prompt in result.prompts] == ["b", "c"]
    assert [(bad.line, bad.reason) for bad in result.rejected] == [
        (2, "b.jsonl: the prompt is empty"),
        (2, f"{Path('data', 'c.parquet')}: the same prompt as in b.jsonl line 1"),
    ]


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": f"prompt {number}", "human": "x"} for number in range(7)]
    datasets.Dataset.from_list(rows).shuffle(seed=1).save_to_disk(tmp_path / "one", num_shards=2)
    assert sorted(p.messages[0].content for p in load_prompts(tmp_path / "one").prompts) == [r["prompt"] for r in rows]


def test_a_saved_dataset_with_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {
        "train_sft": datasets.Dataset.from_list([{"prompt": "a"}]),
        "test_sft": datasets.Dataset.from_list([{"prompt": "b"}]),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "two")
    assert [(p.messages[0].content, p.split) for p in load_prompts(tmp_path / "two").prompts] == [
        ("a", "train"),
        ("b", "heldout"),
    ]


def save_as_datasets_does(folder: Path, values: list[str], **state: Any) -> None:
    folder.mkdir(parents=True)
    table = pa.table({"prompt": values})
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    files = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], **state}
    (folder / "state.json").write_text(json.dumps(files))


def test_a_saved_dataset_needs_no_datasets(tmp_path: Path) -> None:
    save_as_datasets_does(tmp_path / "saved", ["a", "b"])
    assert len(load_prompts(tmp_path / "saved").prompts) == 2


def test_a_saved_dataset_with_an_index_is_refused(tmp_path: Path) -> None:
    save_as_datasets_does(tmp_path / "saved", ["a"], _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match="rows reordered"):
        load_prompts(tmp_path / "saved")


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
tags = st.dictionaries(st.sampled_from(["topic", "level"]), st.one_of(st.none(), st.integers(), text), max_size=2)
rows = st.fixed_dictionaries({"prompt": text, "human": st.lists(text)}).flatmap(
    lambda row: tags.map(lambda extra: {**row, **extra})
)


@given(st.lists(rows, min_size=1, max_size=5, unique_by=lambda row: row["prompt"]), st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, written: list[Any], ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("round") / "p.jsonl"
    path.write_bytes("\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in written).encode())
    result = load_prompts(path)
    assert result.rejected == ()
    read = [{"prompt": p.messages[0].content, "human": list(p.human), **p.tags} for p in result.prompts]
    assert read == written


@given(st.binary(max_size=200))
def test_no_file_does_anything_but_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for suffix in (".jsonl", ".json", ".parquet"):
        (folder / f"p{suffix}").write_bytes(content)
        with pytest.raises(DataError):
            load_prompts(folder / f"p{suffix}")


# --- rows that are refused


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "a row must be a JSON object, not list"),
        ("9" * 5000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"text": "x"}, "there is no 'prompt'"),
        ({"prompt": None}, "there is no 'prompt'"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": 3}, "must be text or a list of messages, not int"),
        ({"prompt": {"role": "user"}}, "must be text or a list of messages, not dict"),
        ({"prompt": []}, "must end with a user turn"),
        ({"prompt": ["hello"]}, "message 1 needs a role"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "message 1 needs a role"),
        ({"prompt": [{"role": "user", "content": None}]}, "content of message 1 must be text, not NoneType"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "must be text, not list"),
        ({"prompt": [{"role": "system", "content": "x"}]}, "must end with a user turn"),
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
        ({"prompt": "x" * 100_001}, "100,001 characters, more than the 100,000 allowed"),
    ],
)
def test_a_bad_row_is_refused_and_said_why(tmp_path: Path, row: Any, says: str) -> None:
    assert says in refused(tmp_path, row)


def test_the_limit_of_characters_can_be_lifted(tmp_path: Path) -> None:
    assert len(load(tmp_path, {"prompt": "x" * 200_000}, max_prompt_chars=None).prompts) == 1
    both = [{"role": "system", "content": "abcdefgh"}, {"role": "user", "content": "ijklmnop"}]
    assert "16 characters, more than the 15" in refused(tmp_path, {"prompt": both}, max_prompt_chars=15)


def test_when_no_row_is_left_the_first_five_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, "", *[{"prompt": ""}] * 7)
    message = str(caught.value)
    assert "not one row can be used" in message
    assert all(f"line {line}: the prompt is empty" in message for line in range(2, 7))
    assert "line 7" not in message
    assert "and 2 more" in message


# --- sources that are refused


def test_a_missing_file_is_told_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder; accepted are a \.jsonl"):
        load_prompts(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", b"prompt\nx\n", r"unknown kind of file; accepted are"),
        ("p.jsonl", b"", "the file is empty"),
        ("p.parquet", b"", "the file is empty"),
        ("p.jsonl", b"\n \n", "no rows"),
        ("p.json", b"[]", "no rows"),
        ("p.jsonl", b"hello\nworld\n", "line 1 is not JSON"),
        ("p.json", b'[{"prompt": "x"},', "starts like a JSON array"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": "caf\u00e9"}\n'.encode("latin-1"), "not UTF-8: byte 0xe9 in line 2"),
        ("p.parquet", b"PAR1 this is none PAR1", "p.parquet: "),
        ("p.jsonl", b'{"promt": "x", "z": 1}\n', "columns are promt, z; did you mean 'promt'"),
        ("p.jsonl", b'{"instruction": "x", "z": 1}\n', "did you mean 'instruction'"),
        ("p.jsonl", b'{"a": "x", "z": 1}\n', "the columns are a, z$"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        load_prompts(tmp_path / name)


@pytest.mark.parametrize("part", ["human", "id", "split"])
def test_a_column_that_was_asked_for_must_be_there(tmp_path: Path, part: str) -> None:
    with pytest.raises(DataError, match=rf"'answr' for the {part}.*did you mean 'answer'.*data\.{part}_column"):
        load(tmp_path, {"prompt": "x", "answer": "y"}, **{f"{part}_column": "answr"})


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.jsonl or \.parquet files"):
        load_prompts(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"_data_files": [{"filename": "missing.arrow"}]}'])
def test_a_damaged_saved_dataset(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(DataError):
        load_prompts(tmp_path)


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may read all")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "x"})
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_prompts(path)


@pytest.mark.parametrize(
    "options", [{"holdout": 1.0}, {"holdout": -0.1}, {"holdout": float("nan")}, {"max_prompt_chars": 0}]
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        load(tmp_path, {"prompt": "x"}, **options)


# --- held-out share


def sides(result: PromptSet) -> dict[str, str]:
    return {prompt.messages[-1].content: prompt.split for prompt in result.prompts}


def test_about_the_share_is_held_out_and_stays_so(tmp_path: Path) -> None:
    many = [{"prompt": f"prompt {number}"} for number in range(1000)]
    whole = sides(load(tmp_path, *many))
    assert 150 < sum(side == "heldout" for side in whole.values()) < 250
    part = sides(load(tmp_path, *reversed(many[:500])))
    assert all(whole[text] == side for text, side in part.items())
    assert sides(load(tmp_path, *many, seed=1)) != whole


def test_the_same_text_is_on_one_side(tmp_path: Path) -> None:
    variants = ["Why, then?", "why then", "  WHY   then!"]
    for seed in range(20):
        result = load(tmp_path, *({"prompt": text} for text in [*variants, "other", "another"]), seed=seed)
        assert len({sides(result)[text] for text in variants}) == 1


@given(st.integers(2, 6), st.floats(0.001, 0.999), st.integers(0, 1000))
def test_some_but_never_all_are_held_out(
    tmp_path_factory: pytest.TempPathFactory, count: int, share: float, seed: int
) -> None:
    path = write(tmp_path_factory.mktemp("share") / "p.jsonl", *({"prompt": f"{n}"} for n in range(count)))
    held = [p for p in load_prompts(path, holdout=share, seed=seed).prompts if p.split == "heldout"]
    assert 0 < len(held) < count


def test_nothing_is_held_out_where_it_cannot_be(tmp_path: Path) -> None:
    assert set(sides(load(tmp_path, {"prompt": "a"}, {"prompt": "b"}, holdout=0.0)).values()) == {"train"}
    assert set(sides(load(tmp_path, {"prompt": "a"}, holdout=0.99)).values()) == {"train"}


def test_a_split_column_decides_alone(tmp_path: Path) -> None:
    result = load(tmp_path, {"prompt": "a", "split": "train"}, {"prompt": "b", "split": None}, {"prompt": "c"})
    assert set(sides(result).values()) == {"train"}


# --- real data


@needs_data
def test_real_human_responses() -> None:
    with pytest.raises(DataError, match=r"no row has a column 'instructions'.*did you mean 'instruction'"):
        load_prompts(DATA / "human_responses.parquet", prompt_column="instructions")
    result = load_prompts(DATA / "human_responses.parquet", human_column="response", id_column="row_id")
    assert len(result.prompts) + len(result.rejected) == 346
    assert len(result.prompts) > 330
    assert all("the same prompt" in bad.reason for bad in result.rejected)
    assert all(prompt.human for prompt in result.prompts)
    assert 0.1 < sum(prompt.split == "heldout" for prompt in result.prompts) / len(result.prompts) < 0.3


@needs_data
def test_real_instructions_repeat() -> None:
    result = load_prompts(DATA / "human_responses.parquet", prompt_column="instruction")
    assert {"input", "response", "source"} <= result.prompts[0].tags.keys()


@needs_data
def test_real_conversations_with_known_quirks() -> None:
    rows = pq.read_table(DATA / "human_pairs.parquet").to_pylist()
    result = load_prompts(DATA / "human_pairs.parquet", id_column="pair_id", human_column="chosen")
    assert len(result.prompts) + len(result.rejected) == len(rows)
    for bad in result.rejected:
        row = rows[bad.line - 1]
        roles = [message["role"] for message in row["prompt"]]
        assert row["quirk"] or "the same prompt" in bad.reason
        assert ("are both by" in bad.reason) <= any(first == second for first, second in pairwise(roles))


@needs_data
@pytest.mark.parametrize(
    ("name", "column", "id_column"), [("ifeval_prompts", "prompt", "key"), ("matrix_judged", "prompt", "id")]
)
def test_real_prompt_sets(name: str, column: str, id_column: str) -> None:
    result = load_prompts(DATA / f"{name}.parquet", prompt_column=column, id_column=id_column)
    assert len(result.prompts) > 500


@needs_data
def test_real_turn_lists_are_no_messages() -> None:
    with pytest.raises(DataError, match=r"not one row can be used.*message 1 needs a role"):
        load_prompts(DATA / "benchmark_prompts.parquet", prompt_column="turns")


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, tso.prompts, tso.correct.rule, tso.quickstart;"
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'datasets') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
