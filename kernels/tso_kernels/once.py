"""Backward passes that cannot be differentiated themselves, and say so."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """As torch's `once_differentiable`, but raises where a graph of the gradients is asked for.

    torch would hand out gradients without one, and a penalty on them would be without effect and without a word.
    """
    plain = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():  # inside a backward only with create_graph=True
            raise RuntimeError(
                "this loss has no gradients of gradients: do without create_graph=True, or compute it with the "
                "functions of tso_kernels.reference, which are plain torch"
            )
        return plain(ctx, *grads)

    return checked
