"""Causal language models of transformers: the backbone's forward pass and the loss in one call, no logits made.

Imports nothing of transformers, so any version whose models keep to its conventions will do. Which models can be taken,
and how their output layers are found: `lm_head.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tso_kernels.api import linear_dual_clip_loss, linear_sequence_logps
from tso_kernels.integrations.lm_head import (
    Head,
    backbone_of,
    check_adapter,
    eager,
    head_of,
    inner_of,
    inputs_of,
)
from tso_kernels.options import IGNORE, LinearDualClipOutput

__all__ = [
    "Head",
    "backbone_of",
    "causal_lm_dual_clip_loss",
    "causal_lm_logps",
    "check_adapter",
    "eager",
    "head_of",
    "hidden_states",
    "inner_of",
    "run_as_forward",
    "shifted",
]

_HEAD_OPTIONS = ("bias", "softcap", "logit_scale")
_LOGPS_OPTIONS = ("average", "memory_budget", "backend")
_LOSS_OPTIONS = frozenset(
    name
    for name, parameter in inspect.signature(linear_dual_clip_loss).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in (*_HEAD_OPTIONS, "sequence_ids")
)
_ALIKE = 0.75  # how like its correction a misspelt keyword is

R = TypeVar("R")


def causal_lm_logps(
    model: nn.Module,
    input_ids: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None = None,
    *,
    average: bool = False,
    memory_budget: int | None = None,
    backend: str = "auto",
    **inputs: Any,
) -> Tensor:
    """Log-probability in nats of each sequence's labelled tokens, [N]; see `linear_sequence_logps`.

    input_ids, attention_mask: [N, T]. labels: [N, T] as transformers has them, not shifted: labels[n, t] is
    input_ids[n, t] where it counts, and -100 where it does not. `inputs` go to the backbone (position_ids, for example),
    which runs compiled where `model` is what torch.compile returned. Raises TypeError or ValueError for a model that
    `head_of` refuses, TypeError for a keyword that is no option and no input of the backbone.
    """
    _check_labels(input_ids, labels)
    head = head_of(model)
    _check_inputs("causal_lm_logps", model, inputs, _LOGPS_OPTIONS)
    return linear_sequence_logps(
        hidden_states(model, input_ids, attention_mask, **inputs),
        head.weight,
        shifted(labels),
        average=average,
        memory_budget=memory_budget,
        backend=backend,
        **head.options(),
    )


def causal_lm_dual_clip_loss(
    model: nn.Module,
    input_ids: Tensor,
    labels: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> LinearDualClipOutput:
    """The dual-clip loss of B pairs; see `linear_dual_clip_loss`, whose options are taken as they are.

    input_ids, labels, attention_mask: [2B, T], rows 0..B-1 chosen, B..2B-1 rejected, labels as in `causal_lm_logps`.
    ref_*_logps: [B], for example from `causal_lm_logps` of the reference model under `torch.no_grad()`. Keywords that are
    no options of the loss go to the backbone, as in `causal_lm_logps`. The head's bias, softcap and scale are the
    model's own.
    """
    _check_labels(input_ids, labels)
    head = head_of(model)
    inputs = {name: value for name, value in options.items() if name not in _LOSS_OPTIONS}
    options = {name: value for name, value in options.items() if name in _LOSS_OPTIONS}
    _check_inputs("causal_lm_dual_clip_loss", model, inputs, _LOSS_OPTIONS)
    return linear_dual_clip_loss(
        hidden_states(model, input_ids, attention_mask, **inputs),
        head.weight,
        shifted(labels),
        ref_chosen_logps,
        ref_rejected_logps,
        **head.options(),
        **options,
    )


def shifted(labels: Tensor) -> Tensor:
    """Labels [N, T] moved one place to the left, so that labels[n, t] is the token that position t predicts."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE)


def hidden_states(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Any) -> Tensor:
    """The backbone's last hidden states [N, T, H], after its final norm; without a key-value cache.

    `inputs` are handed on as they are. Of a model that torch.compile returned, the backbone runs compiled the same way.
    """
    backbone, compiled = backbone_of(model), eager(model) is not model
    if compiled and not torch.compiler.is_compiling():
        how: Any = model.dynamo_ctx
        backbone = how(backbone.__call__)
    out = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **inputs)
    states: Tensor = out.last_hidden_state
    return states


def _check_labels(input_ids: Any, labels: Any) -> None:
    for name, value in (("input_ids", input_ids), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be an integer tensor [N, T], not {type(value).__name__}")
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids must have shape [N, T], not {list(input_ids.shape)}")
    if labels.shape != input_ids.shape:
        raise ValueError(
            f"labels must have the shape of input_ids, {list(input_ids.shape)}, not {list(labels.shape)}; they are not "
            f"shifted here: labels[n, t] is input_ids[n, t] where it counts, and {IGNORE} where it does not"
        )


def _check_inputs(function: str, model: nn.Module, inputs: Iterable[str], options: Iterable[str]) -> None:
    """Most backbones swallow any keyword, and with it every misspelt option: here none passes that means nothing."""
    for name in inputs:
        if name in _HEAD_OPTIONS:
            raise TypeError(f"{function} takes the model's own {name}; to give another, call the linear function of it")
        if name not in inputs_of(model):
            near = get_close_matches(name, {*options, *inputs_of(model)}, 1, _ALIKE)
            raise TypeError(
                f"{function} has no option {name!r}, and {type(backbone_of(model)).__name__} no such input"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )


def run_as_forward(model: nn.Module, inner: nn.Module, function: Callable[[], R]) -> R:
    """function(), run as the forward pass of `inner` while `model` is called: `inner` itself, or a wrapper around it.

    DDP prepares its gradient exchange in its own forward, and FSDP2 gathers weights in hooks around it; calling a part
    of the model past them would train every rank on its own. Compiled modules run as they were before; the function's
    own call of a compiled model's backbone is compiled, see `hidden_states`.
    """
    head_of(inner)  # its first call runs the model's own forward
    model, inner = eager(model), eager(inner)
    before, forward = inner.__dict__.get("forward"), inner.forward
    # With arguments it is the model's own forward: `head_of` may have to ask again.
    inner.forward = lambda *args, **inputs: forward(*args, **inputs) if args or inputs else function()
    try:
        result: R = model()
        return result
    finally:
        if before is None:
            del inner.forward
        else:
            inner.forward = before
