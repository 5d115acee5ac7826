"""The page as a Starlette application: five routes below the secret, JSON in and out.

Model text travels as JSON strings and is put into the page as text by page.js; no HTML is made of it anywhere.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection
from importlib.resources import files
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tso.annotate.desk import Desk
from tso.annotate.guard import HEADERS, LARGEST, refusal
from tso.errors import DataError, StoreConflict, StoreError
from tso.verdicts import person

STATIC = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}

Body = dict[str, Any]
Work = Callable[[str, Body], None]


class Guarded:
    """An application behind guard.refusal; its answers carry guard.HEADERS."""

    def __init__(self, app: ASGIApp, token: str):
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers: dict[str, list[str]] = defaultdict(list)
        for name, value in scope["headers"]:
            headers[name.decode("latin-1")].append(value.decode("latin-1"))
        why = refusal(scope["method"], scope["path"], headers, self._token)
        app = self._app if why is None else PlainTextResponse(why + "\n", 403)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        await app(scope, receive, with_headers)


def application(desk: Desk, token: str, people: Collection[str] = ()) -> ASGIApp:
    """The page of `desk`. people: the only names that may be given; none: any."""

    def static(name: str, kind: str) -> Route:
        text = files("tso.annotate").joinpath(name or "page.html").read_bytes()
        return Route(f"/{token}/{name}", lambda _: Response(text, media_type=f"{kind}; charset=utf-8"), methods=["GET"])

    def action(name: str, work: Work) -> Route:
        async def answer(request: Request) -> Response:
            try:
                body = await _body(request)
            except ClientDisconnect:
                return Response(status_code=400)
            except asyncio.CancelledError:
                return Response(status_code=503)  # the page was ended while a request was still coming in
            except _Refused as err:
                return _told(str(err), err.status)
            return await run_in_threadpool(_carry_out, desk, people, work, body)

        return Route(f"/{token}/{name}", answer, methods=["POST"])

    routes = [static(name, kind) for name, kind in STATIC.items()]
    routes += [
        action("turn", lambda annotator, body: None),
        action("verdict", lambda annotator, body: desk.judge(annotator, **_verdict(body))),
        action("undo", lambda annotator, body: desk.undo(annotator, _text(body, "request"))),
    ]
    return Guarded(Router(routes, redirect_slashes=False), token)


class _Refused(Exception):
    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


def _carry_out(desk: Desk, people: Collection[str], work: Work, body: Body) -> Response:
    """Do what was asked, and answer with what is to be done next."""
    try:
        annotator = person(_text(body, "annotator"))
        if people and annotator not in people:
            raise DataError(f"{annotator!r} is none of this page's people: {', '.join(people)}")
        work(annotator, body)
        return JSONResponse(desk.turn(annotator))
    except DataError as err:
        return _told(str(err), 400)
    except StoreConflict as err:
        return _told(str(err), 409)
    except (StoreError, OSError) as err:  # busy or full: what was not stored was not acknowledged, and is sent again
        return _told(str(err), 503)


def _told(why: str, status: int) -> Response:
    return JSONResponse({"error": why}, status)


async def _body(request: Request) -> Body:
    """The object that a request carries. Raises _Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "send application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST:
            raise _Refused(413, f"at most {LARGEST} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise _Refused(400, "not JSON") from err
    if not isinstance(body, dict):
        raise _Refused(400, "send an object")
    return body


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value or (name != "text" and len(value) > 200):
        raise DataError(f"{name} has to be text")
    return value


def _verdict(body: Body) -> dict[str, Any]:
    item = body.get("item")
    if type(item) is not int or not 0 <= item < 2**63:
        raise DataError("item has to be the number of an item")
    optional = {name: _text(body, name) for name in ("side", "text") if body.get(name) is not None}
    return {"item": item, "said": _text(body, "said"), "request": _text(body, "request"), **optional}
