"""Sums of consecutive segments, one program each: the same order of addition every time, and no atomics."""

from __future__ import annotations

from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from tso_kernels.triton_ops.shaping import on_device

BLOCK = 1024


@triton.jit
def segment_sum_kernel(values, starts, sums, BLOCK: tl.constexpr):
    segment = tl.program_id(0)
    start = tl.load(starts + segment)
    stop = tl.load(starts + segment + 1)
    lanes = tl.arange(0, BLOCK)
    partial = tl.zeros([BLOCK], dtype=tl.float32)
    for offset in range(start, stop, BLOCK):
        partial += tl.load(values + offset + lanes, mask=offset + lanes < stop, other=0.0)
    tl.store(sums + segment, tl.sum(partial, axis=0))


def segment_sum(values: Tensor, counts: list[int]) -> Tensor:
    """As `torch_ops.segment_sum`: values [R] fp32, lengths of its consecutive segments -> [len(counts)] fp32."""
    sums = torch.empty(len(counts), dtype=torch.float32, device=values.device)
    if not counts:
        return sums
    starts = torch.tensor([0, *accumulate(counts)], dtype=torch.int64).to(values.device, non_blocking=True)
    with on_device(values):
        segment_sum_kernel[(len(counts),)](values, starts, sums, BLOCK=BLOCK, num_warps=4)
    return sums
