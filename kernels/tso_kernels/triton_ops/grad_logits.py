"""The gradient of rows' negative log-probabilities by the logits, from the logits and their log-sum-exps."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from tso_kernels.options import Shaping
from tso_kernels.triton_ops.shaping import IGNORE, nll_gradient, on_device
from tso_kernels.triton_ops.tuning import rehearse, scratch, tunable

BLOCKS = (1024, 2048, 4096)


@tunable([triton.Config({"BLOCK_V": block}, num_warps=warps) for block in BLOCKS for warps in (4, 8)])
@triton.jit
def grad_logits_kernel(
    logits,
    targets,
    lse,
    coef,
    out,
    row_stride,
    out_stride,
    columns,
    first,
    softcap,
    scale,
    HAS_COEF: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = lanes < columns
    target = tl.load(targets + row)
    factor = 1.0
    if HAS_COEF:
        factor = tl.load(coef + row)
    factor = tl.where(target == IGNORE, 0.0, factor)
    raw = tl.load(logits + row * row_stride + lanes, mask=inside, other=0.0)
    grad = nll_gradient(raw, first + lanes, target, tl.load(lse + row), softcap, scale, HAS_SOFTCAP, HAS_SCALE) * factor
    grad = tl.where(factor == 0.0, 0.0, grad)  # exactly 0, even where the logits are not finite
    tl.store(out + row * out_stride + lanes, grad.to(out.dtype.element_ty), mask=inside)


def grad_logits(
    logits: Tensor, targets: Tensor, lse: Tensor, shaping: Shaping, coef: Tensor | None, out: Tensor, first: int = 0
) -> Tensor:
    """As `torch_ops.grad_logits`: coef * (softmax - onehot) * bend into `out` [R, C], which may be `logits` itself."""
    if len(logits) == 0:
        return out
    rehearse(grad_logits_kernel, logits, lambda: _on_scratch(logits, shaping, coef is not None))
    _launch(logits, targets, lse, shaping, coef, out, first)
    return out


def _on_scratch(like: Tensor, shaping: Shaping, weighed: bool) -> None:
    logits, targets, sums = scratch(like)
    _launch(logits, targets, sums, shaping, sums if weighed else None, logits, 0)


def _launch(
    logits: Tensor, targets: Tensor, lse: Tensor, shaping: Shaping, coef: Tensor | None, out: Tensor, first: int
) -> None:
    rows, columns = logits.shape
    with on_device(logits):
        grad_logits_kernel[lambda chosen: (rows, triton.cdiv(columns, chosen["BLOCK_V"]))](
            logits,
            targets.contiguous(),
            lse,
            lse if coef is None else coef,
            out,
            logits.stride(0),
            out.stride(0),
            columns,
            first,
            shaping.softcap or 1.0,
            shaping.scale,
            HAS_COEF=coef is not None,
            HAS_SOFTCAP=shaping.softcap is not None,
            HAS_SCALE=shaping.scale != 1.0,
        )
