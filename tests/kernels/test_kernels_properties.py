"""What must not change the answer, by random trial: padding, packing, order, tiles, accumulation, repetition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import tso_kernels

pytest.importorskip("hypothesis", reason="needs hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from tso_kernels import reference
from tso_kernels.checks import make_rule
from tso_kernels.options import IGNORE

FEW = settings(max_examples=15, deadline=None)
OPTIONS = {"chosen_clip": 0.3, "rejected_clip": 0.2, "sft_weight": 0.1, "label_smoothing": 0.1}
seeds = st.integers(0, 2**20)
sizes = {
    "seed": seeds,
    "pairs": st.integers(1, 5),
    "tokens": st.integers(1, 40),
    "width": st.integers(1, 9),
    "vocabulary": st.integers(2, 70),
    "share": st.sampled_from([0.0, 0.3, 1.0]),
}
many_sizes = st.fixed_dictionaries(sizes)
reductions = st.sampled_from(["mean", "sum", "none"])


def solve(p, **options):
    return p.run(tso_kernels.linear_dual_clip_loss, **(OPTIONS | options))


def assert_same(got, want, bound=1e-10):
    (output, gradients), (expected, expected_gradients) = got, want
    for a, b in zip(output, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)
    for a, b in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)


@FEW
@given(many_sizes, st.integers(1, 30), reductions)
def test_padding(problems, size, extra, reduction):
    p = problems(**size)
    wide = replace(
        p,
        hidden=torch.cat(
            (
                torch.full_like(p.hidden[:, :1], 99.0),
                p.hidden,
                p.hidden.new_ones(len(p.hidden), extra, p.hidden.shape[2]),
            ),
            1,
        ),
        labels=torch.nn.functional.pad(p.labels, (1, extra), value=IGNORE),
    )
    output, (d_hidden, d_weight) = solve(wide, reduction=reduction)
    tokens = p.labels.shape[1]
    assert (d_hidden[:, 0] == 0).all()
    assert (d_hidden[:, tokens + 1 :] == 0).all()
    assert_same((output, [d_hidden[:, 1 : tokens + 1], d_weight]), solve(p, reduction=reduction))


@FEW
@given(many_sizes, reductions)
def test_packing_in_any_order(problems, size, reduction):
    p = problems(**size)
    sequences, tokens = p.labels.shape
    shuffle = torch.randperm(sequences * tokens, generator=torch.Generator().manual_seed(size["seed"]))
    ids = torch.arange(sequences).repeat_interleave(tokens)[shuffle]
    packed = replace(p, hidden=p.hidden.flatten(0, 1)[shuffle], labels=p.labels.flatten()[shuffle])
    output, (d_hidden, d_weight) = solve(packed, sequence_ids=ids, reduction=reduction)
    back = torch.empty_like(d_hidden)
    back[shuffle] = d_hidden
    assert_same((output, [back.view_as(p.hidden), d_weight]), solve(p, reduction=reduction))
    logps = tso_kernels.linear_sequence_logps(
        packed.hidden, p.weight, packed.labels, sequence_ids=ids, num_sequences=sequences
    )
    torch.testing.assert_close(logps, torch.cat(output[-2:]))


@FEW
@given(many_sizes)
def test_order_of_pairs(problems, size):
    p = problems(**size)
    order = torch.randperm(size["pairs"], generator=torch.Generator().manual_seed(size["seed"]))
    both = torch.cat((order, order + size["pairs"]))
    turned = replace(
        p,
        hidden=p.hidden[both],
        labels=p.labels[both],
        ref_chosen=p.ref_chosen[order],
        ref_rejected=p.ref_rejected[order],
    )
    output, (d_hidden, d_weight) = solve(p)
    reordered = [t if t.dim() == 0 else t[order] for t in output]
    assert_same(solve(turned), (reordered, [d_hidden[both], d_weight]))


@FEW
@given(many_sizes, st.integers(1, 200), reductions)
def test_size_of_tiles(problems, size, rows, reduction):
    p = problems(**size)
    budget = rows * size["vocabulary"] * 8
    assert_same(
        solve(p, memory_budget=budget, reduction=reduction), solve(p, memory_budget=1 << 30, reduction=reduction)
    )


@FEW
@given(many_sizes, st.floats(-50, 50), reductions)
def test_linear_in_the_upstream_gradient(problems, size, upstream, reduction):
    p = problems(**size)
    _, once = solve(p, reduction=reduction)
    _, scaled = solve(p, upstream=upstream, reduction=reduction)
    for a, b in zip(scaled, once, strict=True):
        torch.testing.assert_close(a, upstream * b, rtol=1e-10, atol=1e-12)


@FEW
@given(many_sizes, st.data())
def test_accumulation_is_one_batch(problems, size, data):
    p = problems(**size)
    pairs = size["pairs"]
    cut = data.draw(st.integers(0, pairs))
    total, gradients = 0.0, [torch.zeros_like(t) for t in p.leaves()]
    for part in (range(cut), range(cut, pairs)):
        index = torch.tensor([*part], dtype=torch.int64)
        both = torch.cat((index, index + pairs))
        refs = {"ref_chosen": p.ref_chosen[index], "ref_rejected": p.ref_rejected[index]}
        output, (d_hidden, d_weight) = solve(
            replace(p, hidden=p.hidden[both], labels=p.labels[both], **refs), normalizer=pairs
        )
        total = total + output.loss
        gradients[0][both] += d_hidden
        gradients[1] += d_weight
    whole, expected = solve(p)
    assert_same(((total,), gradients), ((whole.loss,), expected))


@FEW
@given(many_sizes, st.sampled_from([torch.float32, torch.bfloat16]), reductions)
def test_two_runs_give_the_same_bits(problems, size, dtype, reduction):
    p = problems(**size).to(dtype)
    (first, gradients), (second, again) = (solve(p, reduction=reduction, memory_budget=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip([*first, *gradients], [*second, *again], strict=True))


@FEW
@given(many_sizes)
def test_saturated_sides_have_a_gradient_of_exactly_zero(problems, size):
    p = problems(**size)
    output, (d_hidden, _) = solve(p, chosen_clip=0.05, rejected_clip=0.05, sft_weight=0.0)
    active = torch.cat((output.chosen_active, output.rejected_active))
    assert (d_hidden[~active] == 0).all()


@FEW
@given(many_sizes)
def test_infinite_clips_are_dpo(problems, size):
    p = problems(**size)
    hidden, weight = p.leaves()
    logits = hidden @ weight.t()
    picked = logits.log_softmax(-1).gather(-1, p.labels.clamp_min(0)[..., None])[..., 0] * (p.labels != IGNORE)
    chosen, rejected = picked.sum(-1).chunk(2)
    losses = -torch.nn.functional.logsigmoid(0.1 * ((chosen - rejected) - (p.ref_chosen - p.ref_rejected)))
    counted = (p.labels != IGNORE).sum(-1).view(2, -1).sum(0) > 0
    loss = (losses * counted).mean()
    output, gradients = p.run(tso_kernels.linear_dual_clip_loss)
    torch.testing.assert_close(output.loss, loss)
    for a, b in zip(gradients, torch.autograd.grad(loss, (hidden, weight)), strict=True):
        torch.testing.assert_close(a, b)


@FEW
@given(seeds, st.integers(1, 300), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_dual_clip_loss_equals_the_definition(error, seed, pairs, dtype):
    g = torch.Generator().manual_seed(seed)
    logps = [(torch.randn(pairs, generator=g) * 5 - 20).to(dtype).requires_grad_() for _ in range(4)]
    options = {"label_smoothing": torch.rand(pairs, generator=g) * 0.4, "weight": torch.rand(pairs, generator=g)}
    clips = 0.5037, (-0.5037, 0.7037)  # no multiple of beta: fp32 and float64 need not agree on what equals a bound
    got = tso_kernels.dual_clip_loss(*logps, chosen_clip=clips[0], rejected_clip=clips[1], **options)
    wide = [t.detach().double().requires_grad_() for t in logps]
    want = reference.dual_clip_loss(*wide, make_rule(0.1, *clips), **options)
    bound = 1e-6 if dtype == torch.float64 else 1e-5
    assert error(got.loss, want.loss) < bound
    assert error(got.chosen_rewards, want.chosen_rewards) < bound
    grads = torch.autograd.grad(got.loss, logps), torch.autograd.grad(want.loss, wide)
    for a, b in zip(*grads, strict=True):
        assert error(a, b) < (1e-2 if dtype == torch.bfloat16 else bound)


@FEW
@given(seeds, st.integers(1, 4), st.integers(1, 20), st.integers(2, 70), st.booleans())
def test_sequence_logps_equal_the_definition_on_views_too(seed, sequences, tokens, vocabulary, average):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(sequences, tokens + 1, vocabulary, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, vocabulary, (sequences, tokens), generator=g)
    labels[torch.rand(labels.shape, generator=g) < 0.4] = IGNORE
    upstream = torch.randn(sequences, generator=g, dtype=torch.float64)
    got = tso_kernels.sequence_logps(logits[:, :-1], labels, average=average)
    want = reference.sequence_logps(logits[:, :-1], labels, average=average)
    torch.testing.assert_close(got, want)
    a, b = (torch.autograd.grad(logps, logits, upstream)[0] for logps in (got, want))
    torch.testing.assert_close(a, b)
