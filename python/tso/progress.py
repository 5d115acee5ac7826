"""What the person at the terminal sees: progress bars, remarks, tables. Quiet without a terminal or with --quiet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tso.terminal import plain, reader_left

Advance = Callable[[int], None]


class RateColumn(TextColumn):
    """Units a second, as text that needs no unit name beyond the task's own."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {task.fields['unit']}/s" if task.speed else "")


class _Console(Console):
    """One whose reader may leave, as `head` does: the work goes on, and what is said from then on goes nowhere."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        reader_left()


class Face:
    """One terminal. Text is shown as it is: no markup or emoji codes, and control characters written out. Remarks and tables are always printed unless quiet; bars only where there is a terminal."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None):
        self.console = console or _Console(highlight=False)
        if console is None and not self.console.is_terminal:
            self.console = _Console(highlight=False, width=120)  # a file or pipe has no width of its own
        self.quiet = quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        if not self.quiet:
            self._print(f"warning: {text}", "yellow")

    def _print(self, text: str, style: str = "") -> None:
        """Wrapped on a terminal alone, so that a path in a file stays in one piece."""
        self.console.print(Text(plain(text), style), soft_wrap=not self.console.is_terminal)

    @contextlib.contextmanager
    def bar(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """A bar with rate and time left; call what it yields with the number of units just finished."""
        if self.quiet or not self.console.is_terminal:
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description:<34}", markup=False), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(plain(label), total=total, completed=done, unit=unit)
            yield lambda n: progress.advance(task, n)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, words: int = 1) -> None:
        """Rows by column; the first `words` columns are text, and the others are numbers, flush right."""
        if self.quiet:
            return
        table = Table(title=Text(plain(title), "table.title"), title_justify="left")
        for i, name in enumerate(columns):
            table.add_column(Text(plain(name)), justify="left" if i < words else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain(row.get(name, ""))) for name in columns))
        self.console.print(table)
