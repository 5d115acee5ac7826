"""A judging run, killed with SIGKILL at random moments and started again until it is done, and what its store holds.

    python -m tests.correct.judge_kills FOLDER --kills 20 [--seed S]

Before each batch the judge writes down what it is asked, and it takes a moment to reply. Prints one JSON object; `faults`
is empty when the store's calls and corrections are those of an undisturbed run, and nothing was asked again that the
store held already.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from pathlib import Path

from tso.config import CorrectSection
from tso.correct import calls
from tso.correct.stage import correct
from tso.progress import Face
from tso.store import RunStore

from tests.correct.doubles import Double, judge, perfect
from tests.correct.pairs import pairs_store

PAIRS = 120
TABLES = ("judge_pairs", "judge_calls", "corrections", "labels", "drops")


def stubborn(first, second, request):
    """Some pairs need a second attempt, and some never come to a verdict."""
    text = request.prompt.messages[0].content
    if "7" in first + second:
        return "never"
    return "later" if "3" in first and "could not be read" not in text else perfect(first, second, request)


class Slow(Double):
    """Writes down what it is asked before it replies."""

    def __init__(self, log: Path):
        super().__init__(stubborn)
        self.log = log

    def sample(self, model, requests):
        with self.log.open("a") as out:
            out.writelines(json.dumps([r.prompt.id, r.seed]) + "\n" for r in requests)
        time.sleep(0.004)
        return super().sample(model, requests)


def work(folder: Path, log: Path) -> None:
    calls.located = lambda folder, path, revision: path  # a double has no weights
    who = judge(stubborn, votes=3, temperature=1.0, retries=1, batch_size=8, budget=0.8)
    object.__setattr__(who, "sampler", Slow(log))
    with RunStore.open_or_create(folder, {}) as store:
        correct(store, CorrectSection(), 1, lambda text: (7, 3), Face(quiet=True), judge=who)


def begin(folder: Path) -> None:
    pairs_store(folder, [("x" * (i % 4) + f" {i}", f"xx {i}") for i in range(PAIRS)]).close()


def run(folder: Path, log: Path, kill_after: float | None) -> bool:
    """Whether the work came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(folder, log)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def content(folder: Path) -> dict[str, list]:
    with RunStore.open_read_only(folder) as store:
        return {table: store.query(f"SELECT * FROM {table}") for table in TABLES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    whole, parts, log = args.folder / "whole", args.folder / "parts", args.folder / "asked.jsonl"
    begin(whole)
    started = time.monotonic()
    faults = [] if run(whole, args.folder / "undisturbed.jsonl", None) else ["the undisturbed run failed"]
    each = (time.monotonic() - started) / (args.kills + 1)
    begin(parts)
    log.touch()
    chance, kills, held_then, again = random.Random(args.seed), 0, 0, 0
    while kills < args.kills:
        before = len(content(parts)["judge_calls"])
        asked = len(log.read_text().splitlines())
        if run(parts, log, chance.uniform(0, 1.2 * each)):
            break
        kills += 1
        held_then = len(content(parts)["judge_calls"])
        again += len(log.read_text().splitlines()) - asked - (held_then - before)
    if not run(parts, log, None):
        faults.append("the last run failed")
    if content(parts) != content(whole):
        faults.append("the store is not that of an undisturbed run")
    lines = log.read_text().splitlines()
    # What was under way at a kill is asked once more, and nothing else: a batch at most for each kill.
    if len(lines) - again != len(content(parts)["judge_calls"]) or not 0 <= again <= 8 * kills:
        faults.append(f"{len(lines)} questions were asked, {again} of them were under way at a kill")
    print(json.dumps({"kills": kills, "held_at_the_last": held_then, "calls": len(lines) - again, "faults": faults}))


if __name__ == "__main__":
    main()
