"""Device functions and launch helpers that more than one kernel needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import triton
import triton.language as tl
from torch import Tensor

from tso_kernels import options

IGNORE = tl.constexpr(options.IGNORE)


@triton.jit
def shape_logits(raw, softcap, scale, HAS_SOFTCAP: tl.constexpr, HAS_SCALE: tl.constexpr):
    """softcap * tanh(scale * raw / softcap) in fp32; a flag that is off costs nothing."""
    shaped = raw.to(tl.float32)
    if HAS_SCALE:
        shaped = shaped * scale
    if HAS_SOFTCAP:
        # tanh without a device library; near 0, where the difference would cancel, by its series.
        x = shaped / softcap
        square = x * x
        series = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))))
        shaped = softcap * tl.where(tl.abs(x) < 0.2, series, 2.0 * tl.sigmoid(2.0 * x) - 1.0)
    return shaped


@triton.jit
def nll_gradient(raw, tokens, target, lse, softcap, scale, HAS_SOFTCAP: tl.constexpr, HAS_SCALE: tl.constexpr):
    """d(lse - shaped[target]) / d(scale * raw) of a row's raw logits at `tokens`: (softmax - onehot) * bend, in fp32."""
    shaped = shape_logits(raw, softcap, scale, HAS_SOFTCAP, HAS_SCALE)
    grad = tl.exp(shaped - lse) - tl.where(tokens == target, 1.0, 0.0)
    if HAS_SOFTCAP:
        bend = shaped / softcap
        grad = grad * (1.0 - bend * bend)
    return grad


SMALL_BLOCK, LARGE_BLOCK = 1024, 4096


def vocabulary_block(vocabulary: int) -> int:
    """Logits that a program holds at a time."""
    return SMALL_BLOCK if vocabulary <= SMALL_BLOCK else LARGE_BLOCK


@contextmanager
def on_device(tensor: Tensor) -> Iterator[None]:
    """Triton launches on the current device, which need not be the tensor's."""
    if tensor.is_cuda:
        with torch.cuda.device(tensor.device):
            yield
    else:
        yield
