"""What every command owes its terminal: text shown as text, work that goes on when nobody reads, and a clean end."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_TOGETHER = 3.0  # seconds between signals that mean one and the same end

# What a terminal obeys instead of showing (all but tab and line end), and what cannot be written as UTF-8.
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` with control characters and halves of surrogate pairs written out, such as \\x1b for an escape."""
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def show_what_can_be() -> None:
    """A letter that the terminal's encoding lacks is written out, as `plain` does, and ends no work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def reader_left() -> None:
    """To be called after a BrokenPipeError of the standard output: what is written from now on goes nowhere.

    Otherwise the flush at the exit would fail once more.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Ending:
    """Which signal asked this process to end; that of Ctrl-C where none of the others did."""

    def __init__(self) -> None:
        self.number = int(signal.SIGINT)
        self._last = -math.inf

    def ask(self, number: int, _: FrameType | None) -> None:
        """A signal's handler. Raises KeyboardInterrupt, so that whatever cleans up after Ctrl-C does so now."""
        now, before = time.monotonic(), self._last
        self._last = now
        # A closing terminal and a service manager send several at once: cleaning up goes on all the same.
        if now - before > _TOGETHER:
            self.number = number
            raise KeyboardInterrupt


@contextmanager
def ended_cleanly() -> Iterator[Ending]:
    """Within it SIGTERM and SIGHUP end the work as Ctrl-C does, unless somebody had them ignored or heeds them already."""
    ending, ours = Ending(), []
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, ending.ask)
        yield ending
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
