"""A head whose weight is spread over ranks as a DTensor (FSDP2, tensor parallel): gathered for the pass, averaged after.

Knows DTensors by what they can do, so that torch.distributed is imported only where somebody has one already.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def whole(tensor: Any, dtype: torch.dtype) -> Any:
    """A DTensor gathered on every rank, in `dtype`; its gradient goes back to the shards as the mean over the ranks.

    The mean is what FSDP2 makes of every other gradient; ranks of a tensor-parallel group, which saw the same rows, have
    the same gradient, and its mean. `dtype` is that of the hidden states, as a mixed-precision policy would gather it.
    Anything else is returned as it is.
    """
    if not (isinstance(tensor, Tensor) and hasattr(tensor, "full_tensor")):
        return tensor
    from torch.distributed.tensor import DTensor, Partial

    sharded: DTensor = tensor.to(dtype)  # type: ignore[assignment]
    mesh = sharded.device_mesh
    full = sharded.full_tensor(grad_placements=[Partial() for _ in range(mesh.ndim)])
    return _DivideGradient.apply(full, mesh.size())


class _DivideGradient(torch.autograd.Function):
    """The tensor itself; its gradient divided by a number. Dividing first keeps half-precision sums small."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, number: int) -> Tensor:
        ctx.number = number
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad / ctx.number, None
