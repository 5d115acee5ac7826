"""The two losses from hidden states without full logits, as autograd functions over any backend's row operations.

`LinearSequenceLogps` keeps only log-sum-exps and computes logits again in the backward, by blocks of the vocabulary (four
products in all, and the least memory).
`LinearDualClip` holds the logits of whole pairs at a time, so the pair's coefficient is known while they are still in
memory: they are turned into their gradient in place, and the gradients computed in the forward (three products). Rows
of saturated sides skip the gradient products. What is validated and chosen, `api.py` did before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tso_kernels.head import NOTHING, HeadPass, Job, Wanted, autocast_off, scatter_rows
from tso_kernels.once import differentiable_once
from tso_kernels.options import PairRule, PairTerms
from tso_kernels.rows import group_pairs, nonzero_runs

_SPENT = (
    "this loss computed its gradient in the forward pass, and an earlier backward used it up; call the loss again, "
    "or use reduction='none', which computes the gradient in the backward"
)


class LinearSequenceLogps(torch.autograd.Function):
    """hidden, weight, bias -> summed log-probabilities of each slot, [slots]."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, wanted: Wanted) -> Tensor:
        totals, lse = score_rows(hidden, weight, bias, job)
        ctx.save_for_backward(hidden, weight, bias, lse)
        ctx.job, ctx.wanted = job, wanted
        return totals

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, lse = ctx.saved_tensors
        gradients = differentiate_rows(grad, lse, hidden, weight, bias, ctx.job, ctx.wanted)
        return (*gradients, None, None)


class PairJob(NamedTuple):
    """What makes a loss of the log-probabilities; all tensors constants, in the accumulation dtype."""

    ref_chosen: Tensor  # [B]
    ref_rejected: Tensor  # [B]
    rule: PairRule
    smoothing: Tensor  # [B]
    weight: Tensor  # [B], 0 for pairs without rows
    sft_weight: float
    average: bool


class LinearDualClip(torch.autograd.Function):
    """hidden, weight, bias -> loss (scalar), then rewards, masks and log-probabilities, [B] each, as constants."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        job: Job,
        pairs: PairJob,
        wanted: Wanted,
        scale: Tensor | float,
    ) -> tuple[Tensor, ...]:
        losses, *constants, gradients = run_pairs(hidden, weight, bias, job, pairs, wanted)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*constants)
        ctx.gradients, ctx.scale = gradients, scale
        ctx.index, ctx.shape = job.rows.index, hidden.shape
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return (losses.sum() * scale, *constants)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        if ctx.gradients is None:
            raise RuntimeError(_SPENT)
        gradients, ctx.gradients = ctx.gradients, None
        d_x, d_weight, d_bias = gradients.scaled(grad * ctx.scale)
        hidden_dtype, weight_dtype, bias_dtype = ctx.dtypes
        d_hidden = scatter_rows(d_x, ctx.index, ctx.shape, hidden_dtype)
        return d_hidden, _cast(d_weight, weight_dtype), _cast(d_bias, bias_dtype), None, None, None, None


def run_pairs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, pairs: PairJob, wanted: Wanted
) -> tuple[Any, ...]:
    """Losses, rewards, masks and log-probabilities, [B] each, and the `Gradients` of the sum of the losses."""
    with autocast_off(hidden.device):
        head = HeadPass(hidden, weight, bias, job, wanted)
        groups = group_pairs(job.rows.counts, job.capacity)
        parts = [_run_group(head, pairs, *group, want=any(wanted)) for group in groups]
    return (*(torch.cat(column) for column in zip(*parts, strict=True)), head.gradients.finish())


def score_rows(hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job) -> tuple[Tensor, Tensor]:
    """(summed log-probabilities of each slot, log-sum-exp of each row)."""
    with autocast_off(hidden.device):
        head = HeadPass(hidden, weight, bias, job, NOTHING)
        for tile in head.tiles(0, len(head.x)):
            head.score(*tile)
    return job.ops.segment_sum(head.logps, job.rows.counts), head.lse


def differentiate_rows(
    grad: Tensor, lse: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, wanted: Wanted
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of hidden, weight and bias, each in its own dtype, from those of the slots' log-probabilities."""
    rows = job.rows
    with autocast_off(hidden.device):
        head = HeadPass(hidden, weight, bias, job, NOTHING)
        head.lse = lse
        head.set_coef(0, len(lse), rows.repeat(-grad.to(lse.dtype)))
        spans = nonzero_runs(grad.tolist(), rows.starts)
        d_x, d_weight, d_bias = head.gradients_by_vocabulary(spans, wanted, weight.dtype)
    d_hidden = scatter_rows(d_x, rows.index, hidden.shape, hidden.dtype)
    return d_hidden, d_weight, None if bias is None else _cast(d_bias, bias.dtype)


def _run_group(head: HeadPass, pairs: PairJob, first: int, last: int, *, want: bool) -> tuple[Tensor, ...]:
    """Score pairs [first, last) and, if `want`, add their gradients: losses, then the constants of `LinearDualClip`."""
    rows, ops = head.job.rows, head.job.ops
    slots, span = slice(2 * first, 2 * last), (rows.starts[2 * first], rows.starts[2 * last])
    tiles = head.tiles(*span)
    turn = want and len(tiles) == 1
    resident = None
    for tile in tiles:
        resident = head.score(*tile, turn=turn)
    totals = ops.segment_sum(head.logps[slice(*span)], rows.counts[slots]).view(-1, 2)
    lengths = rows.lengths[slots].view(-1, 2)
    chosen, rejected = (totals / lengths if pairs.average else totals).unbind(1)
    refs, weight = (pairs.ref_chosen[first:last], pairs.ref_rejected[first:last]), pairs.weight[first:last]
    terms: PairTerms = ops.pair_terms(chosen, rejected, *refs, pairs.rule, pairs.smoothing[first:last], weight)
    nll_weight = pairs.sft_weight * weight / lengths[:, 0]
    if want:
        by_sequence = torch.stack((terms.grad_chosen, terms.grad_rejected), dim=1)
        coef = -by_sequence / lengths if pairs.average else -by_sequence
        coef[:, 0] += nll_weight
        _add_group_gradients(head, coef.flatten(), 2 * first, span, resident if turn else None)
    return (terms.losses - nll_weight * totals[:, 0], *terms[3:], chosen, rejected)


def _add_group_gradients(
    head: HeadPass, coef: Tensor, first_slot: int, span: tuple[int, int], resident: Tensor | None
) -> None:
    """Gradient products of the slots whose coefficient is not 0, from the tile in memory or from new logits."""
    rows = head.job.rows
    head.set_coef(*span, rows.repeat(coef, first_slot))
    for start, stop in nonzero_runs(coef.tolist(), rows.starts, first_slot):
        if resident is not None:
            head.add_gradients(start, stop, resident[start - span[0] : stop - span[0]])
            continue
        for tile in head.tiles(start, stop):
            head.add_gradients(*tile, head.score_again(*tile))


def _cast(gradient: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if gradient is None else gradient.to(dtype)
