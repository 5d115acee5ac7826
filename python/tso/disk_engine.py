"""A folder as a pool for `tso.parts`: piece by piece on one machine, in less memory than all at once.

Every function runs here, one after the other, on all cores; what it returns goes to a file of the folder until nobody asks
for it any more. What one function is given is in memory at a time: a piece of the input, a partition of keys, or the texts of
many couples at once where there are very many duplicates. Knows nothing of duplicates.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tso.errors import DataError
from tso.parts import Pool

_SMALL = 1 << 12  # bytes that are no trouble to keep in memory


class DiskPool:
    """`tso.parts.Pool` in a folder, which has to outlive it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def start(self, work: Callable[..., list[Any]], *args: Any, returns: int = 1) -> list[Any]:
        found = work(*(_value(arg) for arg in args))
        if len(found) != returns:
            raise AssertionError(f"{work.__name__} returned {len(found)} entries, {returns} were expected")
        return [self.share(entry) for entry in found]

    def fetch(self, handles: Sequence[Any]) -> list[Any]:
        return [_value(handle) for handle in handles]

    def share(self, value: Any) -> Any:
        data = pickle.dumps(value, protocol=5)
        if len(data) <= _SMALL:
            return _Kept(value=value)
        self._made += 1
        path = self._folder / f"{self._made}.pickle"
        path.write_bytes(data)
        return _Kept(path=path)


class _Kept:
    """A value, in memory or in a file that goes with this object."""

    def __init__(self, value: Any = None, path: Path | None = None) -> None:
        self._value, self._path = value, path
        if path is not None:
            weakref.finalize(self, _remove, path)

    def value(self) -> Any:
        # The file was written by this process and lies in a folder that only its user can read.
        return self._value if self._path is None else pickle.loads(self._path.read_bytes())


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
