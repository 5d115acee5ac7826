"""DDP and FSDP2 on two processes: the gradients of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tso_kernels

SCRIPT = Path(__file__).parent / "two_ranks.py"


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed")
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fsdp-tied"])
def test_two_ranks_have_the_gradient_of_the_whole_batch(tmp_path, kind):
    paths = os.pathsep.join(p for p in (str(Path(tso_kernels.__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
    environment = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), str(tmp_path), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert [(tmp_path / f"rank-{rank}.txt").read_text() for rank in (0, 1)] == ["equal", "equal"]
