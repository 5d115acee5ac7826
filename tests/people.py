"""A run with pairs to judge, as it stands before its correct stage; the server of `tso annotate`; and a client of it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from tests.report.runs import empty_run, response, write

ROOT = Path(__file__).parents[1]


def make_run(folder: Path, pairs: int = 12, texts: dict[int, tuple[str, str]] | None = None) -> Path:
    """Pairs p00, p01, ... of iteration 1, labelled a over b; the texts of pair i are a<i> and b<i> unless given."""
    empty_run(folder, {"run.seed": "7"})
    question = [json.dumps([{"role": "user", "content": f"question {i}"}]) for i in range(pairs)]
    write(folder, 0, "start", prompts=[(f"q{i}", i, "train", question[i], "[]", "{}") for i in range(pairs)])
    both = [(texts or {}).get(i, (f"a{i}", f"b{i}")) for i in range(pairs)]
    answers = [response(2 * i + j + 1, 1, f"q{i}", "cell", both[i][j]) for i in range(pairs) for j in (0, 1)]
    write(
        folder,
        1,
        "pair/train",
        responses=answers,
        pairs=[(f"p{i:02}", 1, "train", i, f"q{i}", 2 * i + 1, 2 * i + 2, 0.0) for i in range(pairs)],
        labels=[(i + 1, f"p{i:02}", 1, "prior", 2 * i + 1, 2 * i + 2, 0.75, 1.0) for i in range(pairs)],
    )
    return folder


def heed_signals():
    """In a child, before its program: what a shell starts in the background, or nohup, has some of them ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


class Server:
    """`tso annotate` in a process of its own. A context manager."""

    def __init__(self, run: Path, *options: str):
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        line = [sys.executable, "-m", "tso", "annotate", str(run), *options]
        self.process = subprocess.Popen(
            line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
        )
        self.said = [self.process.stdout.readline()]
        self.addresses = [self.process.stdout.readline().strip()]
        self.address = self.addresses[0].partition("?")[0]
        if not self.address.startswith("http://"):
            why = self.process.communicate(timeout=60)
            raise AssertionError(f"{self.said}, {self.addresses}, {why}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self, how: int = signal.SIGKILL) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()
        return code


def ask(address: str, body=None, headers=None, method=None):
    """(status, parsed answer). body: an object for JSON, or bytes."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        address, data, {"Content-Type": "application/json", **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text, status = answer.read().decode(), answer.status
    except urllib.error.HTTPError as err:
        text, status = err.read().decode(), err.code
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def judge(address: str, annotator: str, item: int, said: str, request: str | None = None, **more):
    body = {"annotator": annotator, "item": item, "said": said, "request": request or str(uuid.uuid4()), **more}
    return ask(address + "verdict", body)
