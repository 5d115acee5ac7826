"""The row and pair operations as Triton kernels: one kernel and its launcher a file, signatures as in `torch_ops.py`.

Importing this package imports triton; only `backend.py` does. Kernels use fp32 arithmetic for fp32, fp16 and bf16
tensors, 64-bit offsets, and no atomics, so that two runs give the same bits.
"""

from tso_kernels.triton_ops.grad_logits import grad_logits
from tso_kernels.triton_ops.pair_terms import pair_terms
from tso_kernels.triton_ops.row_logps import row_logps
from tso_kernels.triton_ops.score_head import can_fuse, fuses, score_head
from tso_kernels.triton_ops.segment_sum import segment_sum

__all__ = ["can_fuse", "fuses", "grad_logits", "pair_terms", "row_logps", "score_head", "segment_sum"]
