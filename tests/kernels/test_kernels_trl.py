"""The drop-in for TRL's DPOTrainer: its own losses, metrics and weights when the bounds are infinite."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

pytest.importorskip("trl", reason="needs trl")
pytest.importorskip("datasets", reason="needs datasets")
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
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


def make(tiny, folder, trainer_class, config_class, *, adapter=None, arguments=None, **options):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model", dtype=torch.float32)
    more = (arguments or {}) | ({} if adapter is None else {"peft_config": adapter})
    data = Dataset.from_list(copy.deepcopy(ROWS))
    settings = {
        "output_dir": str(folder), "per_device_train_batch_size": 3, "learning_rate": 1e-2, "logging_steps": 1,
        "num_train_epochs": 1, "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "beta": 0.5,
        "save_strategy": "no", "seed": 1, "gradient_checkpointing": False,
    }  # fmt: skip
    return trainer_class(
        model, args=config_class(**(settings | options)), train_dataset=data, eval_dataset=data.select(range(3)),
        processing_class=tokenizer, **more,
    )  # fmt: skip


def train(tiny, folder, trainer_class, config_class, *, peft=False, evaluate=True, **options):
    adapter = None
    if peft:
        adapter = pytest.importorskip("peft", reason="adapters need peft").LoraConfig(
            r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    trainer = make(tiny, folder, trainer_class, config_class, adapter=adapter, **options)
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
    ],
)
def test_what_this_loss_has_not_is_refused_by_name(tiny, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        make(tiny, tmp_path, DualClipTrainer, DualClipConfig, **options)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"chosen_clip": -1.0}, ValueError, "chosen_clip must be 0 or more"),
        ({"rejected_clip": math.nan}, ValueError, "rejected_clip must be 0 or more"),
        ({"chosen_clip": None}, TypeError, "chosen_clip must be a number"),
        ({"chosen_clip": (0.3, 0.1)}, ValueError, "lower <= upper"),
        ({"beta": 0.0}, ValueError, "beta must be positive"),
        ({"label_smoothing": 0.7}, ValueError, "label_smoothing must be in"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be in"),
        ({"memory_budget": -1}, ValueError, "memory_budget must be 1 or more"),
        ({"memory_budget": math.inf}, ValueError, "memory_budget must be a whole number"),
        ({"memory_budget": 0.5}, ValueError, "memory_budget must be a whole number"),
    ],
)
def test_values_the_loss_would_refuse_are_refused_by_the_config(tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        DualClipConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


def test_a_config_of_trl_is_checked_by_the_trainer(tiny, tmp_path):
    with pytest.raises(ValueError, match="label_smoothing must be in"):
        make(tiny, tmp_path, DualClipTrainer, DPOConfig, label_smoothing=0.7)


def test_a_budget_may_be_a_whole_float_and_bounds_a_pair(tiny, tmp_path):
    trainer = make(
        tiny, tmp_path, DualClipTrainer, DualClipConfig, memory_budget=1e9, chosen_clip=[-0.1, 0.3], max_steps=2
    )
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "aLoRA"])
def test_adapters_that_act_around_the_model_are_refused(tiny, tmp_path, kind):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    adapter = {
        "PROMPT_TUNING": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "aLoRA": lambda: peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=[5]),
    }[kind]()
    with pytest.raises(ValueError, match=f"PEFT type {kind}"):
        make(tiny, tmp_path, DualClipTrainer, DualClipConfig, adapter=adapter)


class SpacedPositions(DataCollatorForPreference):
    """A collator that gives the model an input of its own."""

    def torch_call(self, examples):
        batch = super().torch_call(examples)
        places = torch.arange(batch["input_ids"].shape[1]) * 3
        return batch | {"position_ids": places.expand_as(batch["input_ids"])}


@pytest.mark.parametrize("precompute", [False, True])
def test_the_model_gets_all_that_a_batch_has_for_it(tiny, tmp_path, precompute):
    losses = {}
    for trainer_class, config_class in ((DualClipTrainer, DualClipConfig), (DPOTrainer, DPOConfig)):
        trainer = make(
            tiny, tmp_path / trainer_class.__name__, trainer_class, config_class, precompute_ref_log_probs=precompute,
            arguments={"data_collator": SpacedPositions(pad_token_id=0)},
        )  # fmt: skip
        trainer.train()
        losses[trainer_class] = [h["loss"] for h in trainer.state.log_history if "loss" in h]
    assert losses[DualClipTrainer] == pytest.approx(losses[DPOTrainer], rel=1e-3, abs=1e-4)
    _, plain, _ = train(tiny, tmp_path, DualClipTrainer, DualClipConfig, evaluate=False)
    assert losses[DualClipTrainer] != pytest.approx([h["loss"] for h in plain], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", ["reference model", "adapter"])
def test_torch_compile_compiles_the_backbone(tiny, tmp_path, kind):
    _, wanted, metrics = train(tiny, tmp_path, DualClipTrainer, DualClipConfig, max_steps=2, **KINDS[kind])
    torch.compiler.reset()
    counters.clear()
    _, found, compiled = train(
        tiny, tmp_path, DualClipTrainer, DualClipConfig, max_steps=2, torch_compile=True,
        torch_compile_backend="eager", **KINDS[kind],
    )  # fmt: skip
    assert counters["stats"]["unique_graphs"] > 0
    assert [h["loss"] for h in found] == pytest.approx([h["loss"] for h in wanted], rel=1e-4)
    assert compiled["eval_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-4)


COMPILING = SimpleNamespace(dynamo_plugin=SimpleNamespace(backend=SimpleNamespace(value="INDUCTOR")))
SEVERAL = SimpleNamespace(num_processes=2, state=COMPILING)


@pytest.mark.parametrize(
    ("attributes", "options", "says"),
    [
        ({"_is_vision_dataset": True}, {}, "vision datasets are not supported"),
        ({"accelerator": SEVERAL}, {}, "works in one process only"),
    ],
)
def test_what_shows_only_once_trl_has_looked_is_refused_too(tiny, tmp_path, monkeypatch, attributes, options, says):
    construct = DPOTrainer.__init__

    def constructed(self, *args, **kwargs):
        construct(self, *args, **kwargs)
        vars(self).update(attributes)

    monkeypatch.setattr(DPOTrainer, "__init__", constructed)
    with pytest.raises(ValueError, match=says):
        make(tiny, tmp_path, DualClipTrainer, DualClipConfig, **options)


def test_predict_gives_the_metrics_of_trl_and_no_logits(tiny, tmp_path):
    ours = make(tiny, tmp_path, DualClipTrainer, DualClipConfig)
    theirs = make(tiny, tmp_path, DPOTrainer, DPOConfig)
    found, wanted = ours.predict(ours.eval_dataset), theirs.predict(theirs.eval_dataset)
    assert found.metrics["test_loss"] == pytest.approx(wanted.metrics["test_loss"], rel=1e-4)
    assert found.predictions is None


def test_compute_metrics_is_refused(tiny, tmp_path):
    trainer, _, _ = train(tiny, tmp_path, DualClipTrainer, DualClipConfig, evaluate=False)
    trainer.compute_metrics = lambda _: {}
    with pytest.raises(ValueError, match="compute_metrics needs logits"):
        trainer.evaluate()
    with pytest.raises(ValueError, match="compute_metrics needs logits"):
        make(tiny, tmp_path, DualClipTrainer, DualClipConfig, arguments={"compute_metrics": lambda _: {}})
