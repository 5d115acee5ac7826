"""One iteration without bounds is plain DPO, written here once more from the paper, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from tso.config import TrainingSection
from tso.models import load_model
from tso.training import trainer
from tso.training.collate import Collator, Example
from tso.training.trainer import PairTrainer, side_logps, training_arguments


def plain_logp(model, prompt, answer):
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return F.log_softmax(logits, -1)[range(len(answer)), torch.tensor(answer)].sum()


@pytest.mark.parametrize("share", [False, True])
def test_losses_equal_plain_dpo(tiny, tmp_path, share):
    gen = torch.Generator().manual_seed(3)

    def ids(n):
        return tuple(torch.randint(7, 20, (n,), generator=gen).tolist())

    model = load_model(str(tiny / "model"), dtype=torch.float64, device=torch.device("cpu"))
    reference = load_model(str(tiny / "model"), dtype=torch.float64, device=torch.device("cpu"))
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=gen, dtype=torch.float64))
    pairs = [Example(f"p{i}", ids(4 + i), ids(3 + i), ids(7 - i)) for i in range(6)]
    collator = Collator(1, share=share)
    sides = [(p.prompt, answer) for p in pairs for answer in (p.chosen, p.rejected)]
    known = [logp for part in side_logps(reference, sides, 1, 4, average=False) for logp in part]
    pairs = [replace(p, ref_chosen=w, ref_rejected=r) for p, w, r in zip(pairs, known[::2], known[1::2], strict=True)]
    options = TrainingSection(per_device_train_batch_size=2, gradient_accumulation_steps=3, beta=0.2)
    args = training_arguments(options, str(tmp_path), 0, torch.device("cpu"))
    trainer = PairTrainer(model, args, options, train_dataset=pairs, data_collator=collator)
    parts = [collator(pairs[i : i + 2]) for i in (0, 2, 4)]
    ours = sum(trainer.compute_loss(model, dict(b), num_items_in_batch=6) for b in parts)
    ours.backward()
    theirs = 0.0
    twin = load_model(str(tiny / "model"), dtype=torch.float64, device=torch.device("cpu"))
    for p in pairs:
        gap = plain_logp(twin, p.prompt, p.chosen) - plain_logp(twin, p.prompt, p.rejected)
        with torch.no_grad():
            gap_ref = plain_logp(reference, p.prompt, p.chosen) - plain_logp(reference, p.prompt, p.rejected)
        theirs = theirs - F.logsigmoid(0.2 * (gap - gap_ref)) / 6
    theirs.backward()
    assert abs(ours.item() - theirs.item()) < 1e-10
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-10)


def test_bf16_reaches_the_products_of_training(tiny, tmp_path, monkeypatch):
    model = load_model(str(tiny / "model"), dtype=torch.float32, device=torch.device("cpu"))
    options = TrainingSection(bf16=True)
    args = training_arguments(options, str(tmp_path), 0, torch.device("cpu"))
    prompt, refs = (3, 9, 11), {"ref_chosen": -5.0, "ref_rejected": -3.0}
    pairs = [Example("p0", prompt, (8, 9), (10,), **refs), Example("p1", prompt, (8,), (12, 13), **refs)]
    body, head = [], []
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda _, __, out: body.append(out.dtype))
    real = trainer.linear_dual_clip_loss

    def spy(*args, **more):
        head.append(torch.is_autocast_enabled("cpu"))
        return real(*args, **more)

    monkeypatch.setattr(trainer, "linear_dual_clip_loss", spy)
    PairTrainer(model, args, options, train_dataset=pairs, data_collator=Collator(1)).train()
    assert (set(body), set(head)) == ({torch.bfloat16}, {True})


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}
DROPPING = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40},
    "biogpt": {**SMALL, "intermediate_size": 64, "hidden_dropout_prob": 0.5, "activation_dropout": 0.5},
    "llama": {**SMALL, "intermediate_size": 64, "attention_dropout": 0.5},
    "falcon": {**SMALL, "hidden_dropout": 0.5, "attention_dropout": 0.5},
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("family", DROPPING)
def test_a_policy_that_is_its_reference_loses_log_2(family, recompute, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **DROPPING[family]))
    pairs = [Example("p0", (3, 9, 11), (8, 9), (10,)), Example("p1", (3, 9, 12), (8,), (12, 13))]
    known = [
        next(side_logps(model, [(p.prompt, p.chosen), (p.prompt, p.rejected)], 1, 2, average=False)) for p in pairs
    ]
    pairs = [replace(p, ref_chosen=w, ref_rejected=r) for p, (w, r) in zip(pairs, known, strict=True)]
    options = TrainingSection(gradient_checkpointing=recompute, per_device_train_batch_size=2)
    args = training_arguments(options, str(tmp_path), 0, torch.device("cpu"))
    read = []
    norm = next(m for m in model.modules() if type(m).__name__.endswith("Norm"))
    norm.register_forward_pre_hook(lambda *_: read.append(1))
    trainer = PairTrainer(model, args, options, train_dataset=pairs, data_collator=Collator(1))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert all(abs(o.chosen_reward) + abs(o.rejected_reward) < 1e-6 for o in trainer.outcomes.values())
    assert len(read) == 1 + recompute, "a layer is read again exactly where that was asked for"


def test_each_pair_has_its_own_label_noise(tiny, tmp_path):
    model = load_model(str(tiny / "model"), dtype=torch.float64, device=torch.device("cpu"))
    pairs = [
        Example(f"p{i}", (3, 9, 11), (8, 9 + i), (10,), ref_chosen=-3.0, ref_rejected=-5.0, label_smoothing=e)
        for i, e in enumerate([0.0, 0.3])
    ]
    args = training_arguments(TrainingSection(), str(tmp_path), 0, torch.device("cpu"))
    trainer = PairTrainer(model, args, TrainingSection(), train_dataset=pairs, data_collator=Collator(1))
    ours = trainer.compute_loss(model, Collator(1)(pairs), num_items_in_batch=2)
    theirs = 0.0
    for p in pairs:
        gap = 0.1 * (plain_logp(model, p.prompt, p.chosen) - plain_logp(model, p.prompt, p.rejected) - 2.0)
        e = p.label_smoothing
        theirs = theirs - ((1 - e) * F.logsigmoid(gap) + e * F.logsigmoid(-gap)) / 2
    assert abs(ours.item() - theirs.item()) < 1e-6
