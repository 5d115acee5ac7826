"""What is done to a tile of logits, row by row, in plain torch: the twin of the Triton kernels in row_logprob.py.

R rows, V vocabulary. Arithmetic is float32 for every narrower dtype, float64 for float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tso_kernels.reference import shape_logits


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def logprob(logits: Tensor, labels: Tensor, softcap: float | None, logit_scale: float) -> tuple[Tensor, Tensor]:
    """(log-prob of the label, log-sum-exp), both [R] float32, of raw logits [R, V] and labels [R]."""
    z = shape_logits(_wide(logits), softcap, logit_scale)
    lse = torch.logsumexp(z, dim=-1)
    target = z.gather(-1, labels[:, None]).squeeze(-1)
    return (target - lse).clamp(max=0.0), lse


def grad_(
    logits: Tensor, labels: Tensor, lse: Tensor, coef: Tensor, softcap: float | None, logit_scale: float
) -> Tensor:
    """Overwrite raw logits [R, V] by coef x d(log-prob)/d(raw logit); returns them.

    d(log p_y)/dz = onehot(y) - softmax(z); the chain rule adds logit_scale, and 1 - (z / softcap)^2 for a softcap.
    """
    z = shape_logits(_wide(logits), softcap, logit_scale)
    slope = torch.exp(z - lse[:, None]).neg_()
    slope[torch.arange(len(labels), device=labels.device), labels] += 1.0
    if softcap is not None:
        slope *= 1.0 - (z / softcap) ** 2
    slope *= (coef * logit_scale)[:, None]
    return logits.copy_(slope)


def dual_clip_grad(
    chosen: Tensor,
    rejected: Tensor,
    chosen_active: Tensor,
    rejected_active: Tensor,
    beta: float,
    chosen_clip: float,
    rejected_clip: float,
    label_smoothing: Tensor | float,
    weight: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """(dL/d chosen log-prob, dL/d rejected log-prob), [B], from unclipped rewards: exactly 0 on a saturated side.

    dL/dd = a * (-(1 - e) * sigmoid(-d) + e * sigmoid(d)).
    """
    r_w = torch.where(chosen_active, chosen, torch.full_like(chosen, chosen_clip))
    r_l = torch.where(rejected_active, rejected, torch.full_like(rejected, -rejected_clip))
    p = torch.sigmoid(r_w - r_l)
    slope = beta * weight * (label_smoothing * p - (1 - label_smoothing) * (1 - p))
    zero = torch.zeros_like(slope)
    return torch.where(chosen_active, slope, zero), torch.where(rejected_active, -slope, zero)


def segment_sum(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """Sums [count] of values [R] by segment number [R]; in row order, so that two runs agree bit for bit."""
    if values.device.type == "cpu":
        return torch.zeros(count, dtype=values.dtype).index_add_(0, segments, values)
    lengths = torch.bincount(segments, minlength=count)
    ends = lengths.cumsum(0)
    order = torch.argsort(segments, stable=True)
    sums = torch.cat([values.new_zeros(1, dtype=torch.float64), values[order].double().cumsum(0)])
    return (sums[ends] - sums[ends - lengths]).to(values.dtype)
