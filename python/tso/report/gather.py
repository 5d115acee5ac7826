"""What the report shows of a run, asked of its store and laid out as plain records. Knows no HTML and draws nothing."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby, zip_longest
from typing import Any

from tso.errors import DataError
from tso.records import Message
from tso.report.judges import calls_on, judge_table
from tso.report.quoting import quoted
from tso.report.shapes import (
    Answer,
    Chart,
    Count,
    Drop,
    Funnel,
    History,
    Judgement,
    Labelled,
    Logps,
    Outcome,
    Report,
    Strength,
    Table,
)
from tso.store import RunStore

CHARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Loss", "mean over the pairs of a step", ("loss",)),
    (
        "Rewards",
        "beta times the log-ratio to the reference",
        ("rewards/chosen", "rewards/rejected", "rewards/margins"),
    ),
    (
        "Reward accuracy",
        "share of pairs whose chosen side has the higher reward, ties not counted",
        ("rewards/accuracies",),
    ),
    (
        "Beyond the clip bounds",
        "share of sides, and of pairs with both sides saturated",
        ("clip/chosen", "clip/rejected", "clip/saturated"),
    ),
    (
        "Log-probs under the policy",
        "nats an answer, or a token where training.average_logps is on",
        ("logps/chosen", "logps/rejected"),
    ),
)
SHARES = ("Reward accuracy", "Beyond the clip bounds")
SAMPLES = 12  # pairs shown with their whole history
FACTS = (
    ("beta", "training.beta"),
    ("chosen clip", "training.chosen_clip"),
    ("rejected clip", "training.rejected_clip"),
    ("learning rate", "training.learning_rate"),
    ("fine-tuning", "training.method"),
    ("reference update", "update.reference"),
    ("seed", "run.seed"),
)


def gather(store: RunStore) -> Report:
    """Read the whole report from the store; every part may be absent in an unfinished run."""
    meta = store.meta()
    return Report(
        model=_model(meta),
        progress=_progress(store),
        finished=_finished(store),
        facts=_facts(store, meta),
        settings=_settings(meta),
        result=_result(store),
        charts=_charts(store),
        funnels=_funnels(store),
        strengths=_strengths(store),
        judges=judge_table(store),
        figures=_figures(store),
        pairs=tuple(pair_history(store, p) for p in sample_pairs(store, SAMPLES)),
    )


def _model(meta: Mapping[str, str]) -> str:
    name = _value(meta.get("model.name_or_path"))
    file = _value(meta.get("model.gguf_file"))
    return str(file or name or "unnamed model")


def _finished(store: RunStore) -> bool:
    """A finished run may be given more iterations; with the first of them it is unfinished again."""
    return bool(
        store.query("SELECT 1 FROM units WHERE stage = 'finish' AND iteration = (SELECT max(iteration) FROM units)")
    )


def _progress(store: RunStore) -> str:
    rows = store.query("SELECT iteration, stage FROM units ORDER BY rowid")
    if not rows:
        return "nothing yet"
    finished = len({iteration for iteration, stage in rows if stage == "update" and iteration > 0})
    plural = "" if finished == 1 else "s"
    if _finished(store):
        return f"finished, {finished} iteration{plural}"
    iteration, stage = rows[-1]
    return f"unfinished: {finished} iteration{plural} complete, last work {stage} of iteration {iteration}"


def _facts(store: RunStore, meta: Mapping[str, str]) -> tuple[tuple[str, Any], ...]:
    def count(sql: str) -> int:
        return int(store.query(f"SELECT count(*) FROM {sql}")[0][0])

    counts = [
        ("training prompts", count("prompts WHERE split = 'train'")),
        ("held-out prompts", count("prompts WHERE split = 'heldout'")),
        ("answers sampled", count("sampled WHERE purpose = 'train'")),
        ("pairs made", count("pairs WHERE purpose = 'train'")),
        ("pairs trained", count("outcomes")),
    ]
    return (*counts, *((name, _value(meta[key])) for name, key in FACTS if key in meta))


def _settings(meta: Mapping[str, str]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in sorted(meta):
        section, dot, name = key.partition(".")
        sections[section if dot else ""].append((name if dot else key, _told(_value(meta[key]))))
    return tuple((section, tuple(rows)) for section, rows in sections.items())


def _value(text: str | None) -> Any:
    """Settings are stored as JSON; other meta values are plain words."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _told(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return "\n".join(_told(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_told(v)}" for k, v in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def _result(store: RunStore) -> Table | None:
    rows = store.query(
        "SELECT info FROM units WHERE stage = 'evaluate/table' ORDER BY iteration DESC, unit DESC LIMIT 1"
    )
    if not rows:
        return None
    info = json.loads(rows[0][0])
    found = info.get("rows", [])
    columns = list(info.get("columns") or dict.fromkeys(k for row in found for k in row))
    # A row's name says which model it is: it leads, also where the columns leave it out.
    if "name" not in columns and any("name" in row for row in found):
        columns.insert(0, "name")
    table = tuple(tuple(row.get(c) for c in columns) for row in found)
    return Table(tuple(map(str, columns)), table, str(info.get("verdict", "")))


def _charts(store: RunStore) -> tuple[Chart, ...]:
    offsets: dict[int, int] = {}
    starts: list[float] = []
    end = 0
    for iteration, first, last in store.query(
        "SELECT iteration, min(step), max(step) FROM metrics WHERE step > 0 GROUP BY iteration ORDER BY iteration"
    ):
        # A trainer may count from 1 in every iteration; one line across all of them is what a reader wants to see.
        offsets[iteration] = end if first <= end else 0
        if end:
            starts.append(offsets[iteration] + first)
        end = offsets[iteration] + last
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for iteration, step, name, value in store.query(
        "SELECT iteration, step, name, value FROM metrics WHERE step > 0 ORDER BY iteration, step"
    ):
        series[name].append((offsets[iteration] + step, value))
    charts = [
        Chart(title, note, {n: series[n] for n in names if n in series}, tuple(starts), title in SHARES)
        for title, note, names in CHARTS
    ]
    return tuple(c for c in charts if c.series)


def _funnels(store: RunStore) -> tuple[Funnel, ...]:
    """What became of the rows of the prompt file, then of every iteration's answers and pairs."""
    iterations = store.query(
        "SELECT iteration FROM batches UNION SELECT iteration FROM plans WHERE purpose = 'train' "
        "UNION SELECT iteration FROM pairs WHERE purpose = 'train' UNION SELECT iteration FROM outcomes ORDER BY 1"
    )
    return (*_rows_read(store), *(Funnel(f"Iteration {t}", tuple(_groups(store, t))) for (t,) in iterations))


def _rows_read(store: RunStore) -> tuple[Funnel, ...]:
    begun = store.query("SELECT info FROM units WHERE iteration = 0 AND stage = 'start'")
    if not begun:
        return ()
    kept = dict(store.query("SELECT split, count(*) FROM prompts GROUP BY split"))
    group = [
        ("rows left out", json.loads(begun[0][0])["rejected"], True),
        ("prompts to train on", kept.get("train", 0), False),
        ("prompts held out", kept.get("heldout", 0), False),
    ]
    return (Funnel("Rows of the prompt file", (_shared(group),)),)


def _groups(store: RunStore, iteration: int) -> list[tuple[Count, ...]]:
    def ask(sql: str) -> list[tuple[Any, ...]]:
        return store.query(sql, (iteration,))

    def one(sql: str) -> int:
        return int(ask(sql)[0][0])

    train = "sampled r WHERE r.iteration = ?1 AND r.purpose = 'train'"
    planned = "SELECT coalesce(sum(draws), 0) FROM plans WHERE iteration = ?1 AND purpose = 'train'"
    answers = [
        ("answers planned", one(planned), False),
        ("answers sampled", one(f"SELECT count(*) FROM {train}"), False),
        *_lost(
            ask(
                "SELECT x.reason, count(*) FROM drops x JOIN sampled r ON r.response_id = CAST(x.id AS INTEGER) "
                "WHERE x.kind = 'response' AND x.iteration = ?1 AND r.purpose = 'train' "
                "GROUP BY x.reason ORDER BY x.reason"
            )
        ),
        (
            "answers in pairs",
            one(
                f"SELECT count(*) FROM {train} AND r.response_id IN (SELECT response_a FROM pairs WHERE iteration = ?1 "
                "UNION SELECT response_b FROM pairs WHERE iteration = ?1)"
            ),
            False,
        ),
    ]
    pairs = [
        ("pairs made", one("SELECT count(*) FROM pairs WHERE iteration = ?1 AND purpose = 'train'"), False),
        *_lost(
            ask(
                "SELECT x.reason, count(*) FROM drops x JOIN pairs p ON p.pair_id = x.id "
                "WHERE x.kind = 'pair' AND x.iteration = ?1 AND p.purpose = 'train' GROUP BY x.reason ORDER BY x.reason"
            )
        ),
        ("pairs trained", one("SELECT count(*) FROM outcomes WHERE iteration = ?1"), False),
    ]
    corrected = [
        (f"corrected: {verdict}", n, False)
        # A pair that the first label gave no order has none to keep or to flip.
        for verdict, n in ask(
            "SELECT CASE WHEN c.verdict IN ('keep', 'flip') AND (SELECT chosen FROM labels l "
            " WHERE l.pair_id = c.pair_id ORDER BY label_id LIMIT 1) IS NULL THEN 'put in order' ELSE c.verdict END v, "
            "count(*) FROM corrections c JOIN pairs p USING (pair_id) "
            "WHERE c.iteration = ?1 AND p.purpose = 'train' GROUP BY v ORDER BY v"
        )
    ]
    return [_shared(group) for group in (answers, pairs, corrected) if group]


def _lost(rows: Sequence[tuple[str, int]]) -> list[tuple[str, int, bool]]:
    return [(f"dropped: {reason}", n, True) for reason, n in rows]


def _shared(group: Sequence[tuple[str, int, bool]]) -> tuple[Count, ...]:
    most = max(n for _, n, _ in group) or 1
    return tuple(Count(name, n, n / most, lost) for name, n, lost in group)


def _strengths(store: RunStore) -> tuple[tuple[int, tuple[Strength, ...]], ...]:
    rows = store.query(
        "SELECT iteration, cell, prior, strength, low, high, comparisons FROM strengths "
        "ORDER BY iteration, strength DESC, cell"
    )
    return tuple((t, tuple(Strength(*row[1:]) for row in group)) for t, group in groupby(rows, key=lambda r: r[0]))


def _figures(store: RunStore) -> Table | None:
    """Values of iterations: one row a name, one column an iteration. Strengths have a table of their own."""
    rows = store.query(
        "SELECT name, iteration, value FROM metrics WHERE step = 0 AND name NOT LIKE 'matrix/strength/%' "
        "ORDER BY name, iteration"
    )
    if not rows:
        return None
    iterations = sorted({t for _, t, _ in rows})
    by_name: dict[str, dict[int, float]] = defaultdict(dict)
    for name, iteration, value in rows:
        by_name[name][iteration] = value
    # What people and judges said comes first; the rest describes the data.
    order = sorted(by_name, key=lambda n: (not n.startswith(("feedback/", "prior/")), n))
    table = tuple((name, *(by_name[name].get(t) for t in iterations)) for name in order)
    return Table(("", *(f"iteration {t}" for t in iterations)), table)


def sample_pairs(store: RunStore, most: int) -> list[str]:
    """Ids of training pairs that show every iteration and every fate: taken in turn from each, in order."""
    rows = store.query(
        "SELECT p.pair_id, p.iteration, "
        " (SELECT verdict FROM corrections c WHERE c.pair_id = p.pair_id ORDER BY correction_id DESC LIMIT 1), "
        " (SELECT reason FROM drops d WHERE d.kind = 'pair' AND d.id = p.pair_id LIMIT 1) "
        "FROM pairs p WHERE p.purpose = 'train' ORDER BY p.iteration, p.position"
    )
    fates: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for pair_id, *fate in rows:
        fates[tuple(fate)].append(pair_id)
    taken = [p for layer in zip_longest(*fates.values()) for p in layer if p is not None][:most]
    order = {row[0]: i for i, row in enumerate(rows)}
    return sorted(taken, key=order.__getitem__)


def pair_history(store: RunStore, pair_id: str) -> History:
    """All about one pair. Raises DataError, naming close ids, for a pair that the run does not have."""
    rows = store.query(
        "SELECT p.pair_id, p.iteration, p.purpose, p.prompt_id, p.similarity, q.messages, p.response_a, p.response_b "
        "FROM pairs p JOIN prompts q USING (prompt_id) WHERE p.pair_id = ?",
        (pair_id,),
    )
    if not rows:
        raise DataError(_unknown(store, pair_id))
    _, iteration, purpose, prompt_id, similarity, messages, a, b = rows[0]

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return store.query(sql, (pair_id,))

    labels = ask("SELECT source, chosen, rejected, confidence, weight FROM labels WHERE pair_id = ? ORDER BY label_id")
    edits = sorted({side for row in labels for side in row[1:3]} - {a, b, None})
    return History(
        pair_id=pair_id,
        iteration=iteration,
        purpose=purpose,
        prompt_id=prompt_id,
        similarity=similarity,
        messages=tuple(Message(**m) for m in json.loads(messages)),
        answers=tuple(_answer(store, side, i) for side, i in [("A", a), ("B", b), *(("edit", edit) for edit in edits)]),
        labels=tuple(Labelled(*row) for row in labels),
        calls=calls_on(store, pair_id),
        corrections=tuple(
            Judgement(*row)
            for row in ask(
                "SELECT source, author, verdict, confidence, reason, text FROM corrections "
                "WHERE pair_id = ? ORDER BY correction_id"
            )
        ),
        drops=tuple(
            Drop(*row)
            for row in ask(
                "SELECT stage, reason, detail FROM drops WHERE kind = 'pair' AND id = ? ORDER BY iteration, rowid"
            )
        ),
        logps=tuple(
            Logps(*row)
            for row in ask(
                "SELECT iteration, model, chosen, rejected FROM logps WHERE pair_id = ? ORDER BY iteration, model DESC"
            )
        ),
        outcomes=tuple(
            Outcome(t, chosen, rejected, bool(chosen_saturated), bool(rejected_saturated))
            for t, chosen, rejected, chosen_saturated, rejected_saturated in ask(
                "SELECT iteration, chosen_reward, rejected_reward, chosen_saturated, rejected_saturated "
                "FROM outcomes WHERE pair_id = ? ORDER BY iteration"
            )
        ),
    )


def _answer(store: RunStore, side: str, response_id: int) -> Answer:
    row = store.query(
        "SELECT r.cell, coalesce(c.model, ''), coalesce(c.revision, ''), c.decoding, r.seed, r.iteration, r.tokens, "
        " r.finish_reason, r.text, coalesce(c.stage, 'human') "
        "FROM responses r "
        "LEFT JOIN cells c ON c.iteration = r.iteration AND c.cell = r.cell WHERE r.response_id = ?",
        (response_id,),
    )[0]
    cell, model, revision, decoding, seed, iteration, tokens, finish_reason, text, stage = row
    people = stage == "human"  # nobody decoded these
    scores = store.query("SELECT judge, score, reason FROM scores WHERE response_id = ? ORDER BY judge", (response_id,))
    return Answer(
        side,
        response_id,
        cell,
        "" if people and model == cell else model,
        "" if people else revision,
        "" if people or decoding is None else _told(quoted(_decoding(json.loads(decoding)))),
        None if people or seed is None else seed % 2**64,
        iteration,
        tokens,
        finish_reason,
        text,
        tuple((judge, score, reason) for judge, score, reason in scores),
    )


def _decoding(options: dict[str, Any]) -> dict[str, Any]:
    """Without what is switched off."""
    order = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens", "stop", "system_prompt", "prompt_format")
    named = {k: options[k] for k in (*order, *sorted(options.keys() - set(order))) if k in options}
    return {k: v for k, v in named.items() if v not in (None, []) and not (k in ("top_k", "min_p") and v == 0)}


def _unknown(store: RunStore, pair_id: str) -> str:
    known = [row[0] for row in store.query("SELECT pair_id FROM pairs ORDER BY iteration, position")]
    if not known:
        return f"no pair {pair_id!r}: this run has made no pairs yet"
    near = [p for p in known if pair_id and p.startswith(pair_id)][:3]
    near = near or difflib.get_close_matches(pair_id, known, n=3, cutoff=0.5) or known[:3]
    return f"no pair {pair_id!r} in this run; its ids look like {', '.join(near)}"
