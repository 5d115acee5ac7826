"""From the arguments of a linear path to the plan of its pass: checks, rows, backend, tile size."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tso_kernels import checks
from tso_kernels.backend import check_backend, choose_ops
from tso_kernels.head import NOTHING, Job, Wanted
from tso_kernels.options import Shaping, accumulation_dtype
from tso_kernels.rows import MIN_ROWS, row_capacity, select_rows

# Bytes of logits held at a time unless the caller says otherwise, and what one pair may take so that its logits need not
# be computed twice. Larger products run nearer to the machine's speed: on the CPU they gain little from 96 MiB on.
_TILE = {"cpu": 96 << 20}
_DEVICE_TILE = 1 << 30
_LARGEST_PAIR = 1 << 30


class Plan(NamedTuple):
    """What is decided about a pass before any data is looked at: plain values, so that a custom operator can take them."""

    softcap: float | None
    logit_scale: float
    dtype: torch.dtype  # of the products
    memory_budget: int | None
    backend: str
    sequences: int
    paired: bool


def plan_pass(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequences: int,
    shape: tuple[float | None, float],
    memory_budget: int | None,
    backend: str,
    *,
    paired: bool = False,
) -> Plan:
    """Validate the tensors of a linear path, as far as that needs no look at their values."""
    checks.check_head(weight, bias, hidden)
    checks.check_labels(labels, tuple(hidden.shape[:-1]), hidden)
    shaping = checks.make_shaping(*shape)
    if memory_budget is not None:
        memory_budget = checks.check_count("memory_budget (bytes)", memory_budget, 1)
    dtype = checks.product_dtype(hidden, weight)
    check_backend(backend, hidden.device, dtype)
    return Plan(shaping.softcap, shaping.scale, dtype, memory_budget, backend, sequences, paired)


def make_job(plan: Plan, weight: Tensor, labels: Tensor, sequence_ids: Tensor | None) -> Job:
    """Look at the labels, choose the code that runs, and cut the tiles."""
    rows = select_rows(labels, sequence_ids, plan.sequences, len(weight), paired=plan.paired)
    ops = choose_ops(plan.backend, weight.device, plan.dtype)
    fits = partial(row_capacity, len(weight), plan.dtype.itemsize)
    if plan.memory_budget is not None:
        capacity = fits(plan.memory_budget)
    else:
        capacity = max(fits(_TILE.get(weight.device.type, _DEVICE_TILE)), min(rows.largest_pair, fits(_LARGEST_PAIR)))
    return Job(rows, Shaping(plan.softcap, plan.logit_scale), ops, plan.dtype, capacity)


def sums_fit(plan: Plan, weight: Tensor, wanted: Wanted) -> bool:
    """Whether the sums of a half-precision head's gradient (fp32, [V, H]) fit the budget beside the smallest tile.

    Where they do not, the gradient is computed by blocks of the vocabulary, which needs no such sums. Without a budget
    they are taken to fit.
    """
    tile = MIN_ROWS * len(weight) * plan.dtype.itemsize
    return plan.memory_budget is None or _sums(plan, weight, wanted) + tile <= plan.memory_budget


def beside_sums(plan: Plan, weight: Tensor, wanted: Wanted) -> Plan:
    """The plan with what its budget leaves for tiles once those sums are held."""
    if plan.memory_budget is None:
        return plan
    return plan._replace(memory_budget=max(plan.memory_budget - _sums(plan, weight, wanted), 1))


def _sums(plan: Plan, weight: Tensor, wanted: Wanted) -> int:
    """Bytes of the sums that are not the gradient itself."""
    wide = accumulation_dtype(plan.dtype)
    return weight.numel() * wide.itemsize if wanted.weight and plan.dtype != wide else 0


def wanted_gradients(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Wanted:
    """Asked before the autograd function runs: inside one, gradients are always off."""
    if not torch.is_grad_enabled():
        return NOTHING
    return Wanted(hidden.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad)


def loss_scale(reduction: str, normalizer: Tensor | float | None, pairs: int) -> Tensor | float:
    """What the sum of the losses is multiplied by; a normalizer on the device stays there."""
    if reduction != "mean":
        return 1.0
    return 1.0 / (max(pairs, 1) if normalizer is None else normalizer)
