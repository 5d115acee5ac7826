"""Run the loop over and over, killed with SIGKILL at points spread over it, and tell whether all ends are the same.

A program of its own, so that its children are forked from a process in which torch has not started any thread:

    python -m tests.crash FOLDER --kills N [--chain] [--quickstart]

First an undisturbed run counts its steps: commits, plans, steps of training, checkpoints, forks, the report. Then come
N runs, each killed once, just before or just after a step, and each taken up again by the same command; with --chain
it is one run, killed N times. FOLDER holds the tiny model of tests/tiny.py; with --quickstart it is empty and the run
is the quickstart on a small budget. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - imported once here, for all children
from tso import loop, models, train
from tso.store import RunStore
from tso.training import resume
from tso.training.trainer import PairTrainer

from tests.tiny import content_hash, words

BUDGET = [
    *("data.max_prompts=4", "sample.prompts_per_iteration=3", "sample.max_new_tokens=8", "sample.batch_size=2"),
    *("model.threads=1", "evaluate.draws=1", "evaluate.control=false", "correct.margin=0", "correct.bad_below=0"),
    *("pair.max_pairs=2", "pair.max_similarity=1", "pair.max_repetition=1", "training.save_steps=1"),
    *("training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=1"),
]


class Steps:
    """Counts the steps of this process; at step `at` it notes the step's name in `log` and kills the process."""

    def __init__(self, log: Path, at: int = 0, after: bool = False):
        self.log, self.at, self.after, self.count = log, at, after, 0

    def counted(
        self, name: Callable[..., str], real: Callable[..., Any], done: Callable[..., bool] = lambda *_: False
    ) -> Callable[..., Any]:
        """`real`, as a step unless it is `done` already and will do nothing."""

        def step(*args: Any, **kwargs: Any) -> Any:
            if done(*args):
                return real(*args, **kwargs)
            self.count += 1
            here = self.count == self.at
            if here and not self.after:
                self._die(name(*args), "before")
            result = real(*args, **kwargs)
            if here and self.after:
                self._die(name(*args), "after")
            return result

        return step

    def _die(self, name: str, side: str) -> None:
        with self.log.open("a") as out:
            out.write(f"{side} {name}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        RunStore.commit = self.counted(lambda store, iteration, stage, *_: f"commit {stage}", RunStore.commit)
        RunStore.record = self.counted(
            lambda store, iteration, purpose, *_: f"commit sample/{purpose}", RunStore.record
        )
        RunStore.plan = self.counted(
            lambda *_: "plan", RunStore.plan, lambda store, i, purpose, *_: store.done(i, f"plan/{purpose}")
        )
        RunStore.fork = self.counted(lambda *_: "fork", RunStore.fork)
        PairTrainer.training_step = self.counted(lambda *_: "training step", PairTrainer.training_step)
        models.sync_folder = self.counted(lambda *_: "checkpoint", models.sync_folder)
        resume.sync_folder = self.counted(lambda *_: "resume point", resume.sync_folder)
        loop.update = self.counted(lambda *_: "update", loop.update, lambda store, _, i, *__: store.done(i, "update"))
        loop.report.write = self.counted(lambda *_: "report", loop.report.write)


def child(work: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            code = work()
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 99
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def watched(command: Sequence[str], steps: Steps, total: Path | None = None) -> int:
    steps.watch()
    code = train.main(["--quiet", "--debug", *command])
    if total is not None:
        total.write_text(str(steps.count))
    return code


def killed_once(folder: Path, command: Callable[[Path], Sequence[str]], points: Sequence[tuple[int, bool]]) -> list:
    """A run for each point: its exit codes when killed and when taken up again, and what it ended with."""
    results = []
    for at, after in points:
        output = folder / f"run-{at}{'+' if after else '-'}"
        log = folder / "kills.log"
        first = child(lambda at=at, after=after, o=output, log=log: watched(command(o), Steps(log, at, after)))
        again = child(lambda o=output: train.main(["--quiet", "--debug", *command(o)]))
        results.append({"first": first, "again": again, "hash": content_hash(output)})
    return results


def killed_in_a_row(folder: Path, command: Callable[[Path], Sequence[str]], kills: int, total: int) -> list:
    """One run, killed again and again a few steps further on, until it comes to its end."""
    output, log = folder / "chain", folder / "kills.log"
    stride = total // kills
    assert stride >= 3, f"{total} steps are too few: a process has to get from one resume point to the next"
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        # What is finished is no step any more, so each process gets some steps further than the one before.
        at, after = stride + len(codes) % 2, len(codes) % 4 >= 2
        codes.append(child(lambda at=at, after=after: watched(command(output), Steps(log, at, after))))
        if len(codes) > 4 * total:
            break
    return [{"first": code, "again": codes[-1], "hash": content_hash(output)} for code in codes[:-1]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--chain", action="store_true")
    parser.add_argument("--quickstart", action="store_true")
    args = parser.parse_args()
    folder = args.folder

    def command(output: Path) -> list[str]:
        return [f"run.output_dir={output}", *BUDGET] if args.quickstart else words(folder, output)

    counted = folder / "steps"
    code = child(lambda: watched(command(folder / "undisturbed"), Steps(folder / "none.log"), counted))
    total = int(counted.read_text())
    if args.chain:
        results = killed_in_a_row(folder, command, args.kills, total)
    else:
        points = [(1 + round((i + 0.5) * (total - 1) / args.kills), i % 2 == 1) for i in range(args.kills)]
        results = killed_once(folder, command, points)
    told = {
        "code": code,
        "steps": total,
        "hash": content_hash(folder / "undisturbed"),
        "kills": (folder / "kills.log").read_text().splitlines(),
        "results": results,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
