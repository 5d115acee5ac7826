"""Every Triton kernel compiles to machine code for the supported GPUs, without one being there."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tso_kernels import row_logprob as r, pair_loss as p
target = GPUTarget(*eval(sys.argv[1]))
rows = {"stride": "i64", "V": "i32", "softcap": "fp32", "logit_scale": "fp32"}
def build(kernel, types, fixed):
    made = triton.compile(ASTSource(kernel, {**types, **{k: "constexpr" for k in fixed}}, fixed), target=target)
    assert len(made.asm[{"cuda": "cubin", "hip": "hsaco"}[target.backend]]) > 0
for dtype in ("fp32", "bf16", "fp16"):
    for cap in (False, True):
        fixed = {"HAS_SOFTCAP": cap, "BLOCK_V": 4096}
        base = {"logits": "*" + dtype, "labels": "*i64"}
        build(r.row_logprob_kernel, {**base, "logp": "*fp32", "lse": "*fp32", **rows}, fixed)
        build(r.row_grad_kernel, {**base, "lse": "*fp32", "coef": "*fp32", **rows}, fixed)
names = "policy_w policy_l ref_w ref_l smoothing weight out".split()
types = {**{n: "*fp32" for n in names}, "B": "i32", "beta": "fp32", "chosen_clip": "fp32", "rejected_clip": "fp32"}
build(p.pair_loss_kernel, types, {"BLOCK_B": 128})
"""


@pytest.mark.parametrize("target", [("cuda", 80, 32), ("cuda", 90, 32), ("cuda", 100, 32), ("hip", "gfx942", 64)])
def test_kernels_compile_for(target):
    pytest.importorskip("triton", reason="triton is not installed on this platform")
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, repr(target)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
