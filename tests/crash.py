"""Run the tiny loop over and over, killed with SIGKILL at chosen points, and tell whether all ends are the same.

A program of its own, so that its children are forked from a process in which torch has not started any thread.
Usage: crash.py FOLDER POINT ...; a point is `N-` (just before the N-th commit) or `N+` (just after it).
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import transformers  # noqa: F401 - imported once here, for all children
from tso import loop, models, train
from tso.store import RunStore

from tests.tiny import content_hash, words


def child(work) -> int:
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        try:
            code = work()
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 99
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(folder: Path, output: Path) -> int:
    return train.main(["--quiet", "--debug", *words(folder, output)])


def killed_at(folder: Path, output: Path, point: str) -> int:
    """Run until the point, then SIGKILL. Commits, checkpoints written and the plan all count as steps."""
    at, after = int(point[:-1]), point.endswith("+")
    count = 0

    def dying(real):
        def step(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if count == at and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    RunStore.commit = dying(RunStore.commit)
    RunStore.plan = dying(RunStore.plan)
    RunStore.fork = dying(RunStore.fork)
    models._sync = dying(models._sync)
    loop.report.write = dying(loop.report.write)
    return run(folder, output)


def main() -> None:
    folder = Path(sys.argv[1])
    results = []
    for point in sys.argv[2:]:
        output = folder / f"run-{point}"
        first = child(lambda output=output, point=point: killed_at(folder, output, point))
        again = child(lambda output=output: run(folder, output))
        results.append({"point": point, "first": first, "again": again, "hash": content_hash(output)})
    whole = child(lambda: run(folder, folder / "undisturbed"))
    print(json.dumps({"code": whole, "hash": content_hash(folder / "undisturbed"), "results": results}))


if __name__ == "__main__":
    main()
