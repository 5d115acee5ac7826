"""`python -m tso.train [CONFIG.yaml] [section.key=value ...]`: parse, build the config, call the loop.

Without arguments it runs the quickstart. Exit code 0: done; 2: a mistake that the message says how to mend; 1: a fault
of tso; 130: stopped by Ctrl-C, run again to resume; 143 and 129: so by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tso.errors import InternalError, StoreFull, TsoError
from tso.terminal import ended_cleanly, plain, show_what_can_be

if TYPE_CHECKING:
    from tso.config import Config


# What the user can do where the system refuses to read or write. Other errors of the system are faults, unless they name a
# file.
_REFUSED = {
    errno.EFBIG: "a file may not grow that large here; raise the limit (ulimit -f), or write elsewhere",
    errno.EACCES: "this user may not; ask for the permission, or write elsewhere",
    errno.EPERM: "this user may not; ask for the permission, or write elsewhere",
    errno.EROFS: "nothing can be written there; write elsewhere",
    errno.EIO: "the disk or the network behind it failed; look at it, or write elsewhere",
}
_ANEW = "run again, from the beginning"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def guarded(work: Callable[[], int], *, debug: bool = False, resumes: bool = True) -> int:
    """Run `work`, turn what it raises into one clear line, and return the exit code.

    resumes: whether what was finished before it stopped is kept; else it has to begin anew. SIGTERM and SIGHUP end it as
    Ctrl-C does, with an exit code of 128 and the signal's number.
    """
    show_what_can_be()
    with ended_cleanly() as ending:
        try:
            return work()
        except KeyboardInterrupt:
            kept = "everything finished so far is kept, run again to resume" if resumes else _ANEW
            print(f"\nstopped; {kept}", file=sys.stderr)
            return 128 + ending.number
        except InternalError as err:
            return _fault(err, debug)
        except TsoError as err:
            return _mistake(str(err))
        except MemoryError as err:
            return _mistake(f"out of memory ({err or 'no more can be had'}); nothing unfinished was kept")
        except OSError as err:
            said = _of_the_system(err, "run again to resume" if resumes else _ANEW)
            return _fault(err, debug) if said is None else _mistake(said)
        except Exception as err:
            return _fault(err, debug)


def _mistake(text: str) -> int:
    # One line, also where a judge or a library put a longer message into it.
    print(plain("error: " + " ".join(line.strip() for line in text.splitlines())), file=sys.stderr)
    return 2


def _of_the_system(err: OSError, again: str) -> str | None:
    """What to say of an error of the system that is the user's matter; None for a fault."""
    if err.errno in _FULL:
        return str(StoreFull(f"no space left on the device ({err}); free some space and {again}"))
    hint = _REFUSED.get(err.errno or 0)
    if hint is None and err.filename is None:
        return None
    place = "" if err.filename is None else f": {err.filename}"
    return f"{err.strerror}{place}" + (f" ({hint})" if hint else "")


def _fault(err: BaseException, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    text = next(iter(str(err).splitlines()), "")
    line = f"fault: {type(err).__name__}: {text} (run again with --debug for the details, and please report it)"
    print(plain(line), file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tso.train",
        description="Self-training preference optimisation. Without arguments: the quickstart.",
        epilog="Options are section.key=value words, such as training.learning_rate=1e-6; a stopped run is resumed by the same command.",
    )
    parser.add_argument("config", nargs="*", metavar="CONFIG.yaml | section.key=value")
    parser.add_argument("--quiet", action="store_true", help="no progress, no tables; errors only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a fault")
    args = parser.parse_args(argv)
    return guarded(lambda: _train(args.config, args.quiet), debug=args.debug)


def settings(words: Sequence[str]) -> Config:
    """The config of a command line: one YAML file at most, and section.key=value words. Raises ConfigError."""
    from tso import quickstart
    from tso.errors import ConfigError
    from tso.settings import load

    files = [w for w in words if "=" not in w or Path(w).is_file()]
    if len(files) > 1:
        raise ConfigError(f"one config file at most, not {len(files)}: {', '.join(files)}")
    overrides = [w for w in words if w not in files]
    named = {w.split("=", 1)[0] for w in overrides}
    # The quickstart is what runs when nobody names a model: its settings are a config like any other.
    base = None if files or "model.name_or_path" in named else quickstart.config()
    return load(files[0] if files else None, overrides, base=base)


def _train(words: Sequence[str], quiet: bool) -> int:
    config = settings(words)
    _calm(quiet)
    from tso import loop
    from tso.progress import Face

    loop.run(config, Face(quiet=quiet))
    return 0


def _calm(quiet: bool) -> None:
    """The libraries' own bars and remarks would drown ours; their errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|accelerate)\..*")
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")  # peft asks for it
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
