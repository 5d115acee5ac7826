"""The Triton kernels and the paths built on them, run by Triton's interpreter on the CPU, or natively on a GPU.

Not collected by name: triton reads TRITON_INTERPRET when it is first imported, so `test_kernels_triton.py` runs this
file in a process of its own. The yardsticks are the torch twins for kernels, the definition for whole paths.
"""

from __future__ import annotations

import math

import pytest
import torch
import tso_kernels
from tso_kernels import reference, torch_ops, triton_ops
from tso_kernels.options import IGNORE, Bounds, PairRule, Shaping

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPINGS = [Shaping(), Shaping(3.0, 1.0), Shaping(None, -0.5), Shaping(2.0, 0.7)]
ULP = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def tile(rows=6, vocabulary=301, dtype=torch.float32, seed=0):
    """Logits with a row stride that is no multiple of anything, targets of which one is ignored, and coefficients."""
    g = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, vocabulary + 3, generator=g) * 4).to(dtype)[:, :vocabulary]
    targets = torch.randint(0, vocabulary, (rows,), generator=g)
    targets[rows // 2] = IGNORE
    return logits.to(DEVICE), targets.to(DEVICE), torch.randn(rows, generator=g).to(DEVICE)


@pytest.mark.parametrize("vocabulary", [1, 301, 1024, 1025, 4096, 4097])  # around and across the blocks
@pytest.mark.parametrize("shaping", SHAPINGS)
def test_row_logps(vocabulary, shaping):
    logits, targets, _ = tile(vocabulary=vocabulary)
    for got, want in zip(
        triton_ops.row_logps(logits, targets, shaping),
        torch_ops.row_logps(logits.double(), targets, shaping),
        strict=True,
    ):
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=3e-6)
    assert (got[targets < 0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_row_logps_of_half_precision_logits_is_fp32_arithmetic(dtype):
    logits, targets, _ = tile(dtype=dtype)
    got, _ = triton_ops.row_logps(logits, targets, Shaping())
    want, _ = torch_ops.row_logps(logits.double(), targets, Shaping())
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("softcap", [0.5, 5.0, 500.0, 50000.0])
def test_a_softcap_far_above_the_logits_costs_no_digits(softcap):
    logits, targets, _ = tile()
    for got, want in zip(
        triton_ops.row_logps(logits, targets, Shaping(softcap)),
        torch_ops.row_logps(logits.double(), targets, Shaping(softcap)),
        strict=True,
    ):
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=3e-6)


def test_only_the_mark_of_an_ignored_label_is_ignored():
    logits, targets, _ = tile(rows=3)
    targets[:] = torch.tensor([-1, IGNORE, -99])
    for ops in (triton_ops, torch_ops):
        assert ops.row_logps(logits, targets, Shaping())[0].isnan().tolist() == [True, False, True]


def test_row_logps_never_exceed_zero_and_survive_masked_vocabulary():
    logits, targets, _ = tile(rows=4, vocabulary=5000)
    logits = logits.contiguous()
    logits[:, :4500] = -math.inf  # the whole first block
    logits[:, 4700] = 90.0
    targets = torch.tensor([4700, 4600, 3, IGNORE], device=DEVICE)
    logps, lse = triton_ops.row_logps(logits, targets, Shaping())
    assert logps[0] == 0
    assert logps[2] == -math.inf
    assert logps[3] == 0
    assert torch.isfinite(lse).all()
    assert not torch.isnan(logps).any()


def test_a_target_beyond_the_vocabulary_is_nan_and_reads_nothing():
    logits, targets, _ = tile(vocabulary=16)
    targets[0] = 10**12
    logps, _ = triton_ops.row_logps(logits, targets, Shaping())
    assert torch.isnan(logps).tolist() == [True] + [False] * 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shaping", SHAPINGS)
@pytest.mark.parametrize("scaled", [False, True])
def test_grad_logits(dtype, shaping, scaled):
    logits, targets, coef = tile(dtype=dtype)
    coef = coef if scaled else None
    _, lse = torch_ops.row_logps(logits, targets, shaping)
    want = torch_ops.grad_logits(
        logits.double(), targets, lse.double(), shaping, coef, torch.empty_like(logits).double()
    )
    got = triton_ops.grad_logits(logits, targets, lse, shaping, coef, torch.empty_like(logits))
    torch.testing.assert_close(got.double(), want, rtol=ULP[dtype], atol=1e-6)
    assert (got[targets < 0] == 0).all()
    if not scaled:
        turned = logits.clone()
        triton_ops.row_logps(turned, targets, shaping, turn=True)
        torch.testing.assert_close(turned.double(), want, rtol=ULP[dtype], atol=1e-6)
        torch_ops.row_logps(turned.copy_(logits), targets, shaping, turn=True)
        torch.testing.assert_close(turned.double(), want, rtol=ULP[dtype], atol=1e-6)
    in_place = triton_ops.grad_logits(logits, targets, lse, shaping, coef, logits)
    assert in_place is logits
    assert torch.equal(in_place, got)


def test_grad_logits_of_a_zero_coefficient_is_exactly_zero():
    logits, targets, coef = tile()
    logits[1], coef[1] = math.inf, 0.0
    _, lse = triton_ops.row_logps(logits, targets, Shaping())
    assert (triton_ops.grad_logits(logits, targets, lse, Shaping(), coef, logits)[1] == 0).all()


@pytest.mark.skipif(DEVICE == "cpu", reason="needs 9 GB of a GPU's memory")
def test_rows_beyond_an_offset_of_2_31():
    vocabulary, rows = 131072, 33000
    logits = torch.zeros(rows, vocabulary, dtype=torch.bfloat16, device=DEVICE)
    assert logits.numel() > 2**31
    few = torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(0)).to(DEVICE, torch.bfloat16)
    logits[-5:] = few
    targets = torch.arange(rows, device=DEVICE)
    for turn in (False, True):
        got = triton_ops.row_logps(logits, targets, Shaping(), turn)
        want = triton_ops.row_logps(few, targets[-5:], Shaping(), turn)
        assert all(torch.equal(a[-5:], b) for a, b in zip(got, want, strict=True))
    assert torch.equal(logits[-5:], few)


@pytest.mark.parametrize("counts", [[], [0], [0, 0, 5], [1024, 1, 0, 1023, 1500], [3000]])
def test_segment_sum(counts):
    values = torch.randn(sum(counts), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    want = torch_ops.segment_sum(values.double(), counts)
    got = triton_ops.segment_sum(values, counts)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    assert torch.equal(got, triton_ops.segment_sum(values, counts))


@pytest.mark.parametrize("chosen", [Bounds(-math.inf, math.inf), Bounds(-math.inf, 0.5), Bounds(-0.3, 0.4)])
@pytest.mark.parametrize("pairs", [0, 1, 200])
def test_pair_terms(chosen, pairs):
    g = torch.Generator().manual_seed(pairs)
    logps = [(torch.randn(pairs, generator=g) * 60).to(DEVICE) for _ in range(4)]  # margins up to some 20
    rule = PairRule(0.1, chosen, Bounds(-0.5, math.inf))
    smoothing, weight = (torch.rand(pairs, generator=g).to(DEVICE) * 0.4 for _ in range(2))
    got = triton_ops.pair_terms(*logps, rule, smoothing, weight)
    want = torch_ops.pair_terms(*(t.double() for t in logps), rule, smoothing.double(), weight.double())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2e-5, atol=1e-9)
        assert (a.dtype == torch.bool) == (b.dtype == torch.bool)


def test_pair_terms_at_the_bounds_and_beyond_reason():
    zero = torch.zeros(5, device=DEVICE)
    chosen = torch.tensor([4.0, 4.000001, math.inf, -math.inf, math.nan], device=DEVICE)
    rule = PairRule(0.5, Bounds(-math.inf, 2.0), Bounds(-math.inf, math.inf))
    got = triton_ops.pair_terms(chosen, zero, zero, zero, rule, zero, zero + 1)
    want = torch_ops.pair_terms(chosen, zero, zero, zero, rule, zero, zero + 1)
    assert got.chosen_active.tolist() == want.chosen_active.tolist() == [True, False, False, True, True]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)


VARIANTS = [
    {},
    {"chosen_clip": 0.3, "rejected_clip": 0.2, "softcap": 3.0, "logit_scale": 0.6, "sft_weight": 0.3},
    {"average": True, "reduction": "none", "chosen_clip": 0.3},
    {"label_smoothing": 0.2, "normalizer": 9, "memory_budget": 1},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_linear_loss_equals_the_definition(problems, error, variant):
    p = problems(pairs=2, tokens=40, vocabulary=131, bias=True).to(torch.float32)
    p = type(p)(*(None if t is None else t.to(DEVICE) for t in vars(p).values()))
    output, gradients = p.run(tso_kernels.linear_dual_clip_loss, 2.0, backend="triton", **variant)
    defined = {key: value for key, value in variant.items() if key != "memory_budget"}
    expected, wanted = p.to(torch.float64).define(2.0, **defined)
    for a, b in zip([*output[:3], *output[5:], *gradients], [*expected[:3], *expected[5:], *wanted], strict=True):
        assert error(a, b) < 1e-5
    assert torch.equal(output.chosen_active, expected.chosen_active)
    again, _ = p.run(tso_kernels.linear_dual_clip_loss, 2.0, backend="triton", **variant)
    assert all(torch.equal(a, b) for a, b in zip(output, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_linear_loss_in_half_precision_is_as_exact_as_eager(problems, error, dtype):
    p = problems(pairs=4, tokens=30, width=32, vocabulary=131).to(dtype)
    p = type(p)(*(None if t is None else t.to(DEVICE) for t in vars(p).values()))
    got, gradients = p.run(tso_kernels.linear_dual_clip_loss, backend="triton")
    eager, of_eager = p.define()
    exact, wanted = p.to(torch.float64).define()
    assert error(got.chosen_logps, exact.chosen_logps) <= 2 * error(eager.chosen_logps, exact.chosen_logps)
    for a, b, want in zip(gradients, of_eager, wanted, strict=True):
        assert error(a, want) <= 2 * error(b, want)


def test_sequence_logps_on_a_view(error):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 8, 131, generator=g).to(DEVICE).requires_grad_()
    labels = torch.randint(0, 131, (3, 7), generator=g).to(DEVICE)
    labels[:, :2] = IGNORE
    upstream = torch.tensor([1.0, -2.0, 0.0], device=DEVICE)
    got = tso_kernels.sequence_logps(logits[:, :-1], labels, backend="triton")
    want = reference.sequence_logps(logits[:, :-1].double(), labels)
    assert error(got, want) < 1e-6
    a, b = (torch.autograd.grad(logps, logits, up)[0] for logps, up in ((got, upstream), (want, upstream.double())))
    assert error(a, b) < 1e-5
    assert (a[2] == 0).all()


def test_dual_clip_loss(error):
    logps = [
        (torch.randn(9, generator=torch.Generator().manual_seed(i)) * 9).to(DEVICE).requires_grad_() for i in range(4)
    ]
    results = [
        tso_kernels.dual_clip_loss(*logps, chosen_clip=0.5, rejected_clip=0.3, backend=backend)
        for backend in ("triton", "torch")
    ]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(*(torch.autograd.grad(result.loss, logps) for result in results), strict=True):
        torch.testing.assert_close(a, b)


HEADS = [(5, 64, 320), (130, 128, 2064), (300, 64, 16)]  # rows, hidden size, vocabulary: around and across the blocks


def head_problem(rows, width, vocabulary, dtype):
    g = torch.Generator().manual_seed(rows)
    x, weight = torch.randn(rows, width, generator=g), torch.randn(vocabulary, width, generator=g) / 4
    return x.to(DEVICE, dtype), weight.to(DEVICE, dtype), torch.randint(vocabulary, (rows,), generator=g).to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shaping", SHAPINGS)
@pytest.mark.parametrize("sizes", HEADS)
def test_score_head_is_a_product_and_row_logps(dtype, shaping, sizes):
    x, weight, targets = head_problem(*sizes, dtype)
    assert triton_ops.can_fuse(x, weight, None)
    kept = torch.full((len(x), len(weight)), math.nan, dtype=dtype, device=DEVICE)
    logps, lse = triton_ops.score_head(x, weight, targets, shaping, kept)
    exact = x.double() @ weight.double().t()
    torch.testing.assert_close(kept.double(), exact, rtol=ULP[dtype], atol=1e-5)
    of_kept = torch_ops.row_logps(kept.double(), targets, shaping)
    for got, want in zip((logps, lse), of_kept, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=3e-6)
    for got, again in zip((logps, lse), triton_ops.score_head(x, weight, targets, shaping, None), strict=True):
        assert torch.equal(got, again)  # a policy's and a reference's bits
    alone = triton_ops.score_head(x[3:4], weight, targets[3:4], shaping, None)
    assert [float(t[3]) for t in (logps, lse)] == [float(t) for t in alone]


def test_score_head_leaves_what_it_is_not_meant_for():
    x, weight, _ = head_problem(5, 64, 320, torch.bfloat16)
    assert not triton_ops.can_fuse(x.float(), weight.float(), None)
    assert not triton_ops.can_fuse(x, weight, weight[:, 0])
    assert not triton_ops.can_fuse(x[:, :60], weight[:, :60], None)
    assert not triton_ops.can_fuse(x, weight[:319], None)
    assert not triton_ops.can_fuse(x.repeat(1, 17), weight.repeat(1, 17), None)
    logps, lse = triton_ops.score_head(x[:0], weight, torch.zeros(0, dtype=torch.int64), Shaping(), None)
    assert len(logps) == len(lse) == 0


@pytest.mark.parametrize("options", [{}, {"softcap": 3.0, "chosen_clip": 0.3, "sft_weight": 0.2}, {"memory_budget": 1}])
def test_linear_loss_through_the_fused_forward(problems, error, options, monkeypatch):
    monkeypatch.setattr(triton_ops, "fuses", triton_ops.can_fuse)  # on any GPU
    # The interpreter truncates to bf16 where a GPU rounds.
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float16
    p = problems(pairs=3, tokens=40, width=64, vocabulary=320).to(dtype)
    p = type(p)(*(None if t is None else t.to(DEVICE) for t in vars(p).values()))
    assert triton_ops.can_fuse(p.hidden[0], p.weight, None)
    got, gradients = p.run(tso_kernels.linear_dual_clip_loss, backend="triton", **options)
    shared = {key: value for key, value in options.items() if key != "memory_budget"}
    eager, of_eager = p.define(**shared)
    exact, wanted = p.to(torch.float64).define(**shared)
    assert error(got.chosen_logps, exact.chosen_logps) <= 2 * error(eager.chosen_logps, exact.chosen_logps)
    for a, b, want in zip(gradients, of_eager, wanted, strict=True):
        assert error(a, want) <= 2 * error(b, want)
    shape = {key: value for key, value in options.items() if key in ("softcap", "memory_budget")}
    with torch.no_grad():
        refs = tso_kernels.linear_sequence_logps(p.hidden, p.weight, p.labels, backend="triton", **shape)
    equal = type(p)(**{**vars(p), "ref_chosen": refs[:3], "ref_rejected": refs[3:]})
    same, _ = equal.run(tso_kernels.linear_dual_clip_loss, backend="triton", **options)
    assert (same.chosen_rewards == 0).all()
    assert (same.rejected_rewards == 0).all()
