"""Correct the pairs of an iteration, then learn how strong the cells are (steps 6 and 7)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from tso.config import CorrectSection
from tso.correct import recorded, rule
from tso.correct.base import apply, directed, strongest
from tso.correct.strengths import fit
from tso.errors import DataError
from tso.records import Cell, Correction, Label, Pair, Response, Score
from tso.store import Rows, RunStore, drop_rows, label_rows, merge, metric_rows, response_rows, score_rows

Encode = Callable[[str], tuple[int, ...]]


def correct(store: RunStore, options: CorrectSection, iteration: int, encode: Encode, purpose: str = "train") -> None:
    """Write scores, corrections, new labels and drops of an iteration's pairs, as one unit."""
    stage = f"correct/{purpose}"
    if store.done(iteration, stage):
        return
    pairs = store.pairs(iteration, purpose)
    responses = store.responses_by_id(s for p in pairs for s in (p.response_a, p.response_b))
    scores = _scores(store, options, responses)
    given = _recorded(store, options)
    corrections: list[Correction] = []
    labels: list[tuple[str, Label]] = []
    drops: list[tuple[str, str, str]] = []
    edits: list[tuple[int, int | None, Response]] = []
    next_id = store.next_id("responses", "response_id")
    for pair in pairs:
        mine = ([_by_rule(pair, scores, options)] if options.rule else []) + given.get(pair.id, [])
        best = strongest(mine) if mine else None
        edited = None
        if best is not None and best.verdict == "edit" and best.text is not None:
            edited = next_id + len(edits)
            new = Response(edited, pair.prompt_id, "human", best.text, encode(best.text), "stop", iteration)
            edits.append((edited, None, new))
        outcome = apply(pair, best, options, edited)
        corrections += mine
        if outcome.label is None:
            drops.append((pair.id, outcome.dropped, best.reason if best else ""))
        elif outcome.label != pair.label:
            labels.append((pair.id, outcome.label))
    store.commit(
        iteration,
        stage,
        merge(
            score_rows(options.rule or "", _new(store, options, scores)),
            response_rows(edits),
            _correction_rows(store, iteration, corrections),
            label_rows(store.next_id("labels", "label_id"), iteration, labels),
            drop_rows(iteration, stage, "pair", drops),
            metric_rows(iteration, 0, _metrics(pairs, corrections) if purpose == "train" else {}),
        ),
        info=dict(Counter(c.verdict for c in corrections)),
    )


def _scores(store: RunStore, options: CorrectSection, responses: dict[int, Response]) -> dict[int, Score]:
    if not options.rule:
        return {}
    judge = rule.load(options.rule)
    prompts = {p.id: p for p in store.prompts()}
    return {i: judge(prompts[r.prompt_id], r) for i, r in sorted(responses.items())}


def _new(store: RunStore, options: CorrectSection, scores: dict[int, Score]) -> dict[int, Score]:
    """Without those that are in the store from an earlier stage."""
    known = {row[0] for row in store.query("SELECT response_id FROM scores WHERE judge = ?", (options.rule or "",))}
    return {i: s for i, s in scores.items() if i not in known}


def _recorded(store: RunStore, options: CorrectSection) -> dict[str, list[Correction]]:
    """People's verdicts by pair id. A verdict on a pair of another iteration waits for it, or was taken then."""
    found: dict[str, list[Correction]] = defaultdict(list)
    for correction in recorded.load(options.recorded) if options.recorded else []:
        if not correction.pair_id.startswith("p"):
            raise DataError(f"{options.recorded}: {correction.pair_id!r} is not a pair id of a run; see pairs.parquet")
        found[correction.pair_id].append(correction)
    return found


def _by_rule(pair: Pair, scores: dict[int, Score], options: CorrectSection) -> Correction:
    first, second = directed(pair)
    said = rule.compare(scores[first], scores[second], options.margin, options.bad_below)
    verdict = {"a": "keep", "b": "flip"}.get(said.verdict, said.verdict)
    return Correction(pair.id, "rule", options.rule or "", verdict, said.confidence, said.reason)


def _correction_rows(store: RunStore, iteration: int, corrections: Sequence[Correction]) -> Rows:
    columns = ["correction_id", "pair_id", "iteration", "source", "author", "verdict", "confidence", "text", "reason"]
    first = store.next_id("corrections", "correction_id")
    rows = [
        (first + i, c.pair_id, iteration, c.source, c.author, c.verdict, c.confidence, c.text, c.reason)
        for i, c in enumerate(corrections)
    ]
    return {"corrections": (columns, rows)}


def _metrics(pairs: Sequence[Pair], corrections: Sequence[Correction]) -> dict[str, float]:
    """Counts of verdicts; shares of labels that were kept or flipped, where there is any to take a share of."""
    source = {p.id: p.label.source for p in pairs if p.label.chosen is not None}
    decided = [c for c in corrections if c.pair_id in source and c.verdict in ("keep", "flip")]
    on_prior = [c.verdict == "flip" for c in decided if source[c.pair_id] == "prior"]
    flips = sum(c.verdict == "flip" for c in decided)
    counts = {
        "feedback/corrections": len(corrections),
        "feedback/ties": sum(c.verdict == "tie" for c in corrections),
        "feedback/flips": flips,
    }
    agreement = {"feedback/agreement": 1 - flips / len(decided)} if decided else {}
    return {**counts, **agreement, **({"prior/error_rate": sum(on_prior) / len(on_prior)} if on_prior else {})}


def learn_strengths(store: RunStore, options: CorrectSection, iteration: int, cells: Sequence[Cell]) -> None:
    """Fit cell strengths to every correction so far and write them, as one unit."""
    if store.done(iteration, "strengths"):
        return
    prior = {c.name: c.prior for c in cells}
    wins = _wins(store, prior)
    fitted = fit(list(prior), prior, wins, options.strength_prior_weight)
    met = Counter(name for pair, n in wins.items() for name in pair for _ in range(round(2 * n)))
    columns = ["iteration", "cell", "prior", "strength", "stderr", "comparisons"]
    rows = [(iteration, name, prior[name], s, e, met[name] // 2) for name, (s, e) in fitted.items()]
    metrics = {f"matrix/strength/{name}": s for name, (s, _) in fitted.items()}
    store.commit(iteration, "strengths", {"strengths": (columns, rows), **metric_rows(iteration, 0, metrics)})


def _wins(store: RunStore, known: dict[str, float]) -> dict[tuple[str, str], float]:
    pairs = {p.id: p for p in store.pairs(dropped=True)}
    cells = dict(store.query("SELECT response_id, cell FROM responses"))
    first_labels = {
        row[0]: (row[1], row[2])
        for row in store.query(
            "SELECT pair_id, chosen, rejected FROM labels WHERE label_id IN (SELECT min(label_id) FROM labels GROUP BY pair_id)"
        )
    }
    wins: dict[tuple[str, str], float] = defaultdict(float)
    for c in store.corrections():
        pair = pairs.get(c.pair_id)
        if pair is None or c.verdict in ("both_bad", "edit"):
            continue
        # A verdict is relative to the label it met, which is the pair's first.
        chosen, rejected = first_labels[c.pair_id]
        a, b = (
            (cells[chosen], cells[rejected]) if chosen is not None else (cells[pair.response_a], cells[pair.response_b])
        )
        if a == b or a not in known or b not in known:
            continue
        share = {"keep": 1.0, "flip": 0.0, "tie": 0.5}[c.verdict]
        wins[a, b] += share
        wins[b, a] += 1 - share
    return {pair: n for pair, n in wins.items() if n}
