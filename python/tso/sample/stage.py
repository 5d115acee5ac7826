"""Carry out the plan of draws: batch by batch, each durable before the next begins (step 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from tso._core import Plan
from tso.config import Config
from tso.errors import DataError, InternalError
from tso.models import located
from tso.progress import Face
from tso.records import Cell, Draw, Prompt
from tso.sample.arrivals import Arrivals
from tso.sample.base import Answer, Request
from tso.sample.choose import Samplers
from tso.sample.endpoint import on_server
from tso.sample.reply import Reply
from tso.sample.unanswered import Doubts, counted
from tso.store import RunStore

Encode = Callable[[str], tuple[int, ...]]


def sample(
    store: RunStore,
    config: Config,
    iteration: int,
    purpose: str,
    prompts: Sequence[str],
    cells: Sequence[Cell],
    encode: Encode,
    face: Face,
) -> None:
    """Lay down the plan of draws, then carry it out. Prompts of like length stand together, so that little is padded."""
    found = {p.id: p for p in store.prompts()}
    ordered = sorted(prompts, key=lambda p: (sum(len(m.content) for m in found[p].messages), p))
    by_model = sorted(cells, key=lambda c: c.path)  # stable: one model after another
    plan = store.plan(iteration, purpose, config.run.seed, ordered, by_model, config.sample.batch_size)
    sample_all(store, iteration, purpose, plan, cells, Samplers(config, face.say), encode, face)


def sample_all(
    store: RunStore,
    iteration: int,
    purpose: str,
    plan: Plan,
    cells: Sequence[Cell],
    samplers: Samplers,
    encode: Encode,
    face: Face,
) -> None:
    """Answer every batch of the plan that is not recorded yet. `encode` turns a person's text into token ids."""
    waiting = deque(store.pending(iteration, purpose))
    fresh = bool(waiting)
    by_name = {c.name: c for c in cells}
    prompts = {p.id: p for p in store.prompts()}
    arrivals = Arrivals(store, iteration, purpose)
    doubts = Doubts(arrivals, plan, {c.name for c in cells if on_server(c.path)})
    left = sum(len(plan.batch(batch)) for batch in waiting)
    with face.bar(f"iteration {iteration}: sampling", len(plan), "answers", len(plan) - left) as advance:
        while waiting:
            batch = waiting.popleft()
            draws = [Draw(*row) for row in plan.batch(batch)]
            answers = _answer(doubts, [by_name[d.cell] for d in draws], draws, prompts, samplers, encode)
            if answers is None:
                waiting.append(batch)  # by the time it comes again, the doubt is settled
                continue
            store.record(iteration, purpose, batch, [(a.text, a.token_ids, a.finish_reason) for a in answers])
            advance(len(draws))
    if fresh:
        _tell(arrivals, plan, face)


def _tell(arrivals: Arrivals, plan: Plan, face: Face) -> None:
    if arrivals.unanswered():
        for line in counted(arrivals, (Draw(*row) for batch in range(plan.batches) for row in plan.batch(batch))):
            face.warn(line)


def _answer(
    doubts: Doubts,
    cells: Sequence[Cell],
    draws: Sequence[Draw],
    prompts: dict[str, Prompt],
    samplers: Samplers,
    encode: Encode,
) -> list[Answer] | None:
    """Answers of one batch: of people, or of one model, whatever its cells. None while a cell of it is in doubt."""
    if cells[0].stage == "human":
        texts = [prompts[d.prompt_id].human[d.draw] for d in draws]
        return [Answer(text, encode(text), "stop") for text in texts]
    requests = [Request(prompts[d.prompt_id], c.decoding, d.seed) for c, d in zip(cells, draws, strict=True)]
    if on_server(cells[0].path):
        found = _from_server(doubts, cells[0], draws, requests, samplers)
        if found is None:
            return None
        answers = found
    else:
        model = located(doubts.arrivals.store.folder, cells[0].path, cells[0].revision)
        answers = samplers.local.sample(model, requests)
    if len(answers) != len(draws):
        raise InternalError(f"the sampler of {cells[0].path} gave {len(answers)} answers to {len(draws)} draws")
    return [_retokenised(a, encode) if c.stage == "base" else a for c, a in zip(cells, answers, strict=True)]


def _from_server(
    doubts: Doubts, cell: Cell, draws: Sequence[Draw], requests: Sequence[Request], samplers: Samplers
) -> list[Answer] | None:
    """Asks for what has not come yet, and keeps each answer the moment it comes. None while a cell is in doubt."""
    arrivals = doubts.arrivals
    there = arrivals.of(draws)
    missing = [(d, r) for d, r in zip(draws, requests, strict=True) if d.id not in there]

    def arrived(i: int, reply: Reply) -> None:
        arrivals.keep(missing[i][0], reply)
        doubts.answered(missing[i][0])

    if missing:
        samplers.server.each(
            cell.path,
            [request for _, request in missing],
            arrived,
            lambda i, err: doubts.unanswered(missing[i][0], err.why),
            cell.revision.removeprefix(f"{cell.path} "),
        )
        there = arrivals.of(draws)
    return [there[d.id] for d in draws] if all(d.id in there for d in draws) else None


def _retokenised(answer: Answer, encode: Encode) -> Answer:
    """An answer of another model in the policy's tokens: its own ids may mean other words to the policy.

    One that cannot be said in them has none, and is dropped with that reason: it may have been paid for, and it would
    come again.
    """
    try:
        ids = encode(answer.text) if answer.text else ()
    except DataError:
        ids = ()
    return replace(answer, token_ids=ids if answer.finish_reason == "stop" else ids[:-1])
