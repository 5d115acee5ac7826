"""The examples run as they stand in the repository, and do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_plain_loop_learns_the_preference():
    pytest.importorskip("tso_kernels", reason="needs torch and tso-kernels")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "plain_loop.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, *_, last = re.findall(r"loss ([\d.]+)   margin +(-?[\d.]+) .* bound (\d+)%", done.stdout)
    assert float(first[0]) == pytest.approx(0.6931, abs=1e-3)  # policy = reference: -log sigmoid(0)
    assert float(first[1]) == 0.0
    assert float(last[0]) < float(first[0])
    assert int(last[2]) > 50  # rejected sides reach their bound and are left alone
    before, after = map(int, re.search(r"(\d+)% before, (\d+)% after", done.stdout).groups())
    assert after >= 95 > before
