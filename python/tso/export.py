"""Files beside the store, each made from it anew and renamed into place: pairs.parquet, metrics.jsonl, final."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

from tso.store import RunStore


def write_all(store: RunStore, iteration: int) -> None:
    write_pairs(store, iteration)
    write_metrics(store)
    link_final(store, iteration)


def write_pairs(store: RunStore, iteration: int) -> Path:
    """iteration-N/pairs.parquet: the trained pairs as conversations, ready for any DPO trainer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    prompts = {p.id: p for p in store.prompts()}
    pairs = store.pairs(iteration)
    texts = store.responses_by_id(s for p in pairs for s in (p.label.chosen, p.label.rejected) if s is not None)
    rows = [
        {
            "pair_id": p.id,
            "prompt": [{"role": m.role, "content": m.content} for m in prompts[p.prompt_id].messages],
            "chosen": [{"role": "assistant", "content": texts[p.label.chosen].text}],
            "rejected": [{"role": "assistant", "content": texts[p.label.rejected].text}],
            "source": p.label.source,
            "confidence": p.label.confidence,
            "weight": p.label.weight,
        }
        for p in pairs
        if p.label.chosen is not None and p.label.rejected is not None
    ]
    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pa.schema(
        [
            ("pair_id", pa.string()),
            ("prompt", message),
            ("chosen", message),
            ("rejected", message),
            ("source", pa.string()),
            ("confidence", pa.float64()),
            ("weight", pa.float64()),
        ]
    )
    path = store.folder / f"iteration-{iteration}" / "pairs.parquet"
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    part.replace(path)
    return path


def write_metrics(store: RunStore) -> Path:
    """metrics.jsonl: one line an optimiser step; step 0 holds what belongs to the iteration as a whole."""
    lines: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for iteration, step, name, value in store.query(
        "SELECT iteration, step, name, value FROM metrics ORDER BY iteration, step, name"
    ):
        lines[iteration, step][name] = value
    text = "".join(
        json.dumps({"iteration": iteration, "step": step, **values}) + "\n"
        for (iteration, step), values in lines.items()
    )
    path = store.folder / "metrics.jsonl"
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def link_final(store: RunStore, iteration: int) -> None:
    """`final` points to the last checkpoint; where that cannot be (no links, a folder of that name), final.txt names it."""
    path = store.checkpoint(iteration, "policy")[0]
    link, part, told = (store.folder / name for name in ("final", "final.part", "final.txt"))
    part.unlink(missing_ok=True)
    try:
        os.symlink(path, part, target_is_directory=True)
        os.replace(part, link)
        told.unlink(missing_ok=True)
    except OSError:
        part.unlink(missing_ok=True)
        told.write_text(path + "\n", encoding="utf-8")


def final(folder: Path) -> Path:
    """The folder of the last checkpoint, by the name that a person would use."""
    told = folder / "final.txt"
    return folder / told.read_text(encoding="utf-8").rstrip("\n") if told.exists() else folder / "final"
