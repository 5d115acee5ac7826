"""Sampling from one server and nothing else, as a program of its own that can be killed at any moment:

    python -m tests.sample.sampling FOLDER BASE_URL

Makes the store in FOLDER if it is not there, and goes on where it was if it is. Loads no torch, so it starts quickly.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tso import matrix
from tso.config import CellSection, Config, MatrixSection, SampleSection, ServerSection
from tso.matrix import Snapshot
from tso.progress import Face
from tso.records import Message, Prompt
from tso.sample.endpoint import endpoint_of
from tso.sample.stage import sample
from tso.store import RunStore
from tso.store_rows import cell_rows, merge, prompt_rows

from tests.sample.server import MODEL

PROMPTS = [Prompt(f"p{i}", (Message("user", f"tell of {i}"),)) for i in range(40)]


def config(base_url: str) -> Config:
    far = CellSection(name="far", model=f"openai:{MODEL}", base_url=base_url, draws=3, temperature=0.7)
    hot = replace(far, name="hot", temperature=1.2, draws=2)
    return replace(
        Config(),
        matrix=MatrixSection(cells=(far, hot)),
        sample=SampleSection(batch_size=16),
        server=ServerSection(concurrency=6, timeout=20.0),
    )


def encode(text: str) -> tuple[int, ...]:
    """Not a tokenizer: a token a character, and one that ends."""
    return (*map(ord, text), 0)


def main(folder: Path, base_url: str) -> None:
    options = config(base_url)
    endpoint = endpoint_of(options.matrix.cells[0])
    known = {endpoint.path: Snapshot(endpoint.path, f"{endpoint.path} {MODEL}")}
    start = Snapshot("start", "start")
    cells = matrix.build(options, 1, [start], start, known, 1.0, {}, {})
    with RunStore.open_or_create(folder, {}) as store:
        if not store.done(0, "start"):
            store.commit(0, "start", merge(prompt_rows(PROMPTS), cell_rows(1, cells)))
        sample(store, options, 1, "train", [p.id for p in PROMPTS], store.cells(1), encode, Face(quiet=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
