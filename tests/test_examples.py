"""The examples and the snippet of kernels/README.md run as they are written, and do what they say."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_plain_loop_learns_the_preference():
    pytest.importorskip("tso_kernels", reason="needs torch and tso-kernels")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "plain_loop.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, *_, last = re.findall(r"loss ([\d.]+)   margin +(-?[\d.]+) .* bound (\d+)%", done.stdout)
    assert float(first[0]) == pytest.approx(0.6931, abs=1e-3)  # policy = reference: -log sigmoid(0)
    assert float(first[1]) == 0.0
    assert float(last[0]) < float(first[0])
    assert int(last[2]) > 50  # rejected sides reach their bound and are left alone
    before, after = map(int, re.search(r"(\d+)% before, (\d+)% after", done.stdout).groups())
    assert after >= 95 > before


def test_the_snippet_of_the_kernels_readme_is_the_loss():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kernels = pytest.importorskip("tso_kernels")
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "kernels" / "README.md").read_text("utf-8"), re.DOTALL)[1]
    names: dict = {}
    exec(compile(snippet, "kernels/README.md", "exec"), names)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model, reference = (transformers.LlamaForCausalLM(config).eval() for _ in range(2))
    ids = torch.randint(40, (4, 7))
    mask = torch.ones_like(ids)
    labels = ids.roll(-1, dims=1)
    labels[:, :2] = labels[:, -1] = -100

    loss = names["pair_loss"](model, reference, ids, mask, labels)
    loss.backward()
    found = model.model.embed_tokens.weight.grad.clone()

    model.zero_grad()
    sides = [*kernels.sequence_logps(model(ids).logits, labels).chunk(2)]
    sides += kernels.sequence_logps(reference(ids).logits, labels).detach().chunk(2)
    expected = kernels.dual_clip_loss(*sides, beta=0.1, chosen_clip=5.0, rejected_clip=5.0).loss
    expected.backward()
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-5)
    torch.testing.assert_close(found, model.model.embed_tokens.weight.grad, rtol=1e-4, atol=1e-6)
