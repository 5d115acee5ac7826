"""The plan of draws and the record of their answers, against Python's sqlite3 on the same tables.

    python benchmarks/ledger.py [--folder FOLDER]    # minutes; on the disk where runs are kept
    python benchmarks/ledger.py --quick              # a look at whether everything runs; its times mean nothing

Every run is a process of its own with a store of its own in --folder; runs are interleaved, and medians count.

Plan: 10,000 prompts, 4 cells, 25 draws each are a million draws, laid down in one durable transaction. The peer inserts
a row for every draw, as one does without arithmetic; its rows, seeds included, are prepared before its time begins.
Walk: every draw of the plan is made once, batch by batch, as Python tuples.
Record: answers of 200 characters and 50 token ids go into the store, a batch a transaction, each on disk before the next
one begins (WAL, synchronous=FULL, foreign keys held). The peer writes the same rows to the same tables by executemany;
its rows are prepared before its time begins. "shared" is ours with two samplers that lease batches at the same time.
Large: 1,000,000 prompts, 4 cells, 25 draws each are planned and walked through; what counts is memory. Peak memory is
what is resident above what was so before the work began.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from machine import processor, resident
from tso import Ledger, Plan

RESULTS = Path(__file__).parent / "results"
CELLS = [(f"cell-{i}", 25, None, "model") for i in range(4)]  # of one model, so they share batches
SEED = 17
ANSWER = ("once upon a time " * 12)[:200], bytes(range(200)), "stop"
PROMPT = ["prompt_id", "position", "split", "messages", "human", "tags"]
DRAWS = """CREATE TABLE draws (draw_id INTEGER PRIMARY KEY, iteration INTEGER NOT NULL, purpose TEXT NOT NULL,
    prompt_id TEXT NOT NULL REFERENCES prompts, cell TEXT NOT NULL, draw INTEGER NOT NULL, seed INTEGER NOT NULL,
    batch INTEGER NOT NULL) STRICT"""


class Meter:
    """Time and memory of the part of a run that counts."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        start = time.perf_counter()
        yield
        self.found[name] = time.perf_counter() - start
        self.found[f"{name} MiB"] = resident("VmHWM") - before


def new_store(path: Path, count: int) -> tuple[Ledger, list[str]]:
    """A store with so many prompts, written in parts that fit into memory."""
    ledger = Ledger.create(path, {})
    ids = [f"prompt-{i:07d}" for i in range(count)]
    for part in range(0, count, 10_000):
        rows = ((name, part + i, "train", "[]", "[]", "{}") for i, name in enumerate(ids[part : part + 10_000]))
        ledger.write(0, "prompts", part, "", {"prompts": (PROMPT, rows)})
    return ledger, ids


def signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed


def connect(path: Path) -> sqlite3.Connection:
    """As durable as ours."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
        db.execute(f"PRAGMA {pragma}")
    return db


def plan_ours(path: Path, prompts: int, batch: int, meter: Meter) -> None:
    ledger, ids = new_store(path, prompts)
    with meter.part("plan"):
        plan = ledger.plan_draws(1, "train", SEED, ids, CELLS, batch)
    with meter.part("walk"):
        walked = sum(len(plan.batch(number)) for number in range(plan.batches))
    assert walked == len(plan) == prompts * 100
    ledger.close()


def plan_peer(path: Path, prompts: int, batch: int, meter: Meter) -> None:
    ledger, ids = new_store(path, prompts)
    plan = ledger.plan_draws(1, "train", SEED, ids, CELLS, batch)
    rows = [(i, 1, "train", prompt, cell, n, signed(seed), b) for i, prompt, cell, n, seed, b in plan]
    ledger.close()
    db = connect(path)
    db.execute(DRAWS)
    with meter.part("plan"):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO draws VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    with meter.part("walk"):
        walked = sum(1 for _ in db.execute("SELECT * FROM draws ORDER BY draw_id"))
    assert walked == prompts * 100
    db.close()


def planned(path: Path, prompts: int, batch: int) -> Plan:
    ledger, ids = new_store(path, prompts)
    with ledger:
        return ledger.plan_draws(1, "train", SEED, ids, CELLS, batch)


def record_ours(path: Path, prompts: int, batch: int, meter: Meter) -> None:
    plan = planned(path, prompts, batch)
    with Ledger.open(path) as ledger, meter.part("record"):
        for number in range(plan.batches):
            ledger.record(1, "train", number, [ANSWER] * min(batch, len(plan) - number * batch))
    require(path, len(plan))


def record_shared(path: Path, prompts: int, batch: int, meter: Meter) -> None:
    plan = planned(path, prompts, batch)
    command = [sys.executable, __file__, "--job", "sampler", "--store", str(path), "--batch", str(batch)]
    samplers = [subprocess.Popen([*command, "--name", name], stdin=-1, stdout=-1) for name in ("a", "b")]
    for sampler in samplers:
        sampler.stdout.readline()  # it is ready
    with meter.part("record"):
        for sampler in samplers:
            sampler.stdin.close()
        assert [sampler.wait() for sampler in samplers] == [0, 0]
    require(path, len(plan))


def run_sampler(path: Path, name: str, batch: int) -> None:
    with Ledger.join(path, name) as ledger:
        plan = ledger.plan(1, "train")
        print("ready", flush=True)
        sys.stdin.read()
        while (number := ledger.lease(1, "train", 600)) is not None:
            ledger.record(1, "train", number, [ANSWER] * min(batch, len(plan) - number * batch))


def record_peer(path: Path, prompts: int, batch: int, meter: Meter) -> None:
    plan = planned(path, prompts, batch)
    text, ids, reason = ANSWER
    rows = [(i, 1, prompt, cell, signed(seed), text, ids, 50, reason) for i, prompt, cell, _, seed, _ in plan]
    db = connect(path)
    with meter.part("record"):
        for number in range(plan.batches):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO units VALUES (1, 'sample/train', ?, '{}')", (number,))
            part = rows[number * batch : (number + 1) * batch]
            db.executemany("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", part)
            db.execute("COMMIT")
    db.close()
    require(path, len(plan))


def require(path: Path, draws: int) -> None:
    with Ledger.open(path) as ledger:
        assert ledger.query("SELECT count(*) FROM sampled")[1] == [(draws,)]
        assert ledger.pending(1, "train") == []


JOBS: dict[str, Callable[[Path, int, int, Meter], None]] = {
    "plan, tso": plan_ours,
    "plan, sqlite3": plan_peer,
    "record, tso": record_ours,
    "record, tso, shared": record_shared,
    "record, sqlite3": record_peer,
}


@dataclass
class Case:
    """One line of the table: a job at one size."""

    job: str
    prompts: int
    batch: int
    runs: list[dict[str, float]] = field(default_factory=list)

    @property
    def draws(self) -> int:
        return 100 * self.prompts

    def run(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="tso-bench-ledger-", dir=folder) as name:
            command = [sys.executable, __file__, "--job", self.job, "--store", str(Path(name) / "run.sqlite")]
            command += ["--prompts", str(self.prompts), "--batch", str(self.batch)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        self.runs.append(json.loads(done.stdout))

    def rows(self) -> Iterator[str]:
        for part in (name for name in self.runs[0] if not name.endswith(" MiB")):
            seconds = statistics.median(run[part] for run in self.runs)
            peak = statistics.median(run[f"{part} MiB"] for run in self.runs)
            title = f"{part}{self.job.partition(',')[2]}"
            yield f"{title:22}{self.draws:13,}{self.batch:8,}{seconds:10.3f}{self.draws / seconds:14,.0f}{peak:10.0f}"


def cases(scale: int) -> tuple[list[Case], Case]:
    """Those that are run in rounds, and the large one, which is run once."""
    found = [Case(job, 10_000 // scale, 1_000) for job in JOBS if job.startswith("plan")]
    for prompts, batch in ((10_000, 10_000), (10_000, 1_000), (1_000, 100)):
        found += [Case(job, prompts // scale, batch) for job in JOBS if job.startswith("record")]
    return found, Case("plan, tso", 1_000_000 // scale, 1_000)


def describe(folder: Path, rounds: int) -> list[str]:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    kind = max((m for m in mounts if folder.is_relative_to(m[0])), key=lambda m: len(m[0]))[1]
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    machine = f"{processor()}, {os.cpu_count()} cores, {int(memory.split()[1]) / 2**20:.0f} GiB"
    return [
        f"date: {date.today().isoformat()}",
        f"machine: {machine}; {platform.system()} {platform.machine()}; file system {kind}",
        f"versions: Python {platform.python_version()}, its SQLite {sqlite3.sqlite_version}",
        f"command: python benchmarks/ledger.py --folder FOLDER --rounds {rounds}",
        "",
        f"{'':22}{'draws':>13}{'batch':>8}{'seconds':>10}{'draws/s':>14}{'peak MiB':>10}",
    ]


def run_all(args: argparse.Namespace) -> None:
    rounded, large = cases(100 if args.quick else 1)
    for _ in range(1 if args.quick else args.rounds):
        for case in rounded:
            case.run(args.folder)
    large.run(args.folder)
    lines = describe(args.folder.resolve(), args.rounds)
    for case in [*rounded, large]:
        lines += case.rows()
    print("\n".join(lines))
    if not args.quick:
        path = RESULTS / f"{date.today().isoformat()}-ledger.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"\nstored in benchmarks/results/{path.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where the stores are made; here by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size, one round, nothing stored")
    for hidden in ("--job", "--name"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    for hidden in ("--prompts", "--batch"):
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job == "sampler":
        run_sampler(args.store, args.name, args.batch)
    elif args.job:
        meter = Meter()
        JOBS[args.job](args.store, args.prompts, args.batch, meter)
        print(json.dumps(meter.found))
    else:
        run_all(args)


if __name__ == "__main__":
    main()
