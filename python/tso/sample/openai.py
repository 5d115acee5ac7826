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
from tso.sample.client import Client, Limits, Tell
from tso.sample.endpoint import Endpoint
from tso.sample.hearsay import Hearsay
from tso.sample.probe import Found, Unanswered, answer, probe
from tso.sample.reply import Reply

T = TypeVar("T")
Arrived = Callable[[int, Reply], None]
Failed = Callable[[int, Unanswered], None]

PROBE_RETRIES = 3  # nobody should wait long to hear that a server is not there

_found: dict[tuple[Endpoint, Decoding], Found] = {}  # a process tries a server once for each kind of cell


class OpenAISampler:
    """Asks the endpoints that it knows by their paths (URL#NAME). Answers carry no token ids: they are another model's.

    tell: given a line where a server asks for a long pause. known_as: the servers' own names for their models when the run began, by path, to which they are held.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        limits: Limits,
        known_as: Mapping[str, str] = MappingProxyType({}),
        tell: Tell = lambda _: None,
    ):
        self.tell = tell
        self.endpoints = endpoints
        self.limits = limits
        self.known_as = known_as

    def sample(self, model: str, requests: Sequence[Request]) -> list[Answer]:
        replies: dict[int, Reply] = {}
        self.each(model, requests, replies.__setitem__)
        return [as_answer(r) for _, r in sorted(replies.items())]

    def each(
        self,
        model: str,
        requests: Sequence[Request],
        arrived: Arrived,
        failed: Failed | None = None,
        known_as: str | None = None,
    ) -> None:
        """Ask for all, and call `arrived(index, reply)` as answers come, in whatever order.

        `failed(index, error)` is called for a question to which a server that is well has no answer; without it, that
        ends the work too. known_as: the server's own name for the model when the run began, if it is not among the
        sampler's. Raises ModelError when it is another one now, and ServerError when an answer cannot be had; those under
        way are waited for before. What a callback raises ends the work likewise.
        """
        name = known_as or self.known_as.get(model)
        _run(lambda: self._each(self.endpoints[model], requests, arrived, failed, name))

    def hearsay(self, model: str) -> Hearsay:
        """For what is read out of the server's answers later, such as JSON inside of a text."""
        return Hearsay(self.endpoints[model].key())

    def probe(self, model: str, decoding: Decoding) -> Found:
        """What the server says and can, tried once in a process. Raises ModelError, ConfigError or ServerError."""
        return _run(lambda: self._probe(self.endpoints[model], decoding))

    async def _probe(self, endpoint: Endpoint, decoding: Decoding) -> Found:
        if (endpoint, decoding) not in _found:
            limits = replace(self.limits, retries=min(self.limits.retries, PROBE_RETRIES))
            async with Client(endpoint, limits, self.tell) as client:
                _found[endpoint, decoding] = await probe(client, decoding)
        return _found[endpoint, decoding]

    async def _each(
        self,
        endpoint: Endpoint,
        requests: Sequence[Request],
        arrived: Arrived,
        failed: Failed | None,
        known_as: str | None,
    ) -> None:
        found = {d: await self._probe(endpoint, d) for d in dict.fromkeys(r.decoding for r in requests)}
        for one in found.values():
            _same_model(endpoint, known_as or one.model, one.model)
        async with Client(endpoint, self.limits, self.tell) as client:
            tasks = [asyncio.create_task(answer(client, r, found[r.decoding].dialect)) for r in requests]
            await _gather(client, tasks, [found[r.decoding].model for r in requests], arrived, failed)


def as_answer(reply: Reply) -> Answer:
    """Without token ids, since they are another model's."""
    return Answer(reply.text, (), reply.finish_reason, reply.prompt_tokens, reply.completion_tokens)


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


async def _gather(
    client: Client, tasks: list[asyncio.Task[Reply]], names: Sequence[str], arrived: Arrived, failed: Failed | None
) -> None:
    """Hand on all that comes; after the first fault of the server begin nothing new, and raise it in the end."""
    number = {task: i for i, task in enumerate(tasks)}
    waiting, fault = set(tasks), None
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=number.__getitem__):
            try:
                _hand_on(client.endpoint, number[task], task, names[number[task]], arrived, failed)
            except Exception as err:
                client.stopped = True
                fault = fault or err
    if fault is not None:
        raise fault


def _hand_on(
    endpoint: Endpoint, index: int, task: asyncio.Task[Reply], name: str, arrived: Arrived, failed: Failed | None
) -> None:
    try:
        reply = task.result()
    except Unanswered as err:
        if failed is None:
            raise
        failed(index, err)
        return
    _same_model(endpoint, name, reply.model or endpoint.model)
    arrived(index, reply)


def _same_model(endpoint: Endpoint, before: str, now: str) -> None:
    if now != before:
        raise ModelError(
            f"{endpoint.path} answers as {now!r}, and before as {before!r}: one cell is one model; serve the former "
            "again, or choose another run.output_dir"
        )
