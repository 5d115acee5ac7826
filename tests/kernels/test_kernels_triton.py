"""The Triton kernels, without a GPU: run by the interpreter, and compiled for every architecture they are meant for."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import tso_kernels

pytest.importorskip("triton")
HERE = Path(__file__).parent
TARGETS = [("cuda", "80", "32"), ("cuda", "90", "32"), ("cuda", "100", "32"), ("hip", "gfx942", "64")]


def run(tmp_path, *command, **variables):
    """Output of python with the package importable, `variables` set, and a compilation cache of its own."""
    paths = os.pathsep.join(p for p in (str(Path(tso_kernels.__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(tmp_path)} | variables
    options = {"env": environment, "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run([sys.executable, *command], check=False, **options)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


CASES = ("-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "triton_interpreted.py"))


def test_interpreted(tmp_path):
    hidden = {} if not torch.cuda.is_available() else {"CUDA_VISIBLE_DEVICES": ""}
    assert "passed" in run(tmp_path, *CASES, TRITON_INTERPRET="1", **hidden)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_native(tmp_path):
    assert "passed" in run(tmp_path, *CASES)


@pytest.fixture(scope="module")
def compilations(tmp_path_factory):
    """What the compiler says for every target, asked for two at a time."""
    with ThreadPoolExecutor(2) as pool:
        script = str(HERE / "triton_compile.py")
        yield {t: pool.submit(run, tmp_path_factory.mktemp(t[1]), script, *t) for t in TARGETS}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[1])
def test_compiles(compilations, target):
    said = compilations[target].result()
    print(said)
    assert "segment_sum_kernel" in said
    assert ("score_head_kernel" in said) == (target[1] == "80")
