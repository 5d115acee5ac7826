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
    """The module of row operations for tensors of this device and dtype; raises as `check_backend`.

    "auto" is Triton on CUDA (and ROCm) devices where it is installed, and torch elsewhere and for float64.
    """
    check_backend(backend, device, dtype)
    if backend == "auto":
        backend = "triton" if device.type == "cuda" and dtype in _TRITON_DTYPES and _triton_installed() else "torch"
    return torch_ops if backend == "torch" else importlib.import_module("tso_kernels.triton_ops")


def check_backend(backend: str, device: torch.device, dtype: torch.dtype) -> None:
    """ValueError for a backend that there is not. For "triton" where it cannot run: TypeError for the dtype, RuntimeError
    for the device or a missing package. Compiled code asks too.
    """
    check_backend_name(backend)
    if backend != "triton":
        return
    if dtype not in _TRITON_DTYPES:
        raise TypeError(f"backend='triton' computes fp32, fp16 and bf16, not {dtype}; use backend='torch'")
    if not torch.compiler.is_compiling() and not _triton_installed():
        raise RuntimeError("backend='triton' needs the triton package: pip install triton, or use backend='torch'")
    if device.type != "cuda" and not _interpreting():
        raise RuntimeError(
            f"backend='triton' needs a CUDA or ROCm device, and the tensors are on {device}; move them, use "
            "backend='auto', or set TRITON_INTERPRET=1 before the first import of triton to interpret the kernels"
        )


def check_backend_name(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")


@cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreting() -> bool:
    if torch.compiler.is_compiling():
        return False  # compiled code runs no interpreter
    import triton

    return bool(triton.knobs.runtime.interpret)
