"""The loss as a module, for trainers that build their criterion once and call it many times."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tso_kernels.api import dual_clip_loss, linear_dual_clip_loss
from tso_kernels.backend import check_backend_name
from tso_kernels.checks import Clip, check_reduction, make_rule, per_pair
from tso_kernels.options import DualClipOutput, LinearDualClipOutput


class DualClipLoss(nn.Module):
    """`dual_clip_loss` with its options fixed; `linear` is `linear_dual_clip_loss` with them unless told otherwise.

    It has no parameters. Arguments are those of `dual_clip_loss`; wrong ones raise here already.
    """

    def __init__(
        self,
        beta: float = 0.1,
        chosen_clip: Clip = math.inf,
        rejected_clip: Clip = math.inf,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        make_rule(beta, chosen_clip, rejected_clip)
        check_reduction(reduction, None)
        check_backend_name(backend)
        per_pair("label_smoothing", label_smoothing, 0.0, 0.5, torch.zeros(1), torch.float32)
        self.beta, self.chosen_clip, self.rejected_clip = beta, chosen_clip, rejected_clip
        self.label_smoothing, self.reduction, self.backend = label_smoothing, reduction, backend

    def forward(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        ref_chosen_logps: Tensor,
        ref_rejected_logps: Tensor,
        *,
        weight: Tensor | float | None = None,
        normalizer: Tensor | float | None = None,
    ) -> DualClipOutput:
        """Four log-probabilities [B] -> `DualClipOutput`."""
        return dual_clip_loss(
            policy_chosen_logps,
            policy_rejected_logps,
            ref_chosen_logps,
            ref_rejected_logps,
            weight=weight,
            normalizer=normalizer,
            **self._options(),
        )

    def linear(
        self,
        hidden: Tensor,
        head_weight: Tensor,
        labels: Tensor,
        ref_chosen_logps: Tensor,
        ref_rejected_logps: Tensor,
        **more: Any,
    ) -> LinearDualClipOutput:
        """Hidden states [2B, T, H] and the head -> `LinearDualClipOutput`; `more` as in `linear_dual_clip_loss`."""
        options = self._options() | more
        return linear_dual_clip_loss(hidden, head_weight, labels, ref_chosen_logps, ref_rejected_logps, **options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())

    def _options(self) -> dict[str, Any]:
        names = "beta", "chosen_clip", "rejected_clip", "label_smoothing", "reduction", "backend"
        return {name: getattr(self, name) for name in names}
