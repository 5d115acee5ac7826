"""The mathematics, written out in plain torch: the definition that every faster path is held to.

Autograd differentiates it, float64 goes through it unchanged, and nothing here is clever: full logits are built.
It validates nothing and chooses no backend; `api.py` does. Formulas: TSO (arXiv 2409.02118) for the dual clip,
DPO (arXiv 2305.18290) for the loss that it becomes when both bounds are infinite.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tso_kernels.options import IGNORE, DualClipOutput, LinearDualClipOutput, PairRule, Shaping, accumulation_dtype


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """log softmax(logits)[label], 0 where it is `IGNORE`, NaN outside 0..V-1: [..., V] and [...] -> [...]."""
    logps = torch.log_softmax(logits.to(accumulation_dtype(logits.dtype)), dim=-1)
    last = logits.shape[-1] - 1
    picked = logps.gather(-1, labels.clamp(0, last).unsqueeze(-1)).squeeze(-1)
    picked = torch.where((labels < 0) | (labels > last), torch.full_like(picked, torch.nan), picked)
    return torch.where(labels == IGNORE, torch.zeros_like(picked), picked)


def sequence_logps(logits: Tensor, labels: Tensor, *, average: bool = False) -> Tensor:
    """Log-probability of each sequence's counted labels, [N, T, V] and [N, T] -> [N]; their mean if `average`."""
    total = token_logps(logits, labels).sum(-1)
    return total / count_labels(labels).clamp_min(1) if average else total


def count_labels(labels: Tensor) -> Tensor:
    """How many labels of each sequence count: [N, T] -> [N]."""
    return (labels != IGNORE).sum(-1)


def head_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, shaping: Shaping) -> Tensor:
    """The language-model head: hidden [..., H], weight [V, H], bias [V] or None -> logits [..., V]."""
    raw = F.linear(hidden, weight, bias)
    return shaping.apply(raw.to(accumulation_dtype(raw.dtype)))


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
    """`sequence_logps` of the head's logits: hidden [N, T, H], weight [V, H], labels [N, T] -> [N]."""
    return sequence_logps(head_logits(hidden, weight, bias, Shaping(softcap, logit_scale)), labels, average=average)


def dual_clip_terms(
    u_chosen: Tensor, u_rejected: Tensor, rule: PairRule, smoothing: Tensor | float, weight: Tensor | float
) -> DualClipOutput:
    """Per-pair loss of log-ratios u = log pi - log pi_ref, [B] each.

        r_w = min(beta * u_w, C_w)    r_l = max(beta * u_l, -C_l)    d = r_w - r_l
        L   = weight * (-(1 - smoothing) * log sigmoid(d) - smoothing * log sigmoid(-d))

    A factor of 0 makes 0 of anything: a weight of 0 takes a pair out, whatever its numbers are. The masks are written out, because torch.clamp passes no gradient at equality and torch.minimum half of it: with a
    bound of 0 and policy = reference, training would never start. Clipping u at C / beta instead of r at C makes
    d = beta * (u_w - u_l) where nothing is clipped, which is DPO's own expression, rounding included.
    """
    clipped_chosen, chosen_active = _clip(u_chosen, rule.beta, *rule.chosen)
    clipped_rejected, rejected_active = _clip(u_rejected, rule.beta, *rule.rejected)
    d = rule.beta * (clipped_chosen - clipped_rejected)
    smoothing, weight = (torch.as_tensor(value, dtype=d.dtype, device=d.device) for value in (smoothing, weight))
    other = torch.where(smoothing > 0, smoothing * F.logsigmoid(-d), 0.0)
    losses = torch.where(weight > 0, weight * (-(1 - smoothing) * F.logsigmoid(d) - other), 0.0)
    rewards = (rule.beta * u_chosen).detach(), (rule.beta * u_rejected).detach()
    return DualClipOutput(losses, *rewards, chosen_active, rejected_active)


def _clip(u: Tensor, beta: float, lower: float, upper: float) -> tuple[Tensor, Tensor]:
    """u with beta * u held in [lower, upper], and the mask of where it passes."""
    reward = (beta * u).detach()
    clipped = torch.where(reward > upper, torch.full_like(u, upper / beta), u)
    clipped = torch.where(reward < lower, torch.full_like(u, lower / beta), clipped)
    return clipped, ~((reward > upper) | (reward < lower))  # a NaN stays active, hence visible


def reduce_losses(losses: Tensor, reduction: str, normalizer: Tensor | float | None) -> Tensor:
    """[B] -> scalar: "mean" divides the sum by `normalizer` (B if None); "sum" and "none" are what they say."""
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    return total / (max(len(losses), 1) if normalizer is None else normalizer)


def dual_clip_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    rule: PairRule,
    *,
    label_smoothing: Tensor | float = 0.0,
    weight: Tensor | float = 1.0,
    reduction: str = "mean",
    normalizer: Tensor | float | None = None,
) -> DualClipOutput:
    """The dual-clip loss of four [B] log-probabilities, differentiable in all four."""
    u_chosen, u_rejected = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    terms = dual_clip_terms(u_chosen, u_rejected, rule, label_smoothing, weight)
    return terms._replace(loss=reduce_losses(terms.loss, reduction, normalizer))


def linear_dual_clip_loss(
    hidden: Tensor,
    weight_matrix: Tensor,
    labels: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    rule: PairRule,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    average: bool = False,
    label_smoothing: Tensor | float = 0.0,
    weight: Tensor | float = 1.0,
    sft_weight: float = 0.0,
    reduction: str = "mean",
    normalizer: Tensor | float | None = None,
) -> LinearDualClipOutput:
    """The same loss from hidden states [2B, T, H], rows 0..B-1 chosen and B..2B-1 rejected, plus the SFT term.

    Each pair adds sft_weight * weight * NLL(chosen) / (number of chosen tokens). A pair with no counted token on either
    side says nothing about preferences: its weight is 0 (it still counts in the mean's denominator).
    """
    totals = linear_sequence_logps(hidden, weight_matrix, labels, bias=bias, softcap=softcap, logit_scale=logit_scale)
    counts = count_labels(labels)
    means = totals / counts.clamp_min(1)
    chosen, rejected = (means if average else totals).chunk(2)
    weight = weight * (counts.view(2, -1).sum(0) > 0).to(totals.dtype)
    terms = dual_clip_terms(chosen - ref_chosen_logps, rejected - ref_rejected_logps, rule, label_smoothing, weight)
    losses = terms.loss - sft_weight * weight * means.chunk(2)[0]
    loss = reduce_losses(losses, reduction, normalizer)
    return LinearDualClipOutput(loss, *terms[1:], chosen.detach(), rejected.detach())
