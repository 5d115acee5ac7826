"""A user's mistake is one clear line and exit code 2; nothing is lost and no traceback shown."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    from tso.store import RunStore

    with RunStore.open_or_create(tmp_path / "out", {}):
        code = "import sys; from tso import Ledger; Ledger.open(sys.argv[1])"
        line = [sys.executable, "-c", code, str(tmp_path / "out" / "run.sqlite")]
        done = subprocess.run(line, env=os.environ, capture_output=True, text=True, check=False)
        assert StoreLocked.__name__ in done.stderr
