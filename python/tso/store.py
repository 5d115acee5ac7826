"""The run store as Python sees it: records in, records out. The SQLite work is Rust's (`tso._core.Ledger`).

Writing goes by units: everything a stage finishes at once is one `commit`, durable or absent. Nothing here decides
anything about the method.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tso._core import Ledger, Plan
from tso.errors import InternalError, StoreConflict, StoreError, StoreFull
from tso.records import Cell, Correction, Decoding, Label, Message, Pair, Prompt, Response
from tso.store_rows import Rows, dumps

FILE = "run.sqlite"


class RunStore:
    """One run's store. A context manager; the writer holds the run, readers need no permission."""

    def __init__(self, ledger: Ledger, folder: Path):
        self._ledger = ledger
        self.folder = folder

    @classmethod
    def open_or_create(cls, folder: Path, identity: Mapping[str, str]) -> RunStore:
        """The run in `folder`, made if absent. Raises StoreConflict when it is another run than `identity` tells.

        A run has settings from its start on: until that is committed, a mistake can be mended in the same folder.
        """
        path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            store = cls(Ledger.open(str(path)) if path.exists() else Ledger.create(str(path), {}), folder)
        except StoreFull:
            raise
        except OSError as err:
            raise StoreError(f"cannot write the run in {folder}: {err}") from err
        if not store.done(0, "start"):
            return store
        found = store.meta()
        for key, value in identity.items():
            if found.get(key) != value:
                store.close()
                raise StoreConflict(
                    f"{folder} holds a run with other settings ({_difference(key, _parsed(found.get(key)), _parsed(value))}); "
                    "restore them to resume it, or choose another run.output_dir"
                )
        return store

    @classmethod
    def open_read_only(cls, folder: Path) -> RunStore:
        return cls(Ledger.open(str(folder / FILE), read_only=True), folder)

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._ledger.close()

    def meta(self) -> dict[str, str]:
        """What the file was made with, and the settings of the run once it has started."""
        settings = self.info(0, "start").get("settings", {}) if self.done(0, "start") else {}
        return {**self._ledger.meta(), **settings}

    def fork(self, folder: Path) -> None:
        """A second, independent store that starts from this moment."""
        folder.mkdir(parents=True, exist_ok=True)
        self._ledger.fork(str(folder / FILE))

    # Units

    def done(self, iteration: int, stage: str, unit: int = 0) -> bool:
        return self._ledger.is_done(iteration, stage, unit)

    def info(self, iteration: int, stage: str, unit: int = 0) -> dict[str, Any]:
        """What the unit wanted remembered. Raises InternalError if it is not finished."""
        text = self._ledger.info(iteration, stage, unit)
        if text is None:
            raise InternalError(f"stage {stage} of iteration {iteration} was asked for before it was finished")
        info: dict[str, Any] = json.loads(text)
        return info

    def commit(
        self, iteration: int, stage: str, rows: Rows | None = None, *, unit: int = 0, info: Mapping[str, Any] = {}
    ) -> None:
        self._ledger.write(iteration, stage, unit, dumps(dict(info)), rows or {})

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a reading statement."""
        return self._ledger.query(sql, tuple(params))[1]

    def next_id(self, table: str, column: str) -> int:
        """The first free number of a table whose rows are numbered in the order of writing."""
        return int(self.query(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}")[0][0])

    # Plan

    def choose_prompts(self, iteration: int, size: int, seed: int, weights: Mapping[str, float]) -> list[str]:
        return self._ledger.choose_prompts(iteration, size, seed, dict(weights))

    def plan(
        self, iteration: int, purpose: str, seed: int, prompts: Sequence[str], cells: Sequence[Cell], batch_size: int
    ) -> Plan:
        """Lay down the plan of an iteration's draws, or find it there."""
        answered = [p.id for p in self.prompts() if p.human]
        wanted = [
            (c.name, c.draws, sorted(set(prompts) & set(answered), key=prompts.index), None)
            if c.stage == "human"
            else (c.name, c.draws, None, c.path)
            for c in cells
            if c.draws
        ]
        return self._ledger.plan_draws(iteration, purpose, seed, list(prompts), wanted, batch_size)

    def pending(self, iteration: int, purpose: str) -> list[int]:
        """The batches of the plan that are not recorded yet."""
        return self._ledger.pending(iteration, purpose)

    def record(
        self, iteration: int, purpose: str, batch: int, answers: Iterable[tuple[str, Sequence[int], str]]
    ) -> None:
        """The answers (text, token ids, finish reason) to a batch of the plan, in the order of its draws."""
        rows = [(text, np.asarray(ids, dtype="<u4").tobytes(), finish_reason) for text, ids, finish_reason in answers]
        self._ledger.record(iteration, purpose, batch, rows)

    def free_response_id(self) -> int:
        """The first free number for a text that no draw has asked for; more may follow it."""
        return self._ledger.free_response_id()

    # Records

    def prompts(self, split: str | None = None) -> list[Prompt]:
        rows = self.query(
            "SELECT prompt_id, messages, human, split, tags FROM prompts "
            "WHERE ?1 IS NULL OR split = ?1 ORDER BY position",
            (split,),
        )
        return [_prompt(*row) for row in rows]

    def batch(self, iteration: int) -> list[str]:
        rows = self.query("SELECT prompt_id FROM batches WHERE iteration = ? ORDER BY position", (iteration,))
        return [row[0] for row in rows]

    def cells(self, iteration: int) -> list[Cell]:
        rows = self.query(
            "SELECT cell, model, path, revision, stage, scale, decoding, prior, strength, draws "
            "FROM cells WHERE iteration = ? ORDER BY position",
            (iteration,),
        )
        return [_cell(*row) for row in rows]

    def responses(self, iteration: int, purpose: str) -> list[Response]:
        """In the order of the plan; people's edits, which no draw planned, are found by `response`."""
        rows = self.query(
            "SELECT response_id, prompt_id, cell, text, token_ids, finish_reason, iteration "
            "FROM sampled WHERE iteration = ? AND purpose = ? ORDER BY response_id",
            (iteration, purpose),
        )
        return [_response(*row) for row in rows]

    def responses_by_id(self, ids: Iterable[int]) -> dict[int, Response]:
        wanted = dumps(sorted(set(ids)))
        rows = self.query(
            "SELECT response_id, prompt_id, cell, text, token_ids, finish_reason, iteration FROM responses "
            "WHERE response_id IN (SELECT value FROM json_each(?))",
            (wanted,),
        )
        return {row[0]: _response(*row) for row in rows}

    def unanswered(self, iteration: int, purpose: str) -> dict[int, str]:
        """Draws to which a server had no answer, by number, and what it said instead."""
        rows = self.query(
            "SELECT unit, json_extract(info, '$.unanswered') FROM units "
            "WHERE iteration = ? AND stage = ? AND info <> '{}'",
            (iteration, f"arrived/{purpose}"),
        )
        return {draw: why for draw, why in rows if why is not None}

    def dropped(self, kind: str, iteration: int | None = None) -> set[str]:
        rows = self.query("SELECT id FROM drops WHERE kind = ?1 AND (?2 IS NULL OR iteration = ?2)", (kind, iteration))
        return {row[0] for row in rows}

    def pairs(self, iteration: int | None = None, purpose: str = "train", *, dropped: bool = False) -> list[Pair]:
        """Pairs with the label in force, in order; those that were dropped only when asked for."""
        rows = self.query(
            "SELECT p.pair_id, p.iteration, p.prompt_id, p.response_a, p.response_b, p.similarity, "
            "       l.source, l.chosen, l.rejected, l.confidence, l.weight "
            "FROM pairs p JOIN labels l ON l.label_id = (SELECT max(label_id) FROM labels WHERE pair_id = p.pair_id) "
            "WHERE p.purpose = ?1 AND (?2 IS NULL OR p.iteration = ?2) "
            "AND (?3 OR NOT EXISTS (SELECT 1 FROM drops d WHERE d.kind = 'pair' AND d.id = p.pair_id)) "
            "ORDER BY p.iteration, p.position",
            (purpose, iteration, int(dropped)),
        )
        return [_pair(row[:6], Label(*row[6:])) for row in rows]

    def corrections(self) -> list[Correction]:
        rows = self.query(
            "SELECT pair_id, source, author, verdict, confidence, reason, text, answer, verdict_id FROM corrections "
            "ORDER BY correction_id"
        )
        return [Correction(*row) for row in rows]

    def rewards(self, iteration: int) -> dict[int, float]:
        """Implicit rewards by response id; empty where the policy had none to give."""
        rows = self.query("SELECT response_id, reward FROM rewards WHERE iteration = ?", (iteration,))
        return {row[0]: row[1] for row in rows}

    def logps(self, iteration: int, model: str) -> dict[str, tuple[float, float]]:
        """(chosen, rejected) summed log-probs in nats by pair id."""
        rows = self.query(
            "SELECT pair_id, chosen, rejected FROM logps WHERE iteration = ? AND model = ?", (iteration, model)
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def strengths(self, iteration: int) -> dict[str, tuple[float, float]]:
        """(strength, standard error) by cell, as re-estimated at the end of `iteration`."""
        rows = self.query("SELECT cell, strength, stderr FROM strengths WHERE iteration = ?", (iteration,))
        return {row[0]: (row[1], row[2]) for row in rows}

    def noise(self, iteration: int) -> dict[str, float]:
        """Chance that the label is wrong by pair id, for the pairs of `iteration` that have an estimate."""
        return dict(self.query("SELECT pair_id, noise FROM noise WHERE iteration = ?", (iteration,)))

    def checkpoint(self, iteration: int, role: str) -> tuple[str, str]:
        """(path, sha256) of the policy or the reference as it stood after `iteration` (0: the start)."""
        rows = self.query("SELECT path, sha256 FROM checkpoints WHERE iteration = ? AND role = ?", (iteration, role))
        if not rows:
            raise InternalError(f"no {role} is recorded for iteration {iteration}")
        return rows[0][0], rows[0][1]

    def balance(self, iteration: int) -> dict[str, int]:
        """Where the answers of an iteration went: sampled = paired + dropped by each reason.

        Counts every response once and raises InternalError when the sum is off, or when a pair left twice or was trained
        on although it had left; that stops the run.
        """
        sampled = {r.id for r in self.responses(iteration, "train")}
        used = {side for p in self.pairs(iteration, dropped=True) for side in (p.response_a, p.response_b)} & sampled
        reasons = self.query("SELECT reason, id FROM drops WHERE kind = 'response' AND iteration = ?", (iteration,))
        counts = {"sampled": len(sampled), "paired": len(used)}
        for reason, _ in reasons:
            counts[f"dropped/{reason}"] = counts.get(f"dropped/{reason}", 0) + 1
        left = {int(r[1]) for r in reasons}
        if left | used != sampled or left & used or len(left) != len(reasons):
            raise InternalError(f"iteration {iteration}: the counts do not balance: {counts}; please report this")
        made = {p.id for p in self.pairs(iteration, dropped=True)}
        gone = [
            row[0] for row in self.query("SELECT id FROM drops WHERE kind = 'pair' AND iteration = ?", (iteration,))
        ]
        trained = {row[0] for row in self.query("SELECT pair_id FROM outcomes WHERE iteration = ?", (iteration,))}
        if len(set(gone)) != len(gone) or not set(gone) <= made or not trained <= made - set(gone):
            raise InternalError(f"iteration {iteration}: a pair left twice, or after it was used; please report this")
        return counts


def _prompt(prompt_id: str, messages: str, human: str, split: str, tags: str) -> Prompt:
    return Prompt(
        prompt_id, tuple(Message(**m) for m in json.loads(messages)), tuple(json.loads(human)), split, json.loads(tags)
    )


def _cell(
    name: str,
    model: str,
    path: str,
    revision: str,
    stage: str,
    scale: float | None,
    decoding: str,
    prior: float,
    strength: float,
    draws: int,
) -> Cell:
    options = json.loads(decoding)
    how = Decoding(**{**options, "stop": tuple(options.get("stop", ()))})
    return Cell(name, model, path, revision, stage, scale, how, prior, strength, draws)


def _pair(columns: tuple[Any, ...], label: Label) -> Pair:
    pair_id, iteration, prompt_id, a, b, similarity = columns
    return Pair(pair_id, iteration, prompt_id, a, b, similarity, label)


def _response(rid: int, prompt_id: str, cell: str, text: str, ids: bytes, finish: str, iteration: int) -> Response:
    return Response(rid, prompt_id, cell, text, tuple(np.frombuffer(ids, dtype="<u4").tolist()), finish, iteration)


def _parsed(setting: str | None) -> Any:
    return None if setting is None else json.loads(setting)


def _difference(name: str, was: Any, now: Any) -> str:
    """The first option within a setting that differs, by name, with both values."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            if dumps(was.get(key)) != dumps(now.get(key)):
                return _difference(f"{name}.{key}", was.get(key), now.get(key))
    if isinstance(was, list) and isinstance(now, list):
        for i, (one, other) in enumerate(zip_longest(was, now)):
            if dumps(one) != dumps(other):
                return _difference(f"{name}[{i}]", one, other)
    return f"{name} was {_short(was)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
