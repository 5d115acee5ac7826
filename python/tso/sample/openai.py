"""Sampling from OpenAI-compatible servers: vLLM, SGLang, TGI, llama.cpp, `transformers serve`, hosted services.

Requests of a batch are under way together, and each answer is handed on the moment it comes, so that a kill loses none
that was paid for. What is sent and read is in reply.py, how calls are made in client.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from tso.errors import ModelError
from tso.records import Decoding
from tso.sample.base import Answer, Request
from tso.sample.client import Client, Limits
from tso.sample.endpoint import Endpoint
from tso.sample.probe import Found, ask, probe
from tso.sample.reply import Reply

T = TypeVar("T")
Arrived = Callable[[int, Reply], None]

PROBE_RETRIES = 3  # nobody should wait long to hear that a server is not there

_found: dict[tuple[Endpoint, Decoding], Found] = {}  # a process tries a server once for each kind of cell


class OpenAISampler:
    """Asks the endpoints that it knows by their paths (URL#NAME). Answers carry no token ids: they are another model's.

    known_as: the servers' own names for their models when the run began, by path, to which `sample` holds them.
    """

    def __init__(
        self, endpoints: Mapping[str, Endpoint], limits: Limits, known_as: Mapping[str, str] = MappingProxyType({})
    ):
        self.endpoints = endpoints
        self.limits = limits
        self.known_as = known_as

    def sample(self, model: str, requests: Sequence[Request]) -> list[Answer]:
        replies: dict[int, Reply] = {}
        self.each(model, requests, replies.__setitem__, self.known_as.get(model))
        return [
            Answer(r.text, (), r.finish_reason, r.prompt_tokens, r.completion_tokens)
            for _, r in sorted(replies.items())
        ]

    def each(self, model: str, requests: Sequence[Request], arrived: Arrived, known_as: str | None = None) -> None:
        """Ask for all, and call `arrived(index, reply)` as answers come, in whatever order.

        known_as: the server's own name for the model when the run began. Raises ModelError when it is another one now,
        and ServerError when an answer cannot be had; those under way are waited for before.
        """
        _run(lambda: self._each(self.endpoints[model], requests, arrived, known_as))

    def probe(self, model: str, decoding: Decoding) -> Found:
        """What the server says and can, tried once in a process. Raises ModelError, ConfigError or ServerError."""
        return _run(lambda: self._probe(self.endpoints[model], decoding))

    async def _probe(self, endpoint: Endpoint, decoding: Decoding) -> Found:
        if (endpoint, decoding) not in _found:
            limits = replace(self.limits, retries=min(self.limits.retries, PROBE_RETRIES))
            async with Client(endpoint, limits) as client:
                _found[endpoint, decoding] = await probe(client, decoding)
        return _found[endpoint, decoding]

    async def _each(
        self, endpoint: Endpoint, requests: Sequence[Request], arrived: Arrived, known_as: str | None
    ) -> None:
        found = {d: await self._probe(endpoint, d) for d in dict.fromkeys(r.decoding for r in requests)}
        for one in found.values():
            _same_model(endpoint, known_as or one.model, one.model)
        async with Client(endpoint, self.limits) as client:
            tasks = [asyncio.create_task(ask(client, r, found[r.decoding].dialect)) for r in requests]
            await _gather(client, tasks, [found[r.decoding].model for r in requests], arrived)


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Wait for `work`, in a notebook too: an event loop runs there already in this thread, so it goes to another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        found: T = portal.call(work)
    return found


async def _gather(client: Client, tasks: list[asyncio.Task[Reply]], names: Sequence[str], arrived: Arrived) -> None:
    """Hand on every answer that comes; after the first failure begin nothing new, and raise it in the end."""
    number = {task: i for i, task in enumerate(tasks)}
    waiting, failed = set(tasks), None
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=number.__getitem__):
            try:
                reply = task.result()
                _same_model(client.endpoint, names[number[task]], reply.model or client.endpoint.model)
            except Exception as err:
                client.stopped = True
                failed = failed or err
            else:
                arrived(number[task], reply)
    if failed is not None:
        raise failed


def _same_model(endpoint: Endpoint, before: str, now: str) -> None:
    if now != before:
        raise ModelError(
            f"{endpoint.path} answers as {now!r}, and before as {before!r}: one cell is one model; serve the former "
            "again, or choose another run.output_dir"
        )
