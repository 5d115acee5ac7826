"""What is printed where there is no terminal."""

import io

from rich.console import Console
from tso.progress import Face


def test_lines_in_a_file_are_neither_wrapped_nor_changed():
    out = io.StringIO()
    face = Face(console=Console(file=out, width=40, highlight=False))
    line = "report: /a/folder with spaces/[bold]/:smile:/" + "long/" * 30 + "report.html"
    face.say(line)
    face.warn(line)
    assert out.getvalue() == f"{line}\nwarning: {line}\n"
