"""The model's hidden states over a batch's answers, with shared beginnings read once.

A pair's two answers begin with one prompt, and the prompts of a batch mostly begin with one system message. Reading
each of these once, keeping its keys and values, and letting the answers go on from them saves their share of the work, in
the backward pass too: the gradients of all answers meet in the cache.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from tso.caches import holds_all, plain_cache
from tso.errors import InternalError
from tso.training.collate import batch_of

# Relative distance between shared and whole reading that rounding may make, and no mistake would.
CLOSE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.05}


def hidden_states(model: PreTrainedModel, batch: dict[str, Any]) -> torch.Tensor:
    """[N, T, H]: the backbone's last hidden states over the last of batch["levels"], after its final norm.

    batch: as collate.batch_of makes it, on the model's device. Raises InternalError for a shared batch and a model that
    keeps no cache, which `shares` tells beforehand.
    """
    backbone = _backbone(model)
    *above, last = batch["levels"]
    if not above:
        out = backbone(input_ids=last["input_ids"], attention_mask=last["attention_mask"], use_cache=False)
        return _states(out)
    known: dict[str, Any] = {}
    mask = last["attention_mask"].new_zeros((1, 0))
    for level in (*above, last):
        if mask.shape[1] and not known:
            raise InternalError(f"{type(model).__name__} kept no cache of a shared beginning; please report this")
        parent, ids = level["parent"], level["input_ids"]
        for cache in known.values():
            cache.batch_select_indices(parent)
        # Where the beginning is padded, the columns of the cache are not the positions of its tokens.
        first = mask.sum(dim=1)[parent]
        mask = torch.cat([mask[parent], level["attention_mask"]], dim=1)
        out = backbone(
            input_ids=ids,
            attention_mask=mask,
            position_ids=first[:, None] + torch.arange(ids.shape[1], device=ids.device),
            use_cache=True,
            **known,
        )
        known = plain_cache(out)
    return _states(out)


def _states(out: Any) -> torch.Tensor:
    states: torch.Tensor = out.last_hidden_state
    return states


def _backbone(model: PreTrainedModel) -> torch.nn.Module:
    unwrap = getattr(model, "get_base_model", None)  # adapters have it
    inner: PreTrainedModel = model if unwrap is None else unwrap()
    return inner.base_model


@torch.no_grad()
def shares(model: PreTrainedModel) -> bool:
    """Whether this model can go on from shared beginnings, tried on a few tokens against whole rows.

    No is the answer for recurrent states and sliding windows, for models that do not take positions, and wherever the
    two readings differ.
    """
    backbone = _backbone(model)
    takes = inspect.signature(backbone.forward).parameters
    if "position_ids" not in takes:
        return False
    device = next(backbone.parameters()).device
    one = torch.zeros((1, 1), dtype=torch.long, device=device)
    caches = plain_cache(backbone(input_ids=one, use_cache=True)).values()
    if not caches or not all(map(holds_all, caches)):
        return False
    most = int(model.config.get_text_config().vocab_size)
    sides = [(tuple(t % most for t in prompt), tuple(t % most for t in answer)) for prompt, answer in _TRIED]
    whole, shared = (on_device(batch_of(sides, 0, share=share), device) for share in (False, True))
    expected, found = hidden_states(model, whole), hidden_states(model, shared)
    narrowed = torch.is_autocast_enabled(device.type) and expected.dtype == torch.float32
    close = CLOSE.get(torch.get_autocast_dtype(device.type) if narrowed else expected.dtype, 0.0)
    expected, found = expected[whole["labels"] >= 0].double(), found[shared["labels"] >= 0].double()
    return bool((found - expected).norm() <= close * expected.norm())


_TRUNK = tuple(range(3, 15))
_TRIED = [
    ((*_TRUNK, 21, 22, 23, 24), (31, 32, 33)),
    ((*_TRUNK, 21, 22, 23, 24), (35, 36)),
    ((*_TRUNK, 27, 28), (31, 38, 39, 40)),
]


def on_device(value: Any, device: torch.device) -> Any:
    """Tensors inside lists and dicts moved to a device."""
    if isinstance(value, dict):
        return {k: on_device(v, device) for k, v in value.items()}
    if isinstance(value, list):
        return [on_device(v, device) for v in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value
