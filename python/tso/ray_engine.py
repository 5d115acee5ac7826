"""Ray as a pool for `tso.parts`: every function is a task, what it returns an object of Ray's store.

Tasks are pure, so Ray may run one again, elsewhere, when its worker or node has died, and make again what was lost with
it. Ray is imported on first use. Knows nothing of duplicates.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tso import __version__, engine
from tso.dedup import Deduped
from tso.errors import ClusterError, DataError, InternalError, MissingDependency, TsoError
from tso.parts import Pool

_WAIT = 10.0  # seconds for a cluster to answer at all


class RayPool:
    """`tso.parts.Pool` on the Ray cluster that this process is connected to."""

    def __init__(self) -> None:
        ray = _ray()
        self._task = ray.remote(_run)

    def start(self, work: Callable[..., Iterable[Any]], *args: Any, returns: int = 1) -> list[Any]:
        """Handles are ObjectRefs; `args` may hold some. A task is given one core."""
        task = self._task.options(num_returns=returns, name=f"tso.{work.__name__}")
        found = task.remote(__version__, work, *args)
        return [found] if returns == 1 else list(found)

    def fetch(self, handles: Sequence[Any]) -> list[Any]:
        """Raises a task's own error as it is, and ClusterError for what Ray could not do."""
        ray = _ray()
        try:
            return list(ray.get(list(handles)))
        except ray.exceptions.RayTaskError as err:
            if isinstance(err.cause, TsoError):
                raise err.cause from None
            raise InternalError(f"a task failed on the Ray cluster: {_last_line(err)}") from err
        except ray.exceptions.RayError as err:
            raise ClusterError(f"the Ray cluster could not finish: {_last_line(err)}") from err

    def share(self, value: Any) -> Any:
        return _ray().put(value)


@contextmanager
def connected(address: str | None) -> Iterator[Pool]:
    """A pool on the cluster at `address` (host:port); without one, on the cluster that RAY_ADDRESS names or that runs
    here, else on one started for this call. A connection that is there already is used, and kept.

    Raises MissingDependency without Ray, DataError for an address that is none, and ClusterError where no cluster
    answers.
    """
    ray = _ray()
    if ray.is_initialized():
        if address is not None:
            raise DataError("this process is connected to a Ray cluster already; leave the address out")
        yield RayPool()
        return
    _check_reachable(address or os.environ.get("RAY_ADDRESS") or "auto")
    try:
        _init(ray, address)
        yield RayPool()
    finally:
        ray.shutdown()


def dedup_texts(blocks: Sequence[Any], *, address: str | None = None, tokenizer: Any = None, **options: Any) -> Deduped:
    """Find exact and near-duplicate texts among the rows of all blocks together, numbered through.

    blocks: columns as for `tso.dedup_texts`, or ObjectRefs of such columns, which then need not pass through this process.
    options: ngram, threshold, link, keep and groups as there, for all rows; mode is "lsh".

    Raises DataError for data or options that cannot be used, and what `connected` raises.
    """
    with connected(address) as pool:
        return engine.dedup_columns(pool, blocks, tokenizer, **options)


def _run(version: str, work: Callable[..., Iterable[Any]], *args: Any) -> Any:
    """What a task does. Another version of tso may find other keys, and would miss duplicates without a word."""
    if version != __version__:
        raise ClusterError(
            f"a node of the Ray cluster has tso {__version__}, and this process {version}; install the same"
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a task has one core
    found = list(work(*args))
    return found[0] if len(found) == 1 else tuple(found)


def _ray() -> Any:
    try:
        import ray
    except ImportError as err:
        raise MissingDependency("Ray is not installed: pip install 'tso-align[ray]'") from err
    return ray


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there."""
    if address in ("auto", "local"):  # Ray's words for a cluster that runs here, and for a new one
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in host:
        raise DataError(f"the address of a Ray cluster is host:port, not {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_WAIT).close()
    except (OSError, OverflowError) as err:
        raise ClusterError(f"no Ray cluster at {address}: {err}") from err


def _init(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here reports to nobody unasked
    heeded = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ImportError) as err:
        where = f"at {address}" if address else "on this machine"
        raise ClusterError(f"no Ray cluster {where}: {_last_line(err)}") from err
    if callable(heeded) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, heeded)  # Ray puts its own in the place of any other


def _last_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[-1]
