"""Shared beginnings are read once, and nothing else changes: hidden states and gradients equal those of whole rows."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tso.errors import InternalError
from tso.training.collate import IGNORE, batch_of
from tso.training.states import hidden_states, shares

from tests.families import llama, mamba, mistral

PAD = 1
tokens = st.integers(6, 19)
sides = st.builds(
    lambda trunk, prompts, answers: [
        ((*trunk, *prompts[i % len(prompts)], 7), tuple(answer)) for i, answer in enumerate(answers)
    ],
    st.lists(tokens, max_size=12),
    st.lists(st.lists(tokens, max_size=5), min_size=1, max_size=4),
    st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=8),
)


@pytest.fixture(scope="module")
def model():
    return llama()


def rows_of(batch):
    """Every row as the model reads it: its ancestors' tokens and its own."""
    rows = [()]
    for level in batch["levels"]:
        own = [ids[mask.bool()].tolist() for ids, mask in zip(level["input_ids"], level["attention_mask"], strict=True)]
        rows = [(*rows[parent], *mine) for parent, mine in zip(level["parent"].tolist(), own, strict=True)]
    return rows


@given(sides, st.booleans())
@example([((7,), (8, 9)), ((7, 8), (9,))], True)
def test_a_batch_holds_every_row_and_counts_its_answer(sides, share):
    batch = batch_of(sides, PAD, share=share)
    assert rows_of(batch) == [(*prompt, *answer[:-1]) for prompt, answer in sides]
    counted = [tuple(row[row != IGNORE].tolist()) for row in batch["labels"]]
    assert counted == [answer for _, answer in sides]
    assert batch["labels"].shape == batch["levels"][-1]["input_ids"].shape


@settings(deadline=None, max_examples=40)
@given(sides)
@example([((7,), (8, 9)), ((7, 8), (9,))])
def test_states_and_gradients_equal_those_of_whole_rows(model, sides):
    def read(share):
        batch = batch_of(sides, PAD, share=share)
        states = hidden_states(model, batch)[batch["labels"] != IGNORE]
        scale = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)
        return states, torch.autograd.grad((states * scale).sum(), list(model.model.parameters()))

    (whole, expected), (shared, found) = read(False), read(True)
    assert torch.allclose(shared, whole, rtol=1e-6, atol=1e-7)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-6  # the norms of this family compute in float32


def test_only_models_that_can_share_do():
    assert shares(llama())
    assert not shares(mistral())
    assert not shares(mamba())


def test_a_shared_batch_is_never_read_without_its_beginning():
    batch = batch_of([((6, 7, 8), (9, 10)), ((6, 7, 8), (11,))], PAD, share=True)
    with pytest.raises(InternalError, match="kept no cache"):
        hidden_states(mamba_that_takes_positions(), batch)


def mamba_that_takes_positions():
    model = mamba()
    forward = model.base_model.forward
    model.base_model.forward = lambda position_ids, **options: forward(**options)
    return model


def test_a_model_that_reads_positions_wrongly_is_found_out(monkeypatch):
    model = llama(initializer_range=0.2)  # with less, two layers hardly tell positions apart
    assert shares(model)
    backbone = model.model
    forward = backbone.forward

    def deaf(input_ids, attention_mask=None, position_ids=None, **options):
        return forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=None, **options)

    monkeypatch.setattr(backbone, "forward", deaf)
    assert not shares(model)


def test_a_shared_beginning_is_read_once(model):
    trunk = tuple(range(6, 18))
    sides = [((*trunk, 6, 7 + i // 2, 9), (8, 9 + i, 10)) for i in range(6)]
    shapes = []
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    try:
        hidden_states(model, batch_of(sides, PAD, share=True))
    finally:
        hook.remove()
    assert shapes == [(1, 13), (3, 1), (6, 3)]
