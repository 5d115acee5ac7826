"""Compile every kernel for one GPU architecture, without the GPU: python triton_compile.py cuda 90 32.

Prints one line a variant: kernel, dtype, flags, registers, bytes of shared memory, spills. Raises where a kernel does
not compile, spills registers to memory, or where a row's offset is not 64-bit.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tso_kernels.triton_ops import grad_logits, pair_terms, row_logps, segment_sum  # noqa: F401 (loads the modules)

HALF_AND_FULL = ("fp32", "bf16", "fp16")
BLOCKS = (128, 4096)  # the ends of what `vocabulary_block` chooses


def kernel(name):
    return getattr(sys.modules[f"tso_kernels.triton_ops.{name}"], f"{name}_kernel")


def variants():
    """(kernel, types of its arguments in order, constants, warps) of everything that a launcher can choose."""
    scalars = {"V": "i32", "columns": "i32", "first": "i32", "softcap": "fp32", "scale": "fp32"}
    strides = {"row_stride": "i32", "out_stride": "i32"}  # what a launcher passes: only the row index is 64-bit
    for dtype, block, *flags in product(HALF_AND_FULL, BLOCKS, *[(False, True)] * 3):
        constants = dict(zip(("HAS_SOFTCAP", "HAS_SCALE", "HAS_COEF"), flags, strict=True)) | {"BLOCK_V": block}
        rows = {"logits": f"*{dtype}", "targets": "*i64", "lse": "*fp32", "coef": "*fp32", "out": f"*{dtype}"}
        yield kernel("grad_logits"), rows | strides | scalars, constants, 8
        others = {"TURN" if name == "HAS_COEF" else name: value for name, value in constants.items()}
        yield kernel("row_logps"), rows | {"logps": "*fp32"} | strides | scalars, others, 8
    pairs = dict.fromkeys(kernel("pair_terms").arg_names, "*fp32") | {"B": "i32", "beta": "fp32"}
    bounds = {f"{side}_{end}": "fp32" for side in ("chosen", "rejected") for end in ("lower", "upper")}
    yield kernel("pair_terms"), pairs | bounds, {"BLOCK": 128}, 4
    yield kernel("segment_sum"), {"values": "*fp32", "starts": "*i64", "sums": "*fp32"}, {"BLOCK": 1024}, 4


def build(function, types, constants, warps, target):
    signature = {name: "constexpr" if name in constants else types[name] for name in function.arg_names}
    source = ASTSource(function, signature, constexprs=constants)
    return triton.compile(source, target=target, options={"num_warps": warps})


def resources(compiled, backend):
    """(registers a thread, bytes or registers that were spilled)."""
    if backend == "hip":
        counts = {k: int(v) for k, v in re.findall(r"\.(\w+_count):\s+(\d+)", compiled.asm["amdgcn"])}
        return counts["vgpr_count"], counts["vgpr_spill_count"] + counts["sgpr_spill_count"]
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    used = {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}
    return used["REG"], used["STACK"] + used["LOCAL"]


def main(backend, arch, warp_size):
    target = GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp_size))
    for function, types, constants, warps in variants():
        compiled = build(function, types, constants, warps, target)
        if "logits" in types:
            offsets = re.findall(r"tt\.addptr %(?:logits|out)\w*, .*?: !tt\.ptr<\w+>, (i\d+)", compiled.asm["ttir"])
            assert set(offsets) == {"i64"}, f"{function.__name__}: row offsets are {offsets}"
        registers, spilled = resources(compiled, backend)
        used = f"{registers} registers, {compiled.metadata.shared} B shared, {spilled} spilled"
        print(function.__name__, types.get("logits", ""), constants, used)
        assert spilled == 0, f"{function.__name__} {constants}: {spilled} spilled"


if __name__ == "__main__":
    main(*sys.argv[1:])
