"""torch.compile without a break in the graph gives what eager mode gives; the operators keep torch's own rules."""

from __future__ import annotations

import pytest
import torch
import tso_kernels
from torch import library
from tso_kernels import compiled
from tso_kernels.head import Wanted
from tso_kernels.plan import plan_pass

OPTIONS = {"chosen_clip": 0.3, "rejected_clip": (-0.2, 0.4), "label_smoothing": 0.1, "sft_weight": 0.2}


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


def whole(function):
    # The graph is what is tested; aot_eager traces forward and backward, and generates no code.
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def same(got, want, bound=1e-5):
    (output, gradients), (expected, expected_gradients) = got, want
    for a, b in zip([*output, *gradients], [*expected, *expected_gradients], strict=True):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_fused_loss(problems, bias, reduction):
    p = problems(bias=bias).to(torch.float32)
    run = whole(tso_kernels.linear_dual_clip_loss)
    same(
        p.run(run, 3.0, reduction=reduction, **OPTIONS),
        p.run(tso_kernels.linear_dual_clip_loss, 3.0, reduction=reduction, **OPTIONS),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("budget", [None, 1])
def test_half_precision_and_both_ways_to_the_gradient(problems, dtype, budget):
    p = problems(pairs=4, tokens=30, width=64, vocabulary=301).to(dtype)
    options = {"memory_budget": budget, "normalizer": 9.0, **OPTIONS}
    got, want = (
        p.run(loss, 2.0, **options)
        for loss in (whole(tso_kernels.linear_dual_clip_loss), tso_kernels.linear_dual_clip_loss)
    )
    same(got, want, 1e-2)


def test_a_frozen_head_packed_rows_and_another_length(problems):
    def loss(hidden, weight, labels, ids, ref_chosen, ref_rejected):
        out = tso_kernels.linear_dual_clip_loss(hidden, weight, labels, ref_chosen, ref_rejected, sequence_ids=ids)
        return out.loss

    run = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for tokens in (5, 9, 12):
        p = problems(seed=tokens, tokens=tokens).to(torch.float32)
        packed = p.hidden.flatten(0, 1).requires_grad_()
        rest = p.weight, p.labels.flatten(), torch.arange(6).repeat_interleave(tokens), p.ref_chosen, p.ref_rejected
        got, want = (torch.autograd.grad(f(packed, *rest), packed)[0] for f in (run, loss))
        torch.testing.assert_close(got, want)


def test_a_model_and_its_loss_in_one_graph_generate_code(problems):
    p = problems(width=16).to(torch.float32)
    body = torch.nn.Linear(16, 16)

    def step(hidden, weight):
        return tso_kernels.linear_dual_clip_loss(
            torch.tanh(body(hidden)), weight, p.labels, p.ref_chosen, p.ref_rejected
        ).loss

    leaves = [*p.leaves(), *body.parameters()]
    got, want = (torch.autograd.grad(f(*leaves[:2]), leaves) for f in (torch.compile(step, fullgraph=True), step))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average", [False, True])
def test_log_probabilities(problems, average):
    p = problems().to(torch.float32)
    upstream = torch.linspace(-1, 1, 6)
    for function in (
        tso_kernels.linear_sequence_logps,
        lambda h, w, y, **o: tso_kernels.sequence_logps(h @ w.t(), y, **o),
    ):
        results = []
        for run in (whole(function), function):
            leaves = p.leaves()
            logps = run(*leaves, p.labels, average=average)
            results.append(([logps], torch.autograd.grad(logps, leaves, upstream)))
        same(*results)


def test_the_loss_of_four_log_probabilities():
    logps = [torch.randn(5, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in range(4)]
    options = {"chosen_clip": 0.05, "rejected_clip": 0.05, "weight": torch.rand(5)}
    outputs = [f(*logps, **options) for f in (whole(tso_kernels.dual_clip_loss), tso_kernels.dual_clip_loss)]
    same(*((out, torch.autograd.grad(out.loss, logps)) for out in outputs))


def test_under_autocast(problems):
    p = problems(pairs=4, tokens=30, width=32).to(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(p.run(whole(tso_kernels.linear_dual_clip_loss)), p.run(tso_kernels.linear_dual_clip_loss), 1e-2)


def test_without_gradients(problems):
    p = problems().to(torch.float32)
    with torch.no_grad():
        got = whole(tso_kernels.linear_dual_clip_loss)(p.hidden, p.weight, p.labels, p.ref_chosen, p.ref_rejected)
        want = tso_kernels.linear_dual_clip_loss(p.hidden, p.weight, p.labels, p.ref_chosen, p.ref_rejected)
    same((got, []), (want, []))


@pytest.mark.parametrize("wanted", [Wanted(True, True, True), Wanted(True, False, False)])
def test_operators_keep_the_rules(problems, wanted):
    p = problems(bias=True)
    leaves = [t.requires_grad_(want) for t, want in zip(p.leaves(), wanted, strict=True)]
    plan = plan_pass(*leaves, p.labels, 6, (None, 1.0), None, "torch", paired=True)
    library.opcheck(compiled._linear_logps, (*leaves, p.labels, None, *plan, list(wanted)))
    pairs = p.ref_chosen, p.ref_rejected, torch.zeros(3).double(), torch.ones(3).double()
    rule = 0.1, [float("-inf"), 0.3, -0.2, float("inf")], 0.2, False
    library.opcheck(compiled._linear_dual_clip, (*leaves, p.labels, None, *pairs, *rule, *plan, list(wanted)))


def test_wrong_options_and_labels_are_not_lost_in_compiled_code(problems):
    p = problems().to(torch.float32)
    logps = torch.zeros(4, 3)
    logits = torch.randn(2, 4, 5)
    labels = torch.tensor([[1, 2, -1, 3], [1, 2, -100, 3]])
    assert whole(tso_kernels.sequence_logps)(logits, labels).isnan().tolist() == [True, False]
    for backend, said in (("bogus", "must be one of"), ("triton", "needs a CUDA")):
        for run in (
            lambda b: tso_kernels.dual_clip_loss(*logps, backend=b),
            lambda b: tso_kernels.sequence_logps(logits, labels, backend=b),
            lambda b: tso_kernels.linear_sequence_logps(p.hidden, p.weight, p.labels, backend=b),
        ):
            with pytest.raises(Exception, match=said):  # the compiler wraps what is raised while it traces
                whole(run)(backend)
