"""The whole history of one pair as plain lines: where both answers came from, and all that was said of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from tso.report.gather import pair_history
from tso.report.shapes import Answer, Asked, Drop, History, Judgement, Labelled, Logps, Outcome
from tso.store import RunStore

# Controls, marks without a shape of their own (among them those that reorder the text around them) and odd line ends: with
# these a model could make a line read as something else, or hide one.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
_KEPT = frozenset("\n\t\u200c\u200d")  # joiners belong to the spelling of Persian, Hindi, emoji and more


def pair_story(store: RunStore, pair_id: str) -> list[str]:
    """Lines without line breaks that tell a pair's history. Raises DataError, naming close ids, for an unknown id."""
    return list(_lines(pair_history(store, pair_id)))


def _lines(history: History) -> Iterator[str]:
    kind = "" if history.purpose == "train" else f", for {history.purpose}"
    yield f"pair {history.pair_id}, iteration {history.iteration}{kind}, prompt {flat(history.prompt_id)}"
    yield f"similarity of the sides {history.similarity:.2f}"
    yield ""
    yield "prompt"
    for message in history.messages:
        yield from _indented(f"{message.role}: {message.content}")
    for answer in history.answers:
        yield ""
        yield from _answer(answer, history)
    yield ""
    yield "history"
    for label in history.labels:
        yield f"  {label_line(label, history)}"
    for call in history.calls:
        yield f"  {call_line(call, history)}"
    for said in history.corrections:
        yield f"  {correction_line(said, history)}"
        if said.text is not None:
            yield from _indented(said.text, "    ")
    for drop in history.drops:
        yield f"  {drop_line(drop)}"
    for logps in history.logps:
        yield f"  {logps_line(logps)}"
    for outcome in history.outcomes:
        yield f"  {outcome_line(outcome)}"


def _answer(answer: Answer, history: History) -> Iterator[str]:
    yield f"answer {answer.side}, response {answer.response_id}, {history.standing(answer.response_id)}"
    yield f"  cell {flat(answer.cell)}" + (f": {flat(answer.model)}" if answer.model else "")
    if answer.revision:
        yield f"  model revision {flat(answer.short_revision)}"
    if answer.decoding:
        yield f"  decoding {flat(answer.decoding)}"
    seed = "" if answer.seed is None else f", seed {answer.seed}"
    yield f"  iteration {answer.iteration}{seed}, {answer.tokens} tokens, {answer.ending}"
    for judge, score, reason in answer.scores:
        yield f"  score {score:.3f} by {flat(judge)}" + (f": {flat(reason)}" if reason else "")
    yield "  text"
    yield from _indented(answer.text, "    ")


def label_line(label: Labelled, history: History) -> str:
    if label.chosen is None or label.rejected is None:
        said = "no side is better"
    else:
        said = f"{history.side(label.chosen)} over {history.side(label.rejected)}"
    return f"label by {flat(label.source)}: {said}, confidence {label.confidence:.2f}, weight {label.weight:g}"


def call_line(call: Asked, history: History) -> str:
    a_first = history.side(call.shown_first) == "A"
    words = {
        "first": "A" if a_first else "B",
        "second": "B" if a_first else "A",
        "tie": "a tie",
        "both_bad": "both bad",
    }
    said = words[call.verdict] if call.verdict else "could not be read"
    order = "A before B" if a_first else "B before A"
    more = (f", vote {call.vote + 1}" if call.vote else "") + (f", attempt {call.attempt + 1}" if call.attempt else "")
    spent = "" if call.tokens is None else f", {call.tokens} tokens"
    reason = f"; {flat(call.reason)}" if call.reason else ""
    return f"judge {flat(call.judge)}, {order}{more}: {said}{spent}{reason}"


def correction_line(said: Judgement, history: History) -> str:
    reason = f"; {flat(said.reason)}" if said.reason else ""
    verdict = said.verdict
    if history.labels and history.labels[0].chosen is None:  # there was no order to keep or to flip
        verdict = {"keep": "A is better", "flip": "B is better"}.get(verdict, verdict)
    return f"correction by {said.source} {flat(said.author)}: {verdict}, confidence {said.confidence:.2f}{reason}"


def drop_line(drop: Drop) -> str:
    detail = f"; {flat(drop.detail)}" if drop.detail else ""
    return f"dropped by {drop.stage}: {flat(drop.reason)}{detail}"


def logps_line(logps: Logps) -> str:
    return (
        f"log-probs under the {flat(logps.model)} of iteration {logps.iteration}: "
        f"chosen {logps.chosen:.2f}, rejected {logps.rejected:.2f} nats"
    )


def outcome_line(outcome: Outcome) -> str:
    names = [n for n, s in (("chosen", outcome.chosen_saturated), ("rejected", outcome.rejected_saturated)) if s]
    saturated = f"saturated: {' and '.join(names)}" if names else "neither side saturated"
    return (
        f"trained in iteration {outcome.iteration}: "
        f"reward of chosen {outcome.chosen:+.3f}, of rejected {outcome.rejected:+.3f}, {saturated}"
    )


def _indented(text: str, indent: str = "  ") -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield indent + visible(line)


def flat(text: str) -> str:
    """Visible text on one line."""
    return visible(" ".join(text.splitlines()))


def visible(text: str) -> str:
    """The text with its unseen characters spelled out: a model's answer must not drive the terminal."""
    return "".join(
        _spelled(ord(c)) if unicodedata.category(c) in _UNSEEN and c not in _KEPT else c
        for c in text.replace("\r\n", "\n")
    )


def _spelled(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
