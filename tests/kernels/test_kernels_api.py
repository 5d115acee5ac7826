"""The public surface: names and signatures, what importing costs, and errors that say what to do."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import tso_kernels

HEAD = ["bias", "softcap", "logit_scale", "average"]
PAIR = ["beta", "chosen_clip", "rejected_clip", "label_smoothing", "weight", "reduction", "normalizer"]
SIGNATURES = {
    "sequence_logps": (["logits", "labels"], ["average", "backend"]),
    "linear_sequence_logps": (
        ["hidden", "weight", "labels"],
        [*HEAD, "sequence_ids", "num_sequences", "memory_budget", "backend"],
    ),
    "dual_clip_loss": (
        ["policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps"],
        [*PAIR, "backend"],
    ),
    "linear_dual_clip_loss": (
        ["hidden", "head_weight", "labels", "ref_chosen_logps", "ref_rejected_logps"],
        [*HEAD, *PAIR, "sft_weight", "sequence_ids", "memory_budget", "backend"],
    ),
}
DEFAULTS = {
    "beta": 0.1,
    "chosen_clip": math.inf,
    "rejected_clip": math.inf,
    "label_smoothing": 0.0,
    "reduction": "mean",
    "logit_scale": 1.0,
    "average": False,
    "sft_weight": 0.0,
    "backend": "auto",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    parameters = inspect.signature(getattr(tso_kernels, name)).parameters.values()
    positional, keywords = SIGNATURES[name]
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == keywords
    assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} == {
        key: DEFAULTS.get(key) for key in keywords
    }


def test_public_names_and_version():
    assert {*tso_kernels.__all__} == {*SIGNATURES, "DualClipLoss", "DualClipOutput", "LinearDualClipOutput"}
    project = Path(tso_kernels.__file__).parents[1] / "pyproject.toml"
    if project.exists():  # absent where the package is installed
        assert tomllib.loads(project.read_text())["project"]["version"] == tso_kernels.__version__


def test_importing_brings_nothing_but_the_package():
    code = (
        "import sys, torch\nbefore = set(sys.modules)\nimport tso_kernels\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "assert new == {'tso_kernels'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(tso_kernels.__file__).parents[1])


def test_the_module_is_the_function(problems):
    p = problems()
    criterion = tso_kernels.DualClipLoss(beta=0.3, chosen_clip=0.5, rejected_clip=0.4, label_smoothing=0.1)
    options = {"beta": 0.3, "chosen_clip": 0.5, "rejected_clip": 0.4, "label_smoothing": 0.1}
    tensors = p.hidden, p.weight, p.labels, p.ref_chosen, p.ref_rejected
    got, want = (
        criterion.linear(*tensors, normalizer=5),
        tso_kernels.linear_dual_clip_loss(*tensors, normalizer=5, **options),
    )
    assert torch.equal(got.loss, want.loss)
    logps = got.chosen_logps, got.rejected_logps, p.ref_chosen, p.ref_rejected
    assert torch.equal(criterion(*logps, weight=2.0).loss, 2 * tso_kernels.dual_clip_loss(*logps, **options).loss)
    assert "chosen_clip=0.5" in repr(criterion)


BAD_OPTIONS = [
    ({"beta": 0.0}, ValueError, "beta must be positive"),
    ({"beta": math.nan}, ValueError, "beta must be positive"),
    ({"chosen_clip": -1.0}, ValueError, "chosen_clip must be 0 or more"),
    ({"rejected_clip": math.nan}, ValueError, "rejected_clip must be 0 or more"),
    ({"rejected_clip": (1.0, -1.0)}, ValueError, "lower <= upper"),
    ({"label_smoothing": 0.5}, ValueError, r"label_smoothing must be in \[0, 0.5\)"),
    ({"label_smoothing": torch.full((3,), 0.7)}, ValueError, "label_smoothing must be in"),
    ({"weight": torch.ones(4)}, ValueError, r"weight must be a number or have shape \[3\]"),
    ({"weight": -1.0}, ValueError, "weight must be finite and 0 or more"),
    ({"weight": math.inf}, ValueError, "weight must be finite and 0 or more"),
    ({"weight": torch.ones(3, dtype=torch.int64)}, TypeError, "weight must be float64"),
    ({"beta": None}, TypeError, "beta must be a number, not None"),
    ({"beta": "0.1"}, TypeError, "beta must be a number, not '0.1'"),
    ({"beta": torch.tensor(0.1)}, TypeError, "beta must be a number, not a Tensor"),
    ({"beta": True}, TypeError, "beta must be a number, not True"),
    ({"chosen_clip": (0.1, None)}, TypeError, "a bound of chosen_clip must be a number"),
    ({"chosen_clip": torch.ones(3)}, TypeError, "chosen_clip must be a number, not a Tensor"),
    ({"normalizer": torch.tensor(-3.0)}, ValueError, "normalizer must be positive"),
    ({"normalizer": torch.tensor(0)}, ValueError, "normalizer must be positive"),
    ({"normalizer": "8"}, TypeError, "normalizer must be a number"),
    ({"label_smoothing": torch.tensor(0.7)}, ValueError, "label_smoothing must be in"),
    ({"reduction": "batchmean"}, ValueError, "reduction must be"),
    ({"reduction": "sum", "normalizer": 3}, ValueError, "normalizer is what"),
    ({"normalizer": 0}, ValueError, "normalizer must be positive"),
    ({"normalizer": torch.ones(3)}, ValueError, "one number"),
    ({"backend": "cuda"}, ValueError, "backend must be one of"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_bad_pair_options(problems, options, error, message):
    p = problems().to(torch.float32)
    with pytest.raises(error, match=message):
        tso_kernels.dual_clip_loss(p.ref_chosen, p.ref_rejected, p.ref_chosen, p.ref_rejected, **options)
    with pytest.raises(error, match=message):
        tso_kernels.linear_dual_clip_loss(p.hidden, p.weight, p.labels, p.ref_chosen, p.ref_rejected, **options)


class LoraHead(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 37)
        self.lora_A = torch.nn.Linear(8, 2)


BAD_TENSORS = [
    ({"hidden": [1.0]}, TypeError, "hidden"),
    ({"hidden": torch.ones(6, 12, 8, dtype=torch.int64)}, TypeError, "hidden must be float64, float32"),
    ({"hidden": torch.ones(6, 12, 8).to(torch.float8_e5m2)}, TypeError, "hidden must be float64, float32"),
    ({"hidden": torch.ones(6, 12, 8, device="meta")}, ValueError, "meta"),
    ({"hidden": torch.ones(72, 8)}, ValueError, r"hidden must be \[N, T, H\]"),
    ({"hidden": torch.ones(5, 12, 8)}, ValueError, r"hidden must be \[2B, T, H\]"),
    ({"weight": torch.ones(37, 9)}, ValueError, "hidden states have size 8"),
    ({"weight": torch.ones(37, 8, dtype=torch.float64)}, TypeError, "torch.float64; cast one"),
    ({"weight": torch.ones(37, 8, dtype=torch.float16)}, TypeError, "cast one, or use autocast"),
    ({"weight": torch.ones(0, 8)}, ValueError, "at least one token"),
    ({"weight": torch.nn.Linear(8, 37)}, TypeError, "pass lm_head.weight"),
    ({"weight": LoraHead()}, TypeError, "LoRA on lm_head is not supported"),
    ({"bias": torch.ones(36)}, ValueError, r"bias must have shape \[37\]"),
    ({"labels": torch.zeros(6, 11, dtype=torch.int64)}, ValueError, "shift them first"),
    ({"labels": torch.zeros(6, 12)}, TypeError, "int64 or int32"),
    ({"labels": torch.full((6, 12), 37)}, ValueError, r"outside 0..V-1"),
    ({"labels": torch.full((6, 12), -1)}, ValueError, "mark positions that do not count with -100"),
    ({"ref_rejected": torch.ones(2)}, ValueError, r"ref_rejected_logps must have shape \[3\]"),
    ({"softcap": 0.0}, ValueError, "softcap must be positive"),
    ({"logit_scale": 0.0}, ValueError, "logit_scale must be finite"),
    ({"memory_budget": 0}, ValueError, "memory_budget"),
    ({"memory_budget": math.inf}, ValueError, "memory_budget .* must be a whole number, not inf"),
    ({"memory_budget": 1.5}, ValueError, "memory_budget .* must be a whole number"),
    ({"memory_budget": "1GB"}, TypeError, "memory_budget .* must be a number, not '1GB'"),
    ({"sft_weight": None}, TypeError, "sft_weight must be a number"),
    ({"softcap": "30"}, TypeError, "softcap must be a number"),
    ({"logit_scale": torch.ones((), requires_grad=True)}, TypeError, "logit_scale must be a number"),
    ({"sft_weight": -1.0}, ValueError, "sft_weight"),
    ({"sequence_ids": torch.zeros(6, dtype=torch.int64)}, ValueError, "packed hidden states"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_TENSORS)
def test_bad_tensors_and_head_options(problems, change, error, message):
    p = problems().to(torch.float32)
    arguments = {name: getattr(p, name) for name in ("hidden", "weight", "labels", "ref_chosen", "ref_rejected")}
    tensors = [change.get(name, value) for name, value in arguments.items()]
    options = {name: value for name, value in change.items() if name not in arguments}
    with pytest.raises(error, match=message):
        tso_kernels.linear_dual_clip_loss(*tensors, **options)


def test_bad_packing(problems):
    p = problems()
    hidden, labels, ids = p.hidden.flatten(0, 1), p.labels.flatten(), torch.arange(6).repeat_interleave(12)
    with pytest.raises(ValueError, match="need num_sequences"):
        tso_kernels.linear_sequence_logps(hidden, p.weight, labels, sequence_ids=ids)
    with pytest.raises(ValueError, match=r"sequence id outside 0..5"):
        tso_kernels.linear_sequence_logps(hidden, p.weight, labels, sequence_ids=ids + 1, num_sequences=6)
    with pytest.raises(ValueError, match=r"sequence_ids must have shape"):
        tso_kernels.linear_sequence_logps(hidden, p.weight, labels, sequence_ids=ids[1:], num_sequences=6)


def test_bad_logits_and_logps(problems):
    logits, labels = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"labels must be in 0..4"):
        tso_kernels.sequence_logps(logits, labels + 5)
    with pytest.raises(ValueError, match=r"logits must have shape \[N, T, V\]"):
        tso_kernels.sequence_logps(logits[0], labels)
    with pytest.raises(ValueError, match=r"ref_chosen_logps must have shape \[2\]"):
        tso_kernels.dual_clip_loss(*torch.zeros(2, 2), *torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"policy_chosen_logps must have shape \[B\]"):
        tso_kernels.dual_clip_loss(*torch.zeros(4, 2, 2))


def test_triton_where_it_cannot_run_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    logps = torch.zeros(4, 3)
    with pytest.raises(RuntimeError, match="backend='triton' needs"):
        tso_kernels.dual_clip_loss(*logps, backend="triton")
    with pytest.raises(TypeError, match="fp32, fp16 and bf16"):
        tso_kernels.dual_clip_loss(*logps.double(), backend="triton")
    monkeypatch.setattr("tso_kernels.backend._triton_installed", lambda: False)
    with pytest.raises(RuntimeError, match="pip install triton"):
        tso_kernels.dual_clip_loss(*logps, backend="triton")
    assert tso_kernels.dual_clip_loss(*logps).loss.item() == pytest.approx(math.log(2))


def test_numbers_come_in_every_form(problems):
    p = problems().to(torch.float32)
    rest = p.hidden, p.weight, p.labels, p.ref_chosen, p.ref_rejected
    want = tso_kernels.linear_dual_clip_loss(*rest, beta=0.25, label_smoothing=0.25, weight=2.0, chosen_clip=(0, 1))
    got = tso_kernels.linear_dual_clip_loss(
        *rest, beta=np.float32(0.25), label_smoothing=np.float64(0.25), weight=torch.tensor(2.0), chosen_clip=[0, 1],
        memory_budget=1e9,
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (-1, ValueError, "0 or more"),
        (6.5, ValueError, "whole"),
        ("6", TypeError, "number"),
        (True, TypeError, "number"),
    ],
)
def test_bad_counts_of_sequences(count, error, message):
    packed = torch.ones(4, 8), torch.ones(5, 8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(error, match=f"num_sequences must be .*{message}"):
        tso_kernels.linear_sequence_logps(*packed, sequence_ids=packed[2], num_sequences=count)
    with pytest.raises(ValueError, match="num_sequences goes with sequence_ids"):
        tso_kernels.linear_sequence_logps(torch.ones(1, 4, 8), packed[1], packed[2][None], num_sequences=1)


def test_the_module_refuses_wrong_options_when_it_is_built():
    for options in ({"reduction": "bogus"}, {"backend": "bogus"}, {"label_smoothing": 0.9}, {"beta": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            tso_kernels.DualClipLoss(**options)


def test_a_side_that_is_impossible_or_a_pair_without_weight_makes_no_nan():
    lost = torch.tensor([-math.inf, -6.0]), torch.tensor([-5.0, math.nan])
    for backend in ("auto", "torch"):
        out = tso_kernels.dual_clip_loss(
            torch.tensor([-5.0, -5.0]), lost[0], torch.tensor([-5.0, -6.0]), lost[1], beta=1.0, backend=backend,
            weight=torch.tensor([1.0, 0.0]), reduction="none",
        )  # fmt: skip
        assert out.loss.tolist() == [0.0, 0.0]


def test_gradients_of_gradients_are_refused_not_dropped(problems):
    logps = [torch.zeros(3, requires_grad=True) for _ in range(4)]
    p = problems()
    losses = [tso_kernels.dual_clip_loss(*logps).loss]
    leaves = [[logps[0]]]
    for reduction in ("mean", "none"):
        leaves.append(p.leaves()[:1])
        rest = p.weight, p.labels, p.ref_chosen, p.ref_rejected
        losses.append(tso_kernels.linear_dual_clip_loss(*leaves[-1], *rest, reduction=reduction).loss.sum())
    for loss, wanted in zip(losses, leaves, strict=True):
        with pytest.raises(RuntimeError, match="no gradients of gradients"):
            torch.autograd.grad(loss, wanted, create_graph=True)
