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
from tso_kernels.triton_ops import grad_logits, pair_terms, row_logps, score_head, segment_sum  # noqa: F401 (loads the modules)
from tso_kernels.triton_ops.shaping import LARGE_BLOCK, SMALL_BLOCK

HALF_AND_FULL = ("fp32", "bf16", "fp16")
BLOCKS = (SMALL_BLOCK, LARGE_BLOCK)  # what `vocabulary_block` chooses from


def kernel_file(name):
    return sys.modules[f"tso_kernels.triton_ops.{name}"]


def kernel(file, name=None):
    return getattr(kernel_file(file), f"{name or file}_kernel")


def variants(backend, arch):
    """(kernel, types of its arguments in order, constants, options) of everything that a launcher can choose."""
    scalars = {"softcap": "fp32", "scale": "fp32"} | dict.fromkeys(("V", "H", "R", "columns", "first", "spans"), "i32")
    strides = {"row_stride": "i32", "out_stride": "i32"}  # what a launcher passes: only the row index is 64-bit
    strides |= {"x_stride": "i32", "weight_stride": "i32", "logits_stride": "i32"}
    sums = dict.fromkeys(("lse", "coef", "logps", "largest", "total", "picked"), "*fp32")
    flags = [dict(zip(("HAS_SOFTCAP", "HAS_SCALE"), on, strict=True)) for on in product((False, True), repeat=2)]
    for dtype, shape, more in product(HALF_AND_FULL, flags, (False, True)):
        types = dict.fromkeys(("logits", "out", "x", "weight"), f"*{dtype}") | {"targets": "*i64"}
        types |= sums | strides | scalars
        for config in kernel("grad_logits").configs:
            yield kernel("grad_logits").fn, types, shape | {"HAS_COEF": more}, config
        for config, block in product(kernel("row_logps").configs, BLOCKS):
            yield kernel("row_logps").fn, types, shape | {"TURN": more, "BLOCK_V": block}, config
        if dtype == "fp32" or (backend, arch) != ("cuda", "80"):  # elsewhere `fuses` says no
            continue
        blocks = {name: getattr(kernel_file("score_head"), name) for name in ("BLOCK_R", "BLOCK_V", "BLOCK_H", "SPAN")}
        for config in kernel("score_head").configs:
            yield kernel("score_head").fn, types, shape | {"KEEP": more, "WIDEN": False} | blocks, config
        yield kernel("score_head").fn, types, shape | {"KEEP": more, "WIDEN": False, "R": 1} | blocks, config
    joined = sums | scalars
    for ones in ({}, {"R": 1}, {"R": 1, "spans": 1}):  # a launcher makes a constant of an argument that is 1
        yield kernel("score_head", "join_spans"), joined, {"BLOCK_R": 128} | ones, triton.Config({}, num_warps=4)
    pairs = dict.fromkeys(kernel("pair_terms").arg_names, "*fp32") | {"B": "i32", "beta": "fp32"}
    bounds = {f"{side}_{end}": "fp32" for side in ("chosen", "rejected") for end in ("lower", "upper")}
    yield kernel("pair_terms"), pairs | bounds, {"BLOCK": 128}, triton.Config({}, num_warps=4)
    segments = {"values": "*fp32", "starts": "*i64", "sums": "*fp32"}
    yield kernel("segment_sum"), segments, {"BLOCK": 1024}, triton.Config({}, num_warps=4)


def build(function, types, constants, config, target):
    signature = {name: "constexpr" if name in constants else types[name] for name in function.arg_names}
    # A launcher tells the compiler which arguments are multiples of 16: pointers, and whatever a hidden size leads to.
    even = [
        name
        for name, kind in signature.items()
        if kind.startswith("*") or name in ("H", "V", "x_stride", "weight_stride", "logits_stride")
    ]
    places = {(function.arg_names.index(name),): [["tt.divisibility", 16]] for name in even}
    source = ASTSource(function, signature, constexprs=constants, attrs=places)
    return triton.compile(
        source, target=target, options={"num_warps": config.num_warps, "num_stages": config.num_stages}
    )


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
    for function, types, constants, config in variants(backend, arch):
        constants = constants | config.kwargs
        compiled = build(function, types, constants, config, target)
        if "logits" in function.arg_names:
            offsets = re.findall(r"tt\.addptr %(?:logits|out)\w*, .*?: !tt\.ptr<\w+>, (i\d+)", compiled.asm["ttir"])
            assert set(offsets) <= {"i64"}, f"{function.__name__}: row offsets are {offsets}"
        registers, spilled = resources(compiled, backend)
        used = f"{registers} registers, {compiled.metadata.shared} B shared, {spilled} spilled"
        settings = f"{config.num_warps} warps, {config.num_stages} stages"
        print(function.__name__, types.get("logits", ""), constants, settings, used)
        assert spilled == 0, f"{function.__name__} {constants}: {spilled} spilled"


if __name__ == "__main__":
    main(*sys.argv[1:])
