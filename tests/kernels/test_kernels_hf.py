"""The loss on transformers models: the same numbers and gradients as from their own logits, whatever a family does."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

transformers = pytest.importorskip("transformers")
import tso_kernels  # noqa: E402
from tso_kernels import reference  # noqa: E402
from tso_kernels.integrations import hf, lm_head  # noqa: E402
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
    with pytest.raises(TypeError, match="Linear has no backbone that could be found"):
        hf.backbone_of(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="Linear is not a model of transformers"):
        hf.head_of(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="LlamaModel has no output layer"):
        hf.head_of(model.model)


AROUND = {
    "PROMPT_TUNING": lambda peft: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "PREFIX_TUNING": lambda peft: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "P_TUNING": lambda peft: peft.PromptEncoderConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=8
    ),
    "aLoRA": lambda peft: peft.LoraConfig(
        r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=[5]
    ),
}


@pytest.mark.parametrize("kind", AROUND)
def test_adapters_that_act_around_the_model_are_refused_by_name(kind):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    ids, labels, mask, _ = batch()
    adapted = peft.get_peft_model(model_of("Llama"), AROUND[kind](peft))
    with pytest.raises(ValueError, match=f"PEFT type {kind}, which acts in the forward pass around"):
        hf.causal_lm_logps(adapted, ids, labels, mask)


@pytest.mark.parametrize("options", [{"use_dora": True, "target_modules": ["q_proj"]}, {"target_modules": ["v_proj"]}])
def test_adapters_in_the_layers_give_the_numbers_of_their_logits(options):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    ids, labels, mask, refs = batch()
    torch.manual_seed(1)
    adapted = peft.get_peft_model(model_of("Llama"), peft.LoraConfig(r=4, init_lora_weights=False, **options)).double()
    got = hf.causal_lm_dual_clip_loss(adapted, ids, labels, *refs, mask).loss
    torch.testing.assert_close(got, from_logits(adapted, ids, labels, mask, refs).loss, rtol=1e-6, atol=1e-8)


def test_trained_tokens_of_a_tied_head_have_an_error_of_their_own():
    peft = pytest.importorskip("peft", reason="adapters need peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[1, 2])
    with pytest.raises(TypeError, match="trainable_token_indices reach the output layer"):
        hf.head_of(peft.get_peft_model(model_of("Llama tied"), config))


class NormHead(torch.nn.Linear):
    def forward(self, x):
        return torch.nn.functional.linear(x, torch.nn.functional.normalize(self.weight))


def with_norm_head(model):
    model.lm_head = NormHead(32, 43, bias=False).double()


def with_hook(model):
    model.lm_head.register_forward_hook(lambda _, __, out: out + torch.arange(43) / 3)


@pytest.mark.parametrize("change", [with_norm_head, with_hook])
@pytest.mark.parametrize("known", [False, True], ids=["first call", "after a call"])
def test_an_output_layer_that_is_more_than_a_product_is_refused(change, known):
    model = model_of("Llama")
    if known:
        hf.head_of(model)
    change(model)
    with pytest.raises(ValueError, match=r"lm_head \(\w+\) of LlamaForCausalLM does not give F.linear"):
        hf.head_of(model)


def test_an_output_layer_without_one_whole_weight_is_refused():
    model = model_of("Llama")
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(43 * 16, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(TypeError, match="leave lm_head out of the quantisation"):
        hf.head_of(model)


def test_what_is_known_of_a_model_goes_with_its_config_and_layer():
    model = model_of("Gemma2")
    ids, labels, mask, refs = batch()
    assert hf.head_of(model).softcap == 2.0
    model.config.final_logit_softcapping = None
    assert hf.head_of(model).softcap is None
    got = hf.causal_lm_dual_clip_loss(model, ids, labels, *refs, mask).loss
    torch.testing.assert_close(got, from_logits(model, ids, labels, mask, refs).loss, rtol=1e-6, atol=1e-8)
    model.resize_token_embeddings(50)
    assert hf.head_of(model).weight is model.lm_head.weight
    assert len(hf.head_of(model).weight) == 50


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("averages", "did you mean 'average'"),
        ("memory_bugdet", "did you mean 'memory_budget'"),
        ("num_sequences", "no option 'num_sequences', and LlamaModel no such input$"),
        ("bias", "takes the model's own bias"),
        ("logit_scale", "takes the model's own logit_scale"),
        ("inputs", "no option 'inputs'"),
        ("labels", "multiple values"),
    ],
)
def test_a_keyword_that_means_nothing_is_refused(name, says):
    model = model_of("Llama")
    ids, labels, mask, refs = batch()
    with pytest.raises(TypeError, match=says):
        hf.causal_lm_logps(model, ids, labels, mask, **{name: 1})
    with pytest.raises(TypeError, match=says):
        hf.causal_lm_dual_clip_loss(model, ids, labels, *refs, mask, **{name: 1})


def test_both_functions_take_the_inputs_of_the_backbone():
    model = model_of("Llama")
    ids, labels, mask, refs = batch()
    places = torch.arange(9)[None] * 3
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=places).logits[:, :-1]
        want = reference.sequence_logps(logits, labels[:, 1:])
        out = hf.causal_lm_dual_clip_loss(model, ids, labels, *refs, mask, position_ids=places, beta=0.2)
        logps = hf.causal_lm_logps(model, ids, labels, mask, position_ids=places)
        assert not torch.allclose(logps, hf.causal_lm_logps(model, ids, labels, mask))
    torch.testing.assert_close(logps, want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.cat([out.chosen_logps, out.rejected_logps]), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("error", "change", "says"),
    [
        (TypeError, lambda ids, labels: (ids, labels.tolist()), "labels must be an integer tensor"),
        (TypeError, lambda ids, labels: (ids.tolist(), labels), "input_ids must be an integer tensor"),
        (ValueError, lambda ids, labels: (ids[0], labels[0]), "input_ids must have shape"),
        (ValueError, lambda ids, labels: (ids, labels[0]), "labels must have the shape of input_ids, .4, 9., not .9."),
        (ValueError, lambda ids, labels: (ids, labels[:, 1:]), "they are not shifted here"),
    ],
)
def test_labels_are_refused_in_terms_of_these_functions(error, change, says):
    ids, labels, _, refs = batch()
    with pytest.raises(error, match=says):
        hf.causal_lm_logps(model_of("Llama"), *change(ids, labels))
    with pytest.raises(error, match=says):
        hf.causal_lm_dual_clip_loss(model_of("Llama"), *change(ids, labels), *refs)


def test_wrappers_of_several_devices_are_refused_and_told_what_works(tmp_path):
    ids, labels, mask, _ = batch()
    with pytest.raises(TypeError, match="DataParallel is not supported"):
        hf.causal_lm_logps(torch.nn.DataParallel(model_of("Llama")), ids, labels, mask)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model_of("Llama"))
        with pytest.raises(TypeError, match=r"hf.run_as_forward\(model, model.module"):
            hf.causal_lm_logps(wrapped, ids, labels, mask)
    finally:
        torch.distributed.destroy_process_group()


def test_threads_may_make_the_first_call_together(monkeypatch):
    began, tried = threading.Barrier(4), lm_head._try
    trials = []

    def counted(*args):
        trials.append(1)
        return tried(*args)

    monkeypatch.setattr(lm_head, "_try", counted)
    for _ in range(5):
        model = copy.deepcopy(model_of("Llama")).train()
        trials.clear()
        heads = []

        def first(model=model, heads=heads):
            began.wait()
            heads.append(hf.head_of(model))

        threads = [threading.Thread(target=first) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(heads) == 4
        assert len(trials) == 1
        assert all(module.training for module in model.modules())


def test_the_backbone_of_a_compiled_model_is_compiled():
    ids, labels, mask, refs = batch()
    model = model_of("Llama")
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, backend=backend)
    want = hf.causal_lm_dual_clip_loss(model, ids, labels, *refs, mask).loss
    hf.head_of(compiled)
    graphs.clear()  # whatever the trial may have compiled
    for _ in range(2):
        got = hf.causal_lm_dual_clip_loss(compiled, ids, labels, *refs, mask).loss
        torch.testing.assert_close(got, want)
    assert len(graphs) == 1
    out = hf.run_as_forward(compiled, compiled, lambda: hf.causal_lm_logps(compiled, ids, labels, mask))
    assert len(graphs) == 1
    torch.testing.assert_close(out, hf.causal_lm_logps(model, ids, labels, mask))


def test_inside_a_compiled_function_the_head_must_be_known():
    ids, labels, mask, _ = batch()
    model = model_of("Llama").float()
    compiled = torch.compile(lambda: hf.causal_lm_logps(model, ids, labels, mask), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"call hf.head_of\(model\) once before compiling"):
        compiled()
    hf.head_of(model)
    torch.testing.assert_close(compiled(), hf.causal_lm_logps(model, ids, labels, mask))


def test_a_backbone_whose_name_is_declared_wrongly_is_found():
    config = getattr(transformers, "Llama4TextConfig", None)
    if config is None:
        pytest.skip("this transformers has no Llama4")
    torch.manual_seed(0)
    shape = LLAMA | {"head_dim": 8, "intermediate_size_mlp": 48, "moe_layers": [], "attention_chunk_size": 32}
    model = transformers.Llama4ForCausalLM(config(**shape, pad_token_id=0)).float().eval()
    ids, labels, mask, refs = batch()
    with torch.no_grad():
        want = from_logits(model, ids, labels, mask, refs).loss
        got = hf.causal_lm_dual_clip_loss(model, ids, labels, *refs.float(), mask).loss
    torch.testing.assert_close(got, want.float(), rtol=1e-4, atol=1e-5)


def test_a_family_that_scales_its_hidden_states_is_told_what_to_do():
    if not hasattr(transformers, "MiniCPM3Config"):
        pytest.skip("this transformers has no MiniCPM3")
    shape = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
    model = transformers.MiniCPM3ForCausalLM(transformers.MiniCPM3Config(**LLAMA, **shape, pad_token_id=0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
    with pytest.raises(ValueError, match="call linear_dual_clip_loss with the hidden states"):
        hf.head_of(model)
