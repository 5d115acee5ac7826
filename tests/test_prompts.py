"""Prompts: every usable form is read, every unusable row is named."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tso.config import DataSection
from tso.errors import DataError
from tso.prompts import load_prompts

ROWS = [{"prompt": f"say {i}", "human": f"answer {i}"} for i in range(10)]


def load(path, **options):
    return load_prompts(DataSection(prompts=str(path), **options))


def test_formats_give_the_same_prompts(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    (tmp_path / "b.json").write_text(json.dumps(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    folder = tmp_path / "d"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "part.parquet")
    found = [load(tmp_path / n).prompts for n in ("a.jsonl", "b.json", "c.parquet", "d")]
    assert found[0] == found[1] == found[2] == found[3]
    assert sum(p.split == "heldout" for p in found[0]) == 2
    assert found[0][3].human == ("answer 3",)


def test_line_separators_inside_strings_do_not_split_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a\u2028b"}\n{"prompt": "c\u0085d"}\n', encoding="utf-8")
    assert len(load(path).prompts) == 2


def test_unusable_rows_are_named_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"prompt": "fine"}, {"prompt": " "}, {"other": 1}, {"prompt": "fine"}, {"prompt": [{"role": "assistant", "content": "x"}]},
        {"prompt": "b", "human": 3}, {"prompt": "c", "split": "test"},
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    found = load(path)
    assert len(found.prompts) == 1
    assert [b.line for b in found.rejected] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"x", "line 1 is not JSON"),
        (b"[]", "holds no rows"),
        (b"3\n", "not a JSON object"),
        (b"\xff", "UTF-8"),
    ],
)
def test_bad_files(tmp_path, content, says):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(says)):
        load(path)


def test_the_quickstart_prompts():
    from importlib.resources import files

    found = load(files("tso.quickstart") / "prompts.jsonl")
    assert found.rejected == ()
    assert len(found.prompts) >= 64
    assert sum(p.split == "heldout" for p in found.prompts) * 5 == len(found.prompts)
