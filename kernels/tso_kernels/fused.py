"""Linear head and loss in one, without the full logits: tiles of completion rows, gradients computed on the way.

A tile holds the logits of whole pairs and fits the memory budget. While it is in memory its log-probs give the pairs'
coefficients, the logits are overwritten by their gradient, and the two products of the backward pass follow: three
products in all, none for rows of saturated sides. A pair that alone exceeds the budget is walked twice, in pieces.
The backward pass only scales what the forward pass computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tso_kernels import rows as torch_rows
from tso_kernels.reference import pair_terms

DEFAULT_BUDGET = 256 * 2**20  # bytes of float32 logits in memory at once


class RowOps(Protocol):
    """What is done to a tile of logits, row by row: the modules rows and row_logprob are the two of this kind."""

    def logprob(
        self, logits: Tensor, labels: Tensor, softcap: float | None, logit_scale: float
    ) -> tuple[Tensor, Tensor]: ...

    def grad_(
        self, logits: Tensor, labels: Tensor, lse: Tensor, coef: Tensor, softcap: float | None, logit_scale: float
    ) -> Tensor: ...


@dataclass(frozen=True)
class Head:
    """The output layer, and what is done to its logits. weight [V, H], bias [V]."""

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    logit_scale: float
    ops: RowOps

    def logits(self, hidden: Tensor) -> Tensor:
        """Raw logits [R, V] of hidden [R, H], in hidden's dtype on a GPU and float32 on a CPU."""
        out = hidden @ self.weight.T
        return out if self.bias is None else out.add_(self.bias)


HeadMaker = Callable[[Tensor, Tensor | None], Head]


@dataclass(frozen=True)
class Loss:
    """The options of the loss. label_smoothing and weight are [B]; normalizer divides the sum over pairs."""

    beta: float
    chosen_clip: float
    rejected_clip: float
    label_smoothing: Tensor
    weight: Tensor
    sft_weight: float
    average: bool
    normalizer: float


def wide(tensor: Tensor) -> torch.dtype:
    """What sums are kept in: float32, or float64 for float64 input."""
    return torch.promote_types(tensor.dtype, torch.float32)


def tile_rows(vocabulary: int, budget: int) -> int:
    return max(1, budget // (4 * vocabulary))


def forward_logps(hidden: Tensor, head: Head, labels: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """(log-prob, log-sum-exp) [R] of hidden [R, H], one tile of logits at a time."""
    step = tile_rows(head.weight.shape[0], budget)
    parts = [
        head.ops.logprob(head.logits(hidden[i : i + step]), labels[i : i + step], head.softcap, head.logit_scale)
        for i in range(0, len(hidden), step)
    ]
    if not parts:
        empty = torch.zeros(0, dtype=wide(hidden), device=hidden.device)
        return empty, empty
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


class Gradients:
    """Collects dX, dW and db over tiles; float32 sums, and nothing at all for what needs no gradient."""

    def __init__(self, hidden: Tensor, head: Head, needs: tuple[bool, bool, bool]):
        self.head = head
        self.hidden = torch.zeros_like(hidden) if needs[0] else None
        self.weight = torch.zeros_like(head.weight, dtype=wide(hidden)) if needs[1] else None
        self.bias = torch.zeros_like(head.bias, dtype=wide(hidden)) if needs[2] and head.bias is not None else None

    def add(self, at: Tensor, hidden: Tensor, slope: Tensor) -> None:
        """slope [r, V] is d(loss)/d(raw logits) of the rows `at`, whose hidden states are hidden [r, H]."""
        if self.hidden is not None:
            self.hidden[at] = (slope @ self.head.weight).to(self.hidden.dtype)
        if self.weight is not None:
            if slope.dtype == self.weight.dtype:
                self.weight.addmm_(slope.T, hidden)
            else:
                self.weight += slope.T @ hidden
        if self.bias is not None:
            self.bias += slope.sum(0, dtype=self.bias.dtype)


class LinearLogps(torch.autograd.Function):
    """Row log-probs [R]; the backward pass makes each tile's logits again, so nothing of size V is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        make_head: HeadMaker,
        budget: int,
    ) -> Tensor:
        logp, lse = forward_logps(hidden, make_head(weight, bias), labels, budget)
        ctx.save_for_backward(hidden, weight, bias, labels, lse)
        ctx.make_head, ctx.budget = make_head, budget
        return logp

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, lse = ctx.saved_tensors
        head = ctx.make_head(weight, bias)
        sums = Gradients(hidden, head, ctx.needs_input_grad[:3])
        step = tile_rows(weight.shape[0], ctx.budget)
        live = grad.nonzero().squeeze(1)
        for i in range(0, len(live), step):
            at = live[i : i + step]
            add_tile(sums, head, hidden, labels, lse, grad, at)
        return cast(sums.hidden, hidden), cast(sums.weight, weight), cast(sums.bias, bias), None, None, None


def add_tile(
    sums: Gradients, head: Head, hidden: Tensor, labels: Tensor, lse: Tensor, coef: Tensor, at: Tensor
) -> None:
    """Make the logits of rows `at` once more, turn them into gradients, and add the products."""
    some = hidden[at]
    slope = head.ops.grad_(head.logits(some), labels[at], lse[at], coef[at], head.softcap, head.logit_scale)
    sums.add(at, some, slope)


def cast(grad: Tensor | None, like: Tensor | None) -> Tensor | None:
    return None if grad is None or like is None else grad.to(like.dtype)


class LinearDualClip(torch.autograd.Function):
    """(loss, log-probs [2B]) of packed rows; gradients are ready when forward returns."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        sequence: Tensor,
        refs: Tensor,
        loss: Loss,
        make_head: HeadMaker,
        budget: int,
    ) -> tuple[Tensor, Tensor]:
        head = make_head(weight, bias)
        needs = ctx.needs_input_grad[:3]
        sums = Gradients(hidden, head, needs) if any(needs) else None
        total = torch.zeros((), dtype=wide(hidden), device=hidden.device)
        pairs = refs.numel() // 2
        logps = torch.zeros(2 * pairs, dtype=wide(hidden), device=hidden.device)
        lengths = torch.bincount(sequence, minlength=2 * pairs)
        pair_of = sequence % max(pairs, 1)
        step = tile_rows(weight.shape[0], budget)
        for members, at in groups(pair_of, lengths, pairs, step):
            total += one_group(head, hidden, labels, sequence, refs, loss, logps, lengths, members, at, step, sums)
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, weight, bias)]
        ctx.grads = None if sums is None else (sums.hidden, sums.weight, sums.bias)
        ctx.mark_non_differentiable(logps)
        return total, logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError(
                "the gradients of this loss were used already; compute the loss again for another backward"
            )
        grads, ctx.grads = ctx.grads, None
        scaled = [None if g is None else g.mul_(grad).to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True)]
        return *scaled, None, None, None, None, None, None


def groups(pair_of: Tensor, lengths: Tensor, pairs: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(pair numbers, their rows) with at most `step` rows together, or one pair that alone has more."""
    if pairs == 0:
        return
    order = torch.argsort(pair_of, stable=True)
    sizes = (lengths[:pairs] + lengths[pairs:]).tolist()
    first, start, taken = 0, 0, 0
    for i, size in enumerate(sizes):
        if i > first and taken + size > step:
            yield torch.arange(first, i, device=pair_of.device), order[start : start + taken]
            first, start, taken = i, start + taken, 0
        taken += size
    yield torch.arange(first, pairs, device=pair_of.device), order[start : start + taken]


def one_group(
    head: Head,
    hidden: Tensor,
    labels: Tensor,
    sequence: Tensor,
    refs: Tensor,
    loss: Loss,
    logps: Tensor,
    lengths: Tensor,
    members: Tensor,
    at: Tensor,
    step: int,
    sums: Gradients | None,
) -> Tensor:
    """The loss of the pairs `members`, whose rows are `at`; writes their log-probs, adds their gradients."""
    pairs = refs.numel() // 2
    whole = len(at) <= step
    some, mine = hidden[at], labels[at]
    kept = head.logits(some) if whole else None
    if kept is not None:
        logp, lse = head.ops.logprob(kept, mine, head.softcap, head.logit_scale)
    else:
        logp, lse = forward_logps(some, head, mine, step * 4 * head.weight.shape[0])
    sides = torch.cat([members, members + pairs])
    sums_of = torch_rows.segment_sum(logp, sequence[at], 2 * pairs)[sides]
    length = lengths[sides].clamp(min=1).to(logp.dtype)
    means = sums_of / length
    logps[sides] = means if loss.average else sums_of
    value, coef = group_loss(loss, logps[sides], refs[sides], means, members)
    if sums is not None:
        per_row = torch.zeros(2 * pairs, dtype=wide(hidden), device=hidden.device)
        per_row[sides] = coef[0] / (length if loss.average else 1.0) + coef[1] / length
        row_coef = per_row[sequence[at]]
        live = row_coef.nonzero().squeeze(1)
        if kept is not None:
            slope = kept if len(live) == len(at) else kept[live]
            slope = head.ops.grad_(slope, mine[live], lse[live], row_coef[live], head.softcap, head.logit_scale)
            sums.add(at[live], some[live], slope)
        else:
            full_lse = torch.zeros(len(hidden), dtype=wide(hidden), device=hidden.device).index_copy(0, at, lse)
            full_coef = torch.zeros_like(full_lse).index_copy(0, at, row_coef)
            for i in range(0, len(live), step):
                add_tile(sums, head, hidden, labels, full_lse, full_coef, at[live[i : i + step]])
    return value


def group_loss(
    loss: Loss, logps: Tensor, refs: Tensor, means: Tensor, members: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(loss of the group, (d/d log-prob, d/d mean log-prob)); tensors [2b] hold chosen sides, then rejected."""
    smoothing, weight = loss.label_smoothing[members], loss.weight[members]
    chosen, rejected = logps.chunk(2)
    ref_chosen, ref_rejected = refs.chunk(2)
    value, r_w, r_l, active_w, active_l = pair_terms(
        chosen, rejected, ref_chosen, ref_rejected,
        loss.beta, loss.chosen_clip, loss.rejected_clip, smoothing, weight,
    )  # fmt: skip
    slope_w, slope_l = torch_rows.dual_clip_grad(
        r_w, r_l, active_w, active_l, loss.beta, loss.chosen_clip, loss.rejected_clip, smoothing, weight
    )
    nll = -means.chunk(2)[0]
    sft = torch.cat([-loss.sft_weight * weight, torch.zeros_like(weight)])
    total = (value + loss.sft_weight * weight * nll).sum() / loss.normalizer
    return total, (torch.cat([slope_w, slope_l]) / loss.normalizer, sft / loss.normalizer)
