"""Calls to one OpenAI-compatible server: bounded, timed, repeated where that may help, and never with the key in a word.

Knows HTTP and JSON, and nothing of what the calls are about. What a server says is not trusted: its answers are read up
to a size, within a time, and whatever is no JSON counts as a broken answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tso.errors import ConfigError, ServerError
from tso.sample.connect import connect
from tso.sample.endpoint import Endpoint
from tso.sample.hearsay import Hearsay

T = TypeVar("T")
Tell = Callable[[str], None]

DAY = 86_400.0  # seconds
LONG = 5.0  # seconds of a pause that is told, so that nobody takes it for a hang
LARGEST = 8 << 20  # bytes of one answer; more is no answer to anything that is asked here
VERSION = re.compile(r"/v\d")  # in the path of nearly every server's address
MAY_PASS = {408, 409, 425, 429}  # refusals that another attempt may not meet, beside 5xx


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. The wait before attempt k+1 is first_wait * 2^(k-1), at most longest_wait, give or take half."""

    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    longest_asked: float = 600.0  # a server that asks to be left alone for longer is not waited for


class Refused(ServerError):
    """The server understood and said no: another attempt would be told the same."""

    def __init__(self, message: str, status: int, said: str):
        super().__init__(message)
        self.status = status
        self.said = said

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        return type(self), (str(self), self.status, self.said)


class GaveUp(ServerError):
    """All attempts at one call have failed; `why`: the last of them."""

    def __init__(self, message: str, why: str):
        super().__init__(message)
        self.why = why

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.why)


class Broken(Exception):
    """An answer that makes no sense, or none at all; another attempt may fare better. `wait`: seconds that were asked for."""

    def __init__(self, why: str, wait: float | None = None):
        super().__init__(why)
        self.wait = wait


class Client:
    """An asynchronous context manager; made and used within one event loop."""

    def __init__(self, endpoint: Endpoint, limits: Limits, tell: Tell = lambda _: None):
        """`tell` is given a line when there is a long pause."""
        self.endpoint = endpoint
        self.tell = tell
        self.limits = limits
        self.takes_schemas = True  # until one was refused
        self.stopped = False  # set: calls under way come to their end, and no new attempt is begun
        self._gate = asyncio.Semaphore(limits.concurrency)
        self._quiet_until = 0.0  # loop time before which the server asked not to be called
        key = endpoint.key()
        self._hear = Hearsay(key)
        self._http = connect(endpoint, key, limits.timeout, limits.concurrency)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.aclose()

    async def call(self, path: str, body: Callable[[], Any] | None, read: Callable[[Any], T]) -> T:
        """POST `body`, made when its turn comes, or GET where it is None, and what `read` makes of the JSON that comes back.

        `read` raises Broken for an answer to ask for again. Raises Refused, or ServerError when all attempts have failed.
        """
        async with self._gate:
            attempt, sent = 0, body() if body else None
            while not self.stopped:
                attempt += 1
                try:
                    return read(await self._attempt(path, sent))
                except Broken as err:
                    if attempt > self.limits.retries:
                        raise GaveUp(self._gave_up(attempt, str(err)), str(err)) from None
                    await self._wait(attempt, err.wait)
        raise ServerError(f"{self.endpoint.base_url} was not asked any more, because another call had failed")

    async def _attempt(self, path: str, body: Any) -> Any:
        import httpx2

        await asyncio.sleep(self._quiet_until - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(self.limits.timeout):
                status, headers, raw = await self._exchange(path, body)
        except TimeoutError:
            raise Broken(f"no whole answer within {self.limits.timeout:g} s (server.timeout)") from None
        except httpx2.HTTPError as err:
            raise Broken(self._hear.text(f"{type(err).__name__}: {err}")) from None
        except httpx2.InvalidURL:
            raise ConfigError(
                f"base_url={self.endpoint.base_url!r} is no address such as http://localhost:8000/v1"
            ) from None
        if status == 200:
            return self._parsed(raw)
        said = self._said(raw)
        if status in MAY_PASS or status >= 500:
            raise Broken(f"HTTP {status}: {said}", _asked_wait(headers.get("retry-after")))
        raise Refused(self._refusal(status, said, self._hear.text(headers.get("location", ""))), status, said)

    async def _exchange(self, path: str, body: Any) -> tuple[int, Any, bytes]:
        """(status, headers, body); whoever reads on takes the key out."""
        method, url = ("GET" if body is None else "POST"), self.endpoint.base_url + path
        async with self._http.stream(method, url, json=body) as response:
            raw = bytearray()
            async for block in response.aiter_bytes():
                raw += block
                if len(raw) > LARGEST:
                    raise Broken(f"an answer of more than {LARGEST >> 20} MiB")
        return response.status_code, response.headers, bytes(raw)

    async def _wait(self, attempt: int, asked: float | None) -> None:
        """Before the next attempt; where the server asked for a pause, all calls to it keep it."""
        loop = asyncio.get_running_loop()
        if asked is not None:
            if asked > self.limits.longest_asked:
                raise ServerError(
                    f"{self.endpoint.base_url} asks to be left alone for {_span(asked)}; run again after that, all "
                    "answers that have come are kept"
                )
            if asked >= LONG and self._quiet_until <= loop.time():  # one pause, however many calls it was asked of
                self.tell(f"{self.endpoint.base_url} asks to be left alone for {_span(asked)}; waiting")
            self._quiet_until = max(self._quiet_until, loop.time() + asked)
        backoff = min(self.limits.longest_wait, self.limits.first_wait * 2.0 ** min(attempt - 1, 30))
        # Calls that failed together would come back together without this; it decides when, never what.
        await asyncio.sleep(backoff * random.uniform(0.5, 1.5))

    def _gave_up(self, attempts: int, why: str) -> str:
        return (
            f"{self.endpoint.base_url} gave no usable answer in {attempts} attempt{'s' * (attempts > 1)} (last: {why}); "
            "see whether the server is well, then run again: all answers that have come are kept"
        )

    def _refusal(self, status: int, said: str, target: str) -> str:
        if status in (401, 403):
            named = self.endpoint.api_key_env
            hint = f"see the key in {named}" if named else "name the environment variable with its key by api_key_env"
            return f"{self.endpoint.base_url} refuses access (HTTP {status}): {said}; {hint}"
        if 300 <= status < 400:
            return (
                f"{self.endpoint.base_url} sends requests on to {target[:200] or 'no address'} (HTTP {status}), which is not "
                "followed, since the key is for one server alone; give the address that answers as base_url"
            )
        hint = self._hint() if status in (404, 405) else ""
        return f"{self.endpoint.path} refuses the request (HTTP {status}): {said}{hint}"

    def _parsed(self, raw: bytes) -> Any:
        try:
            return self._hear.value(json.loads(raw))
        except (ValueError, RecursionError):
            raise Broken(f"no whole JSON in {len(raw)} bytes{self._hint()}") from None

    def _said(self, raw: bytes) -> str:
        """The message in an error's body, in one short line."""
        try:
            told = self._hear.value(json.loads(raw))
            for name in ("error", "message", "detail"):
                told = told.get(name, told) if isinstance(told, dict) else told
            text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
        except (ValueError, RecursionError):
            text = self._hear.text(raw.decode("utf-8", "replace"))
        return " ".join(text.split())[:300] or "nothing said"

    def _hint(self) -> str:
        """What is easily forgotten in an address."""
        path = urlsplit(self.endpoint.base_url).path
        return "" if VERSION.search(path) else f" (should the base_url {self.endpoint.base_url} end in /v1?)"


def _asked_wait(header: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < DAY else "more than a day"
