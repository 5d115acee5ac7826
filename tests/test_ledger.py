"""The run store from Python: values, errors by class, locks between threads and processes."""

import os
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso import Ledger, errors

from tests.stores import METRIC, metrics, prompts, python

BIG = 2**64 - 1


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger.create(path, {"seed": "17"}) as ledger:
        yield ledger


def test_numbers_that_do_not_fit_are_refused_by_name(ledger):
    ledger.write(0, "prompts", 0, "", prompts(1, 0))
    for seed in (-1, 2**64, 1.5, None, "1"):
        for call in (
            lambda seed=seed: ledger.choose_prompts(0, 1, seed),
            lambda seed=seed: ledger.plan_draws(0, "train", seed, ["p0"], [("policy", 1)], 1),
            lambda seed=seed: Ledger.draw_seed(seed, 0, "p0", "policy", 0),
        ):
            with pytest.raises(errors.DataError, match="run_seed has to be a whole number from 0"):
                call()
    with pytest.raises(errors.DataError, match="size has to be a whole number"):
        ledger.choose_prompts(0, -1, 1)
    with pytest.raises(errors.DataError, match="batch_size has to be a whole number"):
        ledger.plan_draws(0, "train", 1, ["p0"], [("policy", 1)], -1)
    with pytest.raises(errors.DataError, match="iteration -1"):
        ledger.plan_draws(-1, "train", 1, ["p0"], [("policy", 1)], 1)
    with pytest.raises(errors.DataError, match=r"a lease of 1e\+?300 s"):
        ledger.lease(0, "train", 1e300)


def test_lists_that_memory_may_not_hold_are_refused(ledger):
    ledger.write(0, "prompts", 0, "", prompts(1, 0))
    plan = ledger.plan_draws(0, "train", 1, ["p0"], [("policy", 2**31)], 2**31)
    with pytest.raises(errors.DataError, match="batch 0 has 2147483648 draws, and a list holds"):
        plan.batch(0)
    ledger.plan_draws(1, "train", 1, ["p0"], [("policy", 2**31)], 1)
    with pytest.raises(errors.DataError, match="2147483648 batches of iteration 1 are pending, and a list holds"):
        ledger.pending(1, "train")


# What goes in comes out


def test_a_run_from_plan_to_responses(ledger, path):
    assert ledger.meta() == {"seed": "17"}
    ledger.write(0, "prompts", 0, '{"n": 3}', prompts(3, 1))
    chosen = ledger.choose_prompts(1, 2, 17)
    assert len(set(chosen)) == 2
    assert set(chosen) < {"p0", "p1", "p2"}
    plan = ledger.plan_draws(1, "train", 17, chosen, [("policy", 2), ("human", 1, chosen[:1])], 3)
    a, b = chosen
    assert (len(plan), plan.batches) == (5, 3)
    assert [row[:4] + row[5:] for row in plan] == [
        (1, a, "policy", 0, 0),
        (2, a, "policy", 1, 0),
        (3, b, "policy", 0, 0),
        (4, b, "policy", 1, 1),
        (5, a, "human", 0, 2),
    ]
    for _, prompt, cell, draw, seed, _ in plan:
        assert seed == Ledger.draw_seed(17, 1, prompt, cell, draw)
        assert 0 <= seed < 2**64
    assert [plan[i] for i in range(-5, 5)] == 2 * list(plan)
    assert [plan.batch(b) for b in range(3)] == [list(plan)[:3], [plan[3]], [plan[4]]]
    for call in (lambda: plan[5], lambda: plan[-6], lambda: plan.batch(3), lambda: plan.batch(-1)):
        with pytest.raises(IndexError, match="of a plan of"):
            call()
    again = ledger.plan_draws(1, "train", 17, chosen, [("policy", 2, None), ("human", 1, chosen[:1])], 3)
    assert list(again) == list(ledger.plan(1, "train")) == list(plan)
    with pytest.raises(errors.StoreConflict, match="another plan .* its seed is 17, and now seed 18 was asked for"):
        ledger.plan_draws(1, "train", 18, chosen, [("policy", 2)], 3)
    assert ledger.pending(1, "train") == [0, 1, 2]
    ledger.record(1, "train", 1, [("hi", b"\1\0\0\0", "stop")])
    assert ledger.query("SELECT * FROM sampled")[1] == [
        (4, 1, b, "policy", _signed(plan[3][4]), "hi", b"\1\0\0\0", 1, "stop", "train")
    ]
    assert ledger.pending(1, "train") == [0, 2]
    assert ledger.is_done(1, "sample/train", 1)
    assert not ledger.is_done(1, "sample/train")
    assert ledger.free_response_id() == 6
    assert ledger.info(0, "prompts") == '{"n": 3}'
    assert ledger.info(1, "prompts") is None
    assert ledger.units(1, "sample/train") == [(1, "sample/train", 1, "{}")]
    assert [unit[:3] for unit in ledger.units()] == [(0, "prompts", 0), (1, "plan/train", 0), (1, "sample/train", 1)]
    assert ledger.check() == []
    assert ledger.path == path


def _signed(seed):
    return seed - 2**64 if seed >= 2**63 else seed


def test_seeds_are_the_same_everywhere():
    # From the description in seeds.rs, by the Python package xxhash.
    assert Ledger.draw_seed(0, 0, "", "", 0) == 0xCA3F700BA5FA5507
    assert Ledger.draw_seed(BIG, -1, "größe", "参照@0.7", 2**32 - 1) == 0x1510B15FF1ABD3D1


RESPONSE = ["iteration", "prompt_id", "cell", "seed", "text", "token_ids", "tokens", "finish_reason"]


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**64 - 1)),
        max_size=8,
    )
)
@settings(max_examples=30, deadline=None)
def test_texts_and_seeds_come_back(tmp_path_factory, pairs):
    with Ledger.create(tmp_path_factory.mktemp("store") / "run.sqlite", {}) as ledger:
        ledger.write(0, "prompts", 0, "", prompts(1))
        rows = [(0, "p0", cell, seed, "", b"", 0, "stop") for cell, seed in pairs]
        ledger.write(0, "x", 0, "", {"responses": (RESPONSE, rows)})
        _, rows = ledger.query("SELECT cell, seed FROM responses ORDER BY response_id")
        assert [(cell, seed % 2**64) for cell, seed in rows] == [(cell, seed % 2**64) for cell, seed in pairs]


def test_every_kind_of_value(ledger):
    values = (None, True, -(2**63), 1.5, float("-inf"), "größe\0", b"\0\xff")
    names, rows = ledger.query("VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    assert rows == [(None, 1, *values[2:])]
    assert len(names) == 7
    assert ledger.query("SELECT 1 AS one WHERE 0") == (["one"], [])


def test_rows_may_come_from_a_generator(ledger):
    ledger.write(1, "train", 0, "", {"metrics": (METRIC, ((1, i, "loss", i / 2) for i in range(5)))})
    assert ledger.query("SELECT sum(value) FROM metrics")[1] == [(5.0,)]


# What is refused, by class and by name


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"metric": (METRIC, [])}, 'unknown table "metric"; the nearest is "metrics"'),
        ({"metrics": (["nam"], [])}, 'the nearest is "name"'),
        (metrics((1, 1, "loss", 1.0), (1, 2, "loss", float("nan"))), "metrics.value, row 1: is NaN"),
        (metrics((1, BIG, "loss", 1.0)), "metrics.step, row 0: is beyond 64-bit signed"),
        (metrics((1, 2**64, "loss", 1.0)), "metrics.step, row 0: is beyond 64 bits"),
        (metrics((1, 1, "\ud800", 1.0)), "metrics.name, row 0: holds a lone surrogate"),
        (metrics((1, 1, ["loss"], 1.0)), "metrics.name, row 0: a value of type list"),
        (metrics((1, 1, "loss")), "3 values for 4 columns"),
        (metrics((1, 1, "loss", "high")), "metrics, row 0: cannot store TEXT value"),
        ({"metrics": METRIC}, "metrics: give (column names, rows)"),
    ],
)
def test_unusable_rows(ledger, rows, says):
    with pytest.raises(errors.DataError) as caught:
        ledger.write(1, "train", 0, "", {**metrics((9, 9, "good", 1.0)), "prompts": prompts(1)["prompts"], **rows})
    assert says in str(caught.value)
    assert ledger.units() == []
    assert ledger.query("SELECT count(*) FROM prompts")[1] == [(0,)]


def test_contradictions(ledger, path):
    ledger.write(1, "train", 0, "", metrics((1, 1, "loss", 1.0)))
    with pytest.raises(errors.StoreConflict, match="already recorded"):
        ledger.write(1, "train", 0, "", {})
    with pytest.raises(errors.StoreConflict, match="metrics, row 0: UNIQUE"):
        ledger.write(1, "train", 1, "", metrics((1, 1, "loss", 2.0)))
    with pytest.raises(errors.StoreConflict, match="refers to 'p9', which is not in prompts"):
        ledger.write(1, "x", 1, "", {"batches": (["iteration", "position", "prompt_id"], [(1, 0, "p9")])})
    with pytest.raises(errors.StoreConflict, match="already exists"):
        Ledger.create(path, {})
    assert ledger.query("SELECT value FROM metrics")[1] == [(1.0,)]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM meta", "PRAGMA user_version", "BEGIN", "SELECT 1; SELECT 2", "nonsense", ""]
)
def test_a_query_only_reads(ledger, sql):
    with pytest.raises(errors.DataError):
        ledger.query(sql)


def test_a_closed_ledger_says_so(path):
    ledger = Ledger.create(path, {})
    ledger.close()
    ledger.close()
    with pytest.raises(errors.StoreError, match=r"run\.sqlite is closed"):
        ledger.units()
    with Ledger.open(path, read_only=True) as reader, pytest.raises(errors.DataError, match="for reading only"):
        reader.write(0, "x", 0, "", {})


def test_what_is_no_store(tmp_path):
    for name, content in [("empty", b""), ("text", b"once upon a time\n" * 50), ("short", b"SQLite format 3\0")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.StoreDamaged, match=f"{name} is damaged or not a run of tso"):
            Ledger.open(tmp_path / name)
    with pytest.raises(errors.StoreDamaged, match="it is a folder"):
        Ledger.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        Ledger.open(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        Ledger.create(tmp_path / "no" / "folder", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "short", "text"]


def test_a_damaged_and_a_foreign_version(path):
    with Ledger.create(path, {}) as ledger:
        ledger.write(0, "prompts", 0, "", prompts(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.StoreDamaged, match="cut off"):
        Ledger.open(path)
    path.write_bytes(whole[:8192] + random.Random(1).randbytes(8192) + whole[16384:])
    with pytest.raises(errors.StoreDamaged):
        Ledger.open(path)
    path.write_bytes(whole[:60] + (7).to_bytes(4) + whole[64:])
    with pytest.raises(errors.StoreVersionError, match="has store version 7"):
        Ledger.open(path)


# Several handles, threads and processes


def test_a_second_writer_is_refused_and_readers_are_not(ledger, path):
    code = "import sys; from tso import Ledger; Ledger.open(sys.argv[1])"
    assert "StoreLocked" in python(code, path).stderr
    ledger.write(0, "x", 0, "", {})
    code = "import sys; from tso import Ledger; print(Ledger.open(sys.argv[1], read_only=True).units())"
    assert python(code, path).stdout == "[(0, 'x', 0, '')]\n"
    with pytest.raises(errors.StoreLocked):
        Ledger.open(path)
    ledger.close()
    Ledger.open(path).close()


def test_a_fork_goes_its_own_way(ledger, path):
    ledger.write(0, "x", 0, "", {})
    ledger.fork(path.with_name("control.sqlite"))
    ledger.write(0, "y", 0, "", {})
    with Ledger.open(path.with_name("control.sqlite")) as control:
        assert [unit[1] for unit in control.units()] == ["x"]
        assert control.meta() == ledger.meta()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_to_open_it_again(ledger):
    ledger.write(0, "x", 0, "", {})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ledger.write(0, "y", 0, "", {})
        except errors.DataError:
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ledger.write(0, "y", 0, "", {})


def test_threads_share_a_ledger_and_sqlite_work_lets_others_run(ledger):
    slow = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT sum(i) FROM n"
    found = []
    thread = threading.Thread(target=lambda: found.append(ledger.query(slow)[1]))
    thread.start()
    ticks = 0
    while thread.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert found == [[(3000000 * 3000001 // 2,)]]
    assert ticks > 10, "the interpreter stood still during a query"
    threads = [
        threading.Thread(target=lambda i=i: ledger.write(0, "t", i, "", metrics((0, i, "loss", 1.0)))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.units()) == 8
