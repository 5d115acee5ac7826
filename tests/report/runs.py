"""Small run stores with known numbers, written straight through the ledger, and texts that try to break out of a page."""

import json
import struct
from pathlib import Path

from tso._core import Ledger

SCRIPT = '<script>alert("x")</script>'
IMAGE = '<img src="http://evil.example/a.png" onerror=alert(1)>'
ESCAPES = "plain \x1b[31mred\x1b[0m and \u202eturned"
SEED = 2**64 - 5  # stored as -5

META = {
    "model.name_or_path": json.dumps(f"tiny & small {SCRIPT}"),
    "model.gguf_file": "null",
    "training.beta": "0.125",
    "training.chosen_clip": '"inf"',
    "run.seed": "7",
    "matrix.cells": json.dumps([{"name": "human", "model": "human"}, {"name": "policy-1.0", "model": "policy"}]),
    "training.method": '"full"',
}

COLUMNS = {
    "prompts": ["prompt_id", "position", "split", "messages", "human", "tags"],
    "batches": ["iteration", "position", "prompt_id"],
    "cells": [
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
    ],
    "responses": [
        "response_id",
        "iteration",
        "prompt_id",
        "cell",
        "seed",
        "text",
        "token_ids",
        "tokens",
        "finish_reason",
    ],
    "pairs": ["pair_id", "iteration", "purpose", "position", "prompt_id", "response_a", "response_b", "similarity"],
    "labels": ["label_id", "pair_id", "iteration", "source", "chosen", "rejected", "confidence", "weight"],
    "corrections": [
        "correction_id",
        "pair_id",
        "iteration",
        "source",
        "author",
        "verdict",
        "confidence",
        "text",
        "reason",
    ],
    "scores": ["response_id", "judge", "score", "reason"],
    "drops": ["iteration", "stage", "kind", "id", "reason", "detail"],
    "strengths": ["iteration", "cell", "prior", "strength", "stderr", "low", "high", "comparisons"],
    "logps": ["iteration", "pair_id", "model", "chosen", "rejected"],
    "outcomes": ["iteration", "pair_id", "chosen_reward", "rejected_reward", "chosen_saturated", "rejected_saturated"],
    "metrics": ["iteration", "step", "name", "value"],
}


def empty_run(folder: Path, meta: dict[str, str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Ledger.create(str(folder / "run.sqlite"), META if meta is None else meta).close()
    return folder


def write(folder: Path, iteration: int, stage: str, info: dict | None = None, **tables: list[tuple]) -> None:
    ledger = Ledger.open(str(folder / "run.sqlite"))
    rows = {name: (COLUMNS[name], values) for name, values in tables.items()}
    ledger.write(iteration, stage, 0, json.dumps(info or {}), rows)
    ledger.close()


def plan(folder: Path, purpose: str, prompt: str, cells: list[tuple[str, int]]) -> None:
    with Ledger.open(str(folder / "run.sqlite")) as ledger:
        ledger.plan_draws(1, purpose, 7, [prompt], cells, 10)


def response(number: int, seed: int | None, prompt: str, cell: str, text: str, finish: str = "stop") -> tuple:
    return (number, 1, prompt, cell, seed, text, struct.pack("<2I", 5, 6), 2, finish)


def full_run(folder: Path) -> Path:
    """One finished iteration: six planned answers, five sampled, one dropped; three pairs: trained, edited, dropped."""
    empty_run(folder)
    question = json.dumps([{"role": "system", "content": "be kind"}, {"role": "user", "content": f"why? {SCRIPT}"}])
    decoding = json.dumps({"temperature": 0.7, "top_p": 0.95, "top_k": 0, "max_new_tokens": 32, "system_prompt": None})
    write(
        folder,
        0,
        "start",
        {"rejected": 3},
        prompts=[("q1", 0, "train", question, "[]", "{}"), ("q2", 1, "heldout", question, "[]", "{}")],
    )
    write(
        folder,
        1,
        "choose",
        batches=[(1, 0, "q1")],
        cells=[
            (1, "human", 0, "human", "", "human", "human", None, "{}", 2.0, 2.0, 1),
            (1, "policy-1.0", 1, "policy", "x", "a1b2c3d4e5f6a7b8c9", "policy", 0.1, decoding, 0.5, 0.5, 5),
        ],
    )
    plan(folder, "train", "q1", [("human", 1), ("policy-1.0", 5)])
    cells = ["human", *["policy-1.0"] * 5]
    texts = [f"human says {IMAGE}", f"model says {SCRIPT}", ESCAPES, "fourth\nanswer", ""]
    write(
        folder,
        1,
        "sample/train",
        responses=[response(i + 1, SEED if i == 1 else i, "q1", cells[i], text) for i, text in enumerate(texts)],
    )
    write(
        folder,
        1,
        "pair/train",
        pairs=[
            ("paaa111", 1, "train", 0, "q1", 1, 2, 0.25),
            ("paab222", 1, "train", 1, "q1", 2, 3, 0.5),
            ("pbbb333", 1, "train", 2, "q1", 3, 4, 0.75),
        ],
        labels=[
            (1, "paaa111", 1, "prior", 1, 2, 0.875, 1.0),
            (2, "paab222", 1, "prior", 2, 3, 0.625, 1.0),
            (3, "pbbb333", 1, "prior", None, None, 0.5, 1.0),
        ],
        drops=[(1, "pair/train", "response", "5", "empty", "")],
        metrics=[(1, 0, "data/responses", 5.0), (1, 0, "data/pairs", 3.0)],
    )
    write(
        folder,
        1,
        "correct/train",
        responses=[response(7, None, "q1", "human", f"edited {SCRIPT}")],
        scores=[(1, "rule:a", 0.75, "as asked"), (1, "rule:b", 0.5, f"{IMAGE}")],
        corrections=[
            (1, "paaa111", 1, "rule", "rule:a", "flip", 0.75, None, f"because {SCRIPT}"),
            (2, "paab222", 1, "human", "Ann", "edit", 1.0, f"edited {SCRIPT}", "two\nlines"),
            (3, "pbbb333", 1, "rule", "rule:a", "tie", 0.5, None, ""),
        ],
        labels=[(4, "paaa111", 1, "rule", 2, 1, 0.75, 1.0), (5, "paab222", 1, "human", 7, 3, 1.0, 1.0)],
        drops=[(1, "correct/train", "pair", "pbbb333", "tie", "no side is better")],
        metrics=[(1, 0, "feedback/flips", 1.0), (1, 0, "prior/error_rate", 0.3125)],
    )
    write(
        folder,
        1,
        "strengths",
        strengths=[
            (1, "human", 2.0, 1.375, 0.4375, 0.5, 2.25, 3),
            (1, "policy-1.0", 0.5, 0.75, 0.3125, 0.125, 1.375, 3),
        ],
        metrics=[(1, 0, "matrix/strength/human", 1.375)],
    )
    write(
        folder,
        1,
        "train",
        logps=[(1, "paaa111", "reference", -12.5, -20.25)],
        outcomes=[(1, "paaa111", 0.5, -0.25, 1, 0), (1, "paab222", 0.125, -0.125, 0, 0)],
        metrics=[(1, s, "loss", 0.7 - 0.0625 * s) for s in (1, 2, 3)]
        + [(1, s, "rewards/chosen", 0.1 * s) for s in (1, 2, 3)]
        + [(1, s, "clip/saturated", 0.0) for s in (1, 2, 3)],
    )
    write(folder, 1, "update")
    rows = [
        {"name": "start", "win_rate": 0.5, "words": 31},
        {"name": f"after {SCRIPT}", "win_rate": 0.6875, "words": 27},
    ]
    write(folder, 1, "evaluate/table", {"rows": rows, "columns": ["win_rate", "words"], "verdict": f"better {SCRIPT}"})
    write(folder, 1, "finish")
    return folder
