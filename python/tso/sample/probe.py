"""What a server is tried for before a cell may use it, in a handful of short requests.

The model is there; the options of the cell are taken; different seeds give different answers, unless the temperature is
0; stop strings end an answer; the tokens used are told. A cell that would get something else than its settings say is
refused with what to do: answers of a greedy cell under the name of a sampling one would be counted as draws.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any

from tso.errors import ModelError, ServerError
from tso.records import Decoding, Message, Prompt
from tso.sample.base import Request
from tso.sample.client import Client, GaveUp, Refused
from tso.sample.endpoint import Endpoint
from tso.sample.reply import Dialect, Reply, body, read, route

# Free to be answered in very many ways, so that two equal answers are no accident.
ASKED = Prompt(
    "probe", (Message("user", "Invent a random list of unusual words, all different, each with another first letter."),)
)
TOKENS = 24  # of an answer to it
TELLING = 24  # characters: in a shorter one, the rest of a token could be taken for the rest of the answer
SEEDS = (11, 12, 13, 14)
# Refusals that may be about what was asked: malformed, too large, unprocessable, legal reasons. Others are about access,
# the address or the model.
OF_ONE_QUESTION = (400, 413, 422, 451)

# How servers name what they will not take of a schema.
OF_A_SCHEMA = ("response format", "json schema", "structured output", "grammar")


class Unanswered(ServerError):
    """A question to which a server that is well has no answer. `why`: what it said."""

    def __init__(self, message: str, why: str):
        super().__init__(message)
        self.why = why

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.why)


@dataclass(frozen=True, slots=True)
class Found:
    """How to speak to a server about a cell, and what it said of itself."""

    dialect: Dialect
    model: str  # as the server names it in its answers
    reports_usage: bool


async def probe(client: Client, decoding: Decoding) -> Found:
    """Try a server for a cell. Raises ModelError where it would not do what the cell says; ServerError as `call`."""
    await _listed(client)
    short = replace(decoding, max_new_tokens=min(decoding.max_new_tokens, TOKENS))
    dialect, first = await _first(client, replace(short, stop=()))
    if not first.text and first.finish_reason == "length" and short.max_new_tokens < decoding.max_new_tokens:
        short = decoding  # a model that thinks first may have no word left for the answer
        first = await ask(client, Request(ASKED, replace(short, stop=()), SEEDS[0]), dialect)
    if first.completion_tokens is not None and first.completion_tokens > short.max_new_tokens:
        raise ModelError(f"{client.endpoint.path} does not keep to {dialect.limit}, which max_new_tokens needs")
    if decoding.temperature > 0:
        free = replace(short, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, stop=())
        dialect, texts = await _sampling(client, dialect, free)
    else:
        texts = [first.text]
    if not any(texts):
        raise ModelError(f"{client.endpoint.path} gives empty answers; {_why_empty(first, short)}")
    if decoding.stop:
        await _stopping(client, dialect, replace(short, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, stop=()))
    return Found(dialect, first.model or client.endpoint.model, first.completion_tokens is not None)


def remarks(endpoint: Endpoint, found: Found) -> list[str]:
    """What somebody should know of a server that can be used."""
    lines = []
    if not found.reports_usage:
        lines.append(f"{endpoint.path} does not report the tokens it used, so their cost is not counted")
    if not found.dialect.seed:
        lines.append(f"{endpoint.path} takes no seed: its answers cannot be repeated")
    if not _same(endpoint.model, found.model):
        lines.append(f"{endpoint.path} answers under another name, {found.model!r}: see that it is the model you mean")
    return lines


def _same(asked: str, told: str) -> bool:
    """Whether two names differ in an organisation and a date or version behind them at most."""
    short, long = sorted((asked.rsplit("/", 1)[-1], told.rsplit("/", 1)[-1]), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in ("", *"-:@._")


async def ask(client: Client, request: Request, dialect: Dialect) -> Reply:
    """One answer, by as many attempts as it takes. A schema is passed on until the server has refused one."""
    how, sent = request.decoding, request

    def made() -> Any:
        nonlocal sent
        sent = request if client.takes_schemas else replace(request, schema=None)
        return body(client.endpoint, sent, dialect)

    try:
        return await client.call(route(how), made, lambda payload: read(payload, how))
    except Refused as err:
        said = err.said.lower().replace("_", " ")
        if sent.schema is None or not any(word in said for word in OF_A_SCHEMA):
            raise
    client.takes_schemas = False
    return await ask(client, request, dialect)


async def answer(client: Client, request: Request, dialect: Dialect) -> Reply:
    """As `ask`. Raises Unanswered where the server is well and has no answer to this one question.

    A filter refuses some prompts, a long one does not fit, a server breaks on a third. Whether the fault is the
    question's is found out by the question of the trial: a server that answers that is well.
    """
    try:
        return await ask(client, request, dialect)
    except (Refused, GaveUp) as err:
        if isinstance(err, Refused) and err.status not in OF_ONE_QUESTION:
            raise
        told = f"HTTP {err.status}: {err.said}" if isinstance(err, Refused) else err.why
        failure = err
    short = replace(request.decoding, max_new_tokens=min(request.decoding.max_new_tokens, TOKENS), stop=())
    try:
        await ask(client, Request(ASKED, short, request.seed), dialect)
    except ServerError:
        raise failure from None
    raise Unanswered(f"{client.endpoint.path} has no answer to one question: {told}", told)


async def _listed(client: Client) -> None:
    """The server lists the model, if it lists any. Not every server does, and some list what they have loaded only."""
    try:
        names = await client.call("/models", None, _names)
    except Refused as err:
        if err.status in (401, 403):
            raise
        return
    wanted = client.endpoint.model
    if names and wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4) or names[:5]
        raise ModelError(f"{client.endpoint.base_url} has no model {wanted!r}; it has {', '.join(near)}")


def _names(payload: object) -> list[str]:
    listed = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(listed, list):
        return []  # as a server that has no such list
    return [str(model["id"]) for model in listed if isinstance(model, dict) and "id" in model]


async def _first(client: Client, how: Decoding) -> tuple[Dialect, Reply]:
    """An answer with the cell's own settings, and what of a request the server had to be spared for it."""
    dialect = Dialect()
    while True:
        try:
            return dialect, await ask(client, Request(ASKED, how, SEEDS[0]), dialect)
        except Refused as err:
            simpler = _simpler(dialect, err)
            if simpler is None:
                raise ModelError(_why_refused(client, how, err)) from None
            dialect = simpler


def _simpler(dialect: Dialect, err: Refused) -> Dialect | None:
    if err.status not in (400, 422):
        return None
    if dialect.limit == "max_tokens" and "max_completion_tokens" in err.said:
        return replace(dialect, limit="max_completion_tokens")
    if dialect.seed and "seed" in err.said:
        return replace(dialect, seed=False)
    # A server that names no such option at all, such as `transformers serve`, may take it in another place.
    if not dialect.generation_config and ("top_k" in err.said or "min_p" in err.said):
        return replace(dialect, generation_config=True)
    return None


def _why_refused(client: Client, how: Decoding, err: Refused) -> str:
    said = err.said.lower().replace("_", " ")
    if how.prompt_format is None and "chat template" in said:
        return (
            f"the model of {client.endpoint.path} has no chat template ({err.said}); start the server with one, or name "
            "the cell's prompt_format"
        )
    return str(err)


def _why_empty(reply: Reply, how: Decoding) -> str:
    if reply.thoughts:
        return (
            f"all of max_new_tokens={how.max_new_tokens} went into thoughts: raise it, or switch them off at the server"
        )
    return "see whether the model fits its chat template"


async def _sampling(client: Client, dialect: Dialect, how: Decoding) -> tuple[Dialect, list[str]]:
    """The dialect in which different seeds give different answers, and those; or nothing but empty ones."""
    texts = await _unlike(client, dialect, how)
    if len(set(texts)) > 1:
        return dialect, texts
    explicit = replace(dialect, generation_config=True)
    try:
        more = await _unlike(client, explicit, how) if explicit != dialect else []
    except Refused:
        more = []  # a server that does not know the option
    if len(set(more)) > 1:
        return explicit, more
    if not any(texts + more):
        return dialect, texts
    raise ModelError(
        f"{client.endpoint.path} gives the same answer to every seed, as if the temperature were 0: switch sampling on "
        "at the server, or give the cell temperature: 0"
    )


async def _unlike(client: Client, dialect: Dialect, how: Decoding) -> list[str]:
    """Answers to one seed after the other, up to the first that is unlike the others."""
    texts: list[str] = []
    for seed in SEEDS:
        texts.append((await ask(client, Request(ASKED, how, seed), dialect)).text)
        if texts[-1] != texts[0]:
            break
    return texts


async def _stopping(client: Client, dialect: Dialect, how: Decoding) -> None:
    """A piece from within an answer, given as its stop string, ends it there."""
    whole = (await ask(client, Request(ASKED, how, SEEDS[0]), dialect)).text
    middle = whole[len(whole) // 3 : len(whole) // 3 + 4].strip()
    if not middle or len(whole) < TELLING:
        return  # nothing to stop at, or too little to tell
    request = Request(ASKED, replace(how, stop=(middle,)), SEEDS[0])
    # Read as if nothing had been asked to stop, for our own reading would cut the answer there.
    try:
        reply = await client.call(
            route(how), lambda: body(client.endpoint, request, dialect), lambda payload: read(payload, how)
        )
    except ServerError as err:
        raise ModelError(
            f"{client.endpoint.path} fails where a stop string is given; leave the cell's stop away: {err}"
        ) from None
    # Some servers leave the stop string in, and with it what else its last token holds.
    if len(reply.text.partition(middle)[2]) > len(whole) // 2:
        raise ModelError(f"{client.endpoint.path} does not end answers at stop strings; leave the cell's stop away")
