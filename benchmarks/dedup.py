"""Deduplication of tokenised responses, from token ids to clusters, against every peer that is installed.

    python benchmarks/dedup.py               # real data, then planted data of size 1, 10 and 100
    python benchmarks/dedup.py --sizes 1     # real data and the smallest planted data; minutes
    python benchmarks/dedup.py --quick       # a look at whether everything runs; its times mean nothing

A job is to find near-duplicates: sets of token 5-grams with a Jaccard similarity of at least 0.8. Every contestant gets
the same NumPy arrays of token ids and runs in a process of its own, with 1 and, where it has that choice, 2 threads.
Peers get 128 minima (or their default) and the bands that their own documentation or optimiser has for 0.8. What has to
be prepared for them is part of their time and also shown alone: 64-bit hashes of the 5-grams, made block by block in
NumPy, on as many threads as the contestant has, or, for peers that take nothing but text, strings of ids joined in
Arrow. So measured, peers miss a fifth of what is near enough and verify nothing. "16 x 4" gives them the 64 minima in 16
bands that ours has, and "verified" compares their pairs in NumPy: the same job as ours. Time of imports and of loading the
ids is nobody's. Rounds are interleaved: seven at most, and for a contestant
no more once it has taken 20 seconds in all; the medians count. Peak memory is what is resident above the loaded ids.

Real data: the responses of the two matrix files, tokenised by a 32k byte-level BPE trained on them; a response without
tokens is left out, for peers differ in what that is. Truth: all pairs by an inverted index in NumPy, independent of tso.
Planted data of size S: S times all real responses of five tokens or more, with 25 % of the tokens replaced at random (16
tokens where that is more, lest two versions of a short text be near-duplicates), in random order; a fifth of the rows
has an edited copy with a known number of random substitutions, some with none. Truth: the similarity of each row and its
copy, computed here on 64-bit hashes without tso.

Rows removed are all but the first of each cluster. Wrong: the share of those which the truth keeps, rows that have no
near-duplicate before them. Missed: the share of the rows which the truth removes that are still there. Contestants marked
"flags" give no clusters, only whether a row has a duplicate anywhere: they are held against rows that have one.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from dedup_data import Case, Flags, Tokens, Truth, planted_case, real_case, real_tokens
from dedup_peers import CONTESTANTS, OURS, Clock, Contestant
from machine import processor, resident

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ENOUGH = 20.0  # seconds of a contestant in one case, after which it runs no more rounds


@dataclass
class Run:
    seconds: float
    prepared: float
    peak: float  # MiB


@dataclass
class Entry:
    """A contestant with a number of threads in one case."""

    contestant: Contestant
    threads: int
    runs: list[Run] = field(default_factory=list)
    removed: int = 0
    wrong: float = 0.0
    missed: float = 0.0
    failed: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.contestant.name, self.threads

    @property
    def title(self) -> str:
        return f"{self.contestant.name}, {self.threads} thread{'s' * (self.threads > 1)}"

    def median(self, what: str) -> float:
        return statistics.median(getattr(run, what) for run in self.runs)


def run_here(name: str, threads: int, folder: Path) -> None:
    """One job, in a process made for it. Results go into the folder, for peers may print."""
    job = next(c for c in CONTESTANTS if c.name == name).load()
    tokens = Tokens(np.load(folder / "values.npy"), np.load(folder / "offsets.npy"))
    clock = Clock()
    before = resident("VmRSS")
    # Not ru_maxrss: a new process inherits that from the one that started it.
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    removed = job(tokens, threads, clock)
    seconds = time.perf_counter() - start
    peak = resident("VmHWM") - before
    np.save(folder / "removed.npy", removed)
    found = {"seconds": seconds, "prepared": clock.seconds, "peak": peak}
    (folder / "run.json").write_text(json.dumps(found), encoding="utf-8")


def run_apart(entry: Entry, case: Case, folder: Path, limit: float) -> None:
    """Start `run_here` in a fresh process and take note of its results."""
    command = [sys.executable, __file__, "--contestant", entry.contestant.name, "--threads", str(entry.threads)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(entry.threads))
    try:
        done = subprocess.run(
            [*command, "--folder", str(folder)], env=environment, timeout=2 * limit, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        entry.failed = f"stopped after {2 * limit:.0f} s"
        return
    if done.returncode:
        entry.failed = f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['-'])[-1][:90]}"
        return
    entry.runs.append(Run(**json.loads((folder / "run.json").read_text(encoding="utf-8"))))
    judge(entry, np.load(folder / "removed.npy"), case.truth)


def judge(entry: Entry, removed: Flags, truth: Truth) -> None:
    right = truth.partnered if entry.contestant.flags else truth.removable
    entry.removed = int(removed.sum())
    entry.wrong = 100 * float((removed & ~right).sum()) / max(1, entry.removed)
    entry.missed = 100 * float((right & ~removed).sum()) / max(1, int(right.sum()))


Past = dict[tuple[str, int], tuple[int, Entry]]  # the last case that a contestant ran in: its tokens, and the entry


def too_much(entry: Entry, case: Case, past: Past, limit: float) -> str | None:
    """Why the contestant is left out of this case, by what it took in the one before."""
    largest = entry.contestant.largest
    if largest is not None and case.size > largest:
        return f"runs up to size {largest}"
    if entry.key not in past:
        return None
    tokens, before = past[entry.key]
    if not before.runs:
        return "failed in a smaller case"
    more = case.tokens / tokens
    if more * before.median("seconds") > limit:
        return f"would take about {more * before.median('seconds'):,.0f} s, the limit is {limit:.0f} s"
    needed = (more * before.median("peak") + case.tokens * 4 / 2**20) / 1024
    if needed > available():
        return f"would need about {needed:.0f} GiB of memory"
    return None


def available() -> float:
    """GiB of memory that is free or can be freed."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2**20


def run_case(case: Case, folder: Path, entries: list[Entry], past: Past, args: argparse.Namespace) -> list[str]:
    reasons = {entry.key: too_much(entry, case, past, args.limit) for entry in entries}
    running = [entry for entry in entries if reasons[entry.key] is None]
    for _ in range(args.rounds):
        for entry in running:
            if entry.failed is None and sum(run.seconds for run in entry.runs) < ENOUGH:
                run_apart(entry, case, folder, args.limit)
    past |= {entry.key: (case.tokens, entry) for entry in running}
    lines = [
        case.title,
        f"{'':32}{'threads':>8}{'seconds':>10}{'prepared':>10}{'/ ours':>8}{'peak MiB':>10}"
        f"{'removed':>10}{'wrong %':>9}{'missed %':>9}",
    ]
    mine = {e.threads: e.median("seconds") for e in running if e.contestant.name == OURS and e.failed is None}
    lines += [table_row(entry, mine.get(entry.threads)) for entry in running if entry.failed is None]
    lines += [f"left out at this size: {e.title} ({why})" for e in entries if (why := reasons[e.key])]
    lines += [f"failed: {entry.title} ({entry.failed})" for entry in running if entry.failed]
    return lines


def table_row(entry: Entry, mine: float | None) -> str:
    seconds, prepared, peak = (entry.median(what) for what in ("seconds", "prepared", "peak"))
    ratio = f"{seconds / mine:.2f}" if mine else "-"
    return (
        f"{entry.contestant.name:32}{entry.threads:8}{seconds:10.3f}{prepared:10.3f}{ratio:>8}{peak:10.0f}"
        f"{entry.removed:10,}{entry.wrong:9.2f}{entry.missed:9.2f}"
    )


def growth(ours_by_size: dict[int, dict[int, float]]) -> list[str]:
    """Our time a row at each size, and as a multiple of that at the smallest."""
    lines = ["", "our time a row, and as a multiple of that at the smallest size"]
    threads = sorted({count for each in ours_by_size.values() for count in each})
    for count in threads:
        by_size = {size: each[count] for size, each in sorted(ours_by_size.items()) if count in each}
        first = next(iter(by_size.values()))
        cells = [f"x{size}: {micro:.2f} us ({micro / first:.2f})" for size, micro in by_size.items()]
        lines.append(f"{count} thread{'s' * (count > 1)}: " + ", ".join(cells))
    return lines if threads else []


def per_row(case: Case, entries: list[Entry]) -> dict[int, float]:
    """Microseconds of ours by threads."""
    mine = [entry for entry in entries if entry.contestant.name == OURS and entry.runs]
    return {entry.threads: entry.median("seconds") * 1e6 / case.rows for entry in mine}


def describe() -> list[str]:
    versions = []
    for package in dict.fromkeys(["numpy", "pyarrow"] + [c.package for c in CONTESTANTS]):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            here = package == "tso-align" and importlib.util.find_spec("tso")
            versions.append(f"{package} {'from the source tree' if here else 'absent'}")
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    machine = f"{processor()}, {os.cpu_count()} cores, {int(memory.split()[1]) / 2**20:.0f} GiB"
    return [
        f"date: {date.today().isoformat()}",
        f"machine: {machine}; {platform.system()} {platform.machine()}; Python {platform.python_version()}",
        "versions: " + ", ".join(versions),
        "command: python benchmarks/dedup.py " + " ".join(sys.argv[1:]),
        *[f"left out: {c.name} ({c.missing})" for c in CONTESTANTS if c.missing],
    ]


def make_cases(base: Tokens, sizes: list[int]) -> Iterator[tuple[Case, Path]]:
    """One after the other, real data first; the files of one go before the next is made."""
    makers = [functools.partial(real_case, base)]
    makers += [functools.partial(planted_case, base, size) for size in sorted(sizes)]
    for make in makers:
        with tempfile.TemporaryDirectory(prefix="tso-bench-dedup-") as name:
            yield make(folder=Path(name)), Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the matrix files")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 10, 100], help="of planted data")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--limit", type=float, default=300, help="seconds that a contestant may be expected to take")
    parser.add_argument("--only", default="", help="run contestants whose name has this in it, and ours")
    parser.add_argument("--rounds", type=int, default=7, help="at most")
    parser.add_argument("--quick", action="store_true", help="500 responses, one round, nothing stored")
    for hidden in ("--contestant", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        run_here(args.contestant, args.threads[0], Path(args.folder))
        return
    run_all(args)


def run_all(args: argparse.Namespace) -> None:
    lines = describe()
    print("\n".join(lines), flush=True)
    base = real_tokens(args.data)
    if args.quick:
        base, args.sizes, args.rounds = base.part(0, 500), [1], 1
    path = RESULTS / f"{date.today().isoformat()}-dedup.txt"
    present = [c for c in CONTESTANTS if c.missing is None and (args.only in c.name or c.name == OURS)]
    past: Past = {}
    ours_by_size: dict[int, dict[int, float]] = {}
    for case, folder in make_cases(base, args.sizes):
        entries = [Entry(c, count) for c in present for count in (args.threads if c.threads else [1])]
        found = ["", *run_case(case, folder, entries, past, args)]
        print("\n".join(found), flush=True)
        lines += found
        if case.name != "real":
            ours_by_size[case.size] = per_row(case, entries)
        if not args.quick:  # after every case, for the next one may take long
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    last = growth(ours_by_size)
    print("\n".join(last), flush=True)
    if not args.quick:
        path.write_text("\n".join(lines + last) + "\n", encoding="utf-8")
        print(f"\nstored in benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
