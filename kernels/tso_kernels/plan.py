"""From the arguments of a linear path to the plan of its pass: checks, rows, backend, tile size."""

from __future__ import annotations

import torch
from torch import Tensor

from tso_kernels import checks
from tso_kernels.backend import choose_ops
from tso_kernels.head import Job, Wanted
from tso_kernels.rows import row_capacity, select_rows

# Bytes of logits held at a time unless the caller says otherwise. More than the caches on purpose: whole pairs must fit
# for the three-product path, and larger products run nearer to the machine's speed.
_DEFAULT_BUDGET = {"cpu": 256 << 20}
_DEVICE_BUDGET = 1 << 30


def plan_pass(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    sequences: int,
    shape: tuple[float | None, float],
    memory_budget: int | None,
    backend: str,
    *,
    paired: bool = False,
) -> Job:
    """Validate the tensors of a linear path and plan its pass."""
    checks.check_head(weight, bias, hidden)
    checks.check_labels(labels, tuple(hidden.shape[:-1]), hidden)
    shaping = checks.make_shaping(*shape)
    dtype = checks.product_dtype(hidden, weight)
    if memory_budget is None:
        memory_budget = _DEFAULT_BUDGET.get(hidden.device.type, _DEVICE_BUDGET)
    elif memory_budget <= 0:
        raise ValueError(f"memory_budget must be a positive number of bytes, or None; it is {memory_budget}")
    rows = select_rows(labels, sequence_ids, sequences, len(weight), paired=paired)
    ops = choose_ops(backend, hidden.device, dtype)
    return Job(rows, shaping, ops, dtype, row_capacity(len(weight), dtype.itemsize, memory_budget))


def wanted_gradients(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Wanted:
    """Asked before the autograd function runs: inside one, gradients are always off."""
    if not torch.is_grad_enabled():
        return Wanted(False, False, False)
    return Wanted(hidden.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad)


def loss_scale(reduction: str, normalizer: Tensor | float | None, pairs: int) -> Tensor | float:
    """What the sum of the losses is multiplied by; a normalizer on the device stays there."""
    if reduction != "mean":
        return 1.0
    return 1.0 / (max(pairs, 1) if normalizer is None else normalizer)
