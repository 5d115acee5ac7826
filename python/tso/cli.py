"""The console script `tso`: train, report, show, doctor. Each command is a few lines over the rooms that do the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tso import __version__
from tso.errors import DataError
from tso.train import guarded
from tso.train import main as train


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["train"]:
        sys.path.insert(0, "")  # as `python -m` does, so that a judge in the current folder is found
        return train(words[1:])
    parser = argparse.ArgumentParser(prog="tso", description="Self-training preference optimisation.")
    parser.add_argument("--version", action="version", version=f"tso {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="python -m tso.train under a shorter name")
    commands.add_parser("doctor", help="versions, devices, backends, and what is missing")
    report = commands.add_parser("report", help="write a run's report.html")
    report.add_argument("run", type=Path)
    show = commands.add_parser("show", help="tell a pair's history")
    show.add_argument("pair")
    show.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    args = parser.parse_args(words)
    return guarded({"doctor": _doctor, "report": lambda: _report(args.run), "show": lambda: _show(args)}[args.command])


def _doctor() -> int:
    from tso import doctor

    for what, finding in doctor.report():
        print(f"{what:<16} {finding}")
    return 0


def _report(folder: Path) -> int:
    from tso import report

    print(report.write(_run_folder(folder)))
    return 0


def _show(args: argparse.Namespace) -> int:
    from tso import report
    from tso.store import RunStore

    with RunStore.open_read_only(_run_folder(args.run)) as store:
        print("\n".join(report.pair_story(store, args.pair)))
    return 0


def _run_folder(folder: Path) -> Path:
    if not (folder / "run.sqlite").exists():
        raise DataError(f"{folder} holds no run (no run.sqlite in it); give the run.output_dir of a run")
    return folder


if __name__ == "__main__":
    sys.exit(main())
