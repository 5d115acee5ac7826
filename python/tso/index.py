"""An index of texts that grows: what comes is deduplicated against all that came before; the work is done in Rust.

Duplicates are those of `tso.dedup` in mode "lsh". Whom a text meets depends only on the texts before it, so rows give the
same clusters in whatever batches they come, and one batch gives what `dedup_texts` says of it.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tso import _core
from tso._columns import as_count, as_ints, as_number, as_threads, as_tokens, as_word, ints
from tso.dedup import Deduped, Link, deduped


class DedupIndex:
    """All rows that were added, numbered from 0 in the order they came.

    path: a file, opened if it is there, else made; no other process can open it meanwhile. `add` returns once its rows
        are on disk, and a process that is killed within `add` leaves the rows before it. None keeps everything in
        memory, tokens too; with a file, about a hundred bytes a row are in memory, and tokens are read back where two
        texts have to be compared.
    ngram, threshold, link: as for `dedup_texts`. An index keeps those that it was made with.

    A file is an index if it begins like one; one of 0 bytes is begun anew. A last batch that is not whole counts as
    never added, since a kill can leave one. It is damage where the file's beginning says that the batch was on disk, as
    it does of every batch but the last one before a kill or a power cut, and where any other batch is not whole.

    Raises DataError for options that cannot be used or are not those of the file and in a forked child, which has to
    leave the file to its parent, StoreLocked, StoreDamaged for a file that is no index or was changed since it was
    written, and the OSError of the kind.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        ngram: int = 5,
        threshold: float = 0.8,
        link: Link = "component",
        threads: int | None = None,
    ) -> None:
        search = (as_count("ngram", ngram), as_number("threshold", threshold), as_word("link", link))
        self._core = _core.DedupIndex(path, *search, as_threads(threads))

    def add(
        self, tokens: Any, *, groups: ArrayLike | None = None, tokenizer: Any = None, threads: int | None = None
    ) -> Deduped:
        """Add rows and say what became of each; all of them are added, or none where it fails.

        Ctrl-C is the exception: KeyboardInterrupt can come when the rows are in already, and `len` tells whether they
        are.

        Arguments as for `dedup_texts`, and groups are compared across batches. In the result, `cluster` and `edges` have
        row numbers of the index, and `keep`, `reason` and `cluster` an entry for each row that is added. A row stays if
        it is the first of its cluster; with link "component", a later row can connect clusters whose first rows have
        both stayed (see `clusters`).

        Raises DataError for data that cannot be used, StoreFull, and the OSError of the kind.
        """
        numbers = None if groups is None else as_ints("groups", groups)
        return deduped(self._core.add(as_tokens(tokens, tokenizer), numbers, as_threads(threads)))

    def clusters(self) -> NDArray[np.int64]:
        """The smallest row of each row's cluster, int64 [rows], as things stand now."""
        return ints(self._core.clusters())

    def __len__(self) -> int:
        """Rows so far."""
        return self._core.rows()

    @property
    def nbytes(self) -> int:
        """Bytes of memory held for the rows, without tokens that are kept in memory."""
        return self._core.bytes()

    def close(self) -> None:
        """Let go of the file. A closed index refuses everything else."""
        self._core.close()

    def __enter__(self) -> DedupIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
