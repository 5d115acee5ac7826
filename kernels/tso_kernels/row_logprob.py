"""Triton: log-prob of the label and log-sum-exp of each row, and the gradient written over the logits.

One program a row on grid axis 0 (which has no small limit); 64-bit offsets, since R x V passes 2^31; the vocabulary is
walked in blocks with an online maximum and sum in float32. The twin in plain torch is rows.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _shape(x, softcap, logit_scale, HAS_SOFTCAP: tl.constexpr):
    x = x * logit_scale
    if HAS_SOFTCAP:
        # tanh by exp: the same on every backend, and exact enough in float32; the sign keeps exp from overflowing.
        e = tl.exp(-2.0 * tl.abs(x) / softcap)
        t = (1.0 - e) / (1.0 + e)
        x = softcap * tl.where(x >= 0, t, -t)
    return x


@triton.jit
def row_logprob_kernel(
    logits, labels, logp, lse, stride, V, softcap, logit_scale, HAS_SOFTCAP: tl.constexpr, BLOCK_V: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * stride
    top = -float("inf")
    total = 0.0
    for start in range(0, V, BLOCK_V):
        cols = start + tl.arange(0, BLOCK_V)
        x = tl.load(base + cols, mask=cols < V, other=0.0).to(tl.float32)
        z = tl.where(cols < V, _shape(x, softcap, logit_scale, HAS_SOFTCAP), -float("inf"))
        higher = tl.maximum(top, tl.max(z, axis=0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(z - higher), axis=0)
        top = higher
    whole = top + tl.log(total)
    label = tl.load(labels + row)
    target = _shape(tl.load(base + label).to(tl.float32), softcap, logit_scale, HAS_SOFTCAP)
    tl.store(lse + row, whole)
    tl.store(logp + row, tl.minimum(target - whole, 0.0))


@triton.jit
def row_grad_kernel(
    logits, labels, lse, coef, stride, V, softcap, logit_scale, HAS_SOFTCAP: tl.constexpr, BLOCK_V: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * stride
    label = tl.load(labels + row)
    whole = tl.load(lse + row)
    factor = tl.load(coef + row) * logit_scale
    for start in range(0, V, BLOCK_V):
        cols = start + tl.arange(0, BLOCK_V)
        x = tl.load(base + cols, mask=cols < V, other=0.0)
        z = _shape(x.to(tl.float32), softcap, logit_scale, HAS_SOFTCAP)
        slope = tl.where(cols == label, 1.0, 0.0) - tl.exp(z - whole)
        if HAS_SOFTCAP:
            slope = slope * (1.0 - (z / softcap) * (z / softcap))
        tl.store(base + cols, (slope * factor).to(x.dtype), mask=cols < V)


def _block(vocabulary: int) -> int:
    power: int = triton.next_power_of_2(vocabulary)
    return min(4096, power)


def logprob(logits: Tensor, labels: Tensor, softcap: float | None, logit_scale: float) -> tuple[Tensor, Tensor]:
    """See rows.logprob. logits [R, V] with unit stride along V."""
    rows, vocabulary = logits.shape
    logp = torch.empty(rows, dtype=torch.float32, device=logits.device)
    lse = torch.empty_like(logp)
    if rows:
        row_logprob_kernel[(rows,)](
            logits, labels, logp, lse, logits.stride(0), vocabulary, softcap or 1.0, logit_scale,
            HAS_SOFTCAP=softcap is not None, BLOCK_V=_block(vocabulary),
        )  # fmt: skip
    return logp, lse


def grad_(
    logits: Tensor, labels: Tensor, lse: Tensor, coef: Tensor, softcap: float | None, logit_scale: float
) -> Tensor:
    """See rows.grad_."""
    rows, vocabulary = logits.shape
    if rows:
        row_grad_kernel[(rows,)](
            logits, labels, lse, coef.float(), logits.stride(0), vocabulary, softcap or 1.0, logit_scale,
            HAS_SOFTCAP=softcap is not None, BLOCK_V=_block(vocabulary),
        )  # fmt: skip
    return logits
