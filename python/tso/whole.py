"""A text file, whole or not at all: a reader sees the file of before or the new one, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with "\\n" as it is, on disk before it gets its name. Raises the OSError of the kind."""
    # Beside the target, so that the rename stays within one file system; named by process, so that two do not meet.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException as err:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(err, OSError):
            raise OSError(err.errno, err.strerror, str(path)) from err  # the kind follows from errno
        raise
