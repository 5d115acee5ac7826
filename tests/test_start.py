"""What is said and refused before the first answer."""

import io

import pytest
from rich.console import Console
from tso.progress import Face
from tso.settings import load
from tso.start import identity, prepare
from tso.store import RunStore

from tests.tiny import words


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (["model.dtype=bfloat16", "training.learning_rate=1e-6"], 1),
        (["model.dtype=bfloat16", "training.learning_rate=1e-3"], 0),
        (["model.dtype=bfloat16", "training.learning_rate=1e-6", "training.method=lora"], 0),
        (["model.dtype=float32", "training.learning_rate=1e-6", "training.bf16=true"], 0),
    ],
)
def test_steps_that_half_precision_would_round_away_are_warned_of_once(tiny, tmp_path, options, warned):
    if "training.method=lora" in options:
        pytest.importorskip("peft", reason="peft is an extra")
    config = load(None, [*words(tiny, tmp_path / "out"), *options])
    said = io.StringIO()
    with RunStore.open_or_create(tmp_path / "out", identity(config)) as store:
        for _ in range(2):
            prepare(store, config, Face(console=Console(file=said, width=500)))
    assert said.getvalue().count("rounds away most steps of training.learning_rate=1e-06") == warned
