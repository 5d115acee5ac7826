"""Sequence log-probabilities and the dual-clip preference loss, DPO included, in plain torch and Triton."""

from tso_kernels.api import dual_clip_loss, linear_dual_clip_loss, linear_sequence_logps, sequence_logps
from tso_kernels.module import DualClipLoss
from tso_kernels.options import DualClipOutput, LinearDualClipOutput

__version__ = "0.1.0"
__all__ = [
    "DualClipLoss",
    "DualClipOutput",
    "LinearDualClipOutput",
    "dual_clip_loss",
    "linear_dual_clip_loss",
    "linear_sequence_logps",
    "sequence_logps",
]
