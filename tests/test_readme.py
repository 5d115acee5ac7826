"""What the README shows of the data tools runs as it is written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from tso import cli

ROOT = Path(__file__).resolve().parents[1]
LINES = ["never give all the heart", "for love will hardly seem", "never give all the heart", "worth thinking of"]


def _blocks(language: str) -> list[str]:
    section = (ROOT / "README.md").read_text("utf-8").split("\n## The data tools\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_lines() -> None:
    tokens = [[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4], [9, 8, 7, 6]]
    names = {
        "prompt": [[1], [1]], "chosen": tokens[:2], "rejected": tokens[2:], "tokens": tokens, "groups": [0, 0, 1, 1],
        "scores": [1, 2, 3, 4], "earlier": tokens[2:],
    }  # fmt: skip
    (code,) = _blocks("python")
    exec(compile(code, "README.md", "exec"), names)


def test_the_commands(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="text needs tokenizers")
    words = {w: i for i, w in enumerate(sorted({w for line in LINES for w in line.split()}))}
    coder = tokenizers.Tokenizer(tokenizers.models.WordLevel({**words, "?": len(words)}, "?"))
    coder.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (folder / "folder/of/a/model").mkdir(parents=True)
    coder.save("folder/of/a/model/tokenizer.json")
    pairs = [{"prompt": "p", "chosen": line, "rejected": f"not {line}"} for line in LINES]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs), "utf-8")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": ["p", "q"] * 2, "response": LINES}), "answers.parquet")
    (folder / "shards").mkdir()
    (folder / "scratch").mkdir()
    rows = [{"text": line} for line in LINES]
    for name in ("old", "new"):
        asked = [{"prompt": "p", "response": line} for line in LINES]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    (folder / "shards" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (code,) = _blocks("sh")
    for line in code.strip().splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if "ray" in arguments:
            continue  # tests/test_ray.py has a cluster
        assert program == "tso"
        assert cli.main(arguments) == 0, line
