"""The row and pair operations in plain torch, for any device: twins of the Triton kernels, with their signatures.

A backend is a module that offers these names; `head.py` and `chunked.py` are written against them and know no more of
either. One that has a kernel for product and scores together also offers `score_head`, and says so with `fuses`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tso_kernels.options import IGNORE, PairRule, PairTerms, Shaping, accumulation_dtype

# Elements of a logits tile turned to fp32 at a time: bounds the temporaries (4 MiB each), with few parallel regions.
_BLOCK_ELEMENTS = 1 << 20


def fuses(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether `score_head` is to be called instead of a product and `row_logps`: here there is no such function."""
    return False


def row_logps(logits: Tensor, targets: Tensor, shaping: Shaping, turn: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probability of each row's target, and each row's log-sum-exp: [R, V] and [R] -> [R], [R], fp32 (or float64).

    Rows whose target is `IGNORE` count for nothing: both results are 0; any other target outside 0..V-1 gives NaN. No
    log-probability exceeds 0, however its parts were rounded. With `turn` the logits become what `grad_logits` makes of
    them, for no second exponential.
    """
    dtype = accumulation_dtype(logits.dtype)
    lse = torch.zeros(len(logits), dtype=dtype, device=logits.device)
    logps = torch.zeros_like(lse)
    for block in _row_blocks(logits):
        shaped = shaping.apply(logits[block].to(dtype))
        probability = torch.softmax(shaped, dim=-1)
        # Its largest entry is 1 / sum(exp(shaped - max)). On the CPU far faster than torch.logsumexp, and turned in place.
        largest, log_sum = shaped.amax(-1), -probability.amax(-1).log()
        lse[block] = largest + log_sum
        picked = shaped.gather(1, targets[block].clamp(0, logits.shape[1] - 1).unsqueeze(1)).squeeze(1)
        # The difference first: large logits would round the small logarithm away.
        logps[block] = (picked - largest) - log_sum
        if turn:
            logits[block] = _nll_gradient(probability, targets[block], shaped, shaping)
    silent = targets == IGNORE
    if turn:
        logits[silent] = 0.0
    known = (targets >= 0) & (targets < logits.shape[1])
    logps = torch.where(known, logps.clamp_max(0.0), torch.nan)
    return torch.where(silent, 0.0, logps), torch.where(silent, 0.0, lse)


def grad_logits(
    logits: Tensor, targets: Tensor, lse: Tensor, shaping: Shaping, coef: Tensor | None, out: Tensor, first: int = 0
) -> Tensor:
    """coef * d(-row_logps) / d(scale * logits), written to `out`, which may be `logits`: coef * (softmax - onehot) * bend.

    The scale itself is left to the caller, for a small one would sink a half-precision tile. Shapes: logits and out
    [R, C], targets, lse and coef [R]; a coef of None is 1. Rows with the target `IGNORE` get 0. The columns are the tokens
    first, first + 1, ...: all of them, or a block of the vocabulary.
    """
    for block in _row_blocks(logits):
        shaped = shaping.apply(logits[block].to(lse.dtype))
        probability = torch.sub(shaped, lse[block].unsqueeze(1)).exp_()
        grad = _nll_gradient(probability, targets[block] - first, shaped, shaping)
        out[block] = grad if coef is None else grad.mul_(coef[block].unsqueeze(1))
    silent = targets == IGNORE
    out[silent if coef is None else silent | (coef == 0)] = 0.0  # even where the logits are not finite
    return out


def _nll_gradient(probability: Tensor, columns: Tensor, shaped: Tensor, shaping: Shaping) -> Tensor:
    """(softmax - onehot) * bend, in the place of the probabilities [r, C]; a column outside 0..C-1 is nobody's."""
    inside = (columns >= 0) & (columns < probability.shape[1])
    at = columns.clamp(0, probability.shape[1] - 1).unsqueeze(1)
    probability.scatter_add_(1, at, -inside.to(probability.dtype).unsqueeze(1))
    return probability if shaping.softcap is None else probability.mul_(shaping.bend(shaped))


def segment_sum(values: Tensor, counts: list[int]) -> Tensor:
    """Sums of consecutive runs of `values` [R] with the given lengths -> [len(counts)].

    One reduction a segment, so that a sequence's sum never depends on its neighbours, and no atomics on any device.
    """
    if not counts:
        return values.new_zeros(0)
    return torch.stack([part.sum() for part in torch.split(values, counts)])


def pair_terms(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    rule: PairRule,
    smoothing: Tensor,
    weight: Tensor,
) -> PairTerms:
    """Losses, derivatives, rewards and masks of B pairs, everything [B]; `reference.dual_clip_terms` in closed form."""
    u_chosen, u_rejected = policy_chosen - ref_chosen, policy_rejected - ref_rejected
    chosen_rewards, rejected_rewards = rule.beta * u_chosen, rule.beta * u_rejected
    v_chosen, chosen_active = _clip(u_chosen, chosen_rewards, rule.beta, *rule.chosen)
    v_rejected, rejected_active = _clip(u_rejected, rejected_rewards, rule.beta, *rule.rejected)
    d = rule.beta * (v_chosen - v_rejected)
    other = torch.where(smoothing > 0, smoothing * F.logsigmoid(-d), 0.0)  # 0, also where d is infinite
    losses = weight * (-(1 - smoothing) * F.logsigmoid(d) - other)
    # Not sigmoid(d) - (1 - smoothing): that cancels to nothing once the pair is well separated.
    slope = rule.beta * weight * (smoothing * torch.sigmoid(d) - (1 - smoothing) * torch.sigmoid(-d))
    losses, slope = (torch.where(weight > 0, values, 0.0) for values in (losses, slope))
    return PairTerms(
        losses,
        torch.where(chosen_active, slope, 0.0),
        torch.where(rejected_active, -slope, 0.0),
        chosen_rewards,
        rejected_rewards,
        chosen_active,
        rejected_active,
    )


def _clip(u: Tensor, reward: Tensor, beta: float, lower: float, upper: float) -> tuple[Tensor, Tensor]:
    clipped = torch.where(reward > upper, upper / beta, u)
    clipped = torch.where(reward < lower, lower / beta, clipped)
    return clipped, ~((reward > upper) | (reward < lower))  # a NaN stays active, hence visible


def _row_blocks(logits: Tensor) -> list[slice]:
    """Slices over the rows, each of about `_BLOCK_ELEMENTS` elements."""
    rows = max(1, _BLOCK_ELEMENTS // max(logits.shape[1], 1))
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]
