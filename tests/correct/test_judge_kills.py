"""SIGKILL while a judge is at work, again and again: nothing that was finished is lost, and nothing is asked twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX")


@pytest.mark.parametrize("where", [[], ["--server"]])
def test_a_judging_run_that_is_killed_asks_nothing_twice(tmp_path, where):
    command = [sys.executable, "-m", "tests.correct.judge_kills", str(tmp_path), "--kills", "20", *where]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert told["kills"] == 20
    assert told["held_at_the_last"] > 0
