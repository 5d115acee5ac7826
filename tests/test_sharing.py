"""Several samplers on one store from Python: the public calls, their errors by class, and SIGKILL at random moments."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tso
from hypothesis import given
from hypothesis import strategies as st
from tso import Ledger, errors

from tests.stores import prompts, python

ROOT = Path(__file__).parents[1]
ANSWER = ("hi", b"\1\0\0\0", "stop")


@pytest.fixture
def path(tmp_path):
    """A plan of three batches of two draws, with nobody at work."""
    path = tmp_path / "run.sqlite"
    with Ledger.create(path, {}) as ledger:
        ledger.write(0, "start", 0, "", prompts(3))
        ledger.plan_draws(1, "train", 17, ["p0", "p1", "p2"], [("policy", 2)], 2)
    return path


def test_two_samplers_share_a_plan(path):
    with Ledger.join(path, "a") as a, Ledger.join(path, "b") as b, Ledger.open(path, read_only=True) as reader:
        assert [s.lease(1, "train", 600) for s in (a, b, a, b)] == [0, 1, 2, None]
        a.record(1, "train", 2, [ANSWER] * 2)
        b.record(1, "train", 1, iter([ANSWER] * 2))
        a.release(1, "train", 0)
        assert b.lease(1, "train", 0.05) == 0
        time.sleep(0.1)
        b.renew(1, "train", 0, 600)
        assert reader.pending(1, "train") == [0]
        b.record(1, "train", 0, [ANSWER] * 2)
        assert reader.pending(1, "train") == []
        assert reader.query("SELECT count(*) FROM sampled")[1] == [(6,)]
        assert reader.check() == []


def test_a_lease_that_was_lost_is_told_as_a_conflict(path):
    with Ledger.join(path, "slow") as slow, Ledger.join(path, "quick") as quick:
        assert slow.lease(1, "train", 0.02) == 0
        time.sleep(0.05)
        assert quick.lease(1, "train", 600) == 0
        for lost in (
            lambda: slow.record(1, "train", 0, [ANSWER] * 2),
            lambda: slow.renew(1, "train", 0, 1),
            lambda: slow.release(1, "train", 0),
        ):
            with pytest.raises(errors.StoreConflict, match='it is leased by "quick"'):
                lost()
        quick.record(1, "train", 0, [ANSWER] * 2)
        with pytest.raises(errors.StoreConflict, match="it is recorded"):
            slow.record(1, "train", 0, [ANSWER] * 2)


def test_who_is_let_in(path):
    with Ledger.join(path, "a") as a:
        with pytest.raises(errors.StoreConflict, match='a sampler named "a" is at work'):
            Ledger.join(path, "a")
        with pytest.raises(errors.StoreLocked):
            Ledger.open(path)
        for refused in (lambda: a.write(1, "x", 0, "", {}), lambda: a.plan_draws(2, "train", 1, ["p0"], [], 1)):
            with pytest.raises(errors.DataError, match="joined for sampling"):
                refused()
    with Ledger.open(path) as writer:
        with pytest.raises(errors.StoreLocked):
            Ledger.join(path, "a")
        with pytest.raises(errors.DataError, match="was not joined"):
            writer.lease(1, "train", 600)
        writer.record(1, "train", 0, [ANSWER] * 2)
    with pytest.raises(FileNotFoundError):
        Ledger.join(path.with_name("missing"), "a")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e30, 700_000])
def test_a_time_that_is_none(path, seconds):
    with Ledger.join(path, "a") as a, pytest.raises(errors.DataError, match="a lease of"):
        a.lease(1, "train", seconds)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([ANSWER], "batch 0 has 2 draws, but 1 answers were given"),
        ([ANSWER, ("hi", "ids", "stop")], "answer 1: give"),
        ([ANSWER, ("hi", b"\1\0\0", "stop")], "token ids of answer 1 are 3 bytes"),
        ([ANSWER, ("\ud800", b"", "stop")], "answer 1: its text holds a lone surrogate"),
        ([ANSWER, ("hi", b"", "end")], "responses, row 1: CHECK"),
        ([ANSWER, None], "answer 1: give"),
    ],
)
def test_answers_that_cannot_be_recorded(path, answers, says):
    with Ledger.join(path, "a") as a:
        assert a.lease(1, "train", 600) == 0
        with pytest.raises(errors.DataError) as caught:
            a.record(1, "train", 0, answers)
        assert says in str(caught.value)
        assert len(a.pending(1, "train")) == 3
        a.record(1, "train", 0, [ANSWER] * 2)


def test_a_plan_of_more_draws_than_fit_into_memory(path):
    with Ledger.open(path) as ledger:
        plan = ledger.plan_draws(2, "train", 17, ["p0", "p1", "p2"], [("policy", 2**31)], 1000)
        assert len(plan) == 3 * 2**31
        assert plan[-1][:4] == (6 + len(plan), "p2", "policy", 2**31 - 1)
        assert plan[-1][4] == Ledger.draw_seed(17, 2, "p2", "policy", 2**31 - 1)
        assert plan.batch(plan.batches - 1)[-1] == plan[-1]
        assert repr(plan).startswith('Plan(iteration=2, purpose="train", draws=6442450944')


def test_the_snippet_of_the_readme_answers_the_plan(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    snippet = re.search(r"```python\n([^`]*Ledger\.join[^`]*)```", (ROOT / "README.md").read_text("utf-8"))[1]
    exec(
        compile(snippet, "README.md", "exec"), {"answer": lambda prompt, cell, seed: (f"{prompt} {cell}", b"", "stop")}
    )
    with Ledger.open(path, read_only=True) as reader:
        assert reader.pending(1, "train") == []
        assert reader.query("SELECT DISTINCT text FROM sampled ORDER BY 1")[1] == [(f"p{i} policy",) for i in range(3)]


TAKES_A_LEASE = """
import os, signal, sys
from tso import Ledger
ledger = Ledger.join(sys.argv[1], "a")
print(ledger.lease(1, "train", 600), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_a_killed_sampler_comes_back_to_its_batch(path):
    assert python(TAKES_A_LEASE, path).stdout == "0\n"
    with Ledger.join(path, "b") as b:
        assert b.lease(1, "train", 600) == 1
        with Ledger.join(path, "a") as a:
            assert a.lease(1, "train", 600) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX")
def test_kills_at_random_moments_lose_no_draw_and_record_none_twice(tmp_path):
    """The long form is `python -m tests.kills FOLDER --kills 200`."""
    command = [sys.executable, "-m", "tests.kills", str(tmp_path), "--kills", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert sum(told["kills"].values()) == 20
    assert set(told["kills"]) == {"a", "b", "reader"}


# Budgets


def by_hand(total, weights, floor):
    """In exact fractions: the floor where the share is below it, and the rest one draw at a time."""
    sharing = list(weights)
    while True:
        rest = total - floor * (len(weights) - len(sharing))
        whole = sum(weights[c] for c in sharing)
        below = [c for c in sharing if rest * weights[c] < floor * whole]
        if not below:
            break
        sharing = [c for c in sharing if c not in below]
    given = {c: rest * weights[c] // whole if c in sharing else floor for c in weights}
    order = sorted(sharing, key=lambda c: -(rest * weights[c] % whole))
    for cell in order[: total - sum(given.values())]:
        given[cell] += 1
    return given


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 100), min_size=1, max_size=8).filter(lambda w: any(w.values())),
    st.integers(0, 5),
    st.integers(0, 300),
)
def test_budgets_are_those_of_the_twin(weights, floor, more):
    total = floor * len(weights) + more
    assert tso.budgets(total, weights, floor) == by_hand(total, weights, floor)


def test_budgets_by_cell():
    assert tso.budgets(10, {"policy": 3, "reference": 1, "human": 0}, {"human": 1}) == {
        "policy": 7,
        "reference": 2,
        "human": 1,
    }
    assert tso.budgets(3, {"b": 1.0, "a": 1.0}) == {"b": 2, "a": 1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((3, {"a": 1, "b": 1}, 2), "the floors add up to 4 draws, more than the 3 there are"),
        ((3, {"a": -1}), "the weight of cell 'a' is -1"),
        ((3, {"a": float("nan")}), "the weight of cell 'a' is nan"),
        ((3, {"a": "3"}), "the weight of cell 'a' is '3'"),
        ((3, {"a": None}), "the weight of cell 'a' is None"),
        ((3, {"a": True}), "the weight of cell 'a' is True"),
        ((None, {"a": 1}), "total has to be a whole number, got None"),
        ((3, {"a": 1}, 0.5), "the floor of cell 'a' has to be a whole number, got 0.5"),
        ((3, {}), "no weight is above 0"),
        ((-1, {"a": 1}), "total has to be from 0"),
        ((2**32, {"a": 1}), "total has to be from 0"),
        ((3, {"a": 1}, -1), "a floor has to be from 0"),
        ((3, {"a": 1}, {"b": 1}), "cell 'b' has a floor but no weight"),
    ],
)
def test_budgets_that_cannot_be(arguments, says):
    with pytest.raises(errors.DataError) as caught:
        tso.budgets(*arguments)
    assert says in str(caught.value)
