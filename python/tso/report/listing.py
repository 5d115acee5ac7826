"""The pairs of a run as a list, a line or a JSON object each, and which of them are wanted; asked of the store.

keep and flip are shown as they were said, of the label that the verdict met; of one without an order, keep says that
answer A is better.
"""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tso.errors import DataError
from tso.records import VERDICTS, Label, Pair
from tso.report.words import flat
from tso.store import RunStore
from tso.verdicts import OTHER, Verdict, chosen_side, latest, standing, word

SOURCES = ("prior", "implicit", "agreement", "rule", "judge", "human")
ANY = "any"  # of dropped: for whatever reason
COLUMNS = ("pair", "iteration", "A", "B", "label", "verdicts", "fate", "prompt")
SNIPPET = 60  # characters of a prompt


LIST = """
    SELECT p.pair_id, p.iteration, p.purpose, p.prompt_id, q.messages, p.response_a, p.response_b, a.cell, b.cell,
        f.chosen, l.source, l.chosen, l.rejected, l.confidence, l.weight,
        (SELECT reason FROM drops d WHERE d.kind = 'pair' AND d.id = p.pair_id ORDER BY iteration LIMIT 1),
        EXISTS (SELECT 1 FROM outcomes o WHERE o.pair_id = p.pair_id AND o.iteration = p.iteration)
    FROM pairs p JOIN prompts q USING (prompt_id)
    JOIN responses a ON a.response_id = p.response_a JOIN responses b ON b.response_id = p.response_b
    JOIN labels f ON f.label_id = (SELECT min(label_id) FROM labels WHERE pair_id = p.pair_id)
    JOIN labels l ON l.label_id = (SELECT max(label_id) FROM labels WHERE pair_id = p.pair_id)
    WHERE (?1 IS NULL OR p.iteration = ?1) AND (?2 IS NULL OR p.prompt_id = ?2)
      AND (?3 IS NULL OR a.cell = ?3 OR b.cell = ?3) AND (?4 IS NULL OR l.source = ?4)
      AND (?5 IS NULL OR EXISTS (SELECT 1 FROM drops d
          WHERE d.kind = 'pair' AND d.id = p.pair_id AND (?5 = 'any' OR d.reason = ?5)))
      AND (NOT ?6 OR l.chosen IS NOT f.chosen)
    ORDER BY p.iteration, p.purpose DESC, p.position
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which pairs are wanted; None everywhere: all. Each field narrows what the others leave."""

    iteration: int | None = None
    prompt: str | None = None  # id
    cell: str | None = None  # of either side
    source: str | None = None  # of the label in force
    verdict: str | None = None  # that somebody gave
    dropped: str | None = None  # the reason, or ANY
    changed: bool = False  # the label in force prefers something else than the first one did


@dataclass(frozen=True, slots=True)
class Given:
    """One verdict on a pair.

    late: it came when the pair had been trained on, or had left; waiting: a person's that no correction was made of so far.
    """

    source: str
    author: str
    verdict: str
    confidence: float
    late: bool = False
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """One pair, with the label in force. first, chosen: a, b, or edit for a person's text; None: no side is better."""

    pair_id: str
    iteration: int
    purpose: str  # train | evaluate
    prompt_id: str
    prompt: str  # its last message
    cells: tuple[str, str]
    source: str
    first: str | None
    chosen: str | None
    confidence: float
    weight: float
    verdicts: tuple[Given, ...]
    dropped: str | None
    trained: bool

    @property
    def changed(self) -> bool:
        return self.chosen != self.first

    @property
    def fate(self) -> str:
        if self.dropped is not None:
            return f"dropped: {self.dropped}"
        return "trained" if self.trained else "kept" if self.purpose == "train" else "held out"


def listed(store: RunStore, wanted: Filter) -> list[Listed]:
    """The wanted pairs, in order. Raises DataError for an iteration, prompt, cell or reason that the run does not have."""
    check(store, wanted)
    given, waiting = _given(store, wanted.iteration), _waiting(store)
    asked = (wanted.iteration, wanted.prompt, wanted.cell, wanted.source, wanted.dropped, int(wanted.changed))
    rows = store.query(LIST, asked)
    found = [_listed(row, given.get(row[0], ()), waiting.get(row[0], ())) for row in rows]
    return [p for p in found if wanted.verdict is None or wanted.verdict in {g.verdict for g in p.verdicts}]


def check(store: RunStore, wanted: Filter) -> None:
    """Raises DataError, naming what there is, for a filter that asks for something the run does not have."""

    def known(sql: str) -> list[Any]:
        return [row[0] for row in store.query(sql)]

    if wanted.source is not None:
        _known("source", wanted.source, SOURCES)
    if wanted.verdict is not None:
        _known("verdict", wanted.verdict, VERDICTS)
    if wanted.iteration is not None:
        there = known("SELECT DISTINCT iteration FROM pairs ORDER BY 1")
        _known("iteration", str(wanted.iteration), [str(t) for t in there])
    if wanted.prompt is not None:
        _known("prompt", wanted.prompt, known("SELECT prompt_id FROM prompts ORDER BY position"))
    if wanted.cell is not None:
        names = known(
            "SELECT cell FROM cells UNION SELECT cell FROM responses WHERE response_id IN "
            "(SELECT response_a FROM pairs UNION SELECT response_b FROM pairs) ORDER BY 1"
        )
        _known("cell", wanted.cell, names)
    if wanted.dropped is not None and wanted.dropped != ANY:
        reasons = known("SELECT DISTINCT reason FROM drops WHERE kind = 'pair' ORDER BY 1")
        _known("reason of dropped pairs", wanted.dropped, [ANY, *reasons])


def table(pairs: Sequence[Listed]) -> list[str]:
    """Lines of columns, as wide as their contents, under a head; none without pairs."""
    if not pairs:
        return []
    rows = [COLUMNS, *(_cells(pair) for pair in pairs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def as_json(pair: Listed) -> str:
    """One line: the fields of the record, and `changed`."""
    return json.dumps({**asdict(pair), "changed": pair.changed})


def _given(store: RunStore, iteration: int | None) -> dict[str, list[Given]]:
    """Verdicts that were taken up, by pair id, in order."""
    rows = store.query(
        "SELECT c.pair_id, c.source, c.author, c.verdict, c.confidence, c.iteration > p.iteration FROM corrections c JOIN pairs p USING (pair_id) "
        "WHERE ?1 IS NULL OR p.iteration = ?1 ORDER BY correction_id",
        (iteration,),
    )
    found: dict[str, list[Given]] = defaultdict(list)
    for pair_id, source, author, verdict, confidence, late in rows:
        found[pair_id].append(Given(source, author, verdict, confidence, bool(late)))
    return found


def _waiting(store: RunStore) -> dict[str, list[Verdict]]:
    """What people said last and no correction was made of, by pair id."""
    taken = {row[0] for row in store.query("SELECT verdict_id FROM corrections WHERE verdict_id IS NOT NULL")}
    found: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in latest(standing(store)):
        if verdict.id not in taken:
            found[verdict.pair_id].append(verdict)
    return found


def _listed(row: Sequence[Any], given: Sequence[Given], waiting: Sequence[Verdict]) -> Listed:
    name, iteration, purpose, prompt_id, messages, a, b, cell_a, cell_b, first, *label, dropped, trained = row
    pair = Pair(name, iteration, prompt_id, a, b, 0.0, Label(*label))
    side = chosen_side(pair)
    people = [Given("human", v.annotator, word(v.said, side), v.confidence, waiting=True) for v in waiting]
    words = {a: "a", b: "b", None: None}
    return Listed(
        pair_id=name,
        iteration=iteration,
        purpose=purpose,
        prompt_id=prompt_id,
        prompt="".join(message["content"] for message in json.loads(messages)[-1:]),
        cells=(cell_a, cell_b),
        source=pair.label.source,
        first=words[first],
        chosen=words.get(pair.label.chosen, "edit"),
        confidence=pair.label.confidence,
        weight=pair.label.weight,
        verdicts=(*given, *people),
        dropped=dropped,
        trained=bool(trained),
    )


def _cells(pair: Listed) -> tuple[str, ...]:
    """What a line of the table says of a pair."""
    side = "neither" if pair.chosen is None else pair.chosen.upper() if pair.chosen in OTHER else pair.chosen
    changed = f", was {'neither' if pair.first is None else pair.first.upper()}" if pair.changed else ""
    said = [f"{g.author} {g.verdict}{' (waiting)' * g.waiting}{' (late)' * g.late}" for g in pair.verdicts]
    prompt = flat(pair.prompt)
    short = prompt if len(prompt) <= SNIPPET else prompt[: SNIPPET - 1] + "\N{HORIZONTAL ELLIPSIS}"
    label = f"{side} by {flat(pair.source)} {pair.confidence:.2f}{changed}"
    told = flat(", ".join(said)) or "-"
    return (
        pair.pair_id,
        str(pair.iteration),
        flat(pair.cells[0]),
        flat(pair.cells[1]),
        label,
        told,
        flat(pair.fate),
        short,
    )


def _known(what: str, asked: str, there: Sequence[str]) -> None:
    if asked in there:
        return
    near = difflib.get_close_matches(asked, there, n=3, cutoff=0.5) or there[:8]
    more = "" if len(near) == len(there) else ", ..."
    told = f"there is {', '.join(near)}{more}" if there else "there is none so far"
    raise DataError(f"no {what} {asked!r} among the pairs of this run; {told}")
