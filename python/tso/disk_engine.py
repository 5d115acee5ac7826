"""A folder as a pool for `tso.parts`: piece by piece on one machine, for more texts than fit into its memory.

Every function runs here, one after the other, on all cores; what it returns goes to a file of the folder as it comes, until
nobody asks for it any more. A block that is asked for again is mapped, not read: only the rows that are wanted come into
memory. Knows nothing of duplicates.
"""

from __future__ import annotations

import mmap
import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tso.errors import DataError
from tso.parts import Pool

_SMALL = 1 << 12  # bytes that are no trouble to keep in memory
_ALIGN = 64  # bytes, as Arrow wants its buffers


class DiskPool:
    """`tso.parts.Pool` in a folder, which has to outlive it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def start(self, work: Callable[..., Iterable[Any]], *args: Any, returns: int = 1) -> list[Any]:
        found = [self.share(entry) for entry in work(*(_value(arg) for arg in args))]
        if len(found) != returns:
            raise AssertionError(f"{work.__name__} returned {len(found)} entries, {returns} were expected")
        return found

    def fetch(self, handles: Sequence[Any]) -> list[Any]:
        return [_value(handle) for handle in handles]

    def share(self, value: Any) -> Any:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        if len(data) + sum(part.nbytes for part in parts) <= _SMALL:
            return _Kept(value=value)
        self._made += 1
        path = self._folder / f"{self._made}.pickle"
        spans = []
        with path.open("wb") as file:
            for part in parts:
                file.write(bytes(-file.tell() % _ALIGN))
                spans.append((file.tell(), part.nbytes))
                file.write(part)
        return _Kept(data=data, path=path, spans=spans)


class _Kept:
    """A value in memory; or its large buffers in a file, which goes with this object, and the rest of it in `data`."""

    def __init__(
        self, value: Any = None, data: bytes = b"", path: Path | None = None, spans: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._value, self._data, self._path, self._spans = value, data, path, spans
        if path is not None:
            weakref.finalize(self, _remove, path)

    def value(self) -> Any:
        if self._path is None:
            return self._value
        with self._path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        # The bytes were written by this process and lie in a folder that only its user can read.
        return pickle.loads(self._data, buffers=[whole[start : start + size] for start, size in self._spans])


@contextmanager
def opened(folder: Path | None = None) -> Iterator[Pool]:
    """A pool in a folder of its own within `folder` (where temporary files go if None), removed at the end."""
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder for the partitions")
    with TemporaryDirectory(prefix="tso-dedup-", dir=folder) as name:
        yield DiskPool(Path(name))


def _value(arg: Any) -> Any:
    return arg.value() if isinstance(arg, _Kept) else arg


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
