"""Losses that start where logits, or log-probabilities, already exist, as autograd functions over row operations.

Unlike `torch.log_softmax`, no second tensor as large as the logits is kept for the backward, and the log-sum-exp is
computed in fp32 whatever the logits' dtype.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tso_kernels.once import differentiable_once
from tso_kernels.options import PairRule, Shaping, accumulation_dtype

_PLAIN = Shaping()


class SequenceLogps(torch.autograd.Function):
    """logits [N, T, V], labels [N, T] -> summed log-probabilities [N].

    Sequence by sequence, because `logits[:, :-1]` has no flat view and must not be copied.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ops: ModuleType) -> Tensor:
        totals = logits.new_zeros(len(logits), dtype=accumulation_dtype(logits.dtype))
        lse = logits.new_zeros(labels.shape, dtype=totals.dtype)
        for n, (sequence, targets) in enumerate(zip(logits, labels, strict=True)):
            logps, lse[n] = ops.row_logps(_rows_of(sequence), targets, _PLAIN)
            totals[n] = ops.segment_sum(logps, [len(logps)])[0]
        ctx.save_for_backward(logits, labels, lse)
        ctx.ops = ops
        return totals

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, labels, lse = ctx.saved_tensors
        d_logits = torch.empty_like(logits, memory_format=torch.contiguous_format)
        for n, (sequence, targets) in enumerate(zip(logits, labels, strict=True)):
            coef = -grad[n].to(lse.dtype).expand(len(targets)).contiguous()
            ctx.ops.grad_logits(_rows_of(sequence), targets, lse[n], _PLAIN, coef, d_logits[n])
        return d_logits, None, None


def _rows_of(logits: Tensor) -> Tensor:
    """[T, V] with unit stride along V, without a copy where that already holds."""
    return logits if logits.stride(-1) == 1 else logits.contiguous()


class PairLoss(torch.autograd.Function):
    """Four log-probabilities [B] -> losses [B], then rewards and masks, [B] each, as constants."""

    @staticmethod
    def forward(
        ctx: Any,
        policy_chosen: Tensor,
        policy_rejected: Tensor,
        ref_chosen: Tensor,
        ref_rejected: Tensor,
        rule: PairRule,
        smoothing: Tensor,
        weight: Tensor,
        ops: ModuleType,
    ) -> tuple[Tensor, ...]:
        inputs = policy_chosen, policy_rejected, ref_chosen, ref_rejected
        wide = (t.to(weight.dtype).contiguous() for t in inputs)
        terms = ops.pair_terms(*wide, rule, smoothing, weight)
        ctx.save_for_backward(terms.grad_chosen, terms.grad_rejected)
        ctx.dtypes = [t.dtype for t in inputs]
        ctx.mark_non_differentiable(*terms[3:])
        ctx.set_materialize_grads(False)
        return (terms.losses, *terms[3:])

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        chosen, rejected = (grad * derivative for derivative in ctx.saved_tensors)
        gradients = chosen, rejected, -chosen, -rejected
        return (*(g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True)), None, None, None, None)
