"""SIGKILL at random moments while a server is being asked: no answer that was kept is lost, and none is asked for again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tso.store import FILE, RunStore

from tests.sample.sampling import PROMPTS
from tests.sample.server import serving

ROOT = Path(__file__).parents[2]
KILLS = 20


def start(folder, url):
    line = [sys.executable, "-m", "tests.sample.sampling", str(folder), url]
    return subprocess.Popen(line, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def kept(folder):
    """Seeds, as sent, of the answers that the store has."""
    if not (folder / FILE).exists():
        return set()
    with RunStore.open_read_only(folder) as store:
        if not store.done(1, "plan/train"):
            return set()
        arrived = {row[0] for row in store.query("SELECT draw FROM arrivals")}
        plan = store._ledger.plan(1, "train")
        draws = [draw for batch in range(plan.batches) for draw in plan.batch(batch)]
        return {seed % 2**31 for number, _, _, _, seed, _ in draws if number in arrived}


def asked(server):
    """How often each draw was asked for; what the probe asks is no draw."""
    return Counter(s["seed"] for _, s, _ in list(server.calls) if "tell of" in s["messages"][0]["content"])


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_no_answer_is_lost_or_asked_for_again(tmp_path):
    folder, pace, killed = tmp_path / "run", random.Random(7), 0
    total = 5 * len(PROMPTS)
    with serving() as server:
        server.pause = 0.02
        while killed < KILLS:
            before, had = asked(server), kept(folder)
            assert len(had) < total, "the run ended before it had been killed often enough"
            child = start(folder, server.url)
            goal = sum(before.values()) + pace.randint(1, 7)
            while child.poll() is None and sum(asked(server).values()) < goal:
                time.sleep(0.001)
            time.sleep(pace.uniform(0, 0.06))
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert child.returncode == -signal.SIGKILL, child.stderr.read().decode()
            killed += 1
            again = asked(server) - before
            assert not had & set(again), "an answer that was kept has been asked for again"
            assert had <= kept(folder), "an answer that was kept is lost"
        assert KILLS < len(kept(folder)) < total, "kills that met no answer would show nothing"
        done = start(folder, server.url)
        assert done.wait(120) == 0, done.stderr.read().decode()
        told = asked(server)
    with RunStore.open_read_only(folder) as store:
        responses = store.responses(1, "train")
        assert len(responses) == len({r.id for r in responses}) == total
        texts = dict(store.query("SELECT draw, text FROM arrivals"))
        assert {r.id: r.text for r in responses} == texts
        assert store._ledger.check() == []
        assert all(r.token_ids == (*map(ord, r.text), 0) for r in responses)
    assert len(told) == total
    # Lost are at most the answers that were under way at a kill.
    assert sum(told.values()) <= total + KILLS * 6
