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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from tso.errors import DataError
from tso.parts import Pool

_ALIGN = 64  # bytes, as Arrow wants its buffers


class DiskPool:
    """`tso.parts.Pool` in a folder, which has to outlive it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def start(self, work: Callable[..., Iterable[Any]], *args: Any, returns: int = 1) -> list[Any]:
        found = self._keep(work(*(_value(arg) for arg in args)))
        if len(found) != returns:
            raise AssertionError(f"{work.__name__} returned {len(found)} entries, {returns} were expected")
        return found

    def fetch(self, handles: Sequence[Any]) -> list[Any]:
        return [_value(handle) for handle in handles]

    def share(self, value: Any) -> Any:
        return self._keep([value])[0]

    def _keep(self, values: Iterable[Any]) -> list[_Kept]:
        """All values in one file, each as it comes."""
        self._made += 1
        kept = _File(self._folder / f"{self._made}.pickle")
        with kept.path.open("wb") as file:
            return [_Kept(kept, *_write(file, value)) for value in values]


class _File:
    """A file that goes with this object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, _remove, path)


Span = tuple[int, int]  # first byte, and bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    """A value in a file: its large buffers, and all else."""

    file: _File
    buffers: Sequence[Span]
    rest: Span

    def value(self) -> Any:
        with self.file.path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        buffers = [whole[start : start + size] for start, size in self.buffers]
        # The bytes were written by this process and lie in a folder that only its user can read.
        return pickle.loads(whole[self.rest[0] : sum(self.rest)], buffers=buffers)


def _write(file: BinaryIO, value: Any) -> tuple[list[Span], Span]:
    parts: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=parts.append)
    return [_append(file, part.raw()) for part in parts], _append(file, rest)


def _append(file: BinaryIO, part: bytes | memoryview) -> Span:
    file.write(bytes(-file.tell() % _ALIGN))
    start = file.tell()
    file.write(part)
    return start, len(part)


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
