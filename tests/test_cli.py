"""The commands' outer face."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import tso
from tso import cli
from tso.errors import DataError
from tso.train import guarded

from tests.people import heed_signals


def test_the_package_is_a_command_that_tells_its_version():
    line = [sys.executable, "-m", "tso", "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"tso {tso.__version__}\n")


def test_only_what_resumes_promises_to_resume(capsys, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    def full():
        raise OSError(28, "No space left on device", "out")

    for work, code in ((stopped, 130), (full, 2)):
        assert guarded(work) == code
        assert "run again to resume" in capsys.readouterr().err
        for command in ("dedup", "diversity"):
            monkeypatch.setattr(cli, f"_{command}", lambda args, work=work: work())
            output = ["-o", "out.jsonl"] if command == "dedup" else []
            assert cli.main([command, "in.jsonl", *output]) == code
            said = capsys.readouterr().err
            assert "run again, from the beginning" in said
            assert "kept" not in said


def test_an_error_is_one_line_whatever_is_in_it(capsys):
    def work():
        raise DataError("the judge failed: ValueError: one\n  two\nthree")

    assert guarded(work) == 2
    assert capsys.readouterr().err == "error: the judge failed: ValueError: one two three\n"


def test_an_error_shows_what_a_terminal_would_obey(capsys):
    def work():
        raise DataError("no column '\x1b]0;pwned\x07'")

    assert guarded(work) == 2
    assert capsys.readouterr().err == "error: no column '\\x1b]0;pwned\\x07'\n"


@pytest.mark.parametrize("kind", ["EFBIG", "EACCES", "EPERM", "EROFS", "EIO", "ENOSPC"])
def test_what_the_system_refuses_is_no_fault_of_tso(capsys, kind):
    def work():
        number = getattr(errno, kind)
        raise OSError(number, os.strerror(number))

    assert guarded(work) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert any(hint in said for hint in ("elsewhere", "free some space"))


@pytest.mark.skipif(os.name == "nt", reason="the limit is of POSIX")
def test_a_file_that_may_not_grow_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": [i] * 50}) + "\n" for i in range(200)))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "from tso.cli import main; sys.exit(main(['dedup', 'in.jsonl', '-o', sys.argv[1]]))"
    )
    for name in ("out.jsonl", "out.parquet"):
        line = [sys.executable, "-c", code, name]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "(ulimit -f)" in done.stderr
        assert f"out.removed{Path(name).suffix} or {name}" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# The call named is over once it has begun, but for a file that says so and a long wait.
SLOW = """
import sys, time
from pathlib import Path
from tso import cli, {module} as module
real = {call}
def slow(*args, **kwargs):
    real(*args, **kwargs)
    Path("at work").touch()
    time.sleep(60)
{call} = slow
sys.exit(cli.main(sys.argv[1:]))
"""
PLACES = {"writing": ("output", "module.write", []), "disk": ("disk_engine", "module.DiskPool.start", ["disk"])}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_a_command_as_ctrl_c_does(tmp_path, place, number):
    module, call, engine = PLACES[place]
    (tmp_path / "in.jsonl").write_text('{"text": [1, 2]}\n' * 3)
    (tmp_path / "scratch").mkdir()
    more = ["--engine", *engine, "--work-dir", "scratch"] if engine else []
    line = [sys.executable, "-c", SLOW.format(module=module, call=call), "dedup", "in.jsonl", "-o", "out.jsonl", *more]
    process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals)
    while not (tmp_path / "at work").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said.startswith("\nstopped; ")
    assert said.count("\n") == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["at work", "in.jsonl", "scratch"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_signals_that_come_together_do_not_stop_the_cleaning_up(request):
    for number in ENDS:
        request.addfinalizer(partial(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL))
    cleaned = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            cleaned.append(True)

    heed_signals()
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(work) == 128 + signal.SIGHUP
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        assert guarded(lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
