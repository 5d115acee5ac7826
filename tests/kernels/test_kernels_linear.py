"""The chunked path from hidden states, held to the definition; and the work it must not do."""

from __future__ import annotations

import math
import platform
from dataclasses import replace

import pytest
import torch
import tso_kernels
from tso_kernels import head, reference, torch_ops
from tso_kernels.checks import make_rule
from tso_kernels.options import IGNORE
from tso_kernels.rows import MIN_ROWS

CLIPS = {"chosen_clip": 0.3, "rejected_clip": 0.2}
VARIANTS = [
    {},
    {"average": True, "sft_weight": 0.4},
    {"softcap": 3.0, "logit_scale": 0.6, "sft_weight": 0.4},
    {"logit_scale": -0.5, "reduction": "sum", "label_smoothing": 0.2},
    {"reduction": "none", "sft_weight": 0.4, "average": True},
    {"normalizer": 17.0, "beta": 0.5, "chosen_clip": (-0.1, 0.3)},
]


def same(got, want, error, bound):
    (output, gradients), (expected, expected_gradients) = got, want
    for name in ("loss", "chosen_rewards", "rejected_rewards", "chosen_logps", "rejected_logps"):
        assert error(getattr(output, name), getattr(expected, name)) < bound, name
    assert torch.equal(output.chosen_active, expected.chosen_active)
    assert torch.equal(output.rejected_active, expected.rejected_active)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert error(gradient, expected_gradient) < bound


@pytest.mark.parametrize("budget", [None, 1])  # 1 byte: tiles of 64 rows, so most pairs are computed twice
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_equals_the_definition(problems, error, variant, budget, dtype, bound):
    p = problems(pairs=4, tokens=50, bias=True).to(dtype)
    options = CLIPS | variant
    got = p.run(tso_kernels.linear_dual_clip_loss, 3.0, memory_budget=budget, **options)
    same(got, p.to(torch.float64).define(3.0, **options), error, bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_half_precision_is_as_exact_as_eager(problems, error, dtype, budget, reduction):
    p = problems(pairs=8, tokens=40, width=64, vocabulary=301, bias=True).to(dtype)
    options = {"sft_weight": 0.2, "reduction": reduction}
    exact, exact_gradients = p.to(torch.float64).define(**options)
    eager, eager_gradients = p.define(**options)
    got, gradients = p.run(tso_kernels.linear_dual_clip_loss, memory_budget=budget, **options)
    for name in ("chosen_logps", "rejected_logps"):
        want = getattr(exact, name)
        assert error(getattr(got, name), want) <= 2 * error(getattr(eager, name), want)
    for gradient, of_eager, want in zip(gradients, eager_gradients, exact_gradients, strict=True):
        assert gradient.dtype == dtype
        assert error(gradient, want) <= 2 * error(of_eager, want)


@pytest.mark.parametrize("trained", [True, False])
def test_a_budget_without_room_for_the_sums_of_the_heads_gradient(problems, error, spy, trained):
    p = problems(pairs=4, tokens=60, width=64, vocabulary=301).to(torch.bfloat16)
    hidden, weight = p.leaves()
    weight.requires_grad_(trained)
    rest = p.labels, p.ref_chosen, p.ref_rejected
    sums, tile = weight.numel() * 4, MIN_ROWS * len(weight) * 2
    want = [t for t in (hidden, weight) if t.requires_grad]
    rows = (p.labels != IGNORE).sum()
    results = []
    for budget, computed in ((sums + tile, 1), (sums + tile - 1, 2 if trained else 1)):
        spy.multiplied = spy.differentiated = 0
        out = tso_kernels.linear_dual_clip_loss(hidden, weight, *rest, memory_budget=budget)
        results.append([out.loss, *torch.autograd.grad(out.loss, want)])
        blocks = -(-len(weight) // 256)
        assert spy.multiplied == (rows if computed == 1 else 0)
        assert computed == 1 or spy.differentiated == blocks * rows
    for a, b in zip(*results, strict=True):
        assert error(a, b) < 1e-2


def test_logps_equal_the_definition_and_have_its_gradient(problems, error):
    p = problems(pairs=3, tokens=60, bias=True).to(torch.float32)
    shape = {"softcap": 3.0, "logit_scale": 0.6}
    upstream = torch.linspace(-1, 1, 6)
    upstream[2] = 0.0
    for average in (False, True):
        leaves, wide = p.leaves(), p.to(torch.float64).leaves()
        got = tso_kernels.linear_sequence_logps(
            *leaves[:2], p.labels, bias=leaves[2], average=average, memory_budget=1, **shape
        )
        want = reference.linear_sequence_logps(*wide[:2], p.labels, bias=wide[2], average=average, **shape)
        assert error(got, want) < 1e-5
        gradients = torch.autograd.grad(got, leaves, upstream)
        for gradient, expected in zip(gradients, torch.autograd.grad(want, wide, upstream.double()), strict=True):
            assert error(gradient, expected) < 1e-5
        assert (gradients[0][2] == 0).all()


def test_autocast_chooses_the_products_and_gradients_keep_their_dtype(problems, error):
    p = problems(pairs=4, tokens=30, width=32).to(torch.float32)
    exact, exact_gradients = p.to(torch.float64).define()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        eager, eager_gradients = p.define()
        got, gradients = p.run(tso_kernels.linear_dual_clip_loss)
    assert got.loss.dtype == torch.float32
    assert error(got.chosen_logps, exact.chosen_logps) <= 2 * error(eager.chosen_logps, exact.chosen_logps)
    for gradient, of_eager, want in zip(gradients, eager_gradients, exact_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert error(gradient, want) <= 2 * error(of_eager, want)


def test_small_coefficients_survive_fp16(problems, error):
    p = problems(pairs=2, tokens=30).to(torch.float16)
    _, want = p.to(torch.float64).define(2.0**16, weight=1e-6)
    _, got = p.run(tso_kernels.linear_dual_clip_loss, 2.0**16, weight=1e-6)
    assert all(error(a, b) < 1e-2 for a, b in zip(got, want, strict=True))


def test_policy_equal_to_reference_is_exactly_log_two(problems):
    p = problems(pairs=5, tokens=40, width=64, vocabulary=301).to(torch.float32)
    with torch.no_grad():
        references = tso_kernels.linear_sequence_logps(p.hidden, p.weight, p.labels).chunk(2)
    output, gradients = replace(p, ref_chosen=references[0], ref_rejected=references[1]).run(
        tso_kernels.linear_dual_clip_loss, chosen_clip=0.0, rejected_clip=0.0
    )
    assert (output.chosen_rewards == 0).all()
    assert (output.rejected_rewards == 0).all()
    assert output.loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert output.chosen_active.all()
    assert output.rejected_active.all()
    assert (gradients[0].flatten(1).abs().sum(-1) > 0).all()  # bounds of 0 do not stop the first step


def test_a_batch_without_rows_is_a_zero_with_a_graph(problems):
    p = problems(bias=True)
    for reduction in ("mean", "none"):
        output, gradients = replace(p, labels=torch.full_like(p.labels, IGNORE)).run(
            tso_kernels.linear_dual_clip_loss, sft_weight=1.0, reduction=reduction
        )
        assert (output.loss == 0).all()
        assert output.loss.requires_grad
        assert all((g == 0).all() for g in gradients)


def test_an_empty_side_and_an_empty_pair(problems, error):
    p = problems(pairs=3)
    labels = p.labels.clone()
    labels[0] = labels[1] = labels[4] = IGNORE  # pair 0 has no chosen tokens, pair 1 no tokens at all
    p = replace(p, labels=labels)
    same(p.run(tso_kernels.linear_dual_clip_loss, sft_weight=0.5), p.define(sft_weight=0.5), error, 1e-12)
    leaves = [t.requires_grad_() for t in (p.hidden[:, :0], p.weight)]
    nothing = tso_kernels.linear_dual_clip_loss(*leaves, p.labels[:, :0], p.ref_chosen, p.ref_rejected)
    assert nothing.loss == 0


def test_second_backward_raises_and_says_why(problems):
    p = problems()
    leaves = p.leaves()
    loss = tso_kernels.linear_dual_clip_loss(*leaves, p.labels, p.ref_chosen, p.ref_rejected).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="call the loss again"):
        loss.backward()


def test_only_the_loss_carries_a_gradient(problems):
    p = problems()
    for reduction in ("mean", "none"):
        output, _ = p.run(tso_kernels.linear_dual_clip_loss, reduction=reduction)
        assert [t.requires_grad for t in output] == [True] + [False] * 6


def test_a_frozen_head_or_body_costs_nothing(problems, monkeypatch):
    p = problems()
    hidden, weight = p.leaves()
    _, (want_hidden, want_weight) = p.run(tso_kernels.linear_dual_clip_loss)
    rest = p.labels, p.ref_chosen, p.ref_rejected
    tso_kernels.linear_dual_clip_loss(hidden.detach(), weight, *rest).loss.backward()
    monkeypatch.setattr(head.Gradients, "add_weight", None)  # calling it would raise
    tso_kernels.linear_dual_clip_loss(hidden, weight.detach(), *rest).loss.backward()
    assert torch.equal(hidden.grad, want_hidden)
    assert torch.equal(weight.grad, want_weight)


class Spy:
    """The torch operations, counting the rows that each of them sees, and those of the gradient products."""

    def __init__(self):
        self.scored, self.differentiated, self.multiplied, self.largest = 0, 0, 0, 0
        self.segment_sum, self.pair_terms = torch_ops.segment_sum, torch_ops.pair_terms
        self.fuses = torch_ops.fuses

    def row_logps(self, logits, *rest):
        self.scored += len(logits)
        self.largest = max(self.largest, len(logits))
        return torch_ops.row_logps(logits, *rest)

    def grad_logits(self, logits, *rest):
        self.differentiated += len(logits)
        return torch_ops.grad_logits(logits, *rest)


@pytest.fixture
def spy(monkeypatch):
    spy = Spy()
    multiply = head.HeadPass.add_gradients

    def counted(self, start, stop, tile):
        spy.multiplied += stop - start
        multiply(self, start, stop, tile)

    monkeypatch.setattr("tso_kernels.plan.choose_ops", lambda *_: spy)
    monkeypatch.setattr(head.HeadPass, "add_gradients", counted)
    return spy


def test_saturated_sides_cost_no_gradient_product_and_have_none(problems, spy):
    p = problems(pairs=6, tokens=40, spread=30.0)
    output, gradients = p.run(tso_kernels.linear_dual_clip_loss, chosen_clip=0.5, rejected_clip=0.5)
    active = torch.cat((output.chosen_active, output.rejected_active))
    rows = (p.labels != IGNORE).sum(-1)
    assert 0 < active.sum() < 12
    assert spy.scored == rows.sum()
    assert spy.multiplied == rows[active].sum()
    assert spy.differentiated == 0
    assert (gradients[0][~active] == 0).all()
    assert (gradients[0][active] != 0).any()


def test_saturation_everywhere_gives_gradients_of_exactly_zero(problems, spy):
    p = problems()
    p = replace(p, ref_chosen=p.ref_chosen - 900, ref_rejected=p.ref_rejected + 900)
    _, gradients = p.run(tso_kernels.linear_dual_clip_loss, chosen_clip=1.0, rejected_clip=1.0)
    assert spy.multiplied == spy.differentiated == 0
    assert all((g == 0).all() for g in gradients)


def test_no_grad_is_forward_only_and_tiles_respect_the_budget(problems, spy):
    p = problems(pairs=4, tokens=100)
    budget = 80 * p.weight.shape[0] * p.weight.element_size()
    with torch.no_grad():
        tso_kernels.linear_dual_clip_loss(
            p.hidden, p.weight, p.labels, p.ref_chosen, p.ref_rejected, memory_budget=budget
        )
        tso_kernels.linear_sequence_logps(p.hidden, p.weight, p.labels, memory_budget=budget)
    assert spy.multiplied == spy.differentiated == 0
    assert MIN_ROWS <= spy.largest <= 80
    assert spy.scored == 2 * (p.labels != IGNORE).sum()


def test_works_behind_a_checkpointed_body_and_with_tied_embeddings(problems):
    from torch.utils.checkpoint import checkpoint

    p = problems(pairs=2)
    tokens = p.labels.clamp_min(0)
    rest = p.labels, p.ref_chosen, p.ref_rejected

    def gradient(loss, through_checkpoint):
        table = p.weight.clone().requires_grad_()

        def body(t):
            return torch.tanh(torch.nn.functional.embedding(tokens, t))

        hidden = checkpoint(body, table, use_reentrant=False) if through_checkpoint else body(table)
        return torch.autograd.grad(loss(hidden, table), table)[0]

    rule = make_rule(0.1, math.inf, math.inf)
    got = gradient(lambda h, w: tso_kernels.linear_dual_clip_loss(h, w, *rest).loss, True)
    want = gradient(lambda h, w: reference.linear_dual_clip_loss(h, w, *rest, rule).loss, False)
    torch.testing.assert_close(got, want)


def test_the_whole_loss_may_be_checkpointed(problems):
    from torch.utils.checkpoint import checkpoint

    p = problems(pairs=2)
    _, want = p.run(tso_kernels.linear_dual_clip_loss)
    for reentrant in (False, True):
        hidden, weight = p.leaves()
        loss = checkpoint(
            lambda h, w: tso_kernels.linear_dual_clip_loss(h, w, p.labels, p.ref_chosen, p.ref_rejected).loss,
            hidden,
            weight,
            use_reentrant=reentrant,
        )
        loss.backward()
        assert torch.equal(hidden.grad, want[0])
        assert torch.equal(weight.grad, want[1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_labels_may_be_32_bit(problems, dtype):
    p = problems()
    logits = p.hidden @ p.weight.t()
    want = reference.sequence_logps(logits, p.labels)
    torch.testing.assert_close(tso_kernels.sequence_logps(logits, p.labels.to(dtype)), want)
    torch.testing.assert_close(tso_kernels.linear_sequence_logps(p.hidden, p.weight, p.labels.to(dtype)), want)
    packed = p.hidden.flatten(0, 1), p.weight, p.labels.flatten().to(dtype)
    ids = torch.arange(6, dtype=dtype).repeat_interleave(12)
    torch.testing.assert_close(tso_kernels.linear_sequence_logps(*packed, sequence_ids=ids, num_sequences=6), want)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="tried on x86-64 only")
def test_rows_do_not_depend_on_their_neighbours(problems):
    """What MIN_ROWS is for: true of the CPU libraries tried, and the reason why equal models have log-ratios of 0."""
    p = problems(pairs=4, tokens=60, width=64, vocabulary=1000, share=1.0).to(torch.float32)
    for sequence, counted in enumerate((1, 2, 3, 5, 8, 13, 21, 60)):
        p.labels[sequence, counted:] = IGNORE
    together = tso_kernels.linear_sequence_logps(p.hidden, p.weight, p.labels)
    alone = [
        tso_kernels.linear_sequence_logps(h[None], p.weight, y[None]) for h, y in zip(p.hidden, p.labels, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_the_normalizer_may_be_a_tensor(problems):
    p = problems()
    want, _ = p.run(tso_kernels.linear_dual_clip_loss, normalizer=7)
    got, _ = p.run(tso_kernels.linear_dual_clip_loss, normalizer=torch.tensor([7]))
    torch.testing.assert_close(got.loss, want.loss)
    logps = got.chosen_logps, got.rejected_logps, p.ref_chosen, p.ref_rejected
    torch.testing.assert_close(tso_kernels.dual_clip_loss(*logps, normalizer=torch.tensor([7.0])).loss, want.loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0.0, 100.0, -100.0])
def test_confident_sequences_and_large_logits_are_as_exact_as_eager(error, dtype, offset):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 50, 301, generator=g) + offset
    labels = torch.randint(301, (4, 50), generator=g)
    logits.scatter_add_(2, labels.unsqueeze(2), torch.full((4, 50, 1), 25.0))
    logits = logits.to(dtype)
    want = reference.sequence_logps(logits.double(), labels)
    eager = reference.sequence_logps(logits, labels)
    assert error(tso_kernels.sequence_logps(logits, labels), want) <= 2 * error(eager, want)


def test_a_small_logit_scale_does_not_sink_a_half_precision_gradient(problems, error):
    p = problems(pairs=2, tokens=30, width=16, vocabulary=20000).to(torch.float16)
    options = {"logit_scale": 2.0**-7}
    _, exact = p.to(torch.float64).define(2.0**16, **options)
    for budget in (None, 1):
        _, got = p.run(tso_kernels.linear_dual_clip_loss, 2.0**16, memory_budget=budget, **options)
        assert all(error(a, b) < 2e-3 for a, b in zip(got, exact, strict=True))
