"""The commands about people: `tso annotate`, `tso corrections export`, `tso corrections import`. Parse, and call."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tso.errors import DataError
from tso.store import FILE

KINDS = ("jsonl", "argilla", "labelstudio")


def add_commands(commands: Any) -> None:
    _add_annotate(commands)
    corrections = commands.add_parser("corrections", help="people's verdicts out of a run, or into one")
    ways = corrections.add_subparsers(dest="way", required=True)
    out = ways.add_parser("export", help="write people's verdicts to a file; argilla and labelstudio: with all pairs")
    out.add_argument("run", type=Path)
    out.add_argument("-o", "--output", type=Path, required=True)
    out.add_argument("--iteration", type=int, help="of this one only")
    into = ways.add_parser("import", help="add the verdicts of a file to a run: all, or none")
    into.add_argument("run", type=Path)
    into.add_argument("file", type=Path)
    into.add_argument("--author", default="imported", help="of verdicts for which the file names nobody")
    for way in (out, into):
        way.add_argument("--format", choices=KINDS, default="jsonl")


def _add_annotate(commands: Any) -> None:
    command = commands.add_parser("annotate", help="a page on this machine where people judge a run's pairs")
    command.add_argument("run", type=Path)
    command.add_argument("--iteration", type=int, help="pairs of this one only")
    command.add_argument(
        "--annotator",
        action="append",
        default=[],
        help="who may annotate; may be given several times (default: anybody)",
    )
    command.add_argument("--per-item", type=int, default=1, help="how many people judge each pair (default: 1)")
    command.add_argument(
        "--repeat", type=float, default=0.1, help="share of a person's pairs that come once more (default: 0.1)"
    )
    command.add_argument("--port", type=int, default=0, help="default: a free one")
    command.add_argument(
        "--only", choices=["all", "undecided"], default="all",
        help="undecided: pairs that the prior, rules and judges left without a better side",
    )  # fmt: skip


def annotate(args: argparse.Namespace) -> int:
    from tso.annotate import serve
    from tso.annotate.queue import Wanted

    wanted = Wanted(args.iteration, args.only, args.per_item, args.repeat)
    serve(_run_folder(args.run), wanted, args.annotator, args.port, lambda line: print(line, flush=True))
    return 0


def corrections(args: argparse.Namespace) -> int:
    from tso.corrections import export_file, import_file

    folder = _run_folder(args.run)
    if args.way == "export":
        count = export_file(folder, args.output, args.format, args.iteration)
        print(f"{args.output}: {count} verdicts")
        return 0
    done = import_file(folder, args.file, args.format, args.author)
    print(f"{args.file}: {done.new} verdicts new, {done.changed} changed, {done.known} known already")
    return 0


def _run_folder(folder: Path) -> Path:
    if not (folder / FILE).exists():
        raise DataError(f"{folder} holds no run (no {FILE} in it); give the run.output_dir of a run")
    return folder
