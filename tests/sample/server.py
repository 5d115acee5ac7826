"""An OpenAI-compatible server as a test double over a real socket, that does whatever a test wants of it.

It answers with words that follow from the prompt, the seed and the temperature, so that sampling is random as a model's.
`faults` are behaviours for the next calls of /chat/completions, in order; a call without one is answered well.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.tiny import WORDS

MODEL = "double"
Fault = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Double

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.server.models is None:
            self.reply(404, {"error": "no such route"})
        else:
            self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        self.sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        double = self.server
        with double.lock:
            double.calls.append((self.path, self.sent, self.headers.get("authorization")))
            double.under_way += 1
            double.most_under_way = max(double.most_under_way, double.under_way)
            fault = double.faults.pop(0) if double.faults else double.always
        try:
            time.sleep(double.pause)
            fault(self) if fault else self.answer()
        except OSError:
            pass  # the client has gone
        finally:
            with double.lock:
                double.under_way -= 1

    def answer(self, **changed: Any) -> None:
        double = self.server
        text = double.text(self.sent)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if "prompt" in self.sent:
            choice["text"] = text
        else:
            choice["message"] = {"role": "assistant", "content": text}
        with double.lock:
            double.answered[self.sent.get("seed"), json.dumps(self.sent.get("messages"))] += 1
        usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
        self.reply(200, {"model": MODEL, "choices": [choice], "usage": usage, **changed})

    def reply(self, status: int, payload: Any, headers: dict[str, str] | None = None) -> None:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def reset(self) -> None:
        """The connection breaks in the middle, as when a server is killed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class Double(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.calls: list[tuple[str, dict[str, Any], str | None]] = []
        self.answered: Counter[tuple[int, str]] = Counter()
        self.models: list[str] | None = [MODEL]
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.greedy = self.needs_config = self.ignores_stop = False
        self.pause = 0.0
        self.under_way = self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        pass  # a broken connection is what some tests are about

    def text(self, sent: dict[str, Any]) -> str:
        heat = sent["temperature"]
        if self.greedy or (self.needs_config and "generation_config" not in sent):
            heat = 0
        told = json.dumps([sent.get("messages"), sent.get("prompt"), sent["seed"] if heat and "seed" in sent else 0])
        digest = hashlib.sha256(told.encode()).digest()
        limit = sent.get("max_tokens", sent.get("max_completion_tokens"))
        words = " ".join(WORDS[b % len(WORDS)] for b in digest[: min(limit, 10 + digest[0] % 12)])
        if not self.ignores_stop:
            for stop in sent.get("stop", []):
                words = words.partition(stop)[0]
        return words


@contextmanager
def serving() -> Iterator[Double]:
    double = Double()
    thread = threading.Thread(target=double.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.shutdown()
        double.server_close()
        thread.join()
