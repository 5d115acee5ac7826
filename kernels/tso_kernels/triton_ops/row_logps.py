"""Online log-sum-exp of each row of logits, and the log-probability of the row's target, in one read of the logits.

On demand the same program then turns its row into the gradient, while much of it is still in the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tso_kernels.options import Shaping
from tso_kernels.triton_ops.shaping import nll_gradient, on_device, shape_logits, vocabulary_block
from tso_kernels.triton_ops.tuning import rehearsed, scratch, tunable


# The stages of the loop's pipeline alone: blocks and warps decide the order of the sum.
@tunable([triton.Config({}, num_warps=8, num_stages=n) for n in (2, 3, 4)], "TURN")
@triton.jit
def row_logps_kernel(
    logits,
    targets,
    logps,
    lse,
    row_stride,
    V,
    softcap,
    scale,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    base = logits + row * row_stride
    lanes = tl.arange(0, BLOCK_V)
    # A target beyond the vocabulary is not read: the row becomes NaN, which nobody overlooks.
    raw_target = tl.load(base + target, mask=(target >= 0) & (target < V), other=float("nan"))
    largest = -float("inf")
    total = 0.0
    # A row that does not count reads nothing, and ends with log-sum-exp 0.
    for start in range(0, tl.where(target < 0, 0, V), BLOCK_V):
        inside = start + lanes < V
        raw = tl.load(base + start + lanes, mask=inside, other=0.0)
        shaped = tl.where(inside, shape_logits(raw, softcap, scale, HAS_SOFTCAP, HAS_SCALE), -float("inf"))
        new_largest = tl.maximum(largest, tl.max(shaped, axis=0))
        anchor = tl.where(new_largest == -float("inf"), 0.0, new_largest)  # only -inf so far: avoid inf - inf
        total = total * tl.exp(largest - anchor) + tl.sum(tl.exp(shaped - anchor), axis=0)
        largest = new_largest
    row_lse = largest + tl.log(tl.where(target < 0, 1.0, total))
    logp = tl.minimum(
        shape_logits(raw_target, softcap, scale, HAS_SOFTCAP, HAS_SCALE) - row_lse,
        0.0,
        propagate_nan=tl.PropagateNan.ALL,
    )
    tl.store(lse + row, tl.where(target < 0, 0.0, row_lse))
    tl.store(logps + row, tl.where(target < 0, 0.0, logp))
    if TURN:  # the reductions above are barriers: every thread has read the target before any overwrites it
        for start in range(0, V, BLOCK_V):
            tokens = start + lanes
            inside = tokens < V
            raw = tl.load(base + tokens, mask=inside, other=0.0)
            grad = nll_gradient(raw, tokens, target, row_lse, softcap, scale, HAS_SOFTCAP, HAS_SCALE)
            grad = tl.where(target < 0, 0.0, grad)
            tl.store(base + tokens, grad.to(logits.dtype.element_ty), mask=inside)


def row_logps(logits: Tensor, targets: Tensor, shaping: Shaping, turn: bool = False) -> tuple[Tensor, Tensor]:
    """As `torch_ops.row_logps`: logits [R, V] with unit stride along V, targets [R] -> log-probs, log-sum-exps."""
    rows, vocabulary = logits.shape
    logps = torch.empty(rows, dtype=torch.float32, device=logits.device)
    lse = torch.empty_like(logps)
    if rows == 0:
        return logps, lse
    if turn and not rehearsed(row_logps_kernel, logits):
        trial, some, _ = scratch(logits)
        row_logps(trial, some, shaping, turn)
    with on_device(logits):
        row_logps_kernel[(rows,)](
            logits,
            targets.contiguous(),
            logps,
            lse,
            logits.stride(0),
            vocabulary,
            shaping.softcap or 1.0,
            shaping.scale,
            HAS_SOFTCAP=shaping.softcap is not None,
            HAS_SCALE=shaping.scale != 1.0,
            TURN=turn,
            BLOCK_V=vocabulary_block(vocabulary),
        )
    return logps, lse
