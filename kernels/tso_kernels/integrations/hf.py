"""Any causal language model of transformers: its backbone's forward pass and the loss in one call, no logits made.

What a family does to its logits (softcap, scale) is found by asking the model itself, once: names in configs are no safe
guide, since `logits_scaling` divides in some families and multiplies in others. Adapters (PEFT) are seen through.
Imports nothing of transformers, so any version whose models keep to its conventions will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tso_kernels.api import linear_dual_clip_loss, linear_sequence_logps
from tso_kernels.options import IGNORE, LinearDualClipOutput, Shaping

# Where families say what they do; which of these a model means, and in which direction, is tried.
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap", "softcap")
_SCALES = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
_TRIED_TOKENS = 8
_LARGE = 50.0  # the largest logit of the trial: beyond the softcaps in use
_CLOSE = 1e-3  # relative distance that fp32 rounding may make; half precision gets _CLOSE_HALF
_CLOSE_HALF = 0.03

R = TypeVar("R")

_known: WeakKeyDictionary[nn.Module, Shaping] = WeakKeyDictionary()


class Head(NamedTuple):
    """The output layer as the linear functions of this package want it."""

    weight: Tensor  # [V, H]
    bias: Tensor | None  # [V]
    softcap: float | None
    logit_scale: float

    def options(self) -> dict[str, Any]:
        """Keyword arguments for `linear_sequence_logps` and `linear_dual_clip_loss`; the weight goes by position."""
        return {"bias": self.bias, "softcap": self.softcap, "logit_scale": self.logit_scale}


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
    input_ids[n, t] where it counts, and -100 where it does not. `inputs` go to the backbone (position_ids, for example).
    Raises TypeError or ValueError for a model that `head_of` refuses.
    """
    head = head_of(model)
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
    *,
    inputs: dict[str, Any] | None = None,
    **options: Any,
) -> LinearDualClipOutput:
    """The dual-clip loss of B pairs; see `linear_dual_clip_loss`, whose options are taken as they are.

    input_ids, labels, attention_mask: [2B, T], rows 0..B-1 chosen, B..2B-1 rejected, labels as in `causal_lm_logps`.
    ref_*_logps: [B], for example from `causal_lm_logps` of the reference model under `torch.no_grad()`. `inputs` go to the
    backbone. The head's bias, softcap and scale are the model's own.
    """
    head = head_of(model)
    return linear_dual_clip_loss(
        hidden_states(model, input_ids, attention_mask, **(inputs or {})),
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
    """The backbone's last hidden states [N, T, H], after its final norm; without a key-value cache."""
    out = backbone_of(model)(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **inputs)
    states: Tensor = out.last_hidden_state
    return states


def run_as_forward(model: nn.Module, inner: nn.Module, function: Callable[[], R]) -> R:
    """function(), run as the forward pass of `inner` while `model` is called: `inner` itself, or a wrapper around it.

    DDP prepares its gradient exchange in its own forward, and FSDP2 gathers weights in hooks around it; calling a part
    of the model past them would train every rank on its own.
    """
    head_of(inner)  # its first call runs the model's own forward
    before = inner.__dict__.get("forward")
    inner.forward = lambda *_, **__: function()
    try:
        result: R = model()
        return result
    finally:
        if before is None:
            del inner.forward
        else:
            inner.forward = before


def inner_of(model: nn.Module) -> Any:
    """The transformers model itself, inside adapters of PEFT or not."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def backbone_of(model: nn.Module) -> Any:
    """What makes hidden states: the model without its output layer. Raises TypeError where there is no such part."""
    inner = inner_of(model)
    backbone = getattr(inner, "base_model", inner)
    if backbone is inner:
        raise TypeError(f"{type(inner).__name__} has no backbone of its own; this needs a causal language model")
    return backbone


def head_of(model: nn.Module) -> Head:
    """The output layer, with what is done to its logits.

    The first call for a model runs it on a few tokens, to see that its logits are softcap * tanh(scale * z / softcap) of
    its output layer's z, for a softcap and a scale that its config names. Raises TypeError for an adapted output layer,
    ValueError for a model that does something else to its logits.
    """
    inner = inner_of(model)
    layer = inner.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise TypeError(
            f"the output layer is {type(layer).__name__}, not a plain Linear: LoRA on lm_head is not supported, leave it "
            "out of target_modules and modules_to_save"
        )
    if inner not in _known:
        _known[inner] = _try(inner, layer)
    shaping = _known[inner]
    return Head(layer.weight, layer.bias, shaping.softcap, shaping.scale)


@torch.no_grad()
def _try(model: Any, layer: nn.Linear) -> Shaping:
    """How this model shapes its logits, from one run on a few tokens."""
    seen: dict[str, Tensor] = {}

    def at_layer(_: nn.Module, arguments: tuple[Tensor, ...], raw: Tensor) -> Tensor:
        # Made large, so that a softcap shows even in a model whose logits are small.
        seen["input"], seen["raw"] = arguments[0], raw * (_LARGE / raw.abs().max().clamp_min(1e-6))
        return seen["raw"]

    def at_backbone(_: nn.Module, __: Any, out: Any) -> None:
        seen["states"] = out.last_hidden_state

    backbone = backbone_of(model)
    hooks = layer.register_forward_hook(at_layer), backbone.register_forward_hook(at_backbone)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # without dropout
    try:
        ids = torch.arange(_TRIED_TOKENS, device=layer.weight.device)[None] % layer.weight.shape[0]
        tried = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        logits = model(**tried).logits
        if "states" not in seen:  # some families call a part of their backbone
            backbone(**tried)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    close = _CLOSE if logits.dtype in (torch.float32, torch.float64) and not _autocast(logits) else _CLOSE_HALF
    if seen["input"].shape != seen["states"].shape or not _near(seen["input"], seen["states"], close):
        raise ValueError(
            f"{type(model).__name__} changes its hidden states before the output layer; use sequence_logps on its logits"
        )
    for shaping in _shapings(model.config.get_text_config()):
        if _near(shaping.apply(seen["raw"].double()), logits, close):
            return shaping
    raise ValueError(
        f"{type(model).__name__} does more to its logits than the softcap and scale in its config; use sequence_logps on them"
    )


def _shapings(config: Any) -> Iterator[Shaping]:
    """What the config may mean, the likeliest first: a softcap that is declared is applied."""
    caps = [c for c in (getattr(config, name, None) for name in _SOFTCAPS) if isinstance(c, (int, float)) and c > 0]
    declared = (getattr(config, name, None) for name in _SCALES)
    scales = [float(s) for s in declared if isinstance(s, (int, float)) and s != 0 and math.isfinite(s)]
    for cap in [*map(float, caps), None]:
        for scale in [*(way for s in scales for way in (s, 1.0 / s)), 1.0]:
            yield Shaping(cap, scale)


def _near(found: Tensor, expected: Tensor, close: float) -> bool:
    gap = (found.double() - expected.double()).norm()
    return bool(gap <= close * expected.double().norm())


def _autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)
