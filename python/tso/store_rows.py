"""Records as rows of the run store's tables, ready to be committed. Knows the tables' columns, and no store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tso.errors import InternalError
from tso.records import Cell, Label, Prompt, Response, Score

Rows = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


def dumps(value: Any) -> str:
    """JSON that is the same bytes for the same content."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def prompt_rows(prompts: Sequence[Prompt]) -> Rows:
    columns = ["prompt_id", "position", "split", "messages", "human", "tags"]
    rows = [
        (
            p.id,
            i,
            p.split,
            dumps([{"role": m.role, "content": m.content} for m in p.messages]),
            dumps(list(p.human)),
            dumps(dict(p.tags)),
        )
        for i, p in enumerate(prompts)
    ]
    return {"prompts": (columns, rows)}


def response_rows(responses: Iterable[Response]) -> Rows:
    """Rows of texts that no draw has asked for; answers to draws are recorded by batch."""
    columns = ["response_id", "iteration", "prompt_id", "cell", "text", "token_ids", "tokens", "finish_reason"]
    rows = [
        (
            r.id,
            r.iteration,
            r.prompt_id,
            r.cell,
            r.text,
            np.asarray(r.token_ids, dtype="<u4").tobytes(),
            len(r.token_ids),
            r.finish_reason,
        )
        for r in responses
    ]
    return {"responses": (columns, rows)}


def drop_rows(iteration: int, stage: str, kind: str, drops: Iterable[tuple[Any, str, str]]) -> Rows:
    """Rows of (id, reason, detail)."""
    columns = ["iteration", "stage", "kind", "id", "reason", "detail"]
    return {"drops": (columns, [(iteration, stage, kind, str(i), reason, detail) for i, reason, detail in drops])}


def label_rows(first_id: int, iteration: int, labels: Iterable[tuple[str, Label]]) -> Rows:
    columns = ["label_id", "pair_id", "iteration", "source", "chosen", "rejected", "confidence", "weight"]
    rows = [
        (first_id + i, pair_id, iteration, label.source, label.chosen, label.rejected, label.confidence, label.weight)
        for i, (pair_id, label) in enumerate(labels)
    ]
    return {"labels": (columns, rows)}


def score_rows(judge: str, scores: Mapping[int, Score]) -> Rows:
    columns = ["response_id", "judge", "score", "reason"]
    return {"scores": (columns, [(i, judge, s.value, s.reason) for i, s in sorted(scores.items())])}


def metric_rows(iteration: int, step: int, metrics: Mapping[str, float]) -> Rows:
    columns = ["iteration", "step", "name", "value"]
    return {"metrics": (columns, [(iteration, step, k, float(v)) for k, v in sorted(metrics.items())])}


def cell_rows(iteration: int, cells: Sequence[Cell], first: int = 0) -> Rows:
    columns = [
        "iteration",
        "cell",
        "position",
        "model",
        "path",
        "revision",
        "stage",
        "scale",
        "decoding",
        "prior",
        "strength",
        "draws",
    ]
    rows = [
        (
            iteration,
            c.name,
            first + i,
            c.model,
            c.path,
            c.revision,
            c.stage,
            c.scale,
            dumps(asdict(c.decoding)),
            c.prior,
            c.strength,
            c.draws,
        )
        for i, c in enumerate(cells)
    ]
    return {"cells": (columns, rows)}


def merge(*parts: Rows) -> Rows:
    """Several row sets as one; the same table may come more than once with the same columns."""
    whole: Rows = {}
    for part in parts:
        for table, (columns, rows) in part.items():
            if table in whole and whole[table][0] != columns:
                raise InternalError(f"two writers of {table} disagree about its columns")
            whole[table] = (columns, [*(whole[table][1] if table in whole else []), *rows])
    return whole
