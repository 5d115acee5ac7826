"""The token that a uniform number picks, held to an obvious twin: one row, one sort, one loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tso.records import Decoding
from tso.sample.base import uniforms
from tso.sample.decode import pick


def twin(scores: np.ndarray, draw: float, decoding: Decoding) -> set[int]:
    """Token ids that `draw` may pick; more than one only where it falls within rounding of a border."""
    if decoding.temperature == 0:
        return {int(scores.argmax())}
    logits = scores.astype(np.float64) / decoding.temperature
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    order = np.argsort(-probs, kind="stable")
    if decoding.top_k:
        order = order[: decoding.top_k]
        probs = probs / probs[order].sum()
    kept, before = [], 0.0
    for token in order:
        if before < decoding.top_p and probs[token] >= decoding.min_p * probs.max():
            kept.append(int(token))
        before += probs[token]
    ends = np.cumsum(probs[kept]) / probs[kept].sum()
    return {
        kept[min(int(np.searchsorted(ends, draw + slack, side="right")), len(kept) - 1)] for slack in (-1e-5, 0, 1e-5)
    }


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary=st.sampled_from([3, 100, 200, 1500]),
    spread=st.sampled_from([0.1, 3.0, 20.0]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.1, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 50]),
    min_p=st.sampled_from([0.0, 0.001, 0.2, 0.999]),
)
def test_picks_what_the_twin_picks(seed, vocabulary, spread, temperature, top_p, top_k, min_p):
    rng = np.random.default_rng(seed)
    scores = (rng.normal(size=(4, vocabulary)) * spread).astype(np.float32)
    draws = rng.random(4)
    decoding = Decoding(temperature, top_p, min(top_k, vocabulary), min_p=min_p)
    picked = pick(torch.from_numpy(scores), torch.from_numpy(draws), decoding).tolist()
    for row in range(4):
        assert picked[row] in twin(scores[row], draws[row], decoding)
        alone = pick(torch.from_numpy(scores[row : row + 1]), torch.from_numpy(draws[row : row + 1]), decoding)
        assert alone.item() == picked[row], "a row's token depends on its neighbours"


def test_tokens_come_as_often_as_they_are_likely():
    probs = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = torch.from_numpy(uniforms([7], 20_000)[0])
    picked = pick(probs.log().expand(20_000, 4), draws, Decoding(1.0, 0.9))
    share = torch.bincount(picked, minlength=4) / 20_000
    assert share.tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0], abs=0.012)


def test_min_p_leaves_out_what_is_too_unlikely_beside_the_likeliest():
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4, 4)
    draws = torch.tensor([0.0, 0.6, 0.8, 0.999999], dtype=torch.double)
    assert decode_ids(scores, draws, 0.29) == [0, 1, 1, 2]
    assert decode_ids(scores, draws, 0.31) == [0, 0, 1, 1]
    assert decode_ids(scores, draws, 0.99) == [0, 0, 0, 0]


def decode_ids(scores, draws, min_p):
    return pick(scores, draws, Decoding(1.0, min_p=min_p)).tolist()


def test_a_seed_gives_its_row_whatever_the_others_are():
    assert (uniforms([5, 6], 9)[1] == uniforms([6], 9)[0]).all()
    assert uniforms([], 4).shape == (0, 4)
