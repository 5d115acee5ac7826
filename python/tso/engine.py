"""Deduplication of files by a pool whose workers read them: what `tso dedup` does with every engine but the local one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tso import fields, pieces
from tso.dedup import Deduped
from tso.parts import Blocks, Pool, dedup_blocks, read_block
from tso.progress import Face


def dedup_columns(pool: Pool, blocks: Sequence[Any], tokenizer: Any, **options: Any) -> Deduped:
    """Find duplicates among the rows of all columns together. Raises DataError as `tso.dedup_texts`."""
    shared = _shared(pool, tokenizer)
    read = [pool.start(read_block, block, shared, returns=2) for block in blocks]
    return dedup_blocks(pool, Blocks.gather(pool, read), **options)


def dedup_paths(
    pool: Pool,
    paths: Sequence[Path],
    parts: Sequence[pieces.Piece],
    face: Face,
    *,
    column: str | None = None,
    tokenizer: Any = None,
    keep: str = "first",
    **options: Any,
) -> tuple[Deduped, pieces.Summary]:
    """Find duplicates among the texts of files, and say what was read of them.

    parts: the pieces of the files, `pieces.cut(paths)`. column, tokenizer, keep and options as for `tso dedup`. Raises DataError as `tso.dedup_texts`, and for pairs.
    """
    score = None if keep in ("first", "longest") else keep
    looked = _each(pool, face, "looking at the files", [(pieces.look, piece, column, score) for piece in parts], 1)
    found = pieces.summary(paths, pool.fetch([handle for (handle,) in looked]), column, score)
    if not found.ids:
        fields.check_tokenizer(tokenizer)
    shared = None if found.ids else _shared(pool, tokenizer)
    read = _each(pool, face, "reading tokens", [(pieces.read, piece, found.column, shared) for piece in parts], 2)
    wanted = keep if found.scores is None else found.scores
    blocks = Blocks.gather(pool, read)
    return dedup_blocks(pool, blocks, keep=wanted, **options), replace(found, without=int((blocks.lengths < 0).sum()))


def _each(pool: Pool, face: Face, label: str, jobs: Sequence[Any], returns: int) -> list[list[Any]]:
    """The handles of what each job returns, once all have run: as they are started, or afterwards, as the pool has it."""
    with face.bar(label, 2 * len(jobs), "steps") as advance:
        started = []
        for job in jobs:
            started.append(pool.start(*job, returns=returns))
            advance(1)
        for *_, last in started:  # the small one of a block's two
            pool.fetch([last])
            advance(1)
    return started


def _shared(pool: Pool, tokenizer: Any) -> Any:
    """A tokenizer by value: its file need not be where the workers are."""
    from tso.texts import find_tokenizer

    return None if tokenizer is None else pool.share(find_tokenizer(tokenizer))
