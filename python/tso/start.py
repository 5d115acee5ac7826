"""Before the first iteration: the prompts are in the store, and the start model is where every stage can load it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tso import matrix, rows
from tso.config import CellSection, Config
from tso.correct import judge_model, recorded, rule
from tso.errors import ConfigError, DataError, ModelError
from tso.models import (
    convert_gguf,
    cores,
    device_for,
    find,
    identity_of,
    inside,
    is_gguf,
    load_model,
    load_tokenizer,
    located,
    positions,
    scale_of,
)
from tso.progress import Face
from tso.prompts import PromptSet, load_prompts
from tso.records import Prompt
from tso.sample.base import chat
from tso.sample.choose import Samplers
from tso.sample.endpoint import PREFIX, on_server
from tso.sample.probe import remarks
from tso.sample.transformers import answer_ids, prompt_ids, request_ids
from tso.settings import as_tree
from tso.store import RunStore
from tso.store_rows import dumps, merge, prompt_rows
from tso.training.trainer import check_adapters, check_training, head_of

# What may change between two calls on the same folder: it decides where, how long and how loudly, not what.
FREE = (
    *("run.output_dir", "run.iterations", "model.device", "pair.threads"),
    *("training.report_to", "training.save_steps", "correct.recorded", "evaluate.control"),
    *("server.concurrency", "server.timeout", "server.retries"),
    "correct.wait_for_people",
)

TYPICAL_WEIGHT = 0.02  # size of a language model's weights, as they are initialised and as they stay


def identity(config: Config) -> dict[str, str]:
    """Every option that decides the content of the run, by name."""
    tree = as_tree(config)
    named = {f"{s}.{k}": dumps(_plain(v)) for s, options in tree.items() for k, v in options.items()}
    return {k: v for k, v in named.items() if k not in FREE}


def _plain(value: Any) -> Any:
    # JSON has no infinity, which bounds may be on either end.
    return str(value) if value in (float("inf"), -float("inf")) else value


def prepare(store: RunStore, config: Config, face: Face) -> None:
    """Iteration 0, as one unit: prompts, and the start model as both policy and reference."""
    _preflight(config)
    if store.done(0, "start"):
        _same_prompts(store, config)
        judge_model.check(store, config)
        located(store.folder, *store.checkpoint(0, "policy"))
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
    matrix.check(config)
    _check_apart(store.folder, Path(config.data.prompts))
    found = load_prompts(config.data)
    path, sha = _start_model(store.folder, config, face)
    samplers, warn = Samplers(config, face.say), _once(face)
    others = {name: _other(store.folder, name, config, face) for name in matrix.others(config) if not on_server(name)}
    where = located(store.folder, path, sha)
    prompts, longest, left_out = _readable(found, config, where)
    for place, reason in left_out[:10]:
        face.warn(f"{config.data.prompts}: {place} left out: {reason}")
    if len(left_out) > 10:
        face.warn(f"... and {len(left_out) - 10} more rows of {len(left_out)} left out")
    _check_room(config, longest, where, {name: str(folder) for name, folder in others.items()})
    judge = judge_model.begin(
        config,
        store.folder,
        where,
        longest,
        lambda name: others[name] if name in others else _other(store.folder, name, config, face),
        samplers,
        warn,
    )
    servers = {name: _served(samplers, name, config, warn) for name in matrix.others(config) if on_server(name)}
    model = load_model(where, dtype=getattr(torch, config.model.dtype), device=torch.device("cpu"))
    head_of(model)  # what cannot be trained is refused before anything is sampled
    scale = scale_of(model) if config.model.scale is None else config.model.scale
    check_adapters(model, config.training)
    del model
    columns = ["iteration", "role", "path", "sha256"]
    both = [(0, role, path, sha) for role in ("policy", "reference")]
    info = {
        "threads": config.model.threads or cores(),
        "scale": scale,
        "bases": {name: (inside(store.folder, path), identity_of(path)) for name, path in others.items()} | servers,
        "judge": judge,
        "rejected": len(left_out),
        "settings": identity(config),
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
        found = find(model.name_or_path, model.revision)
        return str(found), identity_of(found)
    # One that is there already may be of another file: a mistake can be mended until the start is committed.
    target = folder / "iteration-0" / "checkpoint"
    face.say(f"converting {model.gguf_file} to safetensors")
    convert_gguf(model.name_or_path, model.gguf_file, target, getattr(torch, model.dtype))
    return str(target.relative_to(folder)), identity_of(target)


def _other(folder: Path, name: str, config: Config, face: Face) -> Path:
    """The folder of a model that a cell names; a GGUF file is converted into one, beside the start model."""
    if not is_gguf(name):
        return find(name)
    file = Path(name).resolve()
    target = folder / "iteration-0" / f"{file.stem}-{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    face.say(f"converting {file.name} to safetensors")
    convert_gguf(str(file.parent), file.name, target, getattr(torch, config.model.dtype))
    return target


def _once(face: Face) -> Callable[[str], None]:
    """Warnings, each once: cells and a judge may share a server."""
    told: set[str] = set()

    def warn(line: str) -> None:
        if line not in told:
            told.add(line)
            face.warn(line)

    return warn


def _served(samplers: Samplers, path: str, config: Config, warn: Callable[[str], None]) -> tuple[str, str]:
    """(path, identity) of a model on a server, which is tried for each of its cells."""
    specs = [s for s in config.matrix.cells if s.model.startswith(PREFIX) and matrix.source(s) == path]
    for spec in specs:
        found = samplers.server.probe(path, matrix.decoding_of(spec, config.sample.max_new_tokens))
    for line in remarks(samplers.server.endpoints[path], found):
        warn(line)
    return path, f"{path} {found.model}"


def _readable(found: PromptSet, config: Config, model: str) -> tuple[list[Prompt], Prompt, list[tuple[str, str]]]:
    """Prompts that the chat template takes and that are short enough; the longest; (place, reason) of rows left out."""
    tokenizer = load_tokenizer(model)
    most = config.data.max_prompt_tokens
    kept: list[Prompt] = []
    lengths: list[int] = []
    left_out = [(bad.where, bad.reason) for bad in found.rejected]
    for prompt in found.prompts:
        try:
            length = len(prompt_ids(tokenizer, chat(prompt, None)))
            for answer in prompt.human:
                answer_ids(tokenizer, answer)
            reason = f"{length} tokens, data.max_prompt_tokens is {most}" if length > most else ""
        except DataError as err:
            reason = str(err)
        except Exception as err:  # chat templates raise their own classes for role orders that they do not take
            reason = f"the chat template refuses it: {' '.join(str(err).split())}"
        if reason:
            left_out.append((found.places[prompt.id], reason))
        else:
            kept.append(prompt)
            lengths.append(length)
    if not any(p.split == "train" for p in kept):
        listed = "; ".join(f"{place}: {reason}" for place, reason in left_out[:5]) or "all are held out"
        raise DataError(f"no prompt of {config.data.prompts} is left to train on ({len(left_out)} left out): {listed}")
    return kept, kept[lengths.index(max(lengths))], left_out


def _check_room(config: Config, longest: Prompt, start: str, others: Mapping[str, str]) -> None:
    """Every cell's chat template takes its system prompt, and its model has room for the longest prompt and an answer.

    start, others: folders of the start model, and of models that cells name. Raises ConfigError.
    """
    limit = positions(start)
    if limit and config.training.max_length > limit:
        raise ConfigError(
            f"training.max_length={config.training.max_length} is more than the {limit} tokens that the model reads; lower it"
        )
    tokenizers = {where: load_tokenizer(where, chat=False) for where in {start, *others.values()}}
    for cell in (*config.matrix.cells, CellSection(name="evaluate")):
        if cell.model == "human" or cell.model.startswith(PREFIX):
            continue
        where = others.get(cell.model, start)
        decoding = matrix.decoding_of(cell, config.sample.max_new_tokens)
        try:
            length = len(request_ids(tokenizers[where], longest, decoding))
        except ModelError as err:
            raise ConfigError(f"cell {cell.name!r}: {err}") from err
        except Exception as err:  # as above
            said = " ".join(str(err).split())
            raise ConfigError(
                f"cell {cell.name!r}: its chat template refuses {'its system_prompt' if cell.system_prompt else 'a prompt'}: {said}"
            ) from err
        limit, room = positions(where), decoding.max_new_tokens
        if limit and length + room > limit:
            raise ConfigError(
                f"cell {cell.name!r}: the longest prompt has {length} tokens and an answer may take {room}, but the model "
                f"reads {limit}; lower data.max_prompt_tokens or sample.max_new_tokens, or the cell's max_new_tokens"
            )


def _check_apart(folder: Path, source: Path) -> None:
    """A run inside its folder of prompts would read its own files as prompts."""
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"run.output_dir={folder} lies inside data.prompts={source}; choose one outside it")


def _same_prompts(store: RunStore, config: Config) -> None:
    """Resuming with other prompts would quietly be another run. Where they are gone, the store still has them."""
    source = Path(config.data.prompts)
    if source.exists() and store.info(0, "start")["prompts_sha256"] != rows.digest(source):
        raise DataError(
            f"{config.data.prompts} has changed since this run began; restore it, or choose another run.output_dir"
        )
