"""One pair's whole history as plain records, and which pairs show it; asked of the store."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from itertools import zip_longest
from typing import Any

from tso.errors import DataError
from tso.records import Message
from tso.report.judges import calls_on
from tso.report.quoting import quoted
from tso.report.shapes import Answer, Drop, History, Judgement, Labelled, Logps, Outcome, Said, ToJudge
from tso.report.words import told
from tso.store import RunStore

SAID = """
    SELECT annotator, round, said, side, text, reason, confidence, given,
        EXISTS (SELECT 1 FROM verdicts u WHERE u.takes_back = v.verdict_id),
        EXISTS (SELECT 1 FROM corrections c WHERE c.verdict_id = v.verdict_id)
    FROM verdicts v WHERE pair_id = ? AND said <> 'undo' ORDER BY verdict_id
"""


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
        to_judge=tuple(
            ToJudge(*row)
            for row in ask("SELECT judge, revision, round, position FROM judge_pairs WHERE pair_id = ? ORDER BY rowid")
        ),
        calls=calls_on(store, pair_id),
        said=tuple(map(_said, ask(SAID))),
        corrections=tuple(
            Judgement(*row)
            for row in ask(
                "SELECT source, author, verdict, confidence, reason, text, iif(iteration > "
                "(SELECT iteration FROM pairs p WHERE p.pair_id = c.pair_id), iteration, NULL) "
                "FROM corrections c WHERE pair_id = ? ORDER BY correction_id"
            )
        ),
        drops=tuple(
            Drop(*row)
            for row in ask(
                "SELECT stage, reason, detail FROM drops WHERE kind = 'pair' AND id = ? ORDER BY iteration, rowid"
            )
        ),
        noise=tuple((t, e) for t, e in ask("SELECT iteration, noise FROM noise WHERE pair_id = ? ORDER BY iteration")),
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


def _said(row: tuple[Any, ...]) -> Said:
    annotator, round, said, side, text, reason, confidence, given, back, up = row
    return Said(annotator, round, said, side, text, reason, confidence, given, bool(back), bool(up))


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
    rewards = store.query(
        "SELECT iteration, reward FROM rewards WHERE response_id = ? ORDER BY iteration", (response_id,)
    )
    return Answer(
        side,
        response_id,
        cell,
        "" if people and model == cell else model,
        "" if people else revision,
        "" if people or decoding is None else told(quoted(_decoding(json.loads(decoding)))),
        None if people or seed is None else seed % 2**64,
        iteration,
        tokens,
        finish_reason,
        text,
        tuple((judge, score, reason) for judge, score, reason in scores),
        tuple((iteration, reward) for iteration, reward in rewards),
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
