"""SIGKILL anywhere, the same command again, the same end: pairs, labels, texts, weights, reference."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def drive(tiny: Path, points: list[str], threads: str = "1") -> dict:
    env = {**os.environ, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "tests.crash", str(tiny), *points]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX")
def test_killed_runs_end_as_the_undisturbed_one(tiny):
    points = [f"{n}{side}" for n in range(2, 74, 6) for side in "-+"]
    told = drive(tiny, points)
    assert told["code"] == 0
    assert [r["again"] for r in told["results"]] == [0] * len(points)
    killed = [r["point"] for r in told["results"] if r["first"] == -9]
    assert len(killed) >= 20, f"only {killed} were reached"
    assert {r["hash"] for r in told["results"]} == {told["hash"]}
