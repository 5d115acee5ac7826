"""The loss on transformers models: the same numbers and gradients as from their own logits, whatever a family does."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers")
import tso_kernels  # noqa: E402
from tso_kernels import reference  # noqa: E402
from tso_kernels.integrations import hf  # noqa: E402
from tso_kernels.options import IGNORE  # noqa: E402

SMALL = {"vocab_size": 43, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SMALL | {"intermediate_size": 64, "num_key_value_heads": 2}
FAMILIES = {
    "Llama": LLAMA,
    "Llama tied": LLAMA | {"tie_word_embeddings": True},
    "Gemma2": LLAMA | {"head_dim": 8, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "Cohere": LLAMA | {"logit_scale": 0.25, "eos_token_id": 2, "bos_token_id": 1},
    "Granite": LLAMA | {"logits_scaling": 4.0},
    "HyperCLOVAX": LLAMA | {"logits_scaling": 4.0},
    "GPT2": {"vocab_size": 43, "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 2, "bos_token_id": 2},
    "GPTJ": {
        "vocab_size": 43,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "rotary_dim": 4,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
    "OPT": {
        "vocab_size": 43,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 64,
        "word_embed_proj_dim": 32,
    },
    "FalconH1": LLAMA
    | {"lm_head_multiplier": 0.25, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8, "mamba_d_head": 8},
    "Mamba": {"vocab_size": 43, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
}


def model_of(family, **more):
    name = family.split()[0]
    config_class = getattr(transformers, f"{name}Config", None)
    if config_class is None:
        pytest.skip(f"this transformers has no {name}")
    torch.manual_seed(0)
    lm = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    return getattr(transformers, lm)(config_class(**(FAMILIES[family] | more))).double().eval()


def batch():
    g = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 43, (4, 9), generator=g)
    mask = torch.ones_like(ids)
    mask[1, -3:] = 0
    labels = ids.masked_fill(mask == 0, IGNORE)
    labels[:, :3] = IGNORE
    return ids, labels, mask, torch.randn(2, 2, generator=g, dtype=torch.float64) - 20


def from_logits(model, ids, labels, mask, refs, **options):
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    sides = reference.sequence_logps(logits.double(), labels[:, 1:]).chunk(2)
    return tso_kernels.dual_clip_loss(*sides, *refs, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_the_logits(family):
    model = model_of(family)
    with torch.no_grad():  # larger logits, so that a softcap bends them
        model.get_output_embeddings().weight.mul_(20)
    ids, labels, mask, refs = batch()
    want = from_logits(model, ids, labels, mask, refs, chosen_clip=3.0)
    want.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    got = hf.causal_lm_dual_clip_loss(model, ids, labels, *refs, mask, chosen_clip=3.0)
    got.loss.backward()
    torch.testing.assert_close(got.loss, want.loss, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(got.chosen_rewards, want.chosen_rewards, rtol=1e-6, atol=1e-8)
    for name, p in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-5, atol=1e-8)
    with torch.no_grad():
        logps = hf.causal_lm_logps(model, ids, labels, mask, average=True)
    counted = (labels != IGNORE).sum(-1)
    torch.testing.assert_close(logps * counted, torch.cat([got.chosen_logps, got.rejected_logps]), rtol=1e-6, atol=1e-6)


def test_a_softcap_is_found_where_logits_are_small():
    model = model_of("Gemma2", final_logit_softcapping=30.0)
    assert hf.head_of(model).softcap == 30.0
    model = model_of("Llama", final_logit_softcapping=30.0)  # declared, and not applied by this family
    assert hf.head_of(model).softcap is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_shapes_are_told_apart_in_narrow_dtypes(dtype):
    assert hf.head_of(model_of("Granite").to(dtype)).logit_scale == 0.25
    assert hf.head_of(model_of("HyperCLOVAX").to(dtype)).logit_scale == 4.0


def test_adapters_are_seen_through_and_an_adapted_head_is_refused():
    peft = pytest.importorskip("peft", reason="adapters need peft")
    ids, labels, mask, refs = batch()
    adapted = peft.get_peft_model(
        model_of("Llama"), peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    adapted = adapted.double()
    got = hf.causal_lm_dual_clip_loss(adapted, ids, labels, *refs, mask).loss
    torch.testing.assert_close(got, from_logits(adapted, ids, labels, mask, refs).loss, rtol=1e-6, atol=1e-8)
    got.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)
    for wrong in ({"target_modules": ["lm_head"]}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}):
        with pytest.raises(TypeError, match="LoRA on lm_head is not supported"):
            hf.head_of(peft.get_peft_model(model_of("Llama"), peft.LoraConfig(**wrong)))


def test_a_model_that_does_something_else_is_refused(monkeypatch):
    model = model_of("Llama")
    forward = type(model).forward

    def shifted(self, *args, **kwargs):
        out = forward(self, *args, **kwargs)
        out.logits = out.logits + torch.arange(43) / 10
        return out

    monkeypatch.setattr(type(model), "forward", shifted)
    with pytest.raises(ValueError, match="does more to its logits"):
        hf.head_of(model)
    with pytest.raises(TypeError, match="causal language model"):
        hf.backbone_of(torch.nn.Linear(2, 2))
