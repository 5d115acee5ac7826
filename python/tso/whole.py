"""Files written whole or not at all: a reader sees the file of before or the new one, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tso.errors import DataError

_NAMED = 40  # characters of a file's name in its draft's, which has to be short enough whatever its letters


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with "\\n" as it is, on disk before it gets its name. Raises the OSError of the kind."""
    try:
        with drafts(path) as (part,), part.open("w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
    except OSError as err:  # which would name the draft; the kind follows from errno
        raise OSError(err.errno, err.strerror, str(path)) from err


@contextlib.contextmanager
def drafts(*paths: Path, suffix: str = "") -> Iterator[list[Path]]:
    """Empty files, with names in `suffix`, that get the names of `paths` at the end, or go if anything is raised."""
    made: list[Path] = []
    try:
        for path in paths:
            made.append(_draft(path, suffix))
        yield made
        for part, path in zip(made, paths, strict=True):
            part.replace(target(path))
    finally:
        for part in made:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def target(path: Path) -> Path:
    """Where a file is written: links are followed, so that what they point to has the new content, and they stay."""
    return Path(os.path.realpath(path))


def check_place(path: Path) -> None:
    """Raises DataError where no file of this name can be written: what would be found only after the work."""
    try:
        if target(path).is_symlink():
            raise DataError(f"{path} is a link that leads to itself; remove it, or give another name")
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no regular file; give another name")
        _draft(path).unlink()
    except OSError as err:
        raise DataError(f"{path} cannot be written: {err.strerror}; give another place or name") from err


def _draft(path: Path, suffix: str = "") -> Path:
    """A new file beside the target, so that the rename stays within one file system; nobody else's, whoever writes there."""
    place = target(path)
    for number in count():
        part = place.with_name(f".{place.name[:_NAMED]}.{os.getpid()}{f'-{number}' if number else ''}.part{suffix}")
        with contextlib.suppress(FileExistsError):
            part.touch(exist_ok=False)
            return part
    raise AssertionError("numbers do not end")
