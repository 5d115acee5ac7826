"""A user's mistake is one clear line and exit code 2; nothing is lost and no traceback shown."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tso.store import RunStore

from tests.tiny import words

ROOT = Path(__file__).parents[1]


def run(tiny, output, *more):
    line = [sys.executable, "-m", "tso.train", *words(tiny, output), "run.iterations=1", "evaluate.draws=0", *more]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def file(tmp_path, content, name="bad.jsonl"):
    path = tmp_path / name
    path.write_bytes(content)
    return f"data.prompts={path}"


CASES = {
    "missing file": (lambda p: "data.prompts=nowhere.jsonl", "no file or folder nowhere.jsonl"),
    "empty file": (lambda p: file(p, b""), "is empty"),
    "not JSON": (lambda p: file(p, b"hello\n"), "line 1 is not JSON"),
    "wrong column": (lambda p: file(p, b'{"promt": "a"}\n'), "try data.prompt_column=promt"),
    "not UTF-8": (lambda p: file(p, b'{"prompt": "\xff"}\n'), "is not UTF-8"),
    "huge prompt": (lambda p: file(p, b'{"prompt": "' + b"tea " * 100_000 + b'"}\n'), "no prompt of"),
    "unknown model": (lambda p: f"model.name_or_path={p / 'no-model'}", "no such folder"),
    "unknown key": (lambda p: "training.lerning_rate=1", "did you mean 'training.learning_rate'"),
    "unknown rule": (lambda p: "correct.rule=tso.correct.rule:nothing", "has no function 'nothing'"),
    "unknown schedule": (lambda p: "training.lr_scheduler_type=zigzag", "zigzag"),
    "unknown reporter": (lambda p: "training.report_to=nobody", "nobody is not supported"),
    "unknown device": (lambda p: "model.device=tpu9", "model.device='tpu9' cannot be used"),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes(name, tiny, tmp_path):
    make, says = CASES[name]
    done = run(tiny, tmp_path / "out", make(tmp_path))
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error:", "fault:"))]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr


def told(capsys, *command):
    """(exit code, errors) of a run in this process, which takes a fraction of the time."""
    from tso import train

    code = train.main(["--quiet", *command])
    return code, capsys.readouterr().err


def tiny_run(tiny, output, *more):
    return [*words(tiny, output), "run.iterations=1", "evaluate.draws=0", "evaluate.control=false", *more]


EARLY = {
    "a mistyped word": ("matrix.cells=[{name: a, model: polcy}]", "there is no model 'polcy'; did you mean policy?"),
    "a letter for K": ("matrix.cells=[{name: a, model: policy@x}]", "did you mean policy@K with a whole number K?"),
    "a K beyond": ("matrix.cells=[{name: a}, {name: b, model: policy@7}]", "policy@7 never answers"),
    "nobody answers": ("matrix.cells=[{name: a, model: previous}]", "no model would answer in the first iteration"),
    "no such cell": ("matrix.cells=[{name: a, model: /nowhere/model}]", "no such folder: /nowhere/model"),
    "no room to answer": ("sample.max_new_tokens=500", "lower data.max_prompt_tokens or sample.max_new_tokens"),
    "no room to train": ("training.max_length=257", "training.max_length=257 is more than the 256 tokens"),
    "a schedule's settings": ("training.lr_scheduler_type=warmup_stable_decay", "needs settings of its own"),
    "no memory": ("model.device=meta", "model.device='meta' cannot be used"),
    "rule": ("correct.rule=tso.correct.rule:nothing", "has no function 'nothing'"),
    "prompts": ("data.prompts=promtps.jsonl", "no file or folder promtps.jsonl"),
}


def test_what_is_refused_before_sampling_does_not_lock_the_folder(tiny, tmp_path, capsys):
    for word, says in EARLY.values():
        code, err = told(capsys, *tiny_run(tiny, tmp_path / "out", word))
        assert (code, err.count("error:")) == (2, 1), err
        assert says in err
    assert told(capsys, *tiny_run(tiny, tmp_path / "out")) == (0, "")
    code, err = told(capsys, *tiny_run(tiny, tmp_path / "out", "training.beta=0.5"))
    assert code == 2
    assert "holds a run with other settings (training.beta" in err


@pytest.mark.parametrize("author", ['"a\\u0000b"', '"' + 65 * "a" + '"', "7", '["ann"]'])
def test_a_recorded_author_is_one_that_could_be_imported(tmp_path, author):
    from tso.correct import recorded
    from tso.errors import DataError

    path = tmp_path / "verdicts.jsonl"
    line = '{"pair_id": "p1", "verdict": "keep"'
    path.write_text(f'{line}}}\n{line}, "author": {author}}}')
    with pytest.raises(DataError, match="line 2: author"):
        recorded.load(str(path))


@pytest.mark.parametrize("line", ['{"pair_id": "p1", "verdict": "edit", "text": "\\ud800"}', "[" * 100_000])
def test_recorded_verdicts_that_no_store_could_hold_are_refused(tmp_path, line):
    from tso.correct import recorded
    from tso.errors import DataError

    path = tmp_path / "verdicts.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match="line 1: not JSON in UTF-8"):
        recorded.load(str(path))


def test_a_reporter_without_its_package_and_a_model_without_adapters_are_refused(monkeypatch):
    import torch
    from tso.config import TrainingSection
    from tso.errors import ConfigError
    from tso.training import trainer

    class Absent:
        def __init__(self):
            raise RuntimeError("needs its package")

    monkeypatch.setattr(trainer, "get_reporting_integration_callbacks", lambda _: [Absent])
    with pytest.raises(ConfigError, match="needs its package"):
        trainer.check_training(TrainingSection(), torch.device("cpu"))
    pytest.importorskip("peft", reason="peft is an extra")
    from tests.families import mamba

    with pytest.raises(ConfigError, match="cannot adapt MambaForCausalLM"):
        trainer.check_adapters(mamba(), TrainingSection(method="lora"))


def test_rows_that_the_model_cannot_read_are_left_out(tiny, tmp_path, capsys):
    """A chat template without a system role, as some families have it."""
    model = shutil.copytree(tiny / "model", tmp_path / "model")
    template = model / "chat_template.jinja"
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    template.write_text(refuses + template.read_text())
    good = (tiny / "prompts.jsonl").read_text()
    chat = [{"role": "system", "content": "sun"}, {"role": "user", "content": "tea"}]
    prompts = tmp_path / "prompts.jsonl"
    bad = json.dumps({"prompt": chat, "split": "train"}) + "\n" + json.dumps({"prompt": "tea " * 99}) + "\n"
    prompts.write_text(good + bad)
    command = tiny_run(tiny, tmp_path / "out", f"model.name_or_path={model}", f"data.prompts={prompts}")
    code, err = told(capsys, *command, "matrix.cells=[{name: a, system_prompt: sun}]")
    assert code == 2
    assert "cell 'a': its chat template refuses its system_prompt: no system role" in err
    from tso import train

    assert train.main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "line 11 left out: the chat template refuses it: no system role" in said
    assert "line 12 left out: 10" in said
    with RunStore.open_read_only(tmp_path / "out") as store:
        assert store.info(0, "start")["rejected"] == 2
    prompts.write_text(bad)
    code, err = told(capsys, *command, f"run.output_dir={tmp_path / 'none'}")
    assert code == 2
    assert "is left to train on (2 left out): line 1: the chat template refuses it" in err


def test_training_that_diverges_says_so_and_stores_nothing(tiny, tmp_path, capsys):
    for _ in range(2):  # the second time from a resume point
        code, err = told(capsys, *tiny_run(tiny, tmp_path / "out", "training.learning_rate=1e30"))
        assert code == 2
        assert "training diverged" in err
        assert "lower training.learning_rate" in err
    assert not (tmp_path / "out" / "iteration-1" / "checkpoint").exists()
    all_at_once = "training.gradient_accumulation_steps=64"
    code, err = told(capsys, *tiny_run(tiny, tmp_path / "one", "training.learning_rate=1e39", all_at_once))
    assert code == 2
    assert "training diverged" in err


def test_a_run_inside_its_prompts_and_a_place_that_cannot_hold_one_are_refused(tiny, tmp_path, capsys):
    inside = tmp_path / "data" / "run"
    inside.parent.mkdir()
    shutil.copy(tiny / "prompts.jsonl", inside.parent)
    code, err = told(capsys, *tiny_run(tiny, inside, f"data.prompts={inside.parent}"))
    assert code == 2
    assert "lies inside data.prompts" in err
    (tmp_path / "out" / "run.sqlite.lock").mkdir(parents=True)  # as unwritable as on a read-only file system
    code, err = told(capsys, *tiny_run(tiny, tmp_path / "out"))
    assert code == 2
    assert f"cannot write the run in {tmp_path / 'out'}" in err


def test_a_config_file_may_have_an_equals_sign_in_its_name(tmp_path, capsys):
    (tmp_path / "lr=1.yaml").write_text("training: {beta: -3}")
    code, err = told(capsys, str(tmp_path / "lr=1.yaml"))
    assert code == 2
    assert "training.beta=-3.0" in err


def test_the_console_script_finds_a_judge_in_the_current_folder(tiny, tmp_path):
    (tmp_path / "judge.py").write_text("")
    code = "import sys; from tso.cli import main; sys.exit(main(['train', *sys.argv[1:]]))"
    line = [sys.executable, "-P", "-c", code, *tiny_run(tiny, tmp_path / "out", "correct.rule=judge:score")]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "judge has no function 'score'" in done.stderr


def test_a_changed_folder_of_prompts_is_noticed(tiny, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    shutil.copy(tiny / "prompts.jsonl", folder / "a.jsonl")
    done = run(tiny, tmp_path / "out", f"data.prompts={folder}")
    assert done.returncode == 0, done.stderr
    (folder / "b.jsonl").write_text('{"prompt": "is the tea warm ?", "human": "the tea is warm ."}\n')
    done = run(tiny, tmp_path / "out", f"data.prompts={folder}")
    assert done.returncode == 2
    assert f"{folder} has changed since this run began" in done.stderr


def test_a_damaged_store_is_refused(tiny, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "run.sqlite").write_text("not a store")
    done = run(tiny, output)
    assert done.returncode == 2
    assert "is damaged or not a run of tso" in done.stderr


def test_a_full_disk_loses_nothing_and_the_run_goes_on(tiny, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        done = run(tiny, small / "out")
        assert done.returncode == 2, done.stderr
        assert "space left" in done.stderr
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        again = run(tiny, small / "out")
        assert again.returncode == 0, again.stderr
    finally:
        shutil.rmtree(small / "out", ignore_errors=True)
        subprocess.run(["umount", str(small)], check=False)


def test_a_second_process_on_the_same_run_is_refused(tiny, tmp_path):
    from tso.errors import StoreLocked

    with RunStore.open_or_create(tmp_path / "out", {}):
        code = "import sys; from tso import Ledger; Ledger.open(sys.argv[1])"
        line = [sys.executable, "-c", code, str(tmp_path / "out" / "run.sqlite")]
        done = subprocess.run(line, env=os.environ, capture_output=True, text=True, check=False)
        assert StoreLocked.__name__ in done.stderr
