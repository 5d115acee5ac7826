"""The linear paths as custom operators, for torch.compile: opaque to the compiler, which sees shapes and dtypes only.

Without them the compiler would meet the data-dependent list of completion rows, and break the graph. What they compute
is what `chunked.py` computes in eager mode. Gradients that nobody wants come back as empty tensors, because an operator
returns tensors only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from tso_kernels.chunked import PairJob, differentiate_rows, run_pairs, score_rows
from tso_kernels.head import Wanted, scatter_rows
from tso_kernels.options import Bounds, LinearDualClipOutput, PairRule, accumulation_dtype
from tso_kernels.plan import Plan, make_job

# The schema of an operator lists plain values: a Plan, a PairRule and a Wanted, written out.


@library.custom_op("tso_kernels::linear_logps", mutates_args=())
def _linear_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    softcap: float | None,
    logit_scale: float,
    dtype: torch.dtype,
    memory_budget: int | None,
    backend: str,
    sequences: int,
    paired: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor]:
    """(log-probabilities of the slots, log-sum-exp of every counted position and 0 elsewhere)."""
    plan = Plan(softcap, logit_scale, dtype, memory_budget, backend, sequences, paired)
    job = make_job(plan, weight, labels, sequence_ids)
    totals, lse = score_rows(hidden, weight, bias, job)
    return totals, lse.new_zeros(labels.numel()).index_copy_(0, job.rows.index, lse)


@_linear_logps.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    dtype, *_, sequences, _, _ = rest[-6:]
    wide = accumulation_dtype(dtype)
    return hidden.new_empty(sequences, dtype=wide), hidden.new_empty(labels.numel(), dtype=wide)


@library.custom_op("tso_kernels::linear_logps_backward", mutates_args=())
def _linear_logps_backward(
    grad: Tensor,
    lse: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    softcap: float | None,
    logit_scale: float,
    dtype: torch.dtype,
    memory_budget: int | None,
    backend: str,
    sequences: int,
    paired: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    plan = Plan(softcap, logit_scale, dtype, memory_budget, backend, sequences, paired)
    job = make_job(plan, weight, labels, sequence_ids)
    gradients = differentiate_rows(grad, lse[job.rows.index], hidden, weight, bias, job, Wanted(*wanted))
    d_hidden, d_weight, d_bias = (hidden.new_empty(0) if g is None else g for g in gradients)
    return d_hidden, d_weight, d_bias


@_linear_logps_backward.register_fake
def _(
    grad: Tensor, lse: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    wanted = rest[-1]
    return _like(hidden, wanted[0], hidden), _like(weight, wanted[1], hidden), _like(bias, wanted[2], hidden)


def _like(tensor: Tensor | None, wanted: bool, device: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape) if tensor is not None and wanted else device.new_empty(0)


def _save_logps(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    hidden, weight, bias, labels, sequence_ids, *ctx.options = inputs
    ctx.save_for_backward(hidden, weight, bias, labels, sequence_ids, output[1])
    ctx.mark_non_differentiable(output[1])


def _logps_gradient(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    hidden, weight, bias, labels, sequence_ids, lse = ctx.saved_tensors
    found = _linear_logps_backward(grad, lse, hidden, weight, bias, labels, sequence_ids, *ctx.options)
    gradients = [g if want else None for g, want in zip(found, ctx.options[-1], strict=True)]
    return (*gradients, None, None, *[None] * len(ctx.options))


_linear_logps.register_autograd(_logps_gradient, setup_context=_save_logps)


def linear_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    plan: Plan,
    wanted: Wanted,
) -> Tensor:
    """Summed log-probabilities of the slots, differentiable; as `LinearSequenceLogps`."""
    totals: Tensor = _linear_logps(hidden, weight, bias, labels, sequence_ids, *plan, list(wanted))[0]
    return totals


@library.custom_op("tso_kernels::linear_dual_clip", mutates_args=())
def _linear_dual_clip(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    smoothing: Tensor,
    pair_weight: Tensor,
    beta: float,
    bounds: list[float],
    sft_weight: float,
    average: bool,
    softcap: float | None,
    logit_scale: float,
    dtype: torch.dtype,
    memory_budget: int | None,
    backend: str,
    sequences: int,
    paired: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The summed loss, the constants of its output, then what its gradient is made of.

    That is: gradients of the hidden states without their coefficients, the coefficient of every position, and the sums
    of the gradients of weight and bias. The upstream gradient multiplies them in the backward.
    """
    plan = Plan(softcap, logit_scale, dtype, memory_budget, backend, sequences, paired)
    job = make_job(plan, weight, labels, sequence_ids)
    rule = PairRule(beta, Bounds(*bounds[:2]), Bounds(*bounds[2:]))
    pairs = PairJob(
        ref_chosen, ref_rejected, rule, smoothing, pair_weight * job.rows.pairs_with_rows(), sft_weight, average
    )
    losses, *constants, sums = run_pairs(hidden, weight, bias, job, pairs, Wanted(*wanted))
    index = job.rows.index
    slopes = scatter_rows(sums.x, index, hidden.shape, dtype)
    coef = losses.new_zeros(labels.numel()).index_copy_(0, index, sums.coef)
    parts = (hidden.new_empty(0) if g is None else g for g in (slopes, coef, sums.weight, sums.bias))
    return losses.sum(), *constants, *parts


@_linear_dual_clip.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    ref_chosen: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    dtype, wanted = rest[-6], rest[-1]
    wide = accumulation_dtype(dtype)

    def per_pair(kind: torch.dtype) -> Tensor:
        return hidden.new_empty(ref_chosen.shape, dtype=kind)

    constants = [per_pair(kind) for kind in (wide, wide, torch.bool, torch.bool, wide, wide)]
    parts = zip((hidden, weight, bias), (dtype, wide, wide), wanted, strict=True)
    slopes, d_weight, d_bias = (_like(t, want, hidden).to(kind) for t, kind, want in parts)
    coef = hidden.new_empty(labels.numel(), dtype=wide)
    return hidden.new_empty((), dtype=wide), *constants, slopes, coef, d_weight, d_bias


def _save_pairs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, bias = inputs[:3]
    ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
    ctx.wanted, ctx.inputs = inputs[-1], len(inputs)
    ctx.save_for_backward(*output[-4:])
    ctx.mark_non_differentiable(*output[1:])


def _pairs_gradient(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Any, ...]:
    slopes, coef, d_weight, d_bias = ctx.saved_tensors
    found: list[Tensor | None] = [None, None, None]
    if ctx.wanted[0]:
        found[0] = slopes * (coef * grad).view(*slopes.shape[:-1], 1)
    if ctx.wanted[1]:
        found[1] = d_weight * grad
    if ctx.wanted[2]:
        found[2] = d_bias * grad
    gradients = [None if g is None else g.to(kind) for g, kind in zip(found, ctx.dtypes, strict=True)]
    return (*gradients, *[None] * (ctx.inputs - 3))


_linear_dual_clip.register_autograd(_pairs_gradient, setup_context=_save_pairs)


def linear_dual_clip(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    plan: Plan,
    pairs: PairJob,
    wanted: Wanted,
    scale: Tensor | float,
) -> LinearDualClipOutput:
    """As `LinearDualClip`, once for all pairs; it may go backward as often as the compiler likes."""
    rule = pairs.rule
    total, *constants = _linear_dual_clip(
        hidden, weight, bias, labels, sequence_ids, pairs.ref_chosen, pairs.ref_rejected, pairs.smoothing, pairs.weight,
        rule.beta, [*rule.chosen, *rule.rejected], pairs.sft_weight, pairs.average, *plan, list(wanted),
    )  # fmt: skip
    return LinearDualClipOutput(total * scale, *constants[:6])
