"""The small vocabulary every other file shares: what a label, a bound, a rule and a result are.

Dimension letters, the same in every file: B pairs, N sequences (2B when paired), T tokens, R rows (tokens that count),
H hidden size, V vocabulary. This file knows nothing of kernels, chunks or backends.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

IGNORE = -100  # a label that marks a position as not counted, as in torch.nn.functional.cross_entropy


class Bounds(NamedTuple):
    """Where a side's reward passes gradient: lower <= reward <= upper, in reward units, ends included."""

    lower: float
    upper: float


class PairRule(NamedTuple):
    """How four log-probabilities become one loss: the inverse temperature and the bounds of either side."""

    beta: float
    chosen: Bounds
    rejected: Bounds


class Shaping(NamedTuple):
    """What happens to raw head outputs z before the softmax: y = softcap * tanh(scale * z / softcap)."""

    softcap: float | None = None
    scale: float = 1.0

    def apply(self, raw: Tensor) -> Tensor:
        """y of the raw logits, in their dtype."""
        scaled = raw if self.scale == 1.0 else raw * self.scale
        return scaled if self.softcap is None else self.softcap * torch.tanh(scaled / self.softcap)

    def bend(self, shaped: Tensor) -> Tensor:
        """dy / d(scale * z) with a softcap, from y alone, so that the raw logits need not be kept."""
        assert self.softcap is not None
        return 1.0 - (shaped / self.softcap) ** 2


class PairTerms(NamedTuple):
    """Everything a pair rule says of B pairs: losses, their derivatives, rewards and gradient masks, all [B]."""

    losses: Tensor
    grad_chosen: Tensor  # d losses / d policy_chosen_logps
    grad_rejected: Tensor  # d losses / d policy_rejected_logps
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    chosen_active: Tensor  # bool: the gradient passes
    rejected_active: Tensor


class DualClipOutput(NamedTuple):
    """What `dual_clip_loss` returns. Only `loss` carries a gradient."""

    loss: Tensor  # scalar, or [B] with reduction="none"
    chosen_rewards: Tensor  # [B] beta * (policy - reference), before the bounds
    rejected_rewards: Tensor  # [B]
    chosen_active: Tensor  # [B] bool: False where the side is saturated and its gradient exactly zero
    rejected_active: Tensor  # [B] bool


class LinearDualClipOutput(NamedTuple):
    """From `linear_dual_clip_loss`: a `DualClipOutput` and log-probabilities. Only `loss` carries a gradient."""

    loss: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    chosen_active: Tensor
    rejected_active: Tensor
    chosen_logps: Tensor  # [B] sum (mean with average=True) of the chosen tokens' log-probabilities under the policy
    rejected_logps: Tensor  # [B]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that log-sum-exps and log-probabilities are kept in: fp32, or float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32
