"""What the formats have in common: a run's pairs as they are shown, what people said of them, and a line of a file.

Every format shows the two answers as left and right, in an order of its own for each pair, and tells them apart by
their texts when it is read back: no file says which answer is a, so none gives away where an answer comes from.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tso.errors import DataError
from tso.records import Message, Pair
from tso.store import RunStore
from tso.verdicts import OTHER, Verdict, chosen_side, latest, left_side, standing


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as people see it, and what they said of it so far."""

    pair: Pair  # with the last label that no person gave
    messages: tuple[Message, ...]
    a: str
    b: str
    on_left: str
    verdicts: tuple[Verdict, ...]  # every round, by annotator

    @property
    def left(self) -> str:
        return self.a if self.on_left == "a" else self.b

    @property
    def right(self) -> str:
        return self.b if self.on_left == "a" else self.a

    @property
    def latest(self) -> list[Verdict]:
        """One a person."""
        return sorted(latest(self.verdicts), key=lambda v: v.annotator)

    def side_of(self, answer: str) -> str:
        """left or right, for a or b."""
        return "left" if answer == self.on_left else "right"

    def answer_at(self, side: str, left: Any, right: Any) -> str:
        """a or b, for left or right of a file whose texts are these. Raises DataError where they are not the pair's."""
        found = {self.a: "a", self.b: "b"}
        if [left, right] not in ([self.a, self.b], [self.b, self.a]):
            raise DataError("its two texts are not those of the pair")
        return found[left if side == "left" else right]


@dataclass(frozen=True, slots=True)
class Line:
    """A verdict in a file, and where it stands there."""

    where: str
    verdict: Verdict


Write = Callable[[Sequence[Shown]], str]
Read = Callable[[str, Mapping[str, Shown], str], tuple[list[Line], list[str]]]
"""text, pairs by id, author of lines that name none -> lines, and what is wrong with the others (one line each)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. last_only: it holds what each person last said of a pair, without round, reason and confidence."""

    write: Write
    read: Read
    last_only: bool = False


def shown(store: RunStore, iteration: int | None = None) -> list[Shown]:
    """The pairs of an iteration, or of all, in order. Pairs that were left out before any correction are not shown."""
    prompts = {p.id: p.messages for p in store.prompts()}
    gone = {row[0] for row in store.query("SELECT id FROM drops WHERE kind = 'pair' AND stage LIKE 'pair/%'")}
    pairs = [p for purpose in ("train", "evaluate") for p in store.pairs(iteration, purpose, dropped=True)]
    pairs = [_without_people(store, p) for p in pairs if p.id not in gone]
    texts = store.responses_by_id(side for p in pairs for side in (p.response_a, p.response_b))
    said = everything(store)
    seed = store.meta().get("run.seed", "0")
    return [
        Shown(
            p,
            prompts[p.prompt_id],
            texts[p.response_a].text,
            texts[p.response_b].text,
            left_side(seed, "", p.id, 0),
            tuple(said.get(p.id, ())),
        )
        for p in pairs
    ]


def everything(store: RunStore) -> dict[str, list[Verdict]]:
    """What people said of each pair, by annotator and round: in the store's verdicts, or taken up from a recorded file."""
    found: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in [*_recorded(store), *standing(store)]:
        found[verdict.pair_id] = [v for v in found[verdict.pair_id] if v.key != verdict.key] + [verdict]
    return {pair: sorted(verdicts, key=lambda v: (v.annotator, v.round)) for pair, verdicts in found.items()}


def _recorded(store: RunStore) -> list[Verdict]:
    """Verdicts of correct.recorded, which came without the store's knowing them as such."""
    rows = store.query(
        "SELECT c.pair_id, c.author, c.verdict, c.answer, c.text, c.reason, c.confidence, c.iteration > p.iteration "
        "FROM corrections c JOIN pairs p USING (pair_id) WHERE c.source = 'human' AND c.verdict_id IS NULL "
        "ORDER BY c.correction_id"
    )
    if not rows:
        return []
    pairs = {p.id: p for purpose in ("train", "evaluate") for p in store.pairs(purpose=purpose, dropped=True)}
    found = []
    for pair_id, author, verdict, answer, text, reason, confidence, late in rows:
        # What came in time was about the label as rules and judges left it; what came late, about the one trained on.
        pair = pairs[pair_id] if late else _without_people(store, pairs[pair_id])
        said = answer if answer and verdict != "edit" else said_of(verdict, pair)
        found.append(Verdict(pair_id, author, said, answer if said == "edit" else None, text, reason, confidence))
    return found


def said_of(verdict: str, pair: Pair) -> str:
    """a or b for keep or flip said of the pair's label; other words as they are."""
    better = chosen_side(pair)
    return {"keep": better, "flip": OTHER[better]}.get(verdict, verdict)


def _without_people(store: RunStore, pair: Pair) -> Pair:
    if pair.label.source != "human":
        return pair
    source, chosen, rejected, confidence, weight = store.query(
        "SELECT source, chosen, rejected, confidence, weight FROM labels WHERE pair_id = ? AND source <> 'human' "
        "ORDER BY label_id DESC LIMIT 1",
        (pair.id,),
    )[0]
    return replace(
        pair,
        label=replace(
            pair.label, source=source, chosen=chosen, rejected=rejected, confidence=confidence, weight=weight
        ),
    )


def parsed(text: str, what: str) -> Any:
    """JSON that can be stored as UTF-8. Raises DataError that begins with `what`."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair could not be stored
    except (ValueError, RecursionError) as err:
        raise DataError(f"{what}: not JSON in UTF-8 ({err})") from err
    return value


def records(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, each with its place. Raises DataError for anything else."""
    found = parsed(text, "the file")
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError("the file has to be a JSON list of objects")
    return [(f"record {i}", row) for i, row in enumerate(found, 1)]


def written(rows: Sequence[Mapping[str, Any]]) -> str:
    """A JSON list, an object a line, the same bytes for the same rows."""
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def unknown(pair_id: Any, pairs: Mapping[str, Shown]) -> str | None:
    """Why there is no such pair, or None."""
    if isinstance(pair_id, str) and pair_id in pairs:
        return None
    return f"this run has no pair {pair_id!r}" if pair_id is not None else "it names no pair"
