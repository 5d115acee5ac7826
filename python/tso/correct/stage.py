"""Correct the pairs of an iteration (step 6)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from tso.config import CorrectSection
from tso.correct import annotated, recorded, rule
from tso.correct.base import directed
from tso.correct.calls import Judge
from tso.correct.decision import Decision, decide
from tso.correct.judge import Judged, judge_pairs
from tso.errors import DataError
from tso.progress import Face
from tso.records import Correction, Pair, Response, Score
from tso.store import RunStore
from tso.store_rows import Rows, drop_rows, label_rows, merge, metric_rows, response_rows, score_rows

Encode = Callable[[str], tuple[int, ...]]
SCORES_A_UNIT = 64  # answers; a kill loses no more of a judge's work


def correct(
    store: RunStore,
    options: CorrectSection,
    iteration: int,
    encode: Encode,
    face: Face,
    purpose: str = "train",
    judge: Judge | None = None,
) -> None:
    """Write corrections, new labels and drops of an iteration's pairs, as one unit; scores and calls before, as they come."""
    stage = f"correct/{purpose}"
    if store.done(iteration, stage):
        return
    pairs = store.pairs(iteration, purpose)
    given = _recorded(store, options)
    if options.wait_for_people and purpose == "train":
        annotated.require(store, iteration, pairs, given.keys())
    responses = store.responses_by_id(s for p in pairs for s in (p.response_a, p.response_b))
    scores = score_answers(store, options.rule, responses.values(), iteration, purpose, face)
    judged = Judged({}, {})
    if judge is not None:
        judged = judge_pairs(store, judge, options, iteration, purpose, given.keys(), face)
    ids = count(store.free_response_id())
    decisions: list[Decision] = []
    for pair in pairs:
        machines = [_by_rule(pair, scores, options)] if options.rule else []
        machines += [judged.corrections[pair.id]] if pair.id in judged.corrections else []

        def edited(text: str, prompt_id: str = pair.prompt_id) -> Response:
            return Response(next(ids), prompt_id, "human", text, encode(text), "stop", iteration)

        decisions.append(decide(pair, machines, given.pop(pair.id, []), options, edited))
    late: list[Correction] = []
    metrics: dict[str, float] = {}
    if purpose == "train":
        late = _too_late(store, given)
        _tell(options, decisions, late, given, face)
        metrics = _metrics(decisions) | judged.metrics
    said = [c for d in decisions for c in d.said]
    store.commit(
        iteration,
        stage,
        merge(
            response_rows([d.edit for d in decisions if d.edit]),
            _correction_rows(store, iteration, [*said, *late]),
            label_rows(
                store.next_id("labels", "label_id"),
                iteration,
                [(d.pair.id, d.new_label) for d in decisions if d.new_label],
            ),
            drop_rows(iteration, stage, "pair", [d.drop for d in decisions if d.drop]),
            metric_rows(iteration, 0, metrics),
        ),
        info=dict(Counter(c.verdict for c in said)),
    )


def score_answers(
    store: RunStore, spec: str | None, answers: Iterable[Response], iteration: int, purpose: str, face: Face
) -> dict[int, Score]:
    """The judge's score of each answer, by response id; each is asked for once in a run, and durable in small parts.

    A judge may be slow, or cost money, or not say the same twice. Empty without a judge.
    """
    if not spec:
        return {}
    judge = rule.load(spec)
    wanted = {a.id: a for a in answers}
    rows = store.query("SELECT response_id, score, reason FROM scores WHERE judge = ?", (spec,))
    known = {i: Score(value, reason) for i, value, reason in rows if i in wanted}
    missing = sorted(wanted.keys() - known.keys())
    prompts = {p.id: p for p in store.prompts()}
    with face.bar(f"iteration {iteration}: judging", len(wanted), "answers", len(known)) as advance:
        for start in range(0, len(missing), SCORES_A_UNIT):
            part = missing[start : start + SCORES_A_UNIT]
            fresh = {i: judge(prompts[wanted[i].prompt_id], wanted[i]) for i in part}
            # Numbered by an answer, so that what is left after a kill never meets a unit of before.
            store.commit(iteration, f"score/{purpose}", score_rows(spec, fresh), unit=part[0])
            known |= fresh
            advance(len(part))
    return known


def _recorded(store: RunStore, options: CorrectSection) -> dict[str, list[Correction]]:
    """People's verdicts by pair id, from the file and from the store, without those that were taken up already."""
    found: dict[str, list[Correction]] = defaultdict(list)
    for correction in _each_once(recorded.load(options.recorded) if options.recorded else ()):
        if not correction.pair_id.startswith("p"):
            raise DataError(f"{options.recorded}: {correction.pair_id!r} is not a pair id of a run; see pairs.parquet")
        found[correction.pair_id].append(correction)
    taken = {_as_said(c) for c in store.corrections()}
    fresh = {pair: left for pair, all_of in found.items() if (left := [c for c in all_of if _as_said(c) not in taken])}
    for correction in annotated.load(store):
        fresh.setdefault(correction.pair_id, []).append(correction)
    return fresh


def _each_once(corrections: Sequence[Correction]) -> list[Correction]:
    """A line that stands twice is one voice, and stands where it stands last: who came back to a verdict means that one."""
    return list(dict.fromkeys(reversed(corrections)))[::-1]


def _as_said(correction: Correction) -> Correction:
    """What was said of an answer became keep or flip by the label that it met; that is no difference."""
    return replace(correction, verdict="") if correction.answer else correction


def _too_late(store: RunStore, given: Mapping[str, list[Correction]]) -> list[Correction]:
    """Verdicts on pairs that were trained on, or had left, before they came."""
    known = {p.id: p for purpose in ("train", "evaluate") for p in store.pairs(purpose=purpose, dropped=True)}
    return [annotated.oriented(c, known[pair]) for pair, verdicts in given.items() if pair in known for c in verdicts]


def _tell(
    options: CorrectSection,
    decisions: Sequence[Decision],
    late: Sequence[Correction],
    given: Mapping[str, list[Correction]],
    face: Face,
) -> None:
    used = sum(c.source == "human" for d in decisions for c in d.said)
    if not (used or given):
        return
    unknown = sum(map(len, given.values())) - len(late)
    face.say(f"{options.recorded or 'people'}: {used} verdicts used")
    if late:
        face.warn(
            f"{len(late)} verdicts are on pairs that were trained on or had left before; they count for the strengths of "
            "cells, not for training. In a new run.output_dir the same settings make the same pairs, and they count there "
            "(tso corrections export, and correct.recorded)"
        )
    if unknown:
        names = ", ".join(pair for pair in given if pair not in {c.pair_id for c in late})
        face.warn(f"{unknown} verdicts are on pairs that this run has not made so far: {names[:100]}")


def _by_rule(pair: Pair, scores: dict[int, Score], options: CorrectSection) -> Correction:
    first, second = directed(pair)
    said = rule.compare(scores[first], scores[second], options.margin, options.bad_below)
    verdict = {"a": "keep", "b": "flip"}.get(said.verdict, said.verdict)
    return Correction(pair.id, "rule", options.rule or "", verdict, said.confidence, said.reason)


def _correction_rows(store: RunStore, iteration: int, corrections: Sequence[Correction]) -> Rows:
    columns = ["correction_id", "pair_id", "iteration", "source", "author", "verdict", "confidence", "text", "reason"]
    columns += ["answer", "verdict_id"]
    first = store.next_id("corrections", "correction_id")
    rows = [
        (
            *(first + i, c.pair_id, iteration, c.source, c.author, c.verdict, c.confidence, c.text, c.reason),
            *(c.answer, c.verdict_id),
        )
        for i, c in enumerate(corrections)
    ]
    return {"corrections": (columns, rows)}


def _metrics(decisions: Sequence[Decision]) -> dict[str, float]:
    """Counts, and shares of labels that were kept or turned, where there is any to take a share of."""
    settled = [d.settled for d in decisions if d.settled]
    ordered = [(before, before.chosen != after.chosen) for before, after in settled if before.chosen is not None]
    flips = sum(turned for _, turned in ordered)
    on_prior = [turned for before, turned in ordered if before.source == "prior"]
    counts = {
        "feedback/corrections": sum(len(d.said) for d in decisions),
        "feedback/ties": sum(d.is_tie for d in decisions),
        "feedback/flips": flips,
    }
    agreement = {"feedback/agreement": 1 - flips / len(ordered)} if ordered else {}
    return {**counts, **agreement, **({"prior/error_rate": sum(on_prior) / len(on_prior)} if on_prior else {})}
