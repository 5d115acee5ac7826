"""What is said and refused before the first answer."""

import io

import pytest
from rich.console import Console
from tso.progress import Face
from tso.settings import load
from tso.start import identity, prepare
from tso.store import RunStore, _difference

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


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (1, 2, "x.y was 1, now 2"),
        (
            [{"draws": 2, "name": "a"}, {"draws": 2}],
            [{"draws": 2, "name": "a"}, {"draws": 3}],
            "x.y[1].draws was 2, now 3",
        ),
        ({"votes": 1, "a": None}, {"votes": 3, "a": None}, "x.y.votes was 1, now 3"),
        (["a"], ["a", "b"], 'x.y[1] was null, now "b"'),
        ({"a": 1}, None, 'x.y was {"a": 1}, now null'),
        ({"a": 1}, {"a": 1.0}, "x.y.a was 1, now 1.0"),
        ({}, {"a": None}, 'x.y was {}, now {"a": null}'),
        ("a" * 99, "b", 'x.y was "' + "a" * 56 + '..., now "b"'),
    ],
)
def test_the_option_that_differs_is_named(was, now, said):
    assert _difference("x.y", was, now) == said
