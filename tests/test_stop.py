"""Ctrl-C stops every long call of the data tools. Each of these would go on for far longer than the test waits."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALLS = {
    "texts-exact": "tso.dedup_texts(batch(20_000, 200, 3), ngram=2, threshold=0.3, mode='exact', threads=1)",
    "texts-lsh": "for _ in range(1000): tso.dedup_texts(batch(20_000, 500, 3), ngram=9, threshold=0.3, threads=1)",
    "pairs": "x = batch(20_000, 200, 3); tso.dedup_pairs(x, x, batch(20_000, 200, 2), scope='global', ngram=2,"
    " threshold=0.3, mode='exact', threads=1)",
    "self-bleu": "tso.diversity(batch(10_000, 500, 50), [0] * 10_000, scores=['self_bleu'], threads=1)",
    "vendi": "tso.diversity(batch(6_000, 300, 50), [0] * 6_000, scores=['vendi'], threads=1)",
    "select-dpp": "tso.select_diverse(batch(20_000, 300, 50), 15_000, method='dpp', threads=1)",
    "index": "index = tso.DedupIndex(ngram=2, threshold=0.3)\nfor _ in range(1000): index.add(batch(20_000, 200, 9))",
}
SCRIPT = """
import signal
import numpy as np
import tso
rng = np.random.default_rng(0)
def batch(rows, length, ids):
    return rng.integers(0, ids, rows * length), np.arange(0, rows * length + 1, length)
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 1.0)
"""


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_stops_a_long_call(call):
    command = [sys.executable, "-c", SCRIPT + CALLS[call]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
