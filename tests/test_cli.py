"""The commands' outer face."""

import subprocess
import sys

import tso
from tso.errors import DataError
from tso.train import guarded


def test_the_package_is_a_command_that_tells_its_version():
    line = [sys.executable, "-m", "tso", "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"tso {tso.__version__}\n")


def test_an_error_is_one_line_whatever_is_in_it(capsys):
    def work():
        raise DataError("the judge failed: ValueError: one\n  two\nthree")

    assert guarded(work) == 2
    assert capsys.readouterr().err == "error: the judge failed: ValueError: one two three\n"
