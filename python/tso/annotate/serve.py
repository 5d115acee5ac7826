"""Serving the page on this machine alone, until Ctrl-C."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from tso._core import Ledger
from tso.annotate.desk import Desk
from tso.annotate.guard import new_token
from tso.annotate.queue import Wanted
from tso.errors import DataError, MissingDependency
from tso.store import FILE, RunStore
from tso.verdicts import person

HOST = "127.0.0.1"


def serve(
    folder: Path, wanted: Wanted, people: Sequence[str] = (), port: int = 0, say: Callable[[str], None] = print
) -> None:
    """Serve the page of the run in `folder` until it is stopped, and say its address once it can be opened.

    people: who may annotate; none: everybody gives a name. port: 0 for a free one. Raises DataError for options that
    cannot be used or a port that is taken, MissingDependency without the extra `annotate`, StoreError for the run.
    """
    try:
        import uvicorn

        from tso.annotate.app import application
    except ImportError as err:
        raise MissingDependency("tso annotate needs a web server: pip install 'tso-align[annotate]'") from err
    _check(wanted, port)
    names = list(dict.fromkeys(person(name) for name in people))
    with Ledger.annotate(str(folder / FILE)) as ledger, _listen(port) as listening:
        desk = Desk(ledger, RunStore(ledger, folder), wanted)
        token = new_token()
        address = f"http://{HOST}:{listening.getsockname()[1]}/{token}/"
        say(f"{len(desk.queue.scope())} pairs; everything is kept as it is given. Ctrl-C ends the page.")
        for name in names or [""]:
            say(address + (f"?annotator={quote(name)}" if name else ""))
        # proxy_headers: nobody stands between, so nobody else may say who is calling.
        server = uvicorn.Server(
            uvicorn.Config(
                application(desk, token, names),
                access_log=False,
                log_level="warning",
                http="h11",
                ws="none",
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
        )
        with _heeding_hangup(server):
            server.run(sockets=[listening])


@contextmanager
def _heeding_hangup(server: Any) -> Iterator[None]:
    """SIGHUP ends the server as it has SIGTERM end it: in its own time, and then the signal's handler is called.

    A handler that raises at any moment could raise in the midst of an answer, where the server keeps what is raised.
    """
    number = getattr(signal, "SIGHUP", None)
    handler = None if number is None else signal.getsignal(number)
    if number is None or not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def leave(number: int, _: FrameType | None) -> None:
        came.append(number)
        server.should_exit = True

    signal.signal(number, leave)
    try:
        yield
    finally:
        signal.signal(number, handler)
    if came:
        signal.raise_signal(number)


def _check(wanted: Wanted, port: int) -> None:
    if wanted.per_item < 1:
        raise DataError(f"--per-item {wanted.per_item}: give 1 or more")
    if not 0 <= wanted.repeat <= 1:
        raise DataError(f"--repeat {wanted.repeat}: give a share from 0 to 1")
    if wanted.iteration is not None and wanted.iteration < 1:
        raise DataError(f"--iteration {wanted.iteration}: give 1 or more")
    if not 0 <= port <= 65535:
        raise DataError(f"--port {port}: give 0 (a free one) to 65535")


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as err:
        listening.close()
        raise DataError(f"--port {port}: cannot listen there ({err.strerror}); give another, or 0") from err
    listening.listen(128)
    return listening
