"""Two samplers and a reader on one store, killed with SIGKILL at random moments, and what the store holds in the end.

    python -m tests.kills FOLDER --kills 200 [--seed S]

The samplers lease, answer and record the batches of a plan; now and then one takes so long that its lease runs out. The
reader compares over and over what is recorded with what is there. One of the three, chosen at random, is killed a random
while after it was started or began to work, and started again, sometimes under another name. In the end the samplers
finish what is left. Prints one JSON object; `faults` is empty when every planned draw has the answer that its seed asks
for, no batch was recorded twice, none that a sampler was told was recorded is missing, no reader ever saw a part of a
batch, and the store is sound.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tso import Ledger, errors

from tests.stores import prompts

BATCH, CELLS = 8, [("policy", 3), ("reference", 2)]  # every prompt has 5 draws
PROMPTS_A_KILL = 96  # 60 batches: more than two samplers record from one kill to the next
LEASE = 0.2  # seconds
LONGEST = 0.12  # seconds from the start of work to a kill
ENOUGH = 300  # seconds for what is left when all kills are done

RECORDED = """
    WITH r AS (SELECT (response_id - 1) / ?1 AS batch, count(*) AS answers FROM responses GROUP BY batch)
    SELECT (SELECT count(*) FROM units WHERE stage = 'sample/train'), (SELECT count(*) FROM r),
           (SELECT count(*) FROM r WHERE answers <> ?1)
"""


def answer(seed: int) -> tuple[str, bytes, str]:
    """What a model might say: as always, a function of the seed."""
    return f"answer {seed}", seed.to_bytes(8, "little") * (1 + seed % 50), ("stop", "length")[seed % 2]


def sample(path: Path, name: str, tell: Callable[[str], None]) -> None:
    """Answer batches until all are recorded, and tell each one that is."""
    pace = random.Random(name)
    with Ledger.join(path, name) as ledger:
        tell("at work")
        plan = ledger.plan(1, "train")
        while ledger.pending(1, "train"):
            batch = ledger.lease(1, "train", LEASE)
            if batch is None:
                time.sleep(0.01)
                continue
            answers = [answer(draw[4]) for draw in plan.batch(batch)]
            time.sleep(2 * LEASE if pace.random() < 0.01 else pace.uniform(0, 0.01))
            try:
                ledger.record(1, "train", batch, answers)
            except errors.StoreConflict:
                tell("lost")
            else:
                tell(str(batch))


def read(path: Path, tell: Callable[[str], None]) -> None:
    """Look until all is recorded, and tell where a batch is there in part."""
    with Ledger.open(path, read_only=True) as ledger:
        tell("at work")
        while ledger.pending(1, "train"):
            [(units, batches, parts)] = ledger.query(RECORDED, (BATCH,))[1]
            if parts or units != batches:
                tell(f"fault: {units} batches are recorded, {batches} are there, {parts} of them in part")


class Child:
    """A process that does `work`, and the lines that it tells."""

    def __init__(self, work: Callable[[Callable[[str], None]], None]):
        self._pipe, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._pipe)
                work(lambda line: os.write(told, f"{line}\n".encode()))
                code = 0
            except BaseException as err:
                os.write(told, f"fault: {type(err).__name__}: {err}\n".encode())
            os._exit(code)
        os.close(told)
        os.set_blocking(self._pipe, False)
        self.lines: list[str] = []
        self._rest = b""

    def listen(self) -> list[str]:
        """The lines so far."""
        while chunk := self._read():
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            self.lines += [line.decode() for line in whole]
        return self.lines

    def _read(self) -> bytes:
        try:
            return os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return b""

    def wait(self, deadline: float) -> None:
        """Until it says that it is at work."""
        while "at work" not in self.listen() and time.monotonic() < deadline:
            time.sleep(0.001)

    def kill(self) -> list[str]:
        """All it has told when it is dead."""
        os.kill(self.pid, signal.SIGKILL)
        return self.end(time.monotonic() + 60)

    def end(self, deadline: float) -> list[str]:
        """All it has told when it has ended by itself, or was killed at the deadline."""
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            self.listen()  # a full pipe would stop it
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                self.lines.append("fault: it did not come to its end")
                deadline += 60
            time.sleep(0.002)
        self.listen()
        os.close(self._pipe)
        return self.lines


class Trial:
    """One store, its three processes, and what was told of it."""

    def __init__(self, folder: Path, kills: int, seed: int):
        self.path, self.kills, self.chance = folder / "run.sqlite", kills, random.Random(seed)
        self.told: Counter[str] = Counter()
        self.born: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        count = 8 * (1 + PROMPTS_A_KILL * kills // 8)  # whole batches
        with Ledger.create(self.path, {}) as ledger:
            ledger.write(0, "start", 0, "", prompts(count))
            ledger.plan_draws(1, "train", seed, [f"p{i}" for i in range(count)], CELLS, BATCH)

    def start(self, role: str) -> Child:
        self.born[role] += 1
        if role == "reader":
            return Child(lambda tell: read(self.path, tell))
        # Under its old name it gets its old leases back at once; under another one they have to run out.
        return Child(lambda tell, name=f"{role}{self.born[role] // 2}": sample(self.path, name, tell))

    def run(self) -> dict[str, object]:
        alive = {role: self.start(role) for role in ("a", "b", "reader")}
        for _ in range(self.kills):
            role = self.chance.choice(list(alive))
            if self.chance.random() < 0.75:
                alive[role].wait(time.monotonic() + 60)
            time.sleep(self.chance.uniform(0, LONGEST))
            self.told.update(alive[role].kill())
            self.killed[role] += 1
            self.look_back()
            alive[role] = self.start(role)
        left = self.left()
        for child in alive.values():
            self.told.update(child.end(time.monotonic() + ENOUGH))
        faults = [line for line in self.told if line.startswith("fault")] + self.faults()
        if not left:
            faults.append("the plan came to its end before the kills did; plan more")
        told = {"kills": self.killed, "left_after_kills": left, "leases_lost": self.told["lost"]}
        return {**told, "batches": len([line for line in self.told if line.isdigit()]), "faults": faults}

    def left(self) -> int:
        with Ledger.open(self.path, read_only=True) as ledger:
            return len(ledger.pending(1, "train"))

    def look_back(self) -> None:
        """What was told as recorded is there. The store is closed again: no open one may come through a fork."""
        with Ledger.open(self.path, read_only=True) as ledger:
            missing = set(ledger.pending(1, "train"))
        for line in self.told:
            if line.isdigit() and int(line) in missing:
                self.told[f"fault: batch {line} was recorded and is gone"] += 1

    def faults(self) -> list[str]:
        twice = [f"batch {line} was recorded twice" for line, n in self.told.items() if line.isdigit() and n > 1]
        with Ledger.open(self.path) as ledger:
            plan = ledger.plan(1, "train")
            found = ledger.query("SELECT response_id, text, token_ids, finish_reason FROM responses ORDER BY 1")[1]
            wrong = [f"damage: {line}" for line in ledger.check()]
            if found != [(draw[0], *answer(draw[4])) for draw in plan]:
                wrong.append("the answers are not those of the plan")
            if ledger.pending(1, "train") or ledger.query("SELECT * FROM leases")[1]:
                wrong.append("batches or leases are left")
        return twice + wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds no run.sqlite yet")
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(Trial(args.folder, args.kills, args.seed).run()))


if __name__ == "__main__":
    main()
