"""Train the policy on the kept pairs of an iteration against its frozen reference (step 8)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from tso.config import Config
from tso.models import device_for, is_hub_name, load_model, load_tokenizer, located, save
from tso.progress import Advance, Face
from tso.records import Pair
from tso.sample.base import chat
from tso.sample.transformers import answer_ids, prompt_ids
from tso.store import RunStore
from tso.store_rows import Rows, drop_rows, dumps, merge, metric_rows
from tso.training.collate import Collator, Example, truncate
from tso.training.logps import reference_logps
from tso.training.reference import ROW
from tso.training.resume import ResumePoints
from tso.training.states import shares
from tso.training.trainer import PairTrainer, adapted, head_of, require_finite, training_arguments

OUTCOMES = ["iteration", "pair_id", "chosen_reward", "rejected_reward", "chosen_saturated", "rejected_saturated"]


def train(store: RunStore, config: Config, iteration: int, face: Face) -> None:
    """Write the new policy's checkpoint, the outcome of every pair and the metrics, as one unit."""
    if store.done(iteration, "train"):
        shutil.rmtree(_scratch(store, iteration), ignore_errors=True)  # a kill may have left it
        return
    before = store.checkpoint(iteration - 1, "policy")
    path = located(store.folder, *before)
    pairs = store.pairs(iteration)
    examples = build_examples(store, config, pairs, path)
    usable = {e.pair_id for e in examples}
    detail = f"both sides are one text within training.max_length={config.training.max_length}"
    cut = drop_rows(iteration, "train", "pair", [(p.id, "cut_equal", detail) for p in pairs if p.id not in usable])
    if not examples:
        face.warn(f"iteration {iteration}: no pair was kept, so the policy stays as it is")
        same = {"checkpoints": (ROW, [(iteration, "policy", *before)])}
        store.commit(iteration, "train", merge(same, cut), info={"pairs": 0})
        return
    reference = located(store.folder, *store.checkpoint(iteration - 1, "reference"))
    known = reference_logps(store, config, iteration, examples, reference, face)
    examples = [replace(e, ref_chosen=known[e.pair_id][0], ref_rejected=known[e.pair_id][1]) for e in examples]
    _fit(store, config, iteration, examples, cut, path, face)


def build_examples(store: RunStore, config: Config, pairs: Sequence[Pair], model: str) -> list[Example]:
    """Tokenised pairs, without those whose sides are one text after cutting to max_length."""
    tokenizer = load_tokenizer(model)
    prompts = {p.id: p for p in store.prompts()}
    texts = store.responses_by_id(s for p in pairs for s in (p.label.chosen, p.label.rejected) if s is not None)
    noise = store.noise(pairs[0].iteration) if pairs else {}
    examples = []
    for pair in pairs:
        if pair.label.chosen is None or pair.label.rejected is None:
            continue
        ids = tuple(prompt_ids(tokenizer, chat(prompts[pair.prompt_id], None)))
        chosen, rejected = texts[pair.label.chosen].token_ids, texts[pair.label.rejected].token_ids
        wrong = max(config.training.label_smoothing, noise.get(pair.id, 0.0))
        example = Example(pair.id, ids, chosen, rejected, pair.label.weight, label_smoothing=wrong)
        cut = truncate(example, config.training.max_length)
        if cut is not None:
            examples.append(cut)
    return examples


class _Bar(TrainerCallback):
    def __init__(self, advance: Advance):
        self.advance = advance

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.advance(1)


def _fit(
    store: RunStore, config: Config, iteration: int, examples: list[Example], cut: Rows, path: str, face: Face
) -> None:
    """Train on `examples`; `cut` are the drops of the pairs that could not be, written in the same unit."""
    device = device_for(config.model.device)
    tokenizer = load_tokenizer(path)
    model = load_model(path, dtype=getattr(torch, config.model.dtype), device=device)
    head_of(model)  # asked of these weights, once: those of a resume point may have diverged
    scratch = _scratch(store, iteration)
    args = training_arguments(config.training, str(scratch), config.run.seed + iteration, device)
    set_seed(args.seed)  # adapters begin with random weights
    # Gradient checkpointing keeps no cache, so every answer is then read with its prompt.
    collator = Collator(tokenizer.pad_token_id, share=not config.training.gradient_checkpointing and shares(model))
    with adapted(model, config.training) as trained:
        trainer = PairTrainer(trained, args, config.training, train_dataset=examples, data_collator=collator)
        points = ResumePoints(trainer, scratch)
        done, begin = points.newest()
        with face.bar(f"iteration {iteration}: training", _steps(len(examples), config), "steps", done) as advance:
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(points)
            trainer.add_callback(_Bar(advance))
            trainer.train(resume_from_checkpoint=begin)
    require_finite(model.parameters())  # no loss was computed after the last step
    target = store.folder / f"iteration-{iteration}" / "checkpoint"
    sha = save(model, tokenizer, target, card=_card(config, iteration, len(examples)))
    outcomes = [
        (iteration, pair_id, o.chosen_reward, o.rejected_reward, int(o.chosen_saturated), int(o.rejected_saturated))
        for pair_id, o in sorted(trainer.outcomes.items())
    ]
    store.commit(
        iteration,
        "train",
        merge(
            {"checkpoints": (ROW, [(iteration, "policy", str(target.relative_to(store.folder)), sha)])},
            {"outcomes": (OUTCOMES, outcomes)},
            cut,
            *_metrics(iteration, trainer.state.log_history),
        ),
        info={"pairs": len(examples), "steps": trainer.state.global_step},
    )
    shutil.rmtree(scratch, ignore_errors=True)


def _scratch(store: RunStore, iteration: int) -> Path:
    """Where the Trainer keeps its resume points."""
    return store.folder / f"iteration-{iteration}" / "trainer"


def _steps(pairs: int, config: Config) -> int:
    batch = config.training.per_device_train_batch_size * config.training.gradient_accumulation_steps
    return max(1, round(-(-pairs // batch) * config.training.num_train_epochs))


def _metrics(iteration: int, history: list[dict[str, float]]) -> Iterator[Rows]:
    for entry in history:
        numbers = {k: v for k, v in entry.items() if k == "loss" or "/" in k or k in ("grad_norm", "learning_rate")}
        if "loss" in entry:
            yield metric_rows(iteration, int(entry["step"]), {k: float(v) for k, v in numbers.items()})


def _card(config: Config, iteration: int, pairs: int) -> str:
    training = config.training
    # Hubs refuse a path here, and it would tell how the user's machine is laid out.
    base = f"base_model: {config.model.name_or_path}\n" if is_hub_name(config.model.name_or_path) else ""
    return (
        f"---\n{base}library_name: transformers\ntags: [tso, dpo, preference-optimization]\n---\n\n"
        f"# Policy after iteration {iteration}\n\n"
        f"Trained by tso (TSO, arXiv 2409.02118) on {pairs} pairs sampled and corrected in this iteration, with the "
        f"dual-clip loss: beta {training.beta}, chosen reward within {training.chosen_floor} to {training.chosen_clip}, "
        f"rejected within {-training.rejected_clip} to {training.rejected_ceiling}, "
        f"learning rate {training.learning_rate}, {training.method} fine-tuning. Settings: `{dumps({'seed': config.run.seed})}`; "
        "all of them are in config.yaml beside the iteration folders, the pairs in pairs.parquet.\n"
    )


def encoder(store: RunStore) -> Callable[[str], tuple[int, ...]]:
    """A function text -> token ids with the end-of-turn token, as a finished answer of the policy would have."""
    return partial(answer_ids, load_tokenizer(located(store.folder, *store.checkpoint(0, "policy"))))


def remove_unfinished(folder: Path) -> None:
    """Sweep what a killed run and its control left half-written; what is finished has its final name."""
    for place in (folder, folder / "control"):
        for name in ("iteration-*/*.part", "final.part", "metrics.part", ".report.html.*.part"):
            for part in place.glob(name):
                if part.is_dir() and not part.is_symlink():
                    shutil.rmtree(part)
                else:
                    part.unlink(missing_ok=True)
