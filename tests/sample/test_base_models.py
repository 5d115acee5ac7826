"""Base models as cells: from a folder without a chat template and from a GGUF file, by a plain prompt format."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tso import train
from tso.errors import DataError, ModelError
from tso.models import load_tokenizer
from tso.records import Decoding, Message, Prompt
from tso.sample.base import Request, plain
from tso.sample.transformers import TransformersSampler, answer_ids, plain_ids
from tso.store import RunStore

from tests.tiny import bytewise_model, words

FORMAT = "User: {prompt}\nAssistant:"
TALK = Prompt(
    "p",
    (
        Message("system", "be kind"),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "tea {prompt}"),
    ),
)


def without_template(folder, target):
    shutil.copytree(folder, target)
    for file in target.glob("chat_template*"):
        file.unlink()
    settings = json.loads((target / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    assert not load_tokenizer(str(target), chat=False).chat_template
    return target


def run(tiny, output, cell, *more):
    cells = f"matrix.cells=[{{name: policy}}, {cell}, {{name: human, model: human}}]"
    options = ["run.iterations=1", "evaluate.draws=0", "evaluate.control=false", cells]
    return train.main(["--debug", *words(tiny, output), *options, *more])


def test_a_talk_as_plain_text():
    said = "be kind\n\nUser: hi\nAssistant: hello\nUser: tea {prompt}\nAssistant:"
    assert plain(TALK, None, FORMAT) == said
    assert plain(TALK, "be short", FORMAT) == said.replace("be kind", "be short")


def test_control_tokens_are_no_part_of_plain_text(tiny, tmp_path):
    folder = bytewise_model(tmp_path / "model")
    tokenizer = load_tokenizer(str(folder))
    ids = plain_ids(tokenizer, "we like <e> tea")
    assert tokenizer.decode(ids) == "we like <e> tea"
    assert 3 not in ids
    from tokenizers import pre_tokenizers, processors

    other = load_tokenizer(str(tiny / "model"))
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A <e>", special_tokens=[("<s>", 2), ("<e>", 3)]
    )
    framed = plain_ids(other, "we like tea")
    assert (framed[0], framed[-1] != 3) == (2, True), "it begins as the tokenizer begins a text, and does not end"
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(DataError, match="a prompt holds '<e>', which this tokenizer cannot read as plain text"):
        plain_ids(other, "we <e> tea")


def test_answers_end_before_their_stop_strings(tmp_path):
    folder = bytewise_model(tmp_path / "model")
    sampler = TransformersSampler(torch.device("cpu"), torch.float32)
    free = [Request(TALK, Decoding(1.0, max_new_tokens=30, prompt_format=FORMAT), seed) for seed in range(8)]
    whole = sampler.sample(str(folder), free)
    stop = max("abcdefghijklmnopqrstuvwxyz", key=lambda c: sum(a.text.count(c) for a in whole))
    how = Decoding(1.0, max_new_tokens=30, prompt_format=FORMAT, stop=(stop, "<never>"))
    cut = sampler.sample(str(folder), [Request(TALK, how, seed) for seed in range(8)])
    tokenizer = load_tokenizer(str(folder))
    stopped = 0
    for before, after in zip(whole, cut, strict=True):
        if stop not in before.text:
            assert after == before
            continue
        stopped += 1
        assert after.text == before.text.partition(stop)[0].strip()
        assert after.finish_reason == "stop"
        assert after.token_ids == (answer_ids(tokenizer, after.text) if after.text else ())
    assert stopped > 2


def test_a_cell_without_template_or_format_is_refused_with_what_to_do(tiny, tmp_path, capsys):
    base = without_template(tiny / "model", tmp_path / "base")
    assert run(tiny, tmp_path / "out", f"{{name: base, model: {base}}}") == 2
    said = capsys.readouterr().err
    assert "cell 'base': the tokenizer of" in said
    assert "has no chat template; use an instruction-tuned model, or name the cell's prompt_format" in said
    sampler = TransformersSampler(torch.device("cpu"), torch.float32)
    with pytest.raises(ModelError, match="name the cell's prompt_format"):
        sampler.sample(str(base), [Request(TALK, Decoding(max_new_tokens=4), 1)])
    cell = f"{{name: base, model: {base}, prompt_format: 'we like {{prompt}} and', stop: [' tea'], max_new_tokens: 6}}"
    assert run(tiny, tmp_path / "out", cell) == 0
    with RunStore.open_read_only(tmp_path / "out") as store:
        answers = [r for r in store.responses(1, "train") if r.cell == "base"]
        assert len(answers) == 5
        assert all(len(r.text.split()) <= 6 and "tea" not in r.text.split()[1:] for r in answers)


def test_no_room_is_told_by_the_cells_own_limit(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "out", "{name: long, max_new_tokens: 250}") == 2
    assert "cell 'long': the longest prompt has" in capsys.readouterr().err


# --- GGUF


def gguf_of(folder, path, template=None):
    """The model in `folder` as a GGUF file, written with the package `gguf` as llama.cpp's own converter writes them."""
    gguf = pytest.importorskip("gguf", reason="gguf is an extra")
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    tokenizer = load_tokenizer(str(folder))
    heads = config["num_attention_heads"]
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(config["vocab_size"])
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokenizer.convert_ids_to_tokens(range(config["vocab_size"])))
    out.add_token_types([3] * 4 + [1] * (config["vocab_size"] - 4))
    out.add_token_scores([0.0] * config["vocab_size"])
    if template is not None:
        out.add_chat_template(template)
    for name, number in (("bos", 2), ("eos", 3), ("unk", 0), ("pad", 1)):
        getattr(out, f"add_{name}_token_id")(number)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "model.embed_tokens": "token_embd",
        "model.norm": "output_norm", "model.layers": "blk",
    }  # fmt: skip
    for name, weights in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:  # llama.cpp has the two halves of a head interleaved
            shape = weights.shape
            weights = weights.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        out.add_tensor(name, np.ascontiguousarray(weights))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def test_a_gguf_file_is_converted_once_and_answers_as_the_model_in_it(tiny, tmp_path, capsys):
    folder = bytewise_model(tmp_path / "model")
    file = gguf_of(folder, tmp_path / "small.gguf")
    how = f"prompt_format: '{FORMAT}', max_new_tokens: 12"
    cells = f"{{name: file, model: {file}, {how}}}, {{name: folder, model: {folder}, {how}}}"
    assert run(tiny, tmp_path / "out", cells, "evaluate.control=true") == 0, capsys.readouterr().err
    with RunStore.open_read_only(tmp_path / "out") as store:
        [cell] = [c for c in store.cells(1) if c.name == "file"]
        assert cell.path.startswith("iteration-0/small-")
        assert (tmp_path / "out" / cell.path / "model.safetensors").exists()
        answers = [r for r in store.responses(1, "train") if r.cell == "file"]
        assert len({r.text for r in answers}) == 5
    sampler = TransformersSampler(torch.device("cpu"), torch.float32)
    asked = [Request(TALK, Decoding(1.0, max_new_tokens=12, prompt_format=FORMAT), seed) for seed in range(6)]
    texts = [[a.text for a in sampler.sample(str(p), asked)] for p in (folder, tmp_path / "out" / cell.path)]
    assert texts[0] == texts[1]


def test_a_gguf_file_that_is_not_there_or_none_is_refused(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "out", "{name: file, model: nowhere.gguf}") == 2
    assert "matrix.cells: no such GGUF file: nowhere.gguf" in capsys.readouterr().err
    (tmp_path / "bad.gguf").write_bytes(b"GGUF, or so it says")
    assert run(tiny, tmp_path / "out", f"{{name: file, model: {tmp_path / 'bad.gguf'}}}") == 2
    assert "cannot load the GGUF model" in capsys.readouterr().err
