"""The public functions: each validates, chooses a backend, and hands over. The mathematics is in `reference.py`.

Every function takes backend="auto" | "triton" | "torch": auto is Triton on CUDA and ROCm devices where triton is
installed, torch elsewhere and for float64; a backend that cannot run raises, and nothing falls back in silence.
Errors: TypeError for wrong types and dtypes, ValueError for wrong shapes, values and devices, RuntimeError for a
backend that cannot run here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tso_kernels import checks, compiled, reference
from tso_kernels.backend import check_backend, choose_ops
from tso_kernels.checks import Clip
from tso_kernels.chunked import LinearDualClip, LinearSequenceLogps, PairJob
from tso_kernels.head import Wanted
from tso_kernels.logps import PairLoss, SequenceLogps
from tso_kernels.options import IGNORE, DualClipOutput, LinearDualClipOutput, PairRule, accumulation_dtype
from tso_kernels.plan import Plan, beside_sums, loss_scale, make_job, plan_pass, sums_fit, wanted_gradients
from tso_kernels.reference import reduce_losses
from tso_kernels.sharded import whole


def sequence_logps(logits: Tensor, labels: Tensor, *, average: bool = False, backend: str = "auto") -> Tensor:
    """Log-probability of each sequence's labels under its logits.

    Args:
        logits: [N, T, V] floating point; `logits[:, :-1]` and other strided views are not copied.
        labels: [N, T] int64 or int32, already shifted: labels[n, t] is the token that logits[n, t] predicts;
            -100 does not count.
        average: the mean over the counted labels instead of their sum.

    Returns:
        [N] fp32 (float64 for float64 logits), 0 for a sequence without counted labels. Differentiable in `logits`; the
        backward keeps no second tensor as large as the logits besides the gradient itself. On CUDA, and in compiled
        code, a label that is neither -100 nor in 0..V-1 is not looked for: its sequence is NaN.
    """
    checks.check_floating("logits", logits, "N", "T", "V")
    checks.check_labels(labels, tuple(logits.shape[:2]), logits)
    checks.check_label_range(labels, logits.shape[-1])
    if torch.compiler.is_compiling():
        check_backend(backend, logits.device, logits.dtype)
        return reference.sequence_logps(logits, labels.to(torch.int64), average=average)
    ops = choose_ops(backend, logits.device, logits.dtype)
    totals: Tensor = SequenceLogps.apply(logits, labels.to(torch.int64), ops)
    return totals / (labels != IGNORE).sum(-1).clamp_min(1) if average else totals


def linear_sequence_logps(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    average: bool = False,
    sequence_ids: Tensor | None = None,
    num_sequences: int | None = None,
    memory_budget: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """`sequence_logps` of hidden states through a language-model head, without ever holding all logits.

    Only rows whose label counts are computed, `memory_budget` bytes of logits at a time. Under no_grad that is all; in
    training the backward computes the logits again. The head is y = softcap * tanh(logit_scale * z / softcap) with
    z = hidden @ weight.T + bias; without a softcap, y = logit_scale * z.

    Args:
        hidden: [N, T, H], or packed [R, H] together with `sequence_ids` [R] (0..N-1) and `num_sequences` = N.
        weight: [V, H], of the dtype of `hidden` unless autocast is on, whose dtype the products then have. A DTensor
            (FSDP2) is gathered in the dtype of `hidden`, and its gradient averaged over the ranks.
        labels: [N, T] (packed: [R]) int64 or int32, already shifted; -100 does not count.
        bias: [V] or None.
        average: the mean over the counted labels instead of their sum.
        memory_budget: bytes to work with; None is 96 MiB of logits on the CPU, 1 GiB elsewhere (or the largest pair, up
            to 1 GiB), whatever else is needed. At least 64 rows of logits are held.

    Returns:
        [N] fp32 (float64 for float64 inputs). Differentiable in hidden, weight and bias.
    """
    checks.check_hidden(hidden, sequence_ids)
    if sequence_ids is None:
        if num_sequences is not None:
            raise ValueError("num_sequences goes with sequence_ids, for packed hidden states; leave it out")
        num_sequences = len(hidden)
    elif num_sequences is None:
        raise ValueError("packed hidden states need num_sequences: how many sequences sequence_ids number")
    num_sequences = checks.check_count("num_sequences", num_sequences, 0)
    weight, bias = whole(weight, hidden.dtype), whole(bias, hidden.dtype)
    plan = plan_pass(hidden, weight, bias, labels, num_sequences, (softcap, logit_scale), memory_budget, backend)
    wanted = wanted_gradients(hidden, weight, bias)
    totals = _slot_logps(hidden, weight, bias, labels, sequence_ids, plan, wanted)
    return totals / _lengths(labels, sequence_ids, num_sequences) if average else totals


def dual_clip_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    chosen_clip: Clip = math.inf,
    rejected_clip: Clip = math.inf,
    label_smoothing: Tensor | float = 0.0,
    weight: Tensor | float | None = None,
    reduction: str = "mean",
    normalizer: Tensor | float | None = None,
    backend: str = "auto",
) -> DualClipOutput:
    """The dual-clip preference loss of TSO (arXiv 2409.02118); with infinite clips, DPO (arXiv 2305.18290).

        u   = policy - reference log-probability         r_w = min(beta * u_w,  chosen_clip)
        d   = r_w - r_l                                  r_l = max(beta * u_l, -rejected_clip)
        L   = weight * (-(1 - label_smoothing) * log sigmoid(d) - label_smoothing * log sigmoid(-d))

    A side beyond its bound is saturated: its gradient is exactly 0. At the bound itself the gradient passes.

    Args:
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps: [B] floating point each.
        chosen_clip, rejected_clip: bounds in reward units, 0 or more; or (lower, upper) to bound a side on both ends.
        label_smoothing: in [0, 0.5), the chance that a label is wrong; a number or a tensor [B].
        weight: 0 or more, a number or a tensor [B]; None is 1. A constant, as label_smoothing is.
        reduction: "mean" over pairs (of the sum over `normalizer`), "sum", or "none".
        normalizer: what "mean" divides by, None for B: give the number of pairs of the global batch, over accumulation
            steps and ranks, and the accumulated gradient is that of one large batch. A number or a one-element tensor.

    Returns:
        `DualClipOutput`, computed in fp32 (float64 if any input is). The loss is differentiable in all four inputs.
    """
    inputs = [policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps]
    names = ["policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps"]
    checks.check_floating(names[0], policy_chosen_logps, "B")
    for name, tensor in zip(names[1:], inputs[1:], strict=True):
        _check_pairs(name, tensor, len(policy_chosen_logps), inputs[0])
    normalizer = checks.check_reduction(reduction, normalizer)
    rule = checks.make_rule(beta, chosen_clip, rejected_clip)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in inputs) else torch.float32
    smoothing = checks.per_pair("label_smoothing", label_smoothing, 0.0, 0.5, inputs[0], dtype)
    pair_weight = checks.per_pair("weight", weight, 1.0, math.inf, inputs[0], dtype)
    losses, *constants = _pair_losses(inputs, rule, smoothing, pair_weight, backend)
    return DualClipOutput(reduce_losses(losses, reduction, normalizer), *constants)


def linear_dual_clip_loss(
    hidden: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    average: bool = False,
    beta: float = 0.1,
    chosen_clip: Clip = math.inf,
    rejected_clip: Clip = math.inf,
    label_smoothing: Tensor | float = 0.0,
    weight: Tensor | float | None = None,
    reduction: str = "mean",
    normalizer: Tensor | float | None = None,
    sft_weight: float = 0.0,
    sequence_ids: Tensor | None = None,
    memory_budget: int | None = None,
    backend: str = "auto",
) -> LinearDualClipOutput:
    """`dual_clip_loss` of hidden states through a language-model head, without ever holding all logits.

    Only rows whose label counts are computed; whole pairs at a time, as many as `memory_budget` bytes of logits hold (a
    pair too large for it has its logits computed twice). The gradient is computed in the forward pass, so the loss can
    go backward once; saturated sides cost no gradient products, a frozen head none of its own, and under no_grad there
    are none at all. With reduction="none", and where the fp32 sums of a half-precision head's gradient do not fit the
    budget, the logits are computed again in the backward, by blocks of the vocabulary: a product more, and the least
    memory.

    Args:
        hidden: [2B, T, H], sequences 0..B-1 chosen and B..2B-1 rejected, pair i being i and B + i; or packed [R, H]
            with `sequence_ids` [R] in 0..2B-1.
        head_weight: [V, H], as the `weight` of `linear_sequence_logps`. Named so because `weight` weighs pairs here.
        labels: [2B, T] (packed: [R]) int64 or int32, already shifted; -100 does not count.
        ref_chosen_logps, ref_rejected_logps: [B], as `linear_sequence_logps` gives them under the reference with the
            same `average`; constants.
        bias, softcap, logit_scale, average, memory_budget: as in `linear_sequence_logps`.
        beta, chosen_clip, rejected_clip, label_smoothing, weight, reduction, normalizer: as in `dual_clip_loss`.
        sft_weight: each pair adds sft_weight * weight * NLL(chosen) / (number of chosen tokens) to its loss, before the
            reduction; 0 or more. It reaches the chosen side even where that is saturated.

    Returns:
        `LinearDualClipOutput`. Only the loss is differentiable, in hidden, head_weight and bias. A pair with no counted
        label on either side adds 0 to the loss and counts in the mean; a batch of such pairs gives a zero with a graph.

    Equal hidden states and weights give log-ratios of exactly 0, as long as rows get the same logits in both passes: no
    product here has fewer than 64 rows, above which the CPU libraries tried give a row the same bits whatever its
    neighbours in fp32, bf16 and fp16 (in fp64 the last bits may differ); but no BLAS promises that, and GPU libraries
    choose by shape.
    """
    checks.check_hidden(hidden, sequence_ids)
    normalizer = checks.check_reduction(reduction, normalizer)
    checks.check_floating("ref_chosen_logps", ref_chosen_logps, "B")
    sequences = 2 * len(ref_chosen_logps)
    if sequence_ids is None and len(hidden) != sequences:
        raise ValueError(
            f"hidden must be [2B, T, H] with B = {sequences // 2} as in ref_chosen_logps, not {list(hidden.shape)}"
        )
    for name, logps in (("ref_chosen_logps", ref_chosen_logps), ("ref_rejected_logps", ref_rejected_logps)):
        _check_pairs(name, logps, sequences // 2, hidden)
    if not 0 <= checks.check_number("sft_weight", sft_weight) < math.inf:
        raise ValueError(f"sft_weight must be finite and 0 or more; it is {sft_weight}")
    shape = softcap, logit_scale
    head_weight, bias = whole(head_weight, hidden.dtype), whole(bias, hidden.dtype)
    plan = plan_pass(hidden, head_weight, bias, labels, sequences, shape, memory_budget, backend, paired=True)
    dtype = accumulation_dtype(plan.dtype)
    pairs = PairJob(
        ref_chosen_logps.detach().to(dtype),
        ref_rejected_logps.detach().to(dtype),
        checks.make_rule(beta, chosen_clip, rejected_clip),
        checks.per_pair("label_smoothing", label_smoothing, 0.0, 0.5, ref_chosen_logps, dtype),
        checks.per_pair("weight", weight, 1.0, math.inf, ref_chosen_logps, dtype),
        float(sft_weight),
        average,
    )
    tensors = hidden, head_weight, bias, labels, sequence_ids
    wanted = wanted_gradients(hidden, head_weight, bias)
    scale = loss_scale(reduction, normalizer, sequences // 2)
    if reduction == "none" or not sums_fit(plan, head_weight, wanted):
        losses, *constants = _in_two_passes(*tensors, plan, pairs, wanted)
        return LinearDualClipOutput(losses if reduction == "none" else losses.sum() * scale, *constants)
    plan = beside_sums(plan, head_weight, wanted)
    if torch.compiler.is_compiling():
        return compiled.linear_dual_clip(*tensors, plan, pairs, wanted, scale)
    job = make_job(plan, head_weight, labels, sequence_ids)
    pairs = pairs._replace(weight=pairs.weight * job.rows.pairs_with_rows())
    loss, *constants = LinearDualClip.apply(hidden, head_weight, bias, job, pairs, wanted, scale)
    return LinearDualClipOutput(loss, *constants)


def _in_two_passes(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    plan: Plan,
    pairs: PairJob,
    wanted: Wanted,
) -> tuple[Tensor, ...]:
    """One loss a pair, then the constants: log-probabilities, and the pair rule on them; the gradient waits."""
    totals = _slot_logps(hidden, weight, bias, labels, sequence_ids, plan, wanted).view(-1, 2)
    counts = _lengths(labels, sequence_ids, plan.sequences, least=0).view(2, -1).t()
    means = totals / counts.clamp_min(1)
    chosen, rejected = (means if pairs.average else totals).unbind(1)
    pair_weight = pairs.weight * (counts.sum(1) > 0)
    sides = chosen, rejected, pairs.ref_chosen, pairs.ref_rejected
    losses, *constants = _pair_losses(sides, pairs.rule, pairs.smoothing, pair_weight, plan.backend)
    losses = losses - pairs.sft_weight * pair_weight * means[:, 0]
    return losses, *constants, chosen.detach(), rejected.detach()


def _slot_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    sequence_ids: Tensor | None,
    plan: Plan,
    wanted: Wanted,
) -> Tensor:
    if torch.compiler.is_compiling():
        return compiled.linear_logps(hidden, weight, bias, labels, sequence_ids, plan, wanted)
    job = make_job(plan, weight, labels, sequence_ids)
    totals: Tensor = LinearSequenceLogps.apply(hidden, weight, bias, job, wanted)
    return totals


def _lengths(labels: Tensor, sequence_ids: Tensor | None, sequences: int, least: int = 1) -> Tensor:
    """Counted labels of each sequence, [N]; at least `least`."""
    counted = labels != IGNORE
    if sequence_ids is None:
        return counted.sum(-1).clamp_min(least)
    counts = counted.new_zeros(sequences, dtype=torch.int64)
    return counts.index_add_(0, sequence_ids.clamp(0, sequences - 1).long(), counted.long()).clamp_min(least)


def _pair_losses(
    sides: Sequence[Tensor], rule: PairRule, smoothing: Tensor, weight: Tensor, backend: str
) -> tuple[Tensor, ...]:
    """Losses, rewards and masks, [B] each, of the four log-probabilities. Compiled code fuses the definition itself."""
    if torch.compiler.is_compiling():
        check_backend(backend, weight.device, weight.dtype)
        u_chosen, u_rejected = (sides[i].to(weight.dtype) - sides[i + 2].to(weight.dtype) for i in (0, 1))
        return tuple(reference.dual_clip_terms(u_chosen, u_rejected, rule, smoothing, weight))
    ops = choose_ops(backend, weight.device, weight.dtype)
    terms: tuple[Tensor, ...] = PairLoss.apply(*sides, rule, smoothing, weight, ops)
    return terms


def _check_pairs(name: str, tensor: Tensor, pairs: int, like: Tensor) -> None:
    checks.check_floating(name, tensor, "B")
    if len(tensor) != pairs:
        raise ValueError(f"{name} must have shape [{pairs}], one number a pair, not {list(tensor.shape)}")
    checks.check_device(name, tensor, like)
