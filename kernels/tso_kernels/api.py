"""The public functions: they check their arguments, choose the backend, and hand over.

B pairs, N sequences, T positions, R counted rows, H hidden size, V vocabulary. Log-probs are in nats, float32 (float64
for float64 input to the functions of given log-probs). backend: "auto" takes Triton for CUDA tensors where Triton can
be imported, else torch; "triton" and "torch" are taken at their word, or refused.
"""

from __future__ import annotations

import importlib.util
import math
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tso_kernels import reference, rows
from tso_kernels.fused import DEFAULT_BUDGET, Head, HeadMaker, LinearDualClip, LinearLogps, Loss, RowOps, wide
from tso_kernels.reference import IGNORE

INF = math.inf


class DualClipOutput(NamedTuple):
    """loss: [] or [B] (reduction "none"); rewards: beta x log-ratio before clipping, [B]; active: bool [B].

    A side that is not active is saturated: its gradient is exactly zero.
    """

    loss: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    chosen_active: Tensor
    rejected_active: Tensor


class LinearDualClipOutput(NamedTuple):
    """As DualClipOutput, with the policy's log-probs [B] (without gradient)."""

    loss: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    chosen_active: Tensor
    rejected_active: Tensor
    chosen_logps: Tensor
    rejected_logps: Tensor


def sequence_logps(logits: Tensor, labels: Tensor, *, average: bool = False, backend: str = "auto") -> Tensor:
    """Log-probability of each sequence, [N].

    logits: [N, T, V] floating; labels: [N, T] integer, already shifted (labels[n, t] is the token that logits[n, t]
    predicts), -100 = not counted. average: mean over counted tokens instead of their sum. Differentiable in logits.
    Raises ValueError or TypeError for arguments that do not fit.
    """
    _check_labels(logits, labels, "logits", 3)
    ops = _rows_for(backend, logits)
    if ops is rows:
        upcast = logits if logits.dtype == torch.float64 else logits.float()
        return reference.sequence_logps(upcast, labels, average=average)
    at, sequence = _counted(labels)
    logp = _RowLogps.apply(logits.reshape(-1, logits.shape[-1])[at].contiguous(), labels.reshape(-1)[at], ops)
    return _by_sequence(logp, sequence, logits.shape[0], average)


def linear_sequence_logps(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    average: bool = False,
    memory_budget: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """`sequence_logps` of hidden @ weight^T + bias without making the logits, [N] float32.

    hidden: [N, T, H]; weight: [V, H]; labels: [N, T]; bias: [V]. softcap: logits become softcap * tanh(x / softcap)
    after x was multiplied by logit_scale. memory_budget: bytes for logits held at once (256 MiB when not given).
    Under no_grad one tile of logits is all that is made; else the backward pass makes the tiles again.
    """
    _check_labels(hidden, labels, "hidden", 3)
    _check_head(hidden, weight, bias, softcap, logit_scale)
    at, sequence = _counted(labels)
    flat, weight, bias = _common_dtype(hidden.reshape(-1, hidden.shape[-1]), weight, bias)
    make_head = _head_maker(softcap, logit_scale, _rows_for(backend, hidden))
    with torch.autocast(hidden.device.type, enabled=False):
        logp = LinearLogps.apply(
            flat.index_select(0, at), weight, bias, labels.reshape(-1)[at], make_head, _budget(memory_budget)
        )
        return _by_sequence(logp, sequence, hidden.shape[0], average)


def dual_clip_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    chosen_clip: float = INF,
    rejected_clip: float = INF,
    label_smoothing: float | Tensor = 0.0,
    weight: float | Tensor | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    backend: str = "auto",
) -> DualClipOutput:
    """The dual-clip loss of pairs whose log-probs are known (TSO, arXiv 2409.02118; infinite bounds: DPO, 2305.18290).

        r_w = min(beta * u_w, chosen_clip)    r_l = max(beta * u_l, -rejected_clip)    d = r_w - r_l
        L = weight * (-(1 - label_smoothing) * log sigmoid(d) - label_smoothing * log sigmoid(-d))

    The four log-probs: [B]. label_smoothing (in [0, 0.5)) and weight (>= 0): numbers or [B]. reduction: "mean" divides
    the sum by `normalizer`, which is B unless given (give the pairs of the global batch when accumulating gradients);
    "sum"; "none" gives [B]. No gradient reaches the reference log-probs.
    """
    sides = (policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    _check_sides(sides)
    _check_loss(beta, chosen_clip, rejected_clip, reduction)
    like = torch.promote_types(policy_chosen_logps.dtype, torch.float32)
    w, l, ref_w, ref_l = (t.to(like) for t in sides)  # noqa: E741
    smoothing = _per_pair(label_smoothing, w, "label_smoothing", 0.5)
    scale = _per_pair(1.0 if weight is None else weight, w, "weight", INF)
    terms = (w, l, ref_w.detach(), ref_l.detach(), beta, chosen_clip, rejected_clip, smoothing, scale)
    if _rows_for(backend, w) is rows:
        losses, r_w, r_l, on_w, on_l = reference.pair_terms(*terms)
    else:
        losses, r_w, r_l, on_w, on_l = _PairLoss.apply(*terms)
    return DualClipOutput(_reduce(losses, reduction, normalizer), r_w.detach(), r_l.detach(), on_w, on_l)


def linear_dual_clip_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    sequence_ids: Tensor | None = None,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    average: bool = False,
    beta: float = 0.1,
    chosen_clip: float = INF,
    rejected_clip: float = INF,
    label_smoothing: float | Tensor = 0.0,
    pair_weight: float | Tensor | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    sft_weight: float = 0.0,
    memory_budget: int | None = None,
    backend: str = "auto",
) -> LinearDualClipOutput:
    """`dual_clip_loss` of the log-probs of hidden @ weight^T + bias, fused: the full logits are never made.

    hidden: [2B, T, H], rows 0..B-1 chosen and B..2B-1 rejected, with labels [2B, T]; or packed [R, H] with labels [R]
    and sequence_ids [R] in 0..2B-1 (chosen of pair b: b, rejected: B + b). ref_*_logps: [B], of the same kind (sums, or
    means with `average`). pair_weight is the loss's `weight` (the head has that name here). sft_weight adds
    sft_weight * sum_b pair_weight_b * (mean over tokens of -log p(chosen_b)) / normalizer.

    Gradients are computed while the forward pass has the logits; rows of saturated sides and a frozen weight cost no
    product. A second backward through the same loss raises RuntimeError.
    """
    pairs = ref_chosen_logps.numel()
    if sequence_ids is None:
        _check_labels(hidden, labels, "hidden", 3)
        if hidden.shape[0] != 2 * pairs:
            raise ValueError(f"hidden has {hidden.shape[0]} sequences, {pairs} reference log-probs need {2 * pairs}")
    else:
        _check_labels(hidden, labels, "hidden", 2)
        _check_ids(sequence_ids, labels, pairs)
    _check_head(hidden, weight, bias, softcap, logit_scale)
    _check_sides((ref_chosen_logps, ref_rejected_logps))
    _check_loss(beta, chosen_clip, rejected_clip, reduction)
    refs = torch.cat([ref_chosen_logps, ref_rejected_logps]).detach().to(hidden.device, wide(hidden))
    smoothing = _per_pair(label_smoothing, refs[:pairs], "label_smoothing", 0.5)
    scale = _per_pair(1.0 if pair_weight is None else pair_weight, refs[:pairs], "pair_weight", INF)
    if reduction == "none":
        raise ValueError('reduction="none" needs the log-probs: use linear_sequence_logps, then dual_clip_loss')
    divisor = 1.0 if reduction == "sum" else float(pairs if normalizer is None else normalizer) or 1.0
    loss = Loss(beta, chosen_clip, rejected_clip, smoothing, scale, sft_weight, average, divisor)
    at, sequence = _counted(labels)
    sequence = sequence if sequence_ids is None else sequence_ids[at].long()
    flat, head_weight, bias = _common_dtype(hidden.reshape(-1, hidden.shape[-1]), weight, bias)
    make_head = _head_maker(softcap, logit_scale, _rows_for(backend, hidden))
    with torch.autocast(hidden.device.type, enabled=False):
        total, logps = LinearDualClip.apply(
            flat.index_select(0, at), head_weight, bias, labels.reshape(-1)[at], sequence, refs, loss, make_head,
            _budget(memory_budget),
        )  # fmt: skip
    chosen, rejected = logps.chunk(2)
    r_w, r_l = beta * (chosen - refs[:pairs]), beta * (rejected - refs[pairs:])
    return LinearDualClipOutput(total, r_w, r_l, r_w <= chosen_clip, r_l >= -rejected_clip, chosen, rejected)


class DualClipLoss(torch.nn.Module):
    """`dual_clip_loss` with its options kept; call it with the four log-prob vectors."""

    def __init__(self, beta: float = 0.1, chosen_clip: float = INF, rejected_clip: float = INF, **options: Any):
        super().__init__()
        _check_loss(beta, chosen_clip, rejected_clip, str(options.get("reduction", "mean")))
        self.options: dict[str, Any] = {
            "beta": beta,
            "chosen_clip": chosen_clip,
            "rejected_clip": rejected_clip,
            **options,
        }

    def forward(
        self, policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor
    ) -> DualClipOutput:
        return dual_clip_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, **self.options)


class _RowLogps(torch.autograd.Function):
    """Row log-probs [R] of logits [R, V] by the Triton kernels."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ops: RowOps) -> Tensor:
        logp, lse = ops.logprob(logits, labels, None, 1.0)
        ctx.save_for_backward(logits, labels, lse)
        ctx.ops = ops
        return logp

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, lse = ctx.saved_tensors
        return ctx.ops.grad_(logits.clone(), labels, lse, grad, None, 1.0), None, None


class _PairLoss(torch.autograd.Function):
    """reference.pair_terms by the Triton kernel; the gradient comes with the loss."""

    @staticmethod
    def forward(
        ctx: Any,
        w: Tensor,
        l: Tensor,  # noqa: E741
        ref_w: Tensor,
        ref_l: Tensor,
        beta: float,
        chosen_clip: float,
        rejected_clip: float,
        smoothing: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, ...]:
        from tso_kernels.pair_loss import pair_loss

        loss, r_w, r_l, on_w, on_l, dw, dl = pair_loss(
            w, l, ref_w, ref_l, beta, chosen_clip, rejected_clip, smoothing, weight
        )
        ctx.save_for_backward(dw, dl)
        ctx.mark_non_differentiable(r_w, r_l, on_w, on_l)
        return loss, r_w, r_l, on_w, on_l

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        dw, dl = ctx.saved_tensors
        return grad * dw, grad * dl, *[None] * 7


def _rows_for(backend: str, tensor: Tensor) -> RowOps:
    """The module with `logprob` and `grad_` for this backend and device."""
    if backend not in ("auto", "triton", "torch"):
        raise ValueError(f'backend must be "auto", "triton" or "torch", not {backend!r}')
    found = importlib.util.find_spec("triton") is not None
    if backend == "torch" or (backend == "auto" and not (tensor.is_cuda and found)):
        return rows
    if not found:
        raise ValueError('backend="triton" needs the package triton: pip install triton')
    if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f'backend="triton" needs CUDA tensors, these are on {tensor.device}; use backend="torch"')
    if tensor.dtype == torch.float64:
        raise ValueError('backend="triton" computes in float32; use backend="torch" for float64')
    from tso_kernels import row_logprob

    return row_logprob


def _head_maker(softcap: float | None, logit_scale: float, ops: RowOps) -> HeadMaker:
    return lambda weight, bias: Head(
        weight.detach(), None if bias is None else bias.detach(), softcap, logit_scale, ops
    )


def _counted(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(rows of the flattened labels that are counted, their sequence numbers)."""
    at = (labels.reshape(-1) != IGNORE).nonzero().squeeze(1)
    return at, at // max(labels.shape[-1], 1)


def _by_sequence(logp: Tensor, sequence: Tensor, count: int, average: bool) -> Tensor:
    total: Tensor = _SegmentSum.apply(logp, sequence, count)
    return total / torch.bincount(sequence, minlength=count).clamp(min=1) if average else total


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, segments: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(segments)
        return rows.segment_sum(values, segments, count)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad[ctx.saved_tensors[0]], None, None


def _common_dtype(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """All in autocast's dtype where it is on, else in the wider of the two."""
    kind = hidden.device.type
    auto = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if auto else torch.promote_types(hidden.dtype, weight.dtype)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _budget(memory_budget: int | None) -> int:
    if memory_budget is not None and memory_budget <= 0:
        raise ValueError(f"memory_budget must be a positive number of bytes, not {memory_budget}")
    return DEFAULT_BUDGET if memory_budget is None else memory_budget


def _per_pair(value: float | Tensor, like: Tensor, name: str, below: float) -> Tensor:
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
    if tensor.dim() > 0 and tensor.shape != like.shape:
        raise ValueError(f"{name} must be a number or have shape {tuple(like.shape)}, not {tuple(tensor.shape)}")
    if not isinstance(value, Tensor) and not 0 <= value < below:
        raise ValueError(f"{name} must be at least 0 and below {below}, not {value}")
    return tensor.expand_as(like)


def _reduce(losses: Tensor, reduction: str, normalizer: float | None) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / (max(losses.numel(), 1) if normalizer is None else normalizer)


def _check_labels(tensor: Tensor, labels: Tensor, name: str, dims: int) -> None:
    if tensor.dim() != dims or labels.shape != tensor.shape[:-1]:
        raise ValueError(
            f"{name} must have {dims} dimensions and labels all of them but the last; "
            f"got {tuple(tensor.shape)} and {tuple(labels.shape)}"
        )
    if not tensor.is_floating_point() or labels.is_floating_point():
        raise TypeError(f"{name} must be floating and labels integer, not {tensor.dtype} and {labels.dtype}")


def _check_ids(ids: Tensor, labels: Tensor, pairs: int) -> None:
    if ids.shape != labels.shape:
        raise ValueError(f"sequence_ids must have the shape of labels {tuple(labels.shape)}, not {tuple(ids.shape)}")
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < 2 * pairs):
        raise ValueError(f"sequence_ids must be in 0..{2 * pairs - 1} for {pairs} pairs")


def _check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, scale: float) -> None:
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        raise ValueError(f"weight must be [V, {hidden.shape[-1]}] for this hidden, not {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be [{weight.shape[0]}], not {tuple(bias.shape)}")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap must be positive or None, not {softcap}")
    if not math.isfinite(scale):
        raise ValueError(f"logit_scale must be finite, not {scale}")


def _check_sides(sides: tuple[Tensor, ...]) -> None:
    if any(t.dim() != 1 or t.shape != sides[0].shape for t in sides):
        raise ValueError(f"log-probs must all be [B] of one B, not {[tuple(t.shape) for t in sides]}")


def _check_loss(beta: float, chosen_clip: float, rejected_clip: float, reduction: str) -> None:
    if not beta > 0:
        raise ValueError(f"beta must be positive, not {beta}")
    if not (chosen_clip >= 0 and rejected_clip >= 0):
        raise ValueError(f"clips must be 0 or more (infinity: none), not {chosen_clip} and {rejected_clip}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')
