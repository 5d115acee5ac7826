"""Where the work is done, and the rows it is done on: see `tso.parts`. Knows nothing of duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Pool(Protocol):
    """Runs functions somewhere. Each entry of what a function returns stays there until it is fetched.

    A handle stands for such an entry, also as an argument of a later function.
    """

    def start(self, work: Callable[..., Iterable[Any]], *args: Any, returns: int = 1) -> list[Any]:
        """Handles of the `returns` entries that `work(*args)` will return."""

    def fetch(self, handles: Sequence[Any]) -> list[Any]:
        """The entries themselves, once they are there. Raises what the functions raised."""

    def share(self, value: Any) -> Any:
        """A handle of a value that many functions will be given."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Rows in blocks, numbered through.

    handles: of the blocks, each an Arrow LargeList of uint32.
    starts: int64 [blocks + 1], the first row of each block and the number of all rows.
    hashes: uint64 [rows], of the tokens. lengths: int64 [rows] in tokens, -1 for a null row.
    """

    handles: Sequence[Any]
    starts: Ints
    hashes: NDArray[np.uint64]
    lengths: Ints

    @classmethod
    def gather(cls, pool: Pool, read: Sequence[Sequence[Any]]) -> Blocks:
        """From the two handles that `read_block` (or what calls it) returned for each block."""
        columns = pool.fetch([about for _, about in read])
        sizes = [len(hashes) for hashes, _ in columns]
        return cls(
            [block for block, _ in read],
            np.cumsum([0, *sizes], dtype=np.int64),
            np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in columns)]),
            np.concatenate([np.zeros(0, np.int64), *(lengths for _, lengths in columns)]),
        )

    def of_row(self, rows: Ints) -> Ints:
        """The block of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1
