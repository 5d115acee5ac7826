"""The whole history of one pair as plain lines: where both answers came from, and all that was said of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tso.report.history import pair_history
from tso.report.shapes import Answer, Asked, Drop, History, Judgement, Labelled, Logps, Outcome, Said, ToJudge
from tso.report.words import flat, visible
from tso.store import RunStore


def pair_story(store: RunStore, pair_id: str) -> list[str]:
    """Lines without line breaks that tell a pair's history. Raises DataError, naming close ids, for an unknown id."""
    return list(_lines(pair_history(store, pair_id)))


def events(history: History) -> Iterator[tuple[str, str | None]]:
    """What happened to a pair, in the order of the stages: a line each, and the text that belongs to it, if any.

    The first label comes first, and the later ones after the verdicts that made them. A verdict that came when the pair's
    time was over follows last.
    """
    for label in history.labels[:1]:
        yield label_line(label, history), None
    for asked in history.to_judge:
        yield to_judge_line(asked), None
    for call in history.calls:
        yield call_line(call, history), None
    for said in history.said:
        yield said_line(said), said.text
    for correction in history.corrections:
        if correction.late is None:
            yield correction_line(correction, history), correction.text
    for label in history.labels[1:]:
        yield label_line(label, history), None
    for drop in history.drops:
        yield drop_line(drop), None
    for iteration, noise in history.noise:
        yield f"noise in iteration {iteration}: the label is taken to be wrong with a chance of {noise:.3f}", None
    for logps in history.logps:
        yield logps_line(logps), None
    for outcome in history.outcomes:
        yield outcome_line(outcome), None
    for correction in history.corrections:
        if correction.late is not None:
            yield correction_line(correction, history), correction.text


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
    for line, text in events(history):
        yield f"  {line}"
        if text is not None:
            yield from _indented(text, "    ")


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
    for iteration, reward in answer.rewards:
        yield f"  implicit reward {reward:+.3f} in iteration {iteration}"
    yield "  text"
    yield from _indented(answer.text, "    ")


def label_line(label: Labelled, history: History) -> str:
    if label.chosen is None or label.rejected is None:
        said = "no side is better"
    else:
        said = f"{history.side(label.chosen)} over {history.side(label.rejected)}"
    return f"label by {flat(label.source)}: {said}, confidence {label.confidence:.2f}, weight {label.weight:g}"


def to_judge_line(asked: ToJudge) -> str:
    revision = asked.revision if "@" in asked.revision or "#" in asked.revision else asked.revision[:12]
    which = f" (revision {flat(revision)})" if revision else ""
    return f"chosen for judge {flat(asked.judge)}{which}, round {asked.round + 1}, place {asked.position + 1}"


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


def said_line(said: Said) -> str:
    words = {"a": "A is better", "b": "B is better", "tie": "a tie", "both_bad": "both bad", "skip": "skipped"}
    edit = "an edit" + (f" of {said.side.upper()}" if said.side else "")
    again = f", round {said.round + 1}" if said.round else ""
    when = f", on {datetime.fromtimestamp(said.given / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if said.given else ""
    sure = f", confidence {said.confidence:.2f}" if said.confidence < 1 else ""
    what = "taken back" if said.taken_back else ""
    if said.said != "skip":
        counted = "taken up by the run" if said.taken_up else "" if said.taken_back else "not taken up so far"
        what = " and ".join(filter(None, (counted, what)))
    reason = f"; {flat(said.reason)}" if said.reason else ""
    told = f"{words.get(said.said, edit)}{again}{sure}{when}"
    return f"{flat(said.annotator)} said: {told}" + (f", {what}" if what else "") + reason


def correction_line(said: Judgement, history: History) -> str:
    reason = f"; {flat(said.reason)}" if said.reason else ""
    verdict = said.verdict
    if history.labels and history.labels[0].chosen is None:  # there was no order to keep or to flip
        verdict = {"keep": "A is better", "flip": "B is better"}.get(verdict, verdict)
    late = "" if said.late is None else f", too late for training, in iteration {said.late}"
    return f"correction by {said.source} {flat(said.author)}: {verdict}, confidence {said.confidence:.2f}{late}{reason}"


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
