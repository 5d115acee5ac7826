"""The whole loop on a tiny model: what it leaves behind, and that it says the same twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tso.store import RunStore

from tests.tiny import content_hash, words

ROOT = Path(__file__).parents[1]


def command(tiny, output, *more, threads="1"):
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    line = [sys.executable, "-m", "tso.train", *words(tiny, output), *more]
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tiny):
    output = tiny / "finished"
    done = command(tiny, output)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_a_run_leaves_model_data_and_report(finished):
    output, said = finished
    assert "held-out prompts" in said
    for name in ("run.sqlite", "config.yaml", "metrics.jsonl", "report.html", "final/model.safetensors"):
        assert (output / name).exists(), name
    assert "Content-Security-Policy" in (output / "report.html").read_text()
    names = {k for line in (output / "metrics.jsonl").read_text().splitlines() for k in json.loads(line)}
    assert {"loss", "rewards/chosen", "rewards/accuracies", "logps/rejected", "clip/saturated", "data/pairs"} <= names
    import pyarrow.parquet as pq

    rows = pq.read_table(output / "iteration-1" / "pairs.parquet").to_pylist()
    assert rows[0]["prompt"][-1]["role"] == "user"
    assert rows[0]["chosen"] != rows[0]["rejected"]


def test_counts_balance_and_the_reference_follows_the_policy(finished):
    with RunStore.open_read_only(finished[0]) as store:
        for iteration in (1, 2):
            counts = store.balance(iteration)
            assert counts["sampled"] == sum(n for k, n in counts.items() if k != "sampled")
            assert store.checkpoint(iteration, "reference") == store.checkpoint(iteration, "policy")
    with RunStore.open_read_only(finished[0] / "control") as control:
        assert control.checkpoint(2, "reference") == control.checkpoint(0, "policy")
        assert control.balance(2)["sampled"] == counts["sampled"]
        models = {c.revision for c in control.cells(2) if c.name not in ("evaluate", "human")}
        assert models == {control.checkpoint(0, "policy")[1]}


def test_every_end_of_turn_token_stands_once_and_only_where_the_answer_ended(finished):
    with RunStore.open_read_only(finished[0]) as store:
        answers = [a for i in (1, 2) for a in store.responses(i, "train")]
    assert {a.finish_reason for a in answers} == {"stop", "length"}
    for answer in answers:
        assert answer.token_ids.count(3) == (answer.finish_reason == "stop")
        assert (answer.token_ids[-1] == 3) == (answer.finish_reason == "stop")


def test_the_same_command_again_changes_nothing(tiny, finished):
    before = content_hash(finished[0])
    assert command(tiny, finished[0]).returncode == 0
    assert content_hash(finished[0]) == before


@pytest.mark.parametrize("count", ["1", "2"])
def test_the_same_seed_gives_the_same_run_whatever_the_environment_says_of_threads(tiny, finished, count):
    output = tiny / f"again-{count}"
    done = command(tiny, output, f"pair.threads={count}", threads=count)
    assert done.returncode == 0
    assert ("OMP_NUM_THREADS=2 is not followed: this run computes with model.threads=1" in done.stdout) == (
        count == "2"
    )
    assert content_hash(output) == content_hash(finished[0])


def test_another_config_is_refused_on_the_same_folder(tiny, finished):
    done = command(tiny, finished[0], "training.beta=0.5")
    assert done.returncode == 2
    assert "holds a run with other settings (training.beta" in done.stderr
    assert "Traceback" not in done.stderr


def test_fewer_iterations_than_begun_are_refused_and_nothing_changes(tiny, finished):
    kept = {name: (finished[0] / name).read_bytes() for name in ("report.html", "config.yaml")}
    done = command(tiny, finished[0], "run.iterations=1")
    assert done.returncode == 2
    assert "has begun iteration 2: give run.iterations=2 or more" in done.stderr
    assert (finished[0] / "final").resolve() == (finished[0] / "iteration-2" / "checkpoint").resolve()
    assert {name: (finished[0] / name).read_bytes() for name in kept} == kept
    assert b"finished, 2 iterations" in kept["report.html"]


def test_recorded_corrections_outrank_the_rule(tiny, finished):
    with RunStore.open_read_only(finished[0]) as store:
        pair = store.pairs(1)[0]
    path = tiny / "corrections.jsonl"
    path.write_text(
        json.dumps({"pair_id": pair.id, "verdict": "edit", "text": "tea is warm .", "author": "kim"}) + "\n"
    )
    output = tiny / "corrected"
    done = command(tiny, output, f"correct.recorded={path}", "evaluate.draws=0", "run.iterations=1")
    assert done.returncode == 0, done.stderr
    with RunStore.open_read_only(output) as store:
        label = next(p.label for p in store.pairs(1) if p.id == pair.id)
        assert (label.source, store.responses_by_id([label.chosen])[label.chosen].text) == ("human", "tea is warm .")
    told = subprocess.run(
        [sys.executable, "-m", "tso.cli", "show", pair.id, str(output)], capture_output=True, text=True, check=False
    )
    assert "correction by human kim: edit" in told.stdout


def test_pairs_cut_to_one_text_leave_with_a_reason_and_are_not_exported(tiny):
    import pyarrow.parquet as pq

    output = tiny / "cut"
    short = ["data.max_prompt_tokens=11", "training.max_length=12", "pair.max_pairs=20", "correct.margin=0"]
    cells = "matrix.cells=[{name: a, draws: 3, temperature: 0.2}, {name: b, draws: 3, temperature: 0.3}]"
    done = command(tiny, output, *short, cells, "run.iterations=1", "evaluate.draws=0", "evaluate.control=false")
    assert done.returncode == 0, done.stderr
    with RunStore.open_read_only(output) as store:
        trained = {row[0] for row in store.query("SELECT pair_id FROM outcomes")}
        assert store.query("SELECT count(*) FROM drops WHERE reason = 'cut_equal'")[0][0] > 0
        assert {p.id for p in store.pairs(1)} == trained
        store.balance(1)
    assert {row["pair_id"] for row in pq.read_table(output / "iteration-1" / "pairs.parquet").to_pylist()} == trained


def test_a_table_never_compares_answers_drawn_in_different_ways(tiny, finished):
    done = command(tiny, finished[0], "evaluate.temperature=0")
    assert done.returncode == 2
    assert "holds a run with other settings (evaluate.temperature" in done.stderr


def test_verdicts_may_join_a_run_that_began_without_them(tiny, finished):
    path = tiny / "late.jsonl"
    path.write_text(json.dumps({"pair_id": "p0123", "verdict": "keep"}) + "\n", encoding="utf-8")
    assert command(tiny, finished[0], f"correct.recorded={path}").returncode == 0
