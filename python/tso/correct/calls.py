"""Calls of a judge: which are to be made, in which batches, and what came of each. Every batch is a unit of the store.

Calls go in rounds. In the first, each pair is asked about in both orders, as often as there are votes; in the next, what
could not be read is asked again, with the fault named and with new fences. A round and its batches follow from the rounds
before, so a run that was killed makes the batches that an undisturbed one would have made, and none twice. Replies of a
server are units of their own within their batch, kept as they come. It is asked about some pairs before all others, for
one that answers none of these is no judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tso.config import JudgeSection
from tso.correct import reply, rubric
from tso.correct.doubt import Doubt, first_of_each
from tso.correct.votes import Vote
from tso.errors import DataError, InternalError
from tso.models import located
from tso.records import Decoding, Message, Pair, Prompt, Response
from tso.sample.base import Answer, Request, Sampler
from tso.sample.endpoint import on_server
from tso.sample.openai import OpenAISampler, as_answer
from tso.sample.probe import Unanswered
from tso.store import RunStore
from tso.store_rows import Rows

Faults = dict[tuple[str, int, int], str]  # why a reply could not be read, by question
NO_REPLY = "no reply: "  # before what a server said instead; no other reason begins so

COLUMNS = ["pair_id", "shown_first", "vote", "attempt", "answer", "verdict", "reason", "prompt_tokens", "tokens"]


@dataclass(frozen=True)
class Judge:
    """Who is asked. path, revision: as a cell's; seed: the run's, of fences and draws."""

    name: str
    path: str
    revision: str
    sampler: Sampler
    rubric: str
    options: JudgeSection
    seed: int


class Steps:
    """Units of a stage, numbered in the order of work. Work that follows from the units before it is done once."""

    def __init__(self, store: RunStore, iteration: int, stage: str):
        self.store, self.iteration, self.stage = store, iteration, stage
        self.unit = 0

    def once(self, work: Callable[[], Rows]) -> None:
        """Commit the rows of `work` as the next unit, unless that is there."""
        if not self.store.done(self.iteration, self.stage, self.unit):
            self.store.commit(self.iteration, self.stage, work(), unit=self.unit)
        self.unit += 1


@dataclass(frozen=True, slots=True)
class Question:
    """One vote on a pair in one order, which may take several attempts."""

    pair: Pair
    first: int  # response ids, in the order shown
    second: int
    vote: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.pair.id, self.first, self.vote


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at a question. verdict: first, second, tie or both_bad; None, with the reason, where it failed."""

    pair_id: str
    shown_first: int
    vote: int
    attempt: int
    answer: str
    verdict: Vote
    reason: str
    prompt_tokens: int | None
    tokens: int | None


def make(judge: Judge, steps: Steps, pairs: Sequence[Pair], advance: Callable[[int], None]) -> list[Call]:
    """Make every call on `pairs` that is not recorded yet, and return all of them. `advance` counts the questions."""
    store, options = steps.store, judge.options
    texts = store.responses_by_id(s for p in pairs for s in (p.response_a, p.response_b))
    prompts = {p.id: p for p in store.prompts()}
    questions = list(_questions(pairs, texts, options.votes))
    if isinstance(judge.sampler, OpenAISampler) and not _has_answered(judge, steps, questions):
        first = [(i, questions[i]) for i in first_of_each([q.pair.prompt_id for q in questions])]
        asked_first = [(i, q, _request(judge, q, prompts, texts, 0, "")) for i, q in first]
        _ask_server(judge, judge.sampler, steps, 0, asked_first, in_doubt=True)
    for attempt in range(options.retries + 1):
        faults = _unread(kept(judge, steps, pairs), attempt)
        waiting = [q for q in questions if attempt == 0 or q.key in faults]
        for start in range(0, len(waiting), options.batch_size):
            batch = waiting[start : start + options.batch_size]

            def work(batch: Sequence[Question] = batch, attempt: int = attempt, faults: Faults = faults) -> Rows:
                asked = [(q, _request(judge, q, prompts, texts, attempt, faults.get(q.key, ""))) for q in batch]
                if isinstance(judge.sampler, OpenAISampler):
                    _ask_server(judge, judge.sampler, steps, attempt, [(i, *one) for i, one in enumerate(asked)])
                    return {}
                answers = _ask(store, judge, [request for _, request in asked])
                made = [_call(q, attempt, a) for q, a in zip(batch, answers, strict=True)]
                return _rows(steps.iteration, judge.name, made)

            steps.once(work)
            advance(0 if attempt else len(batch))
    place = {q.key: i for i, q in enumerate(questions)}
    return sorted(kept(judge, steps, pairs), key=lambda c: (c.attempt, place[c.pair_id, c.shown_first, c.vote]))


def kept(judge: Judge, steps: Steps, pairs: Sequence[Pair]) -> list[Call]:
    """The recorded calls on `pairs`, in the order in which they came."""
    wanted = {p.id for p in pairs}
    rows = steps.store.query(
        f"SELECT {', '.join(COLUMNS)} FROM judge_calls WHERE iteration = ? AND judge = ? ORDER BY rowid",
        (steps.iteration, judge.name),
    )
    return [Call(*row) for row in rows if row[0] in wanted]


def final(calls: Sequence[Call]) -> list[Call]:
    """Of each question the last attempt."""
    found = {(c.pair_id, c.shown_first, c.vote): c for c in sorted(calls, key=lambda c: c.attempt)}
    return list(found.values())


def by_order(calls: Sequence[Call], pair: Pair) -> tuple[list[Vote], list[Vote]]:
    """From a pair's calls, the votes with a in the first place, and those with b there."""
    last = final(calls)
    a, b = ([c.verdict for c in last if c.shown_first == side] for side in (pair.response_a, pair.response_b))
    return a, b


def cost(calls: Sequence[Call]) -> dict[str, float]:
    """Values for the metrics: calls, those that failed, and tokens where the backend told them."""
    spent = {
        "judge/prompt_tokens": [c.prompt_tokens for c in calls if c.prompt_tokens is not None],
        "judge/tokens": [c.tokens for c in calls if c.tokens is not None],
    }
    failed = sum(c.verdict is None for c in calls)
    counts = {"judge/calls": float(len(calls)), "judge/failed_calls": float(failed)}
    return {**counts, **{name: float(sum(values)) for name, values in spent.items() if values}}


def _questions(pairs: Sequence[Pair], texts: dict[int, Response], votes: int) -> Iterator[Question]:
    """Both orders of a pair stand together, and pairs of like length, so that little is padded."""
    for pair in sorted(pairs, key=lambda p: (len(texts[p.response_a].text) + len(texts[p.response_b].text), p.id)):
        for vote in range(votes):
            yield Question(pair, pair.response_a, pair.response_b, vote)
            yield Question(pair, pair.response_b, pair.response_a, vote)


def _unread(calls: Sequence[Call], attempt: int) -> Faults:
    """Faults of the attempt before `attempt`, by question; a server that gave no reply was asked often enough."""
    return {
        (c.pair_id, c.shown_first, c.vote): c.reason
        for c in calls
        if c.attempt == attempt - 1 and c.verdict is None and not c.reason.startswith(NO_REPLY)
    }


def _request(
    judge: Judge, question: Question, prompts: dict[str, Prompt], texts: dict[int, Response], attempt: int, fault: str
) -> Request:
    pair, prompt = question.pair, prompts[question.pair.prompt_id]
    first, second = texts[question.first].text, texts[question.second].text
    # Both orders and all votes of an attempt share their fence: nothing but the order differs between the orders.
    seed = f"{judge.seed}\0{pair.id}\0{attempt}"
    fence = rubric.draw_fence(seed, [first, second, *(m.content for m in prompt.messages)])
    text = rubric.question(judge.rubric, prompt, first, second, fence, fault)
    options = judge.options
    return Request(
        Prompt(pair.id, (Message("user", text),)),  # no system message: some chat templates take none
        decoding_of(options),
        _seed(f"{seed}\0{question.first == pair.response_a}\0{question.vote}"),
        reply.SCHEMA,
    )


def decoding_of(options: JudgeSection) -> Decoding:
    """How a judge decodes."""
    return Decoding(options.temperature, max_new_tokens=options.max_new_tokens)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _has_answered(judge: Judge, steps: Steps, questions: Sequence[Question]) -> bool:
    """Whether the judge has had an answer in an earlier round, or to one of the first questions of this one.

    Other answers of this round do not count, for which of them had come when a run was stopped is chance.
    """
    first = {questions[i].key for i in first_of_each([q.pair.prompt_id for q in questions])}
    these = {q.pair.id for q in questions}
    rows = steps.store.query(
        "SELECT pair_id, shown_first, vote, reason FROM judge_calls WHERE iteration = ? AND judge = ? AND attempt = 0",
        (steps.iteration, judge.name),
    )
    answered = (tuple(key) for *key, reason in rows if not reason.startswith(NO_REPLY))
    return any(key in first or key[0] not in these for key in answered)


def _ask_server(
    judge: Judge,
    server: OpenAISampler,
    steps: Steps,
    attempt: int,
    asked: Sequence[tuple[int, Question, Request]],
    in_doubt: bool = False,
) -> None:
    """Ask what has no recorded call of this attempt yet. Each reply is a unit, numbered by its batch and place in it.

    asked: with places counted from the batch that is next. in_doubt: keep nothing, and raise ModelError, when the judge
    refuses all of it.
    """
    pairs = {q.pair.id: q.pair for _, q, _ in asked}
    there = {
        (c.pair_id, c.shown_first, c.vote) for c in kept(judge, steps, list(pairs.values())) if c.attempt == attempt
    }
    missing = [one for one in asked if one[1].key not in there]
    if not missing:
        return
    hear = server.hearsay(judge.path)

    def keep(index: int, answer: Answer | Unanswered) -> None:
        place, question, _ = missing[index]
        call = _call(question, attempt, answer)
        rows = _rows(steps.iteration, judge.name, [replace(call, reason=hear.text(call.reason))])
        unit = steps.unit * judge.options.batch_size + place
        steps.store.commit(steps.iteration, f"{steps.stage}/replies", rows, unit=unit)

    doubt = Doubt(keep)
    take = doubt.take if in_doubt else keep
    server.each(judge.path, [r for *_, r in missing], lambda i, reply: take(i, as_answer(reply)), take)
    doubt.end(judge.name)


def _ask(store: RunStore, judge: Judge, requests: Sequence[Request]) -> list[Answer | DataError]:
    """An answer to each request, or why the judge cannot be asked that: it is too long for it, for example."""
    model = judge.path if on_server(judge.path) else located(store.folder, judge.path, judge.revision)
    try:
        answers = judge.sampler.sample(model, requests)
    except DataError as err:
        return [err] if len(requests) == 1 else [a for r in requests for a in _ask(store, judge, [r])]
    if len(answers) != len(requests):
        raise InternalError(f"the judge {judge.name} gave {len(answers)} replies to {len(requests)} questions")
    return list(answers)


def _call(question: Question, attempt: int, answer: Answer | DataError | Unanswered) -> Call:
    place = question.pair.id, question.first, question.vote, attempt
    if isinstance(answer, Unanswered):
        return Call(*place, "", None, reply.storable(NO_REPLY + answer.why), None, None)
    if isinstance(answer, DataError):
        return Call(*place, "", None, reply.storable(str(answer)), None, None)
    said = reply.read(answer.text)
    reason = said.reason
    if said.verdict is None and answer.finish_reason == "length":
        reason = f"{reason}, and was cut off at correct.judge.max_new_tokens"
    text = reply.storable(answer.text)
    written = len(answer.token_ids) if answer.written_tokens is None and answer.token_ids else answer.written_tokens
    return Call(*place, text, said.verdict, reason, answer.prompt_tokens, written)


def _rows(iteration: int, judge: str, calls: Sequence[Call]) -> Rows:
    values = [(iteration, judge, *(getattr(c, name) for name in COLUMNS)) for c in calls]
    return {"judge_calls": (["iteration", "judge", *COLUMNS], values)}
