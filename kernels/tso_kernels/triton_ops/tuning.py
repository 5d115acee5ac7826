"""Choosing a kernel's settings by trial on the device: a short list for each kernel, timed once, remembered on disk.

Settings may change a kernel's speed and never a bit of its result: only those are on the lists, and what would change
the order of a sum is fixed in the launcher. So ranks, machines and runs may choose differently and agree.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
import triton
from torch import Tensor

INTERPRETED = bool(triton.knobs.runtime.interpret)
_REHEARSAL_ROWS = 256  # enough to keep a GPU busy, in little memory
_REHEARSED: set[tuple[Any, torch.device, torch.dtype]] = set()
_LOCK = Lock()


def tunable(configs: list[triton.Config], *key: str) -> Any:
    """A decorator: try `configs` for every new dtype, and value of the arguments in `key`, and keep the timings on disk.

    The interpreter has no speed: there the first setting is taken.
    """
    return triton.autotune(configs[:1] if INTERPRETED else configs, key=list(key), cache_results=not INTERPRETED)


def rehearse(kernel: Any, tensor: Tensor, trial: Callable[[], object]) -> None:
    """See to it that the kernel has its settings for this dtype and device before it meets real data.

    A kernel that overwrites its input is tried on scratch tensors, by `trial`: the trial runs it many times.
    """
    if not tensor.is_cuda or len(kernel.configs) == 1:
        return
    key = (kernel, tensor.device, tensor.dtype)
    with _LOCK:
        if key not in _REHEARSED:
            trial()
            _REHEARSED.add(key)


def scratch(like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [_REHEARSAL_ROWS, V] like those given, targets, and log-sum-exps: zeros."""
    logits = like.new_zeros(_REHEARSAL_ROWS, like.shape[1])
    targets = torch.zeros(_REHEARSAL_ROWS, dtype=torch.int64, device=like.device)
    return logits, targets, torch.zeros(_REHEARSAL_ROWS, device=like.device)
