"""Fused log-probabilities and the dual-clip preference loss. Needs torch; Triton where it is there and of use."""

from tso_kernels.api import (
    DualClipLoss,
    DualClipOutput,
    LinearDualClipOutput,
    dual_clip_loss,
    linear_dual_clip_loss,
    linear_sequence_logps,
    sequence_logps,
)

__all__ = [
    "DualClipLoss",
    "DualClipOutput",
    "LinearDualClipOutput",
    "dual_clip_loss",
    "linear_dual_clip_loss",
    "linear_sequence_logps",
    "sequence_logps",
]
