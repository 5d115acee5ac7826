"""What is printed where there is no terminal."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from tso.progress import Face

ODD = "[/INST] [bold]a[/bold] [red] :smile: \\[x] \x1b]0;pwned\x07\x1b[31m \x9b \udcff"
SHOWN = "[/INST] [bold]a[/bold] [red] :smile: \\[x] \\x1b]0;pwned\\x07\\x1b[31m \\x9b \\udcff"


def test_lines_in_a_file_are_neither_wrapped_nor_changed():
    out = io.StringIO()
    face = Face(console=Console(file=out, width=40, highlight=False))
    line = "report: /a/folder with spaces/[bold]/:smile:/" + "long/" * 30 + "report.html"
    face.say(line)
    face.warn(line)
    assert out.getvalue() == f"{line}\nwarning: {line}\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_text_is_shown_as_text(terminal):
    out = io.StringIO()
    console = Console(file=out, width=400, highlight=False, force_terminal=terminal, color_system=None)
    face = Face(console=console)
    face.say(ODD)
    face.warn(ODD)
    face.table(f"title {ODD}", [f"name {ODD}"], [{f"name {ODD}": f"cell {ODD}"}])
    with face.bar(ODD, 1, "units") as advance:
        advance(1)
    said = out.getvalue()
    for shown in (SHOWN, f"warning: {SHOWN}", f"title {SHOWN}", f"name {SHOWN}", f"cell {SHOWN}"):
        assert shown in said
    assert (f"{SHOWN} \u2501" in said) == terminal
    assert "\x1b]" not in said
    assert "\x9b" not in said


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_work_goes_on_when_nobody_reads_any_more(tmp_path):
    code = (
        "from pathlib import Path; from tso.progress import Face\n"
        "face = Face()\n"
        "for i in range(3): face.say('x' * 100); face.table('t', ['a'], [{'a': 'b'}])\n"
        "Path('done').touch()"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "done").exists()
