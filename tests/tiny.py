"""A real chat model of a few thousand random weights, made on the spot: every stage runs on it in seconds."""

import json
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "a",
    "sun",
    "rain",
    "is",
    "was",
    "cold",
    "warm",
    "and",
    "or",
    "to",
    "of",
    "in",
    "we",
    "you",
    "they",
    "like",
    "tea",
    "bread",
    "red",
    "blue",
    "big",
    "small",
    ".",
    ",",
    "!",
]
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}<e>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


def make_model(folder: Path, vocabulary: list[str] = WORDS) -> Path:
    """Save a 2-layer Llama with a word-level tokenizer and a chat template to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<u>", "<p>", "<s>", "<e>", "user", "assistant", "system", *vocabulary]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<u>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<u>", "<p>", "<s>", "<e>"])
    _llama(folder, core, len(names)).save_pretrained(folder)
    return folder


def _llama(folder: Path, core: Any, size: int) -> Any:
    """Save a tokenizer that begins with <u>, <p>, <s> and <e>, and return a model for its vocabulary of that size."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<u>", pad_token="<p>", eos_token="<e>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=3, pad_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def bytewise_model(folder: Path) -> Path:
    """The same with a byte-level tokenizer, a token a letter, as servers and file formats expect one."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<u>", "<p>", "<s>", "<e>", *letters]
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(names)}, [], unk_token="<u>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<u>", "<p>", "<s>", "<e>"])
    model = _llama(folder, core, len(names))
    with torch.no_grad():  # likelier letters of the alphabet than other bytes, so that answers are texts
        others = [i for i, name in enumerate(names) if name not in "abcdefghijklmnopqrstuvwxyz"]
        model.model.embed_tokens.weight[others] *= 0.3
    model.save_pretrained(folder)
    return folder


def make_prompts(path: Path, count: int = 10) -> Path:
    rows = [
        {
            "id": f"t{i}",
            "prompt": f"we like {WORDS[i]} and {WORDS[-i - 4]}",
            "human": f"they like {WORDS[i]} and the rain is warm .",
            "split": "heldout" if i % 5 == 4 else "train",
            "length": {"unit": "words", "min": 3, "max": 12},
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def words(folder: Path, output: Path) -> list[str]:
    """The command line of a tiny run."""
    return [
        f"model.name_or_path={folder / 'model'}", f"data.prompts={folder / 'prompts.jsonl'}", f"run.output_dir={output}",
        "sample.prompts_per_iteration=5", "sample.batch_size=6", "sample.max_new_tokens=10", "sample.dtype=float32",
        "data.max_prompt_tokens=64", "training.max_length=128", "training.learning_rate=1e-3",
        "training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=2", "training.chosen_clip=1.0",
        "training.rejected_clip=1.0", "correct.rule=tso.correct.rule:everyday", "correct.margin=0.02",
        "evaluate.control=true", "model.threads=1", "training.save_steps=2", "pair.max_similarity=0.9", "pair.max_repetition=0.95",
    ]  # fmt: skip


TABLES = [
    "prompts",
    "batches",
    "cells",
    "plans",
    "plan_prompts",
    "plan_cells",
    "plan_answers",
    "responses",
    "pairs",
    "labels",
    "corrections",
    "scores",
    "judge_pairs",
    "judge_calls",
    "drops",
    "strengths",
    "noise",
    "checkpoints",
    "outcomes",
    "logps",
]


def content_hash(output: Path) -> str:
    """One hash of all that a run decided: every table but the journal of units and the metrics."""
    import hashlib

    from tso.store import RunStore

    digest = hashlib.sha256()
    with RunStore.open_read_only(output) as store:
        for table in TABLES:
            for row in sorted(store.query(f"SELECT * FROM {table}"), key=repr):
                digest.update(repr(row).replace(str(output), "").encode())
    return digest.hexdigest()
