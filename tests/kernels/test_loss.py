"""The fast paths against the definition, and the properties that every path must have."""

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tso_kernels import (
    DualClipLoss,
    dual_clip_loss,
    linear_dual_clip_loss,
    linear_sequence_logps,
    reference,
    sequence_logps,
)

from tests.kernels.helpers import IGNORE, define, problem

BACKENDS = ["torch", "triton"]
VARIANTS = [
    ({}, {}),
    ({"chosen_clip": 0.05, "rejected_clip": 0.05}, {}),
    ({"chosen_clip": 0.0, "rejected_clip": 0.0, "label_smoothing": 0.1}, {"logit_scale": 0.7}),
    ({"average": True, "sft_weight": 0.5}, {"softcap": 2.0}),
    ({"pair_weight": torch.tensor([0.5, 0.0, 2.0]), "sft_weight": 1.0}, {"softcap": 3.0, "logit_scale": 1.5}),
]


def fused(p, backend, *, budget=None, normalizer=None):
    hidden, weight = p.hidden.clone().requires_grad_(), p.weight.clone().requires_grad_()
    bias = None if p.bias is None else p.bias.clone().requires_grad_()
    out = linear_dual_clip_loss(
        hidden, weight, p.labels, *p.refs, bias=bias, backend=backend, memory_budget=budget, normalizer=normalizer,
        **p.options, **p.head,
    )  # fmt: skip
    out.loss.backward()
    return out, (hidden.grad, weight.grad, None if bias is None else bias.grad)


def close(found, wanted, tolerance):
    scale = wanted.abs().max().clamp(min=1e-12)
    return float((found.double() - wanted).abs().max() / scale) < tolerance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("options", "head"), VARIANTS)
@pytest.mark.parametrize("budget", [None, 4 * 37 * 5])
def test_float32_equals_the_definition(backend, options, head, budget):
    bias = torch.randn(37, generator=torch.Generator().manual_seed(5))
    p = problem(1, bias=bias, options=options, head=head)
    wanted = define(p.to(torch.float64), grads=True)
    out, grads = fused(p, backend, budget=budget)
    assert close(out.loss, wanted.loss, 1e-5)
    assert close(torch.cat([out.chosen_logps, out.rejected_logps]), wanted.logps, 1e-5)
    for found, exact in zip(grads, wanted.grads, strict=True):
        assert close(found, exact, 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_worse_than_twice_eager(backend, dtype):
    p = problem(2, tokens=12, hidden=32, vocabulary=101).to(dtype)
    exact = define(p.to(torch.float64), grads=True)
    eager = define(p, grads=True)
    out, grads = fused(p, backend)
    ours, theirs = abs(out.loss.double() - exact.loss), abs(eager.loss.double() - exact.loss)
    assert ours <= 2 * theirs + 1e-6
    for mine, other, truth in zip(grads[:2], eager.grads[:2], exact.grads[:2], strict=True):
        assert (mine.double() - truth).norm() <= 2 * (other.double() - truth).norm() + 1e-6


def test_float64_gradcheck_of_the_definition():
    gen = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 3, 5, generator=gen, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, generator=gen, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(7, (4, 3), generator=gen)
    refs = torch.randn(4, generator=gen, dtype=torch.float64).chunk(2)

    def loss(h, w):
        logps = reference.linear_sequence_logps(h, w, labels, softcap=3.0, logit_scale=0.8)
        return reference.pair_terms(*logps.chunk(2), *refs, 0.3, 0.2, 0.2, 0.1, 1.0)[0].sum()

    assert torch.autograd.gradcheck(loss, (hidden, weight))


@given(
    seed=st.integers(0, 10**6),
    extra=st.integers(0, 4),
    budget=st.integers(1, 30),
    options=st.sampled_from([v[0] for v in VARIANTS[:4]]),
)
@settings(max_examples=25, deadline=None)
def test_padding_packing_order_and_budget_change_nothing(seed, extra, budget, options):
    p = problem(seed, options=options)
    base, grads = fused(p, "torch")
    wide = problem(seed, options=options)
    wide.hidden = torch.cat([p.hidden, torch.randn(6, extra, 8)], 1)
    wide.labels = torch.cat([p.labels, torch.full((6, extra), IGNORE)], 1)
    padded, padded_grads = fused(wide, "torch", budget=4 * 37 * budget)
    assert torch.allclose(base.loss, padded.loss, rtol=1e-5, atol=1e-6)
    assert torch.allclose(grads[0], padded_grads[0][:, :7], rtol=1e-4, atol=1e-6)
    assert torch.allclose(grads[1], padded_grads[1], rtol=1e-4, atol=1e-6)
    keep = p.labels.reshape(-1) != IGNORE
    ids = torch.arange(6).repeat_interleave(7)[keep]
    shuffled = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    packed = linear_dual_clip_loss(
        p.hidden.reshape(-1, 8)[keep][shuffled], p.weight, p.labels.reshape(-1)[keep][shuffled], *p.refs,
        sequence_ids=ids[shuffled], **options,
    )  # fmt: skip
    assert torch.allclose(base.loss, packed.loss, rtol=1e-5, atol=1e-6)
    order = torch.tensor([2, 0, 1])
    rows = torch.cat([order, order + 3])
    moved = linear_dual_clip_loss(
        p.hidden[rows], p.weight, p.labels[rows], p.refs[0][order], p.refs[1][order], **options
    )
    assert torch.allclose(base.loss, moved.loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_saturated_side_has_a_gradient_of_exactly_zero(backend):
    p = problem(3, options={"beta": 1.0, "chosen_clip": 0.1, "rejected_clip": 0.1})
    out, grads = fused(p, backend)
    active = torch.cat([out.chosen_active, out.rejected_active])
    assert 0 < active.sum() < len(active)
    for n, on in enumerate(active.tolist()):
        assert bool(grads[0][n].any()) == on


def test_at_equality_the_gradient_passes():
    zero = torch.zeros(2)
    chosen, rejected = zero.clone().requires_grad_(), zero.clone().requires_grad_()
    for backend in BACKENDS:
        out = dual_clip_loss(chosen, rejected, zero, zero, chosen_clip=0.0, rejected_clip=0.0, backend=backend)
        assert torch.allclose(out.loss, torch.tensor(math.log(2)))
        grad = torch.autograd.grad(out.loss, [chosen, rejected])
        assert torch.allclose(grad[0], torch.full((2,), -0.025))
        assert torch.allclose(grad[1], torch.full((2,), 0.025))


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_bounds_are_dpo(backend):
    w, r, rw, rr = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).unbind(0)
    out = DualClipLoss(beta=0.4, backend=backend)(w, r, rw, rr)
    dpo = -torch.nn.functional.logsigmoid(0.4 * ((w - rw) - (r - rr))).mean()
    assert torch.allclose(out.loss, dpo, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_policy_equal_to_reference_gives_log_2_and_ratios_of_zero(backend):
    p = problem(4)
    with torch.no_grad():
        logps = linear_sequence_logps(p.hidden, p.weight, p.labels, backend=backend)
    p.refs = tuple(logps.chunk(2))
    out, _ = fused(p, backend)
    assert out.loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert not out.chosen_rewards.any()
    assert not out.rejected_rewards.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_linear_in_grad_output_and_two_runs_bitwise_equal(backend):
    p = problem(5)
    results = []
    for factor in (1.0, 1.0, 3.0):
        hidden = p.hidden.clone().requires_grad_()
        weight = p.weight.clone().requires_grad_()
        (factor * linear_dual_clip_loss(hidden, weight, p.labels, *p.refs, backend=backend).loss).backward()
        results.append((hidden.grad, weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.allclose(results[2][1], 3 * results[0][1], rtol=1e-6)


def test_accumulated_parts_equal_one_batch():
    p = problem(6)
    whole, grads = fused(p, "torch")
    total, weight = 0.0, p.weight.clone().requires_grad_()
    for b in range(3):
        rows = torch.tensor([b, b + 3])
        refs = [r[b : b + 1] for r in p.refs]
        part = linear_dual_clip_loss(p.hidden[rows], weight, p.labels[rows], *refs, normalizer=3)
        part.loss.backward()
        total += part.loss.item()
    assert total == pytest.approx(whole.loss.item(), rel=1e-5)
    assert torch.allclose(weight.grad, grads[1], rtol=1e-4, atol=1e-6)


def test_frozen_head_all_masked_and_second_backward():
    p = problem(7)
    hidden = p.hidden.clone().requires_grad_()
    out = linear_dual_clip_loss(hidden, p.weight, p.labels, *p.refs)
    out.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used already"):
        out.loss.backward()
    masked = linear_dual_clip_loss(hidden, p.weight, torch.full_like(p.labels, IGNORE), *p.refs)
    hidden.grad = None
    masked.loss.backward()
    assert not hidden.grad.any()
    with torch.no_grad():
        assert not linear_dual_clip_loss(hidden, p.weight, p.labels, *p.refs).loss.requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("average", [False, True])
def test_sequence_logps(backend, average):
    p = problem(8)
    logits = (p.hidden @ p.weight.T).requires_grad_()
    exact = reference.sequence_logps(logits.double(), p.labels, average=average)
    found = sequence_logps(logits, p.labels, average=average, backend=backend)
    assert torch.allclose(found.double(), exact, rtol=1e-5)
    hidden = p.hidden.clone().requires_grad_()
    linear = linear_sequence_logps(hidden, p.weight, p.labels, average=average, backend=backend, memory_budget=700)
    assert torch.allclose(linear.double(), exact, rtol=1e-5)
    pull = torch.arange(1.0, 7.0)
    (want,) = torch.autograd.grad(exact @ pull.double(), logits, retain_graph=True)
    (got,) = torch.autograd.grad(found @ pull, logits)
    assert torch.allclose(got.double(), want.double(), rtol=1e-4, atol=1e-6)
    linear.backward(pull)
    assert torch.allclose(hidden.grad, (want.float() @ p.weight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"beta": 0.0}, "beta must be positive"),
        ({"chosen_clip": -1.0}, "clips must be 0 or more"),
        ({"reduction": "avg"}, "reduction must be"),
        ({"label_smoothing": 0.6}, "label_smoothing must be"),
        ({"pair_weight": torch.ones(5)}, "pair_weight must be"),
        ({"softcap": 0.0}, "softcap must be positive"),
        ({"memory_budget": 0}, "memory_budget must be"),
        ({"bias": torch.ones(3)}, "bias must be"),
        ({"backend": "cuda"}, "backend must be"),
        ({"sequence_ids": torch.zeros(3, dtype=torch.long)}, "hidden must have 2 dimensions"),
        ({"reduction": "none"}, "use linear_sequence_logps"),
    ],
)
def test_bad_arguments_are_refused(change, says):
    p = problem(9)
    with pytest.raises(ValueError, match=says):
        linear_dual_clip_loss(p.hidden, p.weight, p.labels, *p.refs, **change)


def test_importing_the_package_does_not_import_triton():
    code = "import sys, tso_kernels; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
