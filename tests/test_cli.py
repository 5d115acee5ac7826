"""The commands' outer face."""

import subprocess
import sys

import tso
from tso import cli
from tso.errors import DataError
from tso.train import guarded


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
