"""Which code runs: Triton kernels or plain torch. Only this file and triton_ops import triton, and only on demand."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType

import torch

from tso_kernels import torch_ops

BACKENDS = ("auto", "triton", "torch")
_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def choose_ops(backend: str, device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module of row operations for tensors of this device and dtype.

    "auto" is Triton on CUDA (and ROCm) devices where it is installed, and torch elsewhere and for float64. Asking for
    "triton" where it cannot run raises: RuntimeError for the device or a missing package, TypeError for the dtype.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend == "auto":
        backend = "triton" if device.type == "cuda" and dtype in _TRITON_DTYPES and _triton_installed() else "torch"
    if backend == "torch":
        return torch_ops
    _check_triton(device, dtype)
    return importlib.import_module("tso_kernels.triton_ops")


def _check_triton(device: torch.device, dtype: torch.dtype) -> None:
    if dtype not in _TRITON_DTYPES:
        raise TypeError(f"backend='triton' computes fp32, fp16 and bf16, not {dtype}; use backend='torch'")
    if not _triton_installed():
        raise RuntimeError("backend='triton' needs the triton package: pip install triton, or use backend='torch'")
    if device.type != "cuda" and not _interpreting():
        raise RuntimeError(
            f"backend='triton' needs a CUDA or ROCm device, and the tensors are on {device.type}; move them, use "
            "backend='auto', or set TRITON_INTERPRET=1 before the first import of triton to interpret the kernels"
        )


@cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreting() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)
