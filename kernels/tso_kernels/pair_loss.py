"""Triton: loss, rewards and the gradients of both sides of every pair from four log-prob vectors, in one launch.

The twins in plain torch are reference.pair_terms and rows.dual_clip_grad. Infinite bounds are passed as they are:
comparison and selection treat them right.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def pair_loss_kernel(
    policy_w, policy_l, ref_w, ref_l, smoothing, weight, out, B, beta, chosen_clip, rejected_clip, BLOCK_B: tl.constexpr
):
    """out [7, B]: loss, chosen reward, rejected reward, chosen active, rejected active, dL/dlogp_w, dL/dlogp_l."""
    at = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = at < B
    chosen = beta * (tl.load(policy_w + at, mask=inside, other=0.0) - tl.load(ref_w + at, mask=inside, other=0.0))
    rejected = beta * (tl.load(policy_l + at, mask=inside, other=0.0) - tl.load(ref_l + at, mask=inside, other=0.0))
    e = tl.load(smoothing + at, mask=inside, other=0.0)
    a = tl.load(weight + at, mask=inside, other=0.0)
    chosen_active = chosen <= chosen_clip
    rejected_active = rejected >= -rejected_clip
    d = tl.where(chosen_active, chosen, chosen_clip) - tl.where(rejected_active, rejected, -rejected_clip)
    p = 1.0 / (1.0 + tl.exp(-d))
    slope = beta * a * (e * p - (1.0 - e) * (1.0 - p))
    tl.store(out + at, a * (-(1.0 - e) * _log_sigmoid(d) - e * _log_sigmoid(-d)), mask=inside)
    tl.store(out + B + at, chosen, mask=inside)
    tl.store(out + 2 * B + at, rejected, mask=inside)
    tl.store(out + 3 * B + at, chosen_active.to(tl.float32), mask=inside)
    tl.store(out + 4 * B + at, rejected_active.to(tl.float32), mask=inside)
    tl.store(out + 5 * B + at, tl.where(chosen_active, slope, 0.0), mask=inside)
    tl.store(out + 6 * B + at, tl.where(rejected_active, -slope, 0.0), mask=inside)


def pair_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    chosen_clip: float,
    rejected_clip: float,
    label_smoothing: Tensor,
    weight: Tensor,
) -> tuple[Tensor, ...]:
    """Seven [B] float32 tensors, in the order of the kernel's `out`; the two masks are bool."""
    sides = [t.detach().float().contiguous() for t in (policy_chosen, policy_rejected, ref_chosen, ref_rejected)]
    rest = [t.detach().float().contiguous() for t in (label_smoothing, weight)]
    pairs = policy_chosen.numel()
    out = torch.empty(7, pairs, dtype=torch.float32, device=policy_chosen.device)
    if pairs:
        pair_loss_kernel[(triton.cdiv(pairs, 128),)](
            *sides, *rest, out, pairs, beta, chosen_clip, rejected_clip, BLOCK_B=128
        )
    loss, chosen, rejected, w, l, dw, dl = out.unbind(0)  # noqa: E741
    return loss, chosen, rejected, w.bool(), l.bool(), dw, dl
