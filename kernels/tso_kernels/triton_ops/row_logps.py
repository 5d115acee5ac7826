"""Online log-sum-exp of each row of logits, and the log-probability of the row's target, in one read of the logits.

On demand the same program then turns its row into the gradient, while much of it is still in the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tso_kernels.options import Shaping
from tso_kernels.triton_ops.shaping import IGNORE, nll_gradient, on_device, shape_logits, vocabulary_block
from tso_kernels.triton_ops.tuning import rehearse, scratch, tunable


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
    silent = target == IGNORE
    base = logits + row * row_stride
    lanes = tl.arange(0, BLOCK_V)
    # A target outside the vocabulary is not read: the row becomes NaN, which nobody overlooks.
    raw_target = tl.load(base + target, mask=(target >= 0) & (target < V), other=float("nan"))
    largest = -float("inf")
    total = 0.0
    # A row that does not count reads nothing, and ends with log-sum-exp 0.
    for start in range(0, tl.where(silent, 0, V), BLOCK_V):
        inside = start + lanes < V
        raw = tl.load(base + start + lanes, mask=inside, other=0.0)
        shaped = tl.where(inside, shape_logits(raw, softcap, scale, HAS_SOFTCAP, HAS_SCALE), -float("inf"))
        new_largest = tl.maximum(largest, tl.max(shaped, axis=0))
        anchor = tl.where(new_largest == -float("inf"), 0.0, new_largest)  # only -inf so far: avoid inf - inf
        total = total * tl.exp(largest - anchor) + tl.sum(tl.exp(shaped - anchor), axis=0)
        largest = new_largest
    log_sum = tl.log(tl.where(silent, 1.0, total))
    row_lse = largest + log_sum
    # The difference first: large logits would round the small logarithm away.
    logp = shape_logits(raw_target, softcap, scale, HAS_SOFTCAP, HAS_SCALE) - largest - log_sum
    logp = tl.minimum(logp, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(lse + row, tl.where(silent, 0.0, row_lse))
    tl.store(logps + row, tl.where(silent, 0.0, logp))
    if TURN:  # the reductions above are barriers: every thread has read the target before any overwrites it
        for start in range(0, V, BLOCK_V):
            tokens = start + lanes
            inside = tokens < V
            raw = tl.load(base + tokens, mask=inside, other=0.0)
            grad = nll_gradient(raw, tokens, target, row_lse, softcap, scale, HAS_SOFTCAP, HAS_SCALE)
            grad = tl.where(silent, 0.0, grad)
            tl.store(base + tokens, grad.to(logits.dtype.element_ty), mask=inside)


def row_logps(logits: Tensor, targets: Tensor, shaping: Shaping, turn: bool = False) -> tuple[Tensor, Tensor]:
    """As `torch_ops.row_logps`: logits [R, V] with unit stride along V, targets [R] -> log-probs, log-sum-exps."""
    logps = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    lse = torch.empty_like(logps)
    if len(logits) == 0:
        return logps, lse
    if turn:
        rehearse(row_logps_kernel, logits, lambda: _on_scratch(logits, shaping))
    _launch(logits, targets, logps, lse, shaping, turn)
    return logps, lse


def _on_scratch(like: Tensor, shaping: Shaping) -> None:
    logits, targets, sums = scratch(like)
    _launch(logits, targets, sums, sums.clone(), shaping, True)


def _launch(logits: Tensor, targets: Tensor, logps: Tensor, lse: Tensor, shaping: Shaping, turn: bool) -> None:
    rows, vocabulary = logits.shape
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
