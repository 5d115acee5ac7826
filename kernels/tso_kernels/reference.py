"""The mathematics in plain torch: slow, obvious, float64-capable. Everything faster is held to this file.

B pairs, N sequences, T positions, H hidden size, V vocabulary. Log-probabilities are in nats. The dual-clip loss is
that of TSO (arXiv 2409.02118); with both bounds infinite it is DPO (arXiv 2305.18290, equation 7).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100


def shape_logits(logits: Tensor, softcap: float | None = None, logit_scale: float = 1.0) -> Tensor:
    """What a model family does to its raw logits: scale, then softcap * tanh(x / softcap)."""
    scaled = logits * logit_scale
    return scaled if softcap is None else softcap * torch.tanh(scaled / softcap)


def sequence_logps(logits: Tensor, labels: Tensor, *, average: bool = False) -> Tensor:
    """Log-probability of each labelled sequence.

    logits [N, T, V]; labels [N, T], where labels[n, t] is the token that logits[n, t] predicts and -100 is not
    counted. Returns [N]: the sum over counted tokens, or their mean with `average`; 0 where none is counted.
    """
    counted = labels != IGNORE
    picked = torch.log_softmax(logits, dim=-1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    total = torch.where(counted, picked, torch.zeros_like(picked)).sum(-1)
    return total / counted.sum(-1).clamp(min=1) if average else total


def linear_sequence_logps(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    average: bool = False,
) -> Tensor:
    """`sequence_logps` of the logits hidden [N, T, H] @ weight [V, H]^T + bias [V], in hidden's own precision."""
    return sequence_logps(shape_logits(F.linear(hidden, weight, bias), softcap, logit_scale), labels, average=average)


def pair_terms(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    chosen_clip: float,
    rejected_clip: float,
    label_smoothing: Tensor | float,
    weight: Tensor | float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(loss, chosen reward, rejected reward, chosen active, rejected active) of each pair, all [B].

        r_w = min(beta * u_w,  C_w)     r_l = max(beta * u_l, -C_l)     d = r_w - r_l
        L   = a * (-(1 - e) * log sigmoid(d) - e * log sigmoid(-d))

    The masks are written out: at equality the gradient passes, where torch.clamp gives 0 and torch.minimum half.
    """
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    chosen_active = chosen <= chosen_clip
    rejected_active = rejected >= -rejected_clip
    r_w = torch.where(chosen_active, chosen, torch.full_like(chosen, chosen_clip))
    r_l = torch.where(rejected_active, rejected, torch.full_like(rejected, -rejected_clip))
    d = r_w - r_l
    loss = weight * (-(1 - label_smoothing) * F.logsigmoid(d) - label_smoothing * F.logsigmoid(-d))
    return loss, chosen, rejected, chosen_active, rejected_active
