"""Sequence log-probabilities and the dual-clip preference loss, DPO included, in plain torch and Triton."""

from .api import dual_clip_loss, linear_dual_clip_loss, linear_sequence_logps, sequence_logps
from .module import DualClipLoss
from .options import DualClipOutput, LinearDualClipOutput

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
