"""The output layer of a causal language model, and what the model does to its logits.

A softcap and a scale are found by asking the model itself, once: names in configs are no safe guide, since
`logits_scaling` divides in some families and multiplies in others. A model whose logits are anything else is refused.
Adapters (PEFT) that live in the layers are seen through; those that act around the model are refused.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from threading import RLock
from typing import Any, NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tso_kernels.options import Shaping
from tso_kernels.sharded import whole

# Where families say what they do; which of these a model means, and in which direction, is tried.
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap", "softcap")
_SCALES = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
_TRIED_TOKENS = 8
_LARGE = 50.0  # the largest logit of the trial: beyond the softcaps in use
_CLOSE = 1e-3  # relative distance that fp32 rounding may make; half precision gets _CLOSE_HALF
_CLOSE_HALF = 0.03
_INSTEAD = "use sequence_logps on its logits"

# Adapters that do their work in the forward pass of the PeftModel, or in a place of their own beside the layers.
_AROUND_THE_MODEL = ("POLY", "XLORA", "SHADOW")

# Inputs that backbones hand to their layers by **kwargs, so that their signatures need not name them.
_PASSED_ON = frozenset(
    {
        *("position_ids", "token_type_ids", "output_router_logits", "seq_idx"),
        *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"),
    }
)
_OURS = frozenset({"self", "input_ids", "attention_mask", "use_cache", "labels", "return_dict"})


class _Known(NamedTuple):
    """What was found out about a model, and what it is true of."""

    layer: ReferenceType[nn.Module]  # a strong one could keep the model alive, through the hooks of FSDP2
    state: tuple[Any, ...]
    shaping: Shaping
    inputs: frozenset[str]  # that the backbone takes


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
_trial = RLock()  # a trial puts the model into eval mode and back: one at a time


class Head(NamedTuple):
    """The output layer as the linear functions of this package want it."""

    weight: Tensor  # [V, H]
    bias: Tensor | None  # [V]
    softcap: float | None
    logit_scale: float

    def options(self) -> dict[str, Any]:
        """Keyword arguments for `linear_sequence_logps` and `linear_dual_clip_loss`; the weight goes by position."""
        return {"bias": self.bias, "softcap": self.softcap, "logit_scale": self.logit_scale}


def eager(model: nn.Module) -> Any:
    """What torch.compile was given; any other model is returned as it is."""
    return model._modules.get("_orig_mod", model) if isinstance(model, nn.Module) else model


def inner_of(model: nn.Module) -> Any:
    """The transformers model itself, compiled or not, inside adapters of PEFT or not.

    Raises TypeError for DistributedDataParallel and DataParallel, ValueError for adapters that act around the model.
    """
    outer: Any = eager(model)
    if isinstance(outer, nn.parallel.DistributedDataParallel):
        raise TypeError(
            "DistributedDataParallel exchanges gradients only for what runs in its own forward pass: call "
            "hf.run_as_forward(model, model.module, lambda: ...), and use model.module inside the lambda"
        )
    if isinstance(outer, nn.DataParallel):
        raise TypeError("DataParallel is not supported: run one process a GPU, with DistributedDataParallel or FSDP2")
    unwrap = getattr(outer, "get_base_model", None)
    if unwrap is None:
        return outer
    for name in outer.active_adapters:
        check_adapter(outer.peft_config[name])
    return eager(unwrap())


def check_adapter(config: Any) -> None:
    """Raises ValueError, with the name, for a PEFT configuration whose adapter is not in the model's layers alone."""
    kind = getattr(config, "peft_type", None)
    kind = str(getattr(kind, "value", kind))
    if getattr(config, "alora_invocation_tokens", None):
        kind = "aLoRA"
    elif not getattr(config, "is_prompt_learning", False) and kind not in _AROUND_THE_MODEL:
        return
    raise ValueError(
        f"the adapter is of the PEFT type {kind}, which acts in the forward pass around the model, and not in its layers "
        "alone; its hidden states cannot be had without it. Use an adapter in the layers (LoRA, DoRA, IA3), or "
        "sequence_logps on the logits and dual_clip_loss"
    )


def backbone_of(model: nn.Module) -> Any:
    """What makes hidden states: the model without its output layer. Raises TypeError where there is no such part."""
    inner = inner_of(model)
    backbone = getattr(inner, "base_model", inner)
    if backbone is inner:  # its name may be declared wrongly: Llama4ForCausalLM
        backbone = getattr(inner, "model", inner)
    if backbone is inner:
        raise TypeError(
            f"{type(inner).__name__} has no backbone that could be found (base_model, model): this needs a causal language "
            "model with its output layer, as AutoModelForCausalLM loads it. For any other, call linear_dual_clip_loss "
            "with the hidden states and the output layer's weight"
        )
    return backbone


def head_of(model: nn.Module) -> Head:
    """The output layer, with what is done to its logits.

    The first call for a model runs it on a few tokens, to see that its logits are softcap * tanh(scale * z / softcap) of
    its output layer's z = F.linear(hidden, weight, bias), for a softcap and a scale that its config names; so does a call
    after the layer, its hooks, or those values of the config were changed. Raises TypeError for an adapted output layer,
    ValueError for a model that does something else to its logits, RuntimeError where the first call is compiled.
    """
    inner = inner_of(model)
    if not callable(getattr(inner, "get_output_embeddings", None)):
        raise TypeError(f"{type(inner).__name__} is not a model of transformers: call linear_dual_clip_loss instead")
    layer = inner.get_output_embeddings()
    _check_layer(inner, layer)
    known = _known_of(inner, layer)
    if known is None:
        if torch.compiler.is_compiling():
            raise RuntimeError("call hf.head_of(model) once before compiling: it runs the model on a few tokens")
        with _trial:
            known = _known_of(inner, layer)
            if known is None:
                state = _state(inner, layer)
                known = _Known(ref(layer), state, _try(inner, layer), _inputs(backbone_of(inner)))
                _known[inner] = known
    return Head(layer.weight, layer.bias, known.shaping.softcap, known.shaping.scale)


def inputs_of(model: nn.Module) -> frozenset[str]:
    """Keywords that the backbone of a model takes; after `head_of`."""
    return _known[inner_of(model)].inputs


def _check_layer(inner: nn.Module, layer: Any) -> None:
    """Raises TypeError for an output layer without one whole weight."""
    if layer is None:
        raise TypeError(
            f"{type(inner).__name__} has no output layer: load the model with its head, as AutoModelForCausalLM does"
        )
    kind = type(layer)
    if not isinstance(layer, nn.Linear):
        if kind.__name__.startswith("TrainableTokens"):
            raise TypeError(
                "PEFT's trainable_token_indices reach the output layer, which is tied to the embeddings: its weight is not "
                "one tensor. Leave trainable_token_indices out, or untie the output layer"
            )
        if kind.__module__.partition(".")[0] == "peft":
            raise TypeError(
                f"the output layer is adapted ({kind.__name__}): LoRA on lm_head is not supported, leave it out of "
                "target_modules and modules_to_save"
            )
        raise TypeError(
            f"the output layer is {kind.__name__}, not a Linear: call linear_dual_clip_loss with the hidden states and a "
            "weight [V, H], or use sequence_logps on the logits"
        )
    if not layer.weight.is_floating_point() or layer.weight.dim() != 2 or layer.weight.shape[1] != layer.in_features:
        raise TypeError(
            f"the weight of the output layer ({kind.__name__}) is {layer.weight.dtype} {list(layer.weight.shape)}, not a "
            "floating-point [V, H]: leave lm_head out of the quantisation (llm_int8_skip_modules); sharded weights are taken "
            "as FSDP2 has them, not flat"
        )


def _known_of(inner: nn.Module, layer: nn.Module) -> _Known | None:
    """What is known of the model, unless it is of another state."""
    known = _known.get(inner)
    if known is None or known.layer() is not layer or known.state != _state(inner, layer):
        return None
    return known


def _state(inner: Any, layer: nn.Module) -> tuple[Any, ...]:
    """What the shaping hangs on, as far as it changes in practice; cheap, since every call compares it."""
    config = inner.config.get_text_config()
    declared = [getattr(config, name, None) for name in (*_SOFTCAPS, *_SCALES)]
    numbers = [value if isinstance(value, (int, float)) else None for value in declared]
    hooks = *layer._forward_hooks, *layer._forward_pre_hooks
    return (type(layer), "forward" in layer.__dict__, hooks, *numbers)


def _inputs(backbone: nn.Module) -> frozenset[str]:
    """Keywords that mean something to a backbone: those its forward names, and those that layers are known to take."""
    parameters = inspect.signature(eager(backbone).forward).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    swallows = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return frozenset((named | _PASSED_ON if swallows else named) - _OURS)


@torch.no_grad()
def _try(model: Any, layer: nn.Linear) -> Shaping:
    """How this model shapes its logits, from one run on a few tokens."""
    seen: dict[str, Tensor] = {}

    def at_layer(_: nn.Module, arguments: tuple[Tensor, ...], raw: Tensor) -> Tensor:
        seen["input"], seen["found"] = arguments[0], raw
        weight, bias = whole(layer.weight, raw.dtype), whole(layer.bias, raw.dtype)
        seen["plain"] = F.linear(arguments[0].to(weight.dtype), weight, bias)
        # Made large, so that a softcap shows even in a model whose logits are small.
        seen["raw"] = raw * (_LARGE / raw.abs().max().clamp_min(1e-6))
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
        if "raw" not in seen:
            raise ValueError(f"{type(model).__name__} makes its logits without its output layer; {_INSTEAD}")
        if "states" not in seen:  # some families call a part of their backbone
            backbone(**tried)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    close = _CLOSE if logits.dtype in (torch.float32, torch.float64) and not _autocast(logits) else _CLOSE_HALF
    if not _near(seen["found"], seen["plain"], close):
        name = next((name for name, module in model.named_modules() if module is layer), "the output layer")
        raise ValueError(
            f"{name} ({type(layer).__name__}) of {type(model).__name__} does not give F.linear(hidden, weight, bias): it has "
            f"a forward or hooks of its own. Remove those, or {_INSTEAD}"
        )
    if not _near(seen["input"], seen["states"], close):
        raise ValueError(
            f"{type(model).__name__} changes its hidden states before the output layer; {_INSTEAD}, or call "
            "linear_dual_clip_loss with the hidden states that its output layer gets"
        )
    for shaping in _shapings(model.config.get_text_config()):
        if _near(shaping.apply(seen["raw"].double()), logits, close):
            return shaping
    raise ValueError(
        f"{type(model).__name__} does more to its logits than the softcap and scale in its config; {_INSTEAD}"
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
    if found.shape != expected.shape:
        return False
    gap = (found.double() - expected.double()).norm()
    return bool(gap <= close * expected.double().norm())


def _autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)
