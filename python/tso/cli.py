"""The console script `tso`. Each command is a few lines over the rooms that do the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tso import __version__, people
from tso.diversity import ALL_SCORES, SCORES
from tso.errors import DataError
from tso.terminal import plain, reader_left
from tso.train import guarded, settings
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
    matrix = commands.add_parser("matrix", help="the cells of a config, and what an iteration of them costs at most")
    matrix.add_argument("config", nargs="*", metavar="CONFIG.yaml | section.key=value")
    report = commands.add_parser("report", help="write a run's report.html")
    report.add_argument("run", type=Path)
    show = commands.add_parser("show", help="tell a pair's history")
    show.add_argument("pair")
    show.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    _add_pairs(commands)
    _add_dedup(commands)
    _add_diversity(commands)
    people.add_commands(commands)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of a fault")
    args = parser.parse_args(words)
    work = {
        "doctor": _doctor,
        "matrix": lambda: _matrix(args.config),
        "report": lambda: _report(args.run),
        "show": lambda: _show(args),
        "pairs": lambda: _pairs(args),
        "dedup": lambda: _dedup(args),
        "diversity": lambda: _diversity(args),
        "annotate": lambda: people.annotate(args),
        "corrections": lambda: people.corrections(args),
    }
    return guarded(work[args.command], debug=args.debug, resumes=args.command not in ("dedup", "diversity"))


def _add_pairs(commands: Any) -> None:
    command = commands.add_parser("pairs", help="list the pairs of a run; each option narrows the list")
    command.add_argument("run", type=Path)
    command.add_argument("--iteration", type=int)
    command.add_argument("--prompt", metavar="ID")
    command.add_argument("--cell", metavar="NAME", help="of either answer")
    command.add_argument("--source", help="of the label in force: prior, implicit, agreement, rule, judge or human")
    command.add_argument("--verdict", help="that anybody gave: keep, flip, tie, both_bad or edit")
    command.add_argument("--dropped", metavar="REASON", help="why the pair left, or any")
    command.add_argument("--changed", action="store_true", help="where the label in force is not the first one")
    command.add_argument("--limit", type=int, metavar="N", help="the first N only")
    command.add_argument(
        "--json", action="store_true", help="an object a line, with the whole of the prompt's last message"
    )


def _add_dedup(commands: Any) -> None:
    command = commands.add_parser("dedup", help="take duplicates out of a file of texts or preference pairs")
    command.add_argument("input", type=Path, nargs="+", help="JSONL, JSON, Parquet or Arrow, or folders of such files")
    command.add_argument("-o", "--output", type=Path, required=True, help=".parquet, .jsonl or .jsonl.gz")
    command.add_argument("--column", help="compare this column instead of chosen and rejected, or of text")
    command.add_argument("--tokenizer", help="path of a tokenizer.json or of a model's folder, for columns of text")
    command.add_argument("--ngram", type=int, default=5)
    command.add_argument("--threshold", type=float, default=0.8, help="Jaccard similarity of near-duplicates")
    command.add_argument("--mode", choices=["lsh", "exact"], default="lsh")
    command.add_argument("--link", choices=["component", "star"], default="component")
    command.add_argument("--keep", default="first", help="first, longest, or a column of numbers (the highest stays)")
    command.add_argument("--scope", choices=["prompt", "global"], help="which pairs are compared (default: prompt)")
    command.add_argument("--max-length", type=int, help="of prompt and completion in tokens, as the trainer cuts them")
    command.add_argument("--threads", type=int)
    command.add_argument(
        "--engine",
        choices=["local", "disk", "ray"],
        default="local",
        help="disk: piece by piece through files, for more texts than fit into memory; ray: on the machines of a cluster",
    )
    command.add_argument("--ray-address", help="host:port of the Ray cluster (default: RAY_ADDRESS, or one here)")
    command.add_argument("--work-dir", type=Path, help="where --engine disk puts its files (default: temporary files)")
    command.add_argument("--report", choices=["html"], help="a page with examples, beside the output")
    command.add_argument("--overwrite", action="store_true")
    command.add_argument("--quiet", action="store_true")


def _add_diversity(commands: Any) -> None:
    command = commands.add_parser("diversity", help="how different the texts of each prompt are")
    command.add_argument("input", type=Path, nargs="+", help="JSONL, JSON, Parquet or Arrow, or folders of such files")
    command.add_argument("--column", help="the texts (default: the first known name, such as text or response)")
    command.add_argument(
        "--by", help="the column whose equal values make a group, such as prompt; without it, one group"
    )
    command.add_argument("--tokenizer", help="path of a tokenizer.json or of a model's folder, for columns of text")
    command.add_argument("-o", "--output", type=Path, help="the scores of each group: .parquet, .jsonl or .jsonl.gz")
    command.add_argument(
        "--scores", type=lambda names: [name.strip() for name in names.split(",")], default=SCORES,
        help=f"of {', '.join(ALL_SCORES)}, with commas between (default: all but vendi, which compares all with all)",
    )  # fmt: skip
    command.add_argument("--order", type=float, default=1.0, help="of vendi: the larger, the less rare texts count")
    command.add_argument(
        "--history",
        type=Path,
        action="append",
        default=[],
        help="earlier texts, for novelty; may be given several times",
    )
    command.add_argument("--ngram", type=int, default=5, help="of jaccard and novelty")
    command.add_argument("--threads", type=int)
    command.add_argument("--quiet", action="store_true")


def _dedup(args: argparse.Namespace) -> int:
    from tso import clean
    from tso.progress import Face

    if args.ray_address and args.engine != "ray":
        raise DataError("--ray-address is for --engine ray")
    if args.work_dir and args.engine != "disk":
        raise DataError("--work-dir is for --engine disk")
    options = {name: getattr(args, name) for name in ("ngram", "threshold", "mode", "link", "keep", "threads")}
    of_pairs = {name: value for name in ("scope", "max_length") if (value := getattr(args, name)) is not None}
    clean.dedup_files(
        args.input, args.output, Face(quiet=args.quiet), column=args.column, tokenizer=args.tokenizer,
        overwrite=args.overwrite, engine=args.engine, ray_address=args.ray_address, work_dir=args.work_dir, report=args.report == "html",
        **options, **of_pairs,
    )  # fmt: skip
    return 0


def _diversity(args: argparse.Namespace) -> int:
    from tso import clean
    from tso.progress import Face

    clean.diversity_of_files(
        args.input, Face(quiet=args.quiet), column=args.column, by=args.by, tokenizer=args.tokenizer, output=args.output,
        scores=args.scores, order=args.order, history=args.history, ngram=args.ngram, threads=args.threads,
    )  # fmt: skip
    return 0


def _doctor() -> int:
    from tso import doctor

    _tell(f"{what:<16} {finding}" for what, finding in doctor.report())
    return 0


def _matrix(words: Sequence[str]) -> int:
    from tso import costs, matrix
    from tso.progress import Face

    config = settings(words)
    matrix.check(config)
    face = Face()
    title = "the model matrix, and the most that an iteration draws, reads and writes, in tokens"
    face.table(title, costs.COLUMNS, costs.table(config), words=costs.WORDS)
    face.say(f"{config.sample.prompts_per_iteration} prompts an iteration, {config.run.iterations} iterations")
    face.say("read beside that: system prompts, plain formats, and the rubric of a judge, whose draws are its calls")
    return 0


def _report(folder: Path) -> int:
    from tso import report

    _tell([str(report.write(_run_folder(folder)))])
    return 0


def _show(args: argparse.Namespace) -> int:
    from tso import report
    from tso.store import RunStore

    with RunStore.open_read_only(_run_folder(args.run)) as store:
        _tell(report.pair_story(store, args.pair))
    return 0


def _pairs(args: argparse.Namespace) -> int:
    from tso.report import listing
    from tso.store import RunStore

    if args.limit is not None and args.limit < 1:
        raise DataError(f"--limit must be 1 or more, not {args.limit}")
    names = ("iteration", "prompt", "cell", "source", "verdict", "dropped", "changed")
    wanted = listing.Filter(**{name: getattr(args, name) for name in names})
    with RunStore.open_read_only(_run_folder(args.run)) as store:
        found = listing.listed(store, wanted)
    shown = found[: args.limit]
    _tell(map(listing.as_json, shown) if args.json else listing.table(shown))
    if len(shown) < len(found) or not found:
        print(f"{len(shown):,d} of {len(found):,d} pairs" if found else "no such pair", file=sys.stderr)
    return 0


def _tell(lines: Iterable[str]) -> None:
    """Print text as text, until whoever reads it, such as `head`, has had enough."""
    try:
        for line in lines:
            print(plain(line))
        sys.stdout.flush()
    except BrokenPipeError:
        reader_left()


def _run_folder(folder: Path) -> Path:
    if not (folder / "run.sqlite").exists():
        raise DataError(f"{folder} holds no run (no run.sqlite in it); give the run.output_dir of a run")
    return folder


if __name__ == "__main__":
    sys.exit(main())
