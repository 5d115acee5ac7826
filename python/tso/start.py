"""Before the first iteration: the prompts are in the store, and the start model is where every stage can load it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tso import config as config_module
from tso import rows
from tso.config import Config
from tso.correct import recorded, rule
from tso.errors import DataError
from tso.models import convert_gguf, cores, device_for, fetch, load_model, load_tokenizer, scale_of, weights_sha256
from tso.progress import Face
from tso.prompts import load_prompts
from tso.records import Prompt
from tso.sample.base import chat
from tso.sample.transformers import answer_ids, prompt_ids
from tso.store import RunStore, dumps, merge, prompt_rows
from tso.training.trainer import check_training, head_of

# What may change between two calls on the same folder: it decides where, how long and how loudly, not what.
FREE = (
    *("run.output_dir", "run.iterations", "model.device", "pair.threads"),
    *("training.report_to", "training.save_steps", "correct.recorded", "evaluate.control"),
)

TYPICAL_WEIGHT = 0.02  # size of a language model's weights, as they are initialised and as they stay


def identity(config: Config) -> dict[str, str]:
    """Every option that decides the content of the run, by name."""
    tree = config_module.as_tree(config)
    named = {f"{s}.{k}": dumps(_plain(v)) for s, options in tree.items() for k, v in options.items()}
    return {k: v for k, v in named.items() if k not in FREE}


def _plain(value: Any) -> Any:
    # JSON has no infinity; bounds may be.
    return "inf" if value == float("inf") else value


def prepare(store: RunStore, config: Config, face: Face) -> None:
    """Iteration 0, as one unit: prompts, and the start model as both policy and reference."""
    _preflight(config)
    if store.done(0, "start"):
        _same_prompts(store, config)
    else:
        _begin(store, config, face)
    _use_threads(store.info(0, "start")["threads"], face)


def _preflight(config: Config) -> None:
    """What a late stage would refuse is refused before the first answer is sampled."""
    if config.correct.rule:
        rule.load(config.correct.rule)
    if config.correct.recorded:
        recorded.load(config.correct.recorded)
    check_training(config.training, device_for(config.model.device))


def _begin(store: RunStore, config: Config, face: Face) -> None:
    path, sha = _start_model(store.folder, config, face)
    found = load_prompts(config.data)
    for bad in found.rejected[:10]:
        face.warn(f"{config.data.prompts}: {bad.where} left out: {bad.reason}")
    if len(found.rejected) > 10:
        face.warn(f"... and {len(found.rejected) - 10} more rows of {len(found.rejected)} left out")
    where = str(store.folder / path) if (store.folder / path).is_dir() else path
    prompts = _short_enough(found.prompts, config, where, face)
    model = load_model(where, dtype=getattr(torch, config.model.dtype), device=torch.device("cpu"))
    head_of(model)  # what cannot be trained is refused before anything is sampled
    scale = scale_of(model) if config.model.scale is None else config.model.scale
    del model
    columns = ["iteration", "role", "path", "sha256"]
    both = [(0, role, path, sha) for role in ("policy", "reference")]
    info = {
        "threads": config.model.threads or cores(),
        "scale": scale,
        "rejected": len(found.rejected) + len(found.prompts) - len(prompts),  # unusable rows, and too long prompts
        "prompts_sha256": rows.digest(Path(config.data.prompts)),
    }
    store.commit(0, "start", merge(prompt_rows(prompts), {"checkpoints": (columns, both)}), info=info)
    held = sum(p.split == "heldout" for p in prompts)
    face.say(f"{len(prompts) - held} prompts to train on, {held} held out")
    _warn_of_rounding(config, face)


def _warn_of_rounding(config: Config, face: Face) -> None:
    """AdamW moves a weight by about the learning rate, and what is less than half the gap to the next number is lost."""
    step = config.training.learning_rate
    gap = TYPICAL_WEIGHT * torch.finfo(getattr(torch, config.model.dtype)).eps
    if config.model.dtype != "float32" and config.training.method == "full" and step < gap / 2:
        face.warn(
            f"model.dtype={config.model.dtype} rounds away most steps of training.learning_rate={step:g}; "
            "use model.dtype=float32, with training.bf16=true for its speed"
        )


def _use_threads(count: int, face: Face) -> None:
    """Sums in floating point depend on how many threads share them, so a run computes with what it began with."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked not in ("", str(count)):
        face.warn(f"OMP_NUM_THREADS={asked} is not followed: this run computes with model.threads={count} throughout")
    torch.set_num_threads(count)


def _start_model(folder: Path, config: Config, face: Face) -> tuple[str, str]:
    """(path as recorded, identity). A GGUF becomes iteration-0/checkpoint; anything else is loaded from where it is."""
    model = config.model
    device_for(model.device)
    if model.gguf_file is None:
        local = Path(model.name_or_path)
        if local.is_dir():
            load_tokenizer(str(local))  # a folder without a usable one is refused before anything is written
            return str(local.resolve()), weights_sha256(local)
        if local.is_absolute() or model.name_or_path.startswith("."):
            load_tokenizer(model.name_or_path)  # names what is missing; a path is never asked of the hub
        fetched = fetch(model.name_or_path, model.revision)
        return str(fetched), weights_sha256(fetched)
    target = folder / "iteration-0" / "checkpoint"
    if not target.is_dir():
        face.say(f"converting {model.gguf_file} to safetensors")
        convert_gguf(model.name_or_path, model.gguf_file, target, getattr(torch, model.dtype))
    return str(target.relative_to(folder)), weights_sha256(target)


def _short_enough(prompts: tuple[Prompt, ...], config: Config, model: str, face: Face) -> list[Prompt]:
    tokenizer = load_tokenizer(model)
    most = config.data.max_prompt_tokens
    kept = []
    for prompt in prompts:
        try:
            length = len(prompt_ids(tokenizer, chat(prompt, None)))
            for answer in prompt.human:
                answer_ids(tokenizer, answer)
        except DataError as err:
            face.warn(f"prompt {prompt.id!r} left out: {err}")
            continue
        except Exception as err:  # chat templates raise their own classes for role orders that they do not take
            raise DataError(f"the chat template refuses prompt {prompt.id!r}: {err}") from err
        if length > most:
            face.warn(f"prompt {prompt.id!r} left out: {length} tokens, data.max_prompt_tokens is {most}")
        else:
            kept.append(prompt)
    if not any(p.split == "train" for p in kept):
        raise DataError(
            f"no prompt of {config.data.prompts} is left to train on: all are longer than "
            f"data.max_prompt_tokens={most} tokens, or held out; shorten them or raise the limit"
        )
    return kept


def _same_prompts(store: RunStore, config: Config) -> None:
    """Resuming with other prompts would quietly be another run. Where they are gone, the store still has them."""
    source = Path(config.data.prompts)
    if source.exists() and store.info(0, "start")["prompts_sha256"] != rows.digest(source):
        raise DataError(
            f"{config.data.prompts} has changed since this run began; restore it, or choose another run.output_dir"
        )
