"""The drop-in for TRL's DPOTrainer: its own losses, metrics and weights when the bounds are infinite."""

from __future__ import annotations

import copy
import math

import pytest
import torch

pytest.importorskip("trl", reason="needs trl")
pytest.importorskip("datasets", reason="needs datasets")
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from tso_kernels.integrations.trl import DualClipConfig, DualClipTrainer

ROWS = [
    {"prompt": f"we like {a} and", "chosen": f" the {a} is {b} and warm", "rejected": f" {b} . {a} !"}
    for a in ("tea", "bread", "sun", "rain")
    for b in ("red", "blue", "big")
]
KINDS = {
    "reference model": {},
    "precomputed": {"precompute_ref_log_probs": True},
    "adapter": {"peft": True},
    "adapter, precomputed": {"peft": True, "precompute_ref_log_probs": True},
    "checkpointed, accumulated": {"gradient_checkpointing": True, "gradient_accumulation_steps": 2},
}


def train(tiny, folder, trainer_class, config_class, *, peft=False, evaluate=True, **options):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model", dtype=torch.float32)
    adapter = None
    if peft:
        config = pytest.importorskip("peft", reason="adapters need peft").LoraConfig(
            r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        adapter = {"peft_config": config}
    data = Dataset.from_list(copy.deepcopy(ROWS))
    settings = {
        "output_dir": str(folder), "per_device_train_batch_size": 3, "learning_rate": 1e-2, "logging_steps": 1,
        "num_train_epochs": 1, "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "beta": 0.5,
        "save_strategy": "no", "seed": 1, "gradient_checkpointing": False,
    }  # fmt: skip
    trainer = trainer_class(
        model, args=config_class(**(settings | options)), train_dataset=data, eval_dataset=data.select(range(3)),
        processing_class=tokenizer, **(adapter or {}),
    )  # fmt: skip
    trainer.train()
    metrics = trainer.evaluate() if evaluate else {}
    history = [h for h in trainer.state.log_history if "loss" in h]
    return trainer, history, metrics


@pytest.mark.parametrize("kind", KINDS)
def test_losses_metrics_and_weights_are_trls_own(tiny, tmp_path, kind):
    # Ours first: TRL keeps precomputed log-probs in a cache, and would hand its own to us.
    ours, found, metrics = train(tiny, tmp_path, DualClipTrainer, DualClipConfig, **KINDS[kind])
    theirs, wanted, wanted_metrics = train(tiny, tmp_path, DPOTrainer, DPOConfig, **KINDS[kind])
    assert found[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    names = ("loss", "grad_norm", *(f"rewards/{n}" for n in ("chosen", "rejected", "margins", "accuracies")))
    assert len(found) == len(wanted) > 1
    for mine, other in zip(found, wanted, strict=True):
        for name in (*names, "logps/chosen", "logps/rejected", "num_tokens"):
            assert mine[name] == pytest.approx(other[name], rel=1e-3, abs=2e-4), name
    assert metrics["eval_loss"] == pytest.approx(wanted_metrics["eval_loss"], rel=1e-3)
    assert wanted[-1]["loss"] < wanted[0]["loss"]
    for (name, a), (_, b) in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


def test_bounds_reach_the_loss(tiny, tmp_path):
    _, history, _ = train(
        tiny, tmp_path, DualClipTrainer, DualClipConfig, chosen_clip=0.05, rejected_clip=0.05, num_train_epochs=4
    )
    assert history[0]["clip/saturated"] == 0
    assert history[-1]["clip/saturated"] > 0.5
    assert all(math.isfinite(h["loss"]) for h in history)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss_type": ["ipo"]}, "loss_type"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}, "loss_type, loss_weights"),
        ({"ld_alpha": 0.5}, "ld_alpha"),
        ({"use_weighting": True}, "use_weighting"),
        ({"f_divergence_type": "js_divergence"}, "f_divergence_type"),
        ({"chosen_clip": -1.0}, "chosen_clip must be 0 or more"),
    ],
)
def test_what_this_loss_has_not_is_refused_by_name(tiny, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        train(tiny, tmp_path, DualClipTrainer, DualClipConfig, **options)


def test_compute_metrics_is_refused(tiny, tmp_path):
    trainer, _, _ = train(tiny, tmp_path, DualClipTrainer, DualClipConfig, evaluate=False)
    trainer.compute_metrics = lambda _: {}
    with pytest.raises(ValueError, match="compute_metrics needs logits"):
        trainer.evaluate()
