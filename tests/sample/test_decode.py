"""Decoding of a batch held to its obvious twin: every row alone, step by step, with no cache at all."""

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.records import Decoding, Message, Prompt
from tso.sample import decode
from tso.sample.base import Request, uniforms
from tso.sample.transformers import TransformersSampler

from tests.families import llama, mamba, mistral

STOPS = [3, 5]
COMMON = [2, 9, 8, 7, 6, 9, 10, 11, 12, 13]


def twin(model, prompt, draws, decoding):
    ids = list(prompt)
    for step in range(min(len(draws), decoding.max_new_tokens)):
        scores = model(torch.tensor([ids]), use_cache=False).logits[:, -1]
        ids.append(int(decode.pick(scores, draws[None, step], decoding)))
        if ids[-1] in STOPS:
            break
    return ids[len(prompt) :]


@pytest.fixture(scope="module")
def model():
    return llama()


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    common=st.integers(0, len(COMMON)),
    tails=st.lists(st.lists(st.integers(6, 19), min_size=1, max_size=12), min_size=1, max_size=7),
    limits=st.lists(st.integers(1, 9), min_size=7, max_size=7),
)
@torch.inference_mode()
def test_a_batch_answers_as_each_row_does_alone(model, seed, common, tails, limits):
    prompts = [COMMON[:common] + tail for tail in tails]
    ways = [Decoding(1.5, 0.95, 0, limit) for limit in limits]
    ways[1::2] = [Decoding(0.7, 1.0, 5, limit) for limit in limits[1::2]]
    ways = ways[: len(prompts)]
    draws = torch.from_numpy(uniforms(range(seed, seed + len(prompts)), 9))
    found = decode.complete(model, prompts, draws, ways, STOPS, 1)
    assert found == [twin(model, *row) for row in zip(prompts, draws, ways, strict=True)]


@pytest.mark.parametrize("family", [mistral, mamba])
@torch.inference_mode()
def test_models_with_other_caches_give_the_same_answers(family):
    other = family()
    # Recurrent states see padding, as everywhere in transformers, so these rows are of one length.
    prompts = [[*COMMON, 6 + i, 12] for i in range(6)]
    ways = [Decoding(1.5, 0.95, 0, 8)] * 6
    draws = torch.from_numpy(uniforms(range(6), 8))
    found = decode.complete(other, prompts, draws, ways, STOPS, 1)
    assert found == [twin(other, *row) for row in zip(prompts, draws, ways, strict=True)]
    assert len({len(row) for row in found}) > 1, "rows of one length would show nothing"


def test_work_that_no_answer_needs_is_not_done(model):
    """Rows that have ended are not computed again, and the common part of the prompts is read once."""
    prompts = [[*COMMON, 6 + i] for i in range(10)]
    draws = torch.from_numpy(uniforms(range(10), 30))
    shapes = []
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    try:
        found = decode.complete(model, prompts, draws, [Decoding(2.0, 1.0, 0, 30)] * 10, STOPS, 1)
    finally:
        hook.remove()
    assert (1, len(COMMON)) in shapes
    assert (10, 1) in shapes
    assert (10, len(prompts[0])) not in shapes
    computed = sum(rows for rows, columns in shapes if columns == 1)
    assert computed < 0.75 * 10 * max(map(len, found)), "as much as if no row had left"


SUGGESTED = {
    "repetition_penalty": 3.0,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": [23, 24, 25],
    "min_new_tokens": 8,
    "forced_eos_token_id": 3,
    "num_beams": 3,
    "temperature": 0.1,
}


def test_what_a_models_files_suggest_changes_no_answer(tiny, tmp_path):
    prompt = Prompt("p", (Message("user", "we like tea"),))
    requests = [Request(prompt, Decoding(1.5, 0.95, 0, 8), seed) for seed in range(8)]

    def answers(**suggested):
        folder = shutil.copytree(tiny / "model", tmp_path / "-".join(suggested or ["plain"]))
        settings = json.loads((folder / "generation_config.json").read_text())
        (folder / "generation_config.json").write_text(json.dumps({**settings, **suggested}))
        return TransformersSampler(torch.device("cpu"), torch.float32).sample(str(folder), requests)

    plain = answers()
    for name, value in SUGGESTED.items():
        assert answers(**{name: value}) == plain, name
    first = plain[0].token_ids[0]
    assert answers(eos_token_id=[3, first])[0].token_ids == (first,), "what ends a turn is the model's to say"
