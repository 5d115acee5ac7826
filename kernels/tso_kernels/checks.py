"""Validation of what callers pass in: every check names the argument and says what to do about it.

Checks that would have to wait for a device are made on CPU tensors only, except those of labels in the linear paths,
which need a round trip anyway (see `rows.py`).
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from tso_kernels.options import IGNORE, Bounds, PairRule, Shaping

Clip = float | tuple[float, float]
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_number(name: str, value: Any) -> float:
    """A plain number, NumPy's too. A tensor is refused: its gradient would be lost, or a device waited for."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name} must be a number, not {_kind(value)}")
    return float(value)


def check_count(name: str, value: Any, least: int) -> int:
    """A whole number from `least` on; a float that is whole counts, such as 1e9."""
    number = check_number(name, value)
    if not isinstance(value, (int, Integral)) and not number.is_integer():  # infinities and NaN are not whole either
        raise ValueError(f"{name} must be a whole number, not {value}")
    if number < least:
        raise ValueError(f"{name} must be {least} or more; it is {value}")
    return int(value)


def _kind(value: Any) -> str:
    return f"{value!r}" if value is None or isinstance(value, (str, bool)) else f"a {type(value).__name__}"


def check_floating(name: str, value: Any, *shape: str) -> Tensor:
    """`value` as a floating-point tensor with a dimension for every letter of `shape`; any shape if there are none."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(value).__name__}")
    if value.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float64, float32, bfloat16 or float16, not {value.dtype}")
    if shape and value.dim() != len(shape):
        raise ValueError(f"{name} must have shape [{', '.join(shape)}], not {list(value.shape)}")
    return value


def check_labels(labels: Any, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Labels of the given shape: int64 or int32, on the device of the tensor they label."""
    if not isinstance(labels, Tensor) or labels.dtype not in (torch.int64, torch.int32):
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(
            f"labels must be an int64 or int32 tensor, not {kind}; positions that do not count are {IGNORE}"
        )
    if tuple(labels.shape) != shape:
        raise ValueError(
            f"labels must have shape {list(shape)}, not {list(labels.shape)}; shift them first, so that labels[n, t] "
            "is the token that position t predicts"
        )
    check_device("labels", labels, like)
    return labels


def _readable(tensor: Tensor) -> bool:
    """Values may be looked at without waiting for a device, or breaking a compiler's graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_label_range(labels: Tensor, vocabulary: int) -> None:
    """There is a vocabulary; on the CPU, every counted label is a token of it."""
    if vocabulary == 0:
        raise ValueError("logits must have shape [N, T, V] with a vocabulary of at least one token")
    if _readable(labels) and bool(((labels != IGNORE) & ((labels < 0) | (labels >= vocabulary))).any()):
        raise ValueError(f"labels must be in 0..{vocabulary - 1}, or {IGNORE} where a position does not count")


def check_device(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, but must be on {like.device}; move it with .to({like.device})")


def check_head(weight: Any, bias: Any, hidden: Tensor) -> None:
    """The head's weight [V, H] and bias [V] fit hidden states [..., H]."""
    if isinstance(weight, torch.nn.Module):
        if any("lora_" in name for name, _ in weight.named_parameters()):
            raise TypeError("LoRA on lm_head is not supported: leave lm_head out of target_modules, or merge it first")
        raise TypeError("the head must be its weight tensor [V, H]: pass lm_head.weight, and lm_head.bias as bias")
    check_floating("the head's weight", weight, "V", "H")
    if len(weight) == 0:
        raise ValueError("the head's weight must be [V, H] with a vocabulary of at least one token")
    if weight.shape[1] != hidden.shape[-1]:
        raise ValueError(f"hidden states have size {hidden.shape[-1]}, but the head's weight is {list(weight.shape)}")
    check_device("the head's weight", weight, hidden)
    if bias is not None:
        check_floating("bias", bias, "V")
        check_device("bias", bias, hidden)
        if len(bias) != len(weight):
            raise ValueError(f"bias must have shape [{len(weight)}], not {list(bias.shape)}")


def product_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype of the head's products: autocast's where that is on, else the one both tensors share."""
    device = hidden.device.type
    if device == "meta":
        raise ValueError("hidden is on the meta device, which holds no numbers; move the model to a real device first")
    if torch.float64 not in (hidden.dtype, weight.dtype) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    if hidden.dtype != weight.dtype:
        way = "cast one" if torch.float64 in (hidden.dtype, weight.dtype) else "cast one, or use autocast"
        raise TypeError(f"hidden is {hidden.dtype} and the head's weight {weight.dtype}; {way}")
    return hidden.dtype


def check_hidden(hidden: Any, sequence_ids: Any) -> None:
    """Padded hidden states [N, T, H] have no ids; packed ones [R, H] have an integer id for every row."""
    check_floating("hidden", hidden)
    if sequence_ids is None:
        if hidden.dim() != 3:
            raise ValueError(f"hidden must be [N, T, H], or [R, H] with sequence_ids [R]; it is {list(hidden.shape)}")
        return
    if hidden.dim() != 2:
        raise ValueError(f"sequence_ids go with packed hidden states [R, H], not {list(hidden.shape)}")
    if not isinstance(sequence_ids, Tensor) or sequence_ids.dtype not in (torch.int64, torch.int32):
        raise TypeError("sequence_ids must be an int64 or int32 tensor")
    if sequence_ids.shape != hidden.shape[:1]:
        raise ValueError(f"sequence_ids must have shape [{len(hidden)}], not {list(sequence_ids.shape)}")
    check_device("sequence_ids", sequence_ids, hidden)


def make_shaping(softcap: float | None, logit_scale: float) -> Shaping:
    cap, scale = None if softcap is None else check_number("softcap", softcap), check_number("logit_scale", logit_scale)
    if cap is not None and not 0 < cap < math.inf:
        raise ValueError(f"softcap must be positive, or None for no cap; it is {softcap}")
    if not -math.inf < scale < math.inf or scale == 0:
        raise ValueError(f"logit_scale must be finite and not 0; it is {logit_scale}")
    return Shaping(cap, scale)


def make_rule(beta: float, chosen_clip: Clip, rejected_clip: Clip) -> PairRule:
    """C means [-inf, C] for the chosen side and [-C, inf] for the rejected; (lower, upper) means itself on either."""
    number = check_number("beta", beta)
    if not 0 < number < math.inf:
        raise ValueError(f"beta must be positive and finite; it is {beta}")
    chosen = _bounds("chosen_clip", chosen_clip, lambda c: Bounds(-math.inf, c))
    rejected = _bounds("rejected_clip", rejected_clip, lambda c: Bounds(-c, math.inf))
    return PairRule(number, chosen, rejected)


def _bounds(name: str, clip: Any, one_sided: Any) -> Bounds:
    if isinstance(clip, (tuple, list)):
        ends = [check_number(f"a bound of {name}", end) for end in clip]
        if len(ends) != 2 or not ends[0] <= ends[1]:
            raise ValueError(f"{name} must be one bound or (lower, upper) with lower <= upper; it is {clip}")
        return Bounds(*ends)
    bound = check_number(name, clip)
    if not bound >= 0:
        raise ValueError(f"{name} must be 0 or more, in reward units (inf for no bound); it is {clip}")
    bounds: Bounds = one_sided(bound)
    return bounds


def per_pair(
    name: str, value: Tensor | float | None, default: float, below: float, like: Tensor, dtype: torch.dtype
) -> Tensor:
    """An option that is one number or a tensor [B], as a constant tensor [B]; finite values in [0, below)."""
    if not isinstance(value, Tensor):
        number = default if value is None else check_number(name, value)
        _check_range(name, 0 <= number < below, below)
        return torch.full((len(like),), number, dtype=dtype, device=like.device)
    check_floating(name, value)
    check_device(name, value, like)
    value = value.detach()
    if value.dim() == 0:
        value = value.expand(len(like))
    if value.shape != (len(like),):
        raise ValueError(f"{name} must be a number or have shape [{len(like)}], not {list(value.shape)}")
    if _readable(value):
        _check_range(name, bool(((value >= 0) & (value < below)).all()), below)
    return value.to(dtype)


def _check_range(name: str, good: bool, below: float) -> None:
    if not good:
        raise ValueError(
            f"{name} must be in [0, {below})" if math.isfinite(below) else f"{name} must be finite and 0 or more"
        )


def check_reduction(reduction: str, normalizer: Tensor | float | None) -> Tensor | float | None:
    """The normalizer as a number or a constant of no dimensions, None where there is none."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if normalizer is None:
        return None
    if reduction != "mean":
        raise ValueError(f"normalizer is what reduction='mean' divides by; it means nothing with {reduction!r}")
    if isinstance(normalizer, Tensor):
        if normalizer.numel() != 1:
            raise ValueError(f"normalizer must be one number, not a tensor of shape {list(normalizer.shape)}")
        constant = normalizer.detach().reshape(())
        if _readable(constant):
            _check_normalizer(float(constant))
        return constant
    number = check_number("normalizer", normalizer)
    _check_normalizer(number)
    return number


def _check_normalizer(number: float) -> None:
    if not 0 < number < math.inf:
        raise ValueError(f"normalizer must be positive: the number of pairs of the global batch; it is {number}")
