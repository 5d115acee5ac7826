"""The pair rule in one kernel: losses, derivatives, rewards and masks of B pairs from four log-probabilities."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tso_kernels.options import PairRule, PairTerms
from tso_kernels.triton_ops.shaping import on_device

BLOCK = 128


@triton.jit
def _clip(u, reward, beta, lower, upper):
    clipped = tl.where(reward > upper, upper / beta, u)
    clipped = tl.where(reward < lower, lower / beta, clipped)
    active = tl.where((reward > upper) | (reward < lower), 0.0, 1.0)  # ends included; a NaN stays active
    return clipped, active


@triton.jit
def _log_sigmoid(d):
    """min(d, 0) - log1p(exp(-|d|)); log1p by its compensated form, exact to the last bits for small arguments too."""
    x = tl.exp(-tl.abs(d))
    u = 1.0 + x
    log1p = tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))
    return tl.minimum(d, 0.0) - log1p


@triton.jit
def pair_terms_kernel(
    policy_chosen,
    policy_rejected,
    ref_chosen,
    ref_rejected,
    smoothing,
    weight,
    losses,
    grad_chosen,
    grad_rejected,
    chosen_rewards,
    rejected_rewards,
    chosen_active,
    rejected_active,
    B,
    beta,
    chosen_lower,
    chosen_upper,
    rejected_lower,
    rejected_upper,
    BLOCK: tl.constexpr,
):
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < B
    u_w = tl.load(policy_chosen + pair, mask=inside, other=0.0) - tl.load(ref_chosen + pair, mask=inside, other=0.0)
    u_l = tl.load(policy_rejected + pair, mask=inside, other=0.0) - tl.load(ref_rejected + pair, mask=inside, other=0.0)
    e = tl.load(smoothing + pair, mask=inside, other=0.0)
    a = tl.load(weight + pair, mask=inside, other=0.0)
    v_w, active_w = _clip(u_w, beta * u_w, beta, chosen_lower, chosen_upper)
    v_l, active_l = _clip(u_l, beta * u_l, beta, rejected_lower, rejected_upper)
    d = beta * (v_w - v_l)
    other = tl.where(e > 0.0, e * _log_sigmoid(-d), 0.0)  # 0, also where d is infinite
    loss = tl.where(a > 0.0, a * (-(1.0 - e) * _log_sigmoid(d) - other), 0.0)
    slope = tl.where(a > 0.0, beta * a * (e * tl.sigmoid(d) - (1.0 - e) * tl.sigmoid(-d)), 0.0)
    tl.store(losses + pair, loss, mask=inside)
    tl.store(grad_chosen + pair, tl.where(active_w > 0.0, slope, 0.0), mask=inside)
    tl.store(grad_rejected + pair, tl.where(active_l > 0.0, -slope, 0.0), mask=inside)
    tl.store(chosen_rewards + pair, beta * u_w, mask=inside)
    tl.store(rejected_rewards + pair, beta * u_l, mask=inside)
    tl.store(chosen_active + pair, active_w, mask=inside)
    tl.store(rejected_active + pair, active_l, mask=inside)


def pair_terms(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    rule: PairRule,
    smoothing: Tensor,
    weight: Tensor,
) -> PairTerms:
    """As `torch_ops.pair_terms`: every tensor [B] fp32; masks come back as bool."""
    inputs = [t.contiguous() for t in (policy_chosen, policy_rejected, ref_chosen, ref_rejected, smoothing, weight)]
    pairs = len(policy_chosen)
    outputs = torch.empty(len(PairTerms._fields), pairs, dtype=torch.float32, device=policy_chosen.device).unbind(0)
    if pairs:
        with on_device(policy_chosen):
            pair_terms_kernel[(triton.cdiv(pairs, BLOCK),)](
                *inputs, *outputs, pairs, rule.beta, *rule.chosen, *rule.rejected, BLOCK=BLOCK, num_warps=4
            )
    return PairTerms(*outputs[:5], *(mask > 0 for mask in outputs[5:]))
