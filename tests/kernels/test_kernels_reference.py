"""The definition itself: its gradients by finite differences, and what it says at the edges."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import tso_kernels
from tso_kernels import reference
from tso_kernels.checks import make_rule
from tso_kernels.options import Bounds, PairRule

INF = math.inf


def four(seed=0, pairs=6, spread=5.0):
    g = torch.Generator().manual_seed(seed)
    return [(torch.randn(pairs, generator=g, dtype=torch.float64) * spread).requires_grad_() for _ in range(4)]


@pytest.mark.parametrize(
    "rule", [make_rule(0.1, INF, INF), make_rule(0.3, 0.4, 0.2), make_rule(0.3, (-0.5, 0.4), (-0.2, 0.6))]
)
def test_gradcheck_of_the_four_logps(rule):
    smoothing = torch.linspace(0, 0.4, 6, dtype=torch.float64)

    def loss(*logps):
        return reference.dual_clip_loss(*logps, rule, label_smoothing=smoothing, weight=1.5, normalizer=11).loss

    assert torch.autograd.gradcheck(loss, four())


def test_gradcheck_from_hidden_states(problems):
    p = problems(pairs=2, tokens=4, width=3, vocabulary=5, bias=True)

    def loss(hidden, weight, bias):
        options = {"bias": bias, "softcap": 4.0, "logit_scale": 0.7, "sft_weight": 0.3, "label_smoothing": 0.1}
        rule = make_rule(0.1, 0.2, 0.3)
        return reference.linear_dual_clip_loss(
            hidden, weight, p.labels, p.ref_chosen, p.ref_rejected, rule, **options
        ).loss

    assert torch.autograd.gradcheck(loss, p.leaves())


def test_infinite_clips_are_dpo_to_the_last_bit():
    chosen, rejected, ref_chosen, ref_rejected = (t.detach().float() for t in four(1, 64))
    loss = reference.dual_clip_loss(
        chosen, rejected, ref_chosen, ref_rejected, make_rule(0.1, INF, INF), reduction="none"
    ).loss
    assert torch.equal(loss, -F.logsigmoid(0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))))


def test_infinite_clips_are_dpo_as_first_published():
    chosen, rejected, ref_chosen, ref_rejected = four(2)
    logits = (chosen - rejected) - (ref_chosen - ref_rejected)
    want = (-F.logsigmoid(0.1 * logits) * 0.8 - F.logsigmoid(-0.1 * logits) * 0.2).mean()
    rule = make_rule(0.1, INF, INF)
    got = reference.dual_clip_loss(chosen, rejected, ref_chosen, ref_rejected, rule, label_smoothing=0.2).loss
    torch.testing.assert_close(got, want, rtol=1e-13, atol=0)


def defined(*logps, beta, chosen_clip, rejected_clip):
    return reference.dual_clip_loss(*logps, make_rule(beta, chosen_clip, rejected_clip))


BOTH = pytest.mark.parametrize("loss", [defined, tso_kernels.dual_clip_loss], ids=["definition", "public"])


@BOTH
def test_gradient_passes_at_the_bound_and_not_beyond(loss):
    zero = torch.zeros(3, dtype=torch.float64)
    chosen = torch.tensor([4.0, 4.0 + 1e-9, 3.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-2.0, -2.0 - 1e-9, -1.0], dtype=torch.float64, requires_grad=True)
    output = loss(chosen, rejected, zero, zero, beta=0.5, chosen_clip=2.0, rejected_clip=1.0)
    output.loss.backward()
    assert output.chosen_active.tolist() == output.rejected_active.tolist() == [True, False, True]
    assert (chosen.grad != 0).tolist() == (rejected.grad != 0).tolist() == [True, False, True]


@BOTH
def test_bounds_of_zero_do_not_stop_the_first_step(loss):
    same = [torch.full((4,), -7.0, dtype=torch.float64).requires_grad_() for _ in range(4)]
    output = loss(*same, beta=0.1, chosen_clip=0.0, rejected_clip=0.0)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(math.log(2), abs=1e-15)
    assert (same[0].grad == -0.1 / 8).all()
    assert (same[1].grad == 0.1 / 8).all()


@BOTH
def test_a_nan_is_not_hidden_by_a_mask(loss):
    chosen = torch.tensor([math.nan, 0.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(2, dtype=torch.float64)
    output = loss(chosen, zero, zero, zero, beta=0.1, chosen_clip=1.0, rejected_clip=1.0)
    output.loss.backward()
    assert output.loss.isnan()
    assert chosen.grad[0].isnan()
    assert output.chosen_active.all()


def test_both_ends_of_a_side_can_be_bounded():
    chosen = torch.tensor([-9.0, 0.0, 9.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(3, dtype=torch.float64)
    rule = PairRule(1.0, Bounds(-2.0, 3.0), Bounds(-INF, INF))
    output = reference.dual_clip_loss(chosen, zero, zero, zero, rule, reduction="none")
    torch.testing.assert_close(output.loss, -F.logsigmoid(torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)))
    assert output.chosen_active.tolist() == [False, True, False]
    assert output.chosen_rewards.tolist() == [-9.0, 0.0, 9.0]


def test_sequence_logps_are_negative_cross_entropies(problems):
    p = problems()
    logits = p.hidden @ p.weight.t()
    nll = F.cross_entropy(logits.transpose(1, 2), p.labels, reduction="none").sum(-1)
    torch.testing.assert_close(reference.sequence_logps(logits, p.labels), -nll)
    counts = (p.labels != -100).sum(-1)
    torch.testing.assert_close(reference.sequence_logps(logits, p.labels, average=True), -nll / counts)
