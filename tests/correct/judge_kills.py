"""A judging run, killed with SIGKILL at random moments and started again until it is done, and what its store holds.

    python -m tests.correct.judge_kills FOLDER --kills 20 [--seed S] [--server]

The judge writes down what it is asked, and takes a moment to reply. With --server it is one on a server, in a process of
its own. Prints one JSON object; `faults` is empty when the store's calls and corrections are those of an undisturbed run,
and nothing was asked again but what was under way at a kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tso.config import CorrectSection
from tso.correct import calls
from tso.correct.calls import Judge
from tso.correct.stage import correct
from tso.progress import Face
from tso.records import Decoding, Message, Prompt
from tso.sample.base import Request, Sampler
from tso.sample.client import Limits
from tso.sample.endpoint import Endpoint
from tso.sample.openai import OpenAISampler
from tso.store import RunStore

from tests.correct.doubles import SHOWN, Double, judge, perfect, shown
from tests.correct.pairs import pairs_store
from tests.sample import server

PAIRS = 120
AT_ONCE = 8  # questions that may be under way
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


class Far(server.Double):
    """The same on a server."""

    def __init__(self, log: Path):
        super().__init__()
        self.log, self.pause = log, 0.004

    def text(self, sent):
        question = sent["messages"][-1]["content"]
        if not SHOWN.search(question):
            return super().text(sent)  # the trial
        with self.lock, self.log.open("a") as out:
            out.write(json.dumps([question, sent["seed"]]) + "\n")
        request = Request(Prompt("", (Message("user", question),)), Decoding(), 0)
        return stubborn(*shown(request), request)


def sampler(url: str | None, log: Path) -> tuple[str, Sampler]:
    """The judge's path, and what asks it."""
    if url is None:
        return "weights", Slow(log)
    endpoint = Endpoint(url, server.MODEL)
    return endpoint.path, OpenAISampler({endpoint.path: endpoint}, Limits(concurrency=AT_ONCE, timeout=20.0))


def sitting(url: str | None, log: Path) -> Judge:
    path, asks = sampler(url, log)
    batch_size = AT_ONCE if url is None else 4 * AT_ONCE  # what may be under way at a kill is the same
    who = judge(stubborn, votes=3, temperature=1.0, retries=1, batch_size=batch_size, budget=0.8)
    return replace(who, path=path, sampler=asks)


def work(folder: Path, log: Path, url: str | None) -> None:
    calls.located = lambda folder, path, revision: path  # a double has no weights
    who = sitting(url, log)
    with RunStore.open_or_create(folder, {}) as store:
        correct(store, CorrectSection(), 1, lambda text: (7, 3), Face(quiet=True), judge=who)


def begin(folder: Path) -> None:
    pairs_store(folder, [("x" * (i % 4) + f" {i}", f"xx {i}") for i in range(PAIRS)]).close()


def apart(work: Callable[[], None]) -> int:
    """Do it in a process of its own, whose id is returned."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def run(folder: Path, log: Path, url: str | None, kill_after: float | None) -> bool:
    """Whether the work came to its end."""
    child = apart(lambda: work(folder, log, url))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def content(folder: Path) -> dict[str, list]:
    with RunStore.open_read_only(folder) as store:
        return {table: sorted(store.query(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def served(log: Path) -> tuple[str, int]:
    """Address and process of a judge on a server."""
    double = Far(log)  # forked before it has any thread
    child = apart(double.serve_forever)
    double.socket.close()
    return double.url, child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--server", action="store_true")
    args = parser.parse_args()
    log = args.folder / "asked.jsonl"
    url, process = served(log) if args.server else (None, None)
    try:
        print(json.dumps(tried(args.folder, log, url, args.kills, random.Random(args.seed))))
    finally:
        if process is not None:
            os.kill(process, signal.SIGKILL)


def tried(folder: Path, log: Path, url: str | None, wanted: int, chance: random.Random) -> dict[str, object]:
    whole, parts = folder / "whole", folder / "parts"
    if url is not None:
        who = sitting(url, log)
        who.sampler.probe(who.path, calls.decoding_of(who.options))  # so that no child has to, and kills meet answers
    begin(whole)
    started = time.monotonic()
    faults = [] if run(whole, log, url, None) else ["the undisturbed run failed"]
    each = (time.monotonic() - started) / (wanted + 1)
    begin(parts)
    log.write_text("")
    kills, held_then = 0, 0
    while kills < wanted and not run(parts, log, url, chance.uniform(0, 1.2 * each)):
        kills += 1
        held_then = len(content(parts)["judge_calls"])
    if not run(parts, log, url, None):
        faults.append("the last run failed")
    if content(parts) != content(whole):
        faults.append("the store is not that of an undisturbed run")
    lines, number = log.read_text().splitlines(), len(content(parts)["judge_calls"])
    # What was under way at a kill is asked once more, and nothing else.
    if len(set(lines)) != number or not 0 <= len(lines) - number <= AT_ONCE * kills:
        faults.append(f"{len(lines)} questions were asked, {len(set(lines))} different ones, and {number} are kept")
    return {"kills": kills, "held_at_the_last": held_then, "calls": number, "faults": faults}


if __name__ == "__main__":
    main()
