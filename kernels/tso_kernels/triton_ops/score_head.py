"""The forward of a head without logits in memory: product, shaping and online log-sum-exp in one kernel.

For heads of small hidden size, where writing and reading the logits takes a good part of their product's time. A program
computes a block of rows against a span of the vocabulary; the spans' partial sums are joined in a fixed order. Logits
are rounded to the inputs' dtype before they are used, and written out only on demand, for the gradient: so a policy and
a reference pass have the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tso_kernels.options import Shaping
from tso_kernels.triton_ops.shaping import on_device, shape_logits
from tso_kernels.triton_ops.tuning import INTERPRETED, tunable

# Up to this hidden size the logits' traffic costs an A100 about a third of their product's time or more. That, and the
# choice of architectures below, is arithmetic from bandwidths and throughputs, and not a measurement.
WIDEST = 1024
BLOCK_R, BLOCK_V, BLOCK_H, SPAN = 128, 128, 64, 8


def fuses(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether rows [R, H] are to be scored by this kernel: where it can, and on NVIDIA's sm_8x.

    From sm_90 on, matrix units outrun the cache that feeds blocks of this size, and the logits' traffic is cheaper.
    """
    wins = INTERPRETED or (x.is_cuda and not torch.version.hip and torch.cuda.get_device_capability(x.device)[0] == 8)
    return wins and can_fuse(x, weight, bias)


def can_fuse(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Half precision (fp32 products have no tensor cores), sizes that need no masks, and no bias (nor registers for it)."""
    width, vocabulary = x.shape[1], len(weight)
    fits = width <= WIDEST and width % BLOCK_H == 0 and vocabulary % 16 == 0
    return fits and bias is None and x.dtype in (torch.bfloat16, torch.float16)


@tunable([triton.Config({}, num_warps=8, num_stages=n) for n in (2, 3, 4)], "H", "KEEP")
@triton.jit
def score_head_kernel(
    x,
    weight,
    targets,
    logits,
    largest,
    total,
    picked,
    R,
    V,
    H,
    x_stride,
    weight_stride,
    logits_stride,
    softcap,
    scale,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    KEEP: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    SPAN: tl.constexpr,
):
    # Neighbouring programs share a span of the weight, which so comes from the cache.
    row_blocks = tl.cdiv(R, BLOCK_R)
    span = tl.program_id(0) // row_blocks
    rows = (tl.program_id(0) % row_blocks).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = rows < R
    target = tl.load(targets + rows, mask=real, other=-1)
    peak = tl.full([BLOCK_R], -float("inf"), tl.float32)
    sums = tl.zeros([BLOCK_R], tl.float32)
    hit = tl.zeros([BLOCK_R], tl.float32)
    # Beyond the end the last row or token is read again, which needs no mask; nothing of it is used.
    lanes = tl.arange(0, BLOCK_H)
    left = x + tl.minimum(rows, R - 1)[:, None] * x_stride + lanes[None, :]
    first = span * SPAN * BLOCK_V
    for start in range(first, tl.minimum(first + SPAN * BLOCK_V, V), BLOCK_V):
        tokens = start + tl.arange(0, BLOCK_V)
        known = tokens < V
        raw = tl.zeros([BLOCK_R, BLOCK_V], tl.float32)
        right = weight + tl.minimum(tokens, V - 1).to(tl.int64)[None, :] * weight_stride + lanes[:, None]
        for at in range(0, H, BLOCK_H):
            a, b = tl.load(left + at), tl.load(right + at)
            if WIDEN:
                a, b = a.to(tl.float32), b.to(tl.float32)
            raw = tl.dot(a, b, raw)
        rounded = raw.to(x.dtype.element_ty)
        if KEEP:
            place = rows[:, None] * logits_stride + tokens[None, :]
            tl.store(logits + place, rounded, mask=real[:, None] & known[None, :])
        shaped = shape_logits(rounded, softcap, scale, HAS_SOFTCAP, HAS_SCALE)
        hit += tl.sum(tl.where(tokens[None, :] == target[:, None], shaped, 0.0), axis=1)
        shaped = tl.where(known[None, :], shaped, -float("inf"))
        higher = tl.maximum(peak, tl.max(shaped, axis=1))
        anchor = tl.where(higher == -float("inf"), 0.0, higher)  # only -inf so far: avoid inf - inf
        sums = sums * tl.exp(peak - anchor) + tl.sum(tl.exp(shaped - anchor[:, None]), axis=1)
        peak = higher
    here = span.to(tl.int64) * R + rows
    tl.store(largest + here, peak, mask=real)
    tl.store(total + here, sums, mask=real)
    tl.store(picked + here, hit, mask=real)


@triton.jit
def join_spans_kernel(largest, total, picked, logps, lse, R, spans, BLOCK_R: tl.constexpr):
    """Span after span, so that a row's sum has one order of addition whatever rows stand beside it."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = rows < R
    peak = tl.full([BLOCK_R], -float("inf"), tl.float32)
    sums = tl.zeros([BLOCK_R], tl.float32)
    hit = tl.zeros([BLOCK_R], tl.float32)
    here = rows
    for _ in range(spans):
        other = tl.load(largest + here, mask=real, other=0.0)
        higher = tl.maximum(peak, other)
        anchor = tl.where(higher == -float("inf"), 0.0, higher)
        sums = sums * tl.exp(peak - anchor) + tl.load(total + here, mask=real, other=0.0) * tl.exp(other - anchor)
        hit += tl.load(picked + here, mask=real, other=0.0)
        peak = higher
        here += R
    log_sum = tl.log(sums)
    row_lse = peak + log_sum
    logp = tl.minimum((hit - peak) - log_sum, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(lse + rows, row_lse, mask=real)
    tl.store(logps + rows, logp, mask=real)


def score_head(
    x: Tensor, weight: Tensor, targets: Tensor, shaping: Shaping, logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and log-sum-exps of rows x [R, H] against the head weight [V, H], as `row_logps` of its logits.

    Every target is in 0..V-1, and `can_fuse` agrees. Raw logits go to `logits` [R, V] where one is given.
    """
    rows, vocabulary = len(x), len(weight)
    logps, lse = torch.empty(2, rows, dtype=torch.float32, device=x.device).unbind(0)
    if rows == 0:
        return logps, lse
    x, weight = x.contiguous(), weight.contiguous()
    spans = triton.cdiv(vocabulary, BLOCK_V * SPAN)
    largest, total, picked = torch.empty(3, spans, rows, dtype=torch.float32, device=x.device).unbind(0)
    with on_device(x):
        score_head_kernel[(triton.cdiv(rows, BLOCK_R) * spans,)](
            x,
            weight,
            targets.contiguous(),
            x if logits is None else logits,
            largest,
            total,
            picked,
            rows,
            vocabulary,
            x.shape[1],
            x.stride(0),
            weight.stride(0),
            0 if logits is None else logits.stride(0),
            shaping.softcap or 1.0,
            shaping.scale,
            HAS_SOFTCAP=shaping.softcap is not None,
            HAS_SCALE=shaping.scale != 1.0,
            KEEP=logits is not None,
            WIDEN=INTERPRETED,  # its product does not know bf16; those of half-precision numbers are exact in fp32
            BLOCK_R=BLOCK_R,
            BLOCK_V=BLOCK_V,
            BLOCK_H=BLOCK_H,
            SPAN=SPAN,
        )
        join_spans_kernel[(triton.cdiv(rows, BLOCK_R),)](
            largest, total, picked, logps, lse, rows, spans, BLOCK_R=BLOCK_R, num_warps=4
        )
    return logps, lse
