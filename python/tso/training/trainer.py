"""A transformers.Trainer whose loss is tso_kernels' dual-clip loss on the hidden states.

The only file that imports tso_kernels. The full logits are never made: the model's backbone runs, and the kernel takes
the head's weight. Knows batches and models; nothing of the store or of iterations.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.modeling_layers import GradientCheckpointingLayer
from tso_kernels import linear_dual_clip_loss, linear_sequence_logps
from tso_kernels.integrations import hf

from tso.config import TrainingSection
from tso.errors import ConfigError, MissingDependency, ModelError
from tso.training.collate import Side, batch_of
from tso.training.states import hidden_states, on_device, shares


@dataclass(slots=True)
class PairOutcome:
    """Rewards of a pair when training last saw it, and whether each side was beyond its bound."""

    chosen_reward: float
    rejected_reward: float
    chosen_saturated: bool
    rejected_saturated: bool


def head_of(model: PreTrainedModel) -> hf.Head:
    """The output layer of a causal LM with what its family does to the logits.

    Raises ModelError where that is more than a scale and a softcap, or where the layer is adapted.
    """
    try:
        return hf.head_of(model)
    except (TypeError, ValueError) as err:
        raise ModelError(f"{type(model).__name__} cannot be trained with the fused loss: {err}") from err


@torch.no_grad()
def side_logps(
    model: PreTrainedModel, sides: Sequence[Side], pad_token_id: int, batch_size: int, *, average: bool
) -> Iterator[list[float]]:
    """Log-probs of answers in nats, `batch_size` at a time: sums over an answer's tokens, or means with `average`.

    Neighbours with one prompt share its reading, where the model can.
    """
    head = head_of(model)
    device = next(model.parameters()).device
    model.eval()
    share = shares(model)
    for start in range(0, len(sides), batch_size):
        batch = on_device(batch_of(sides[start : start + batch_size], pad_token_id, share=share), device)
        logps = linear_sequence_logps(
            hidden_states(model, batch),
            head.weight,
            batch["labels"],
            average=average,
            **head.options(),
        )
        yield logps.double().cpu().tolist()


class PairTrainer(Trainer):
    """Trains on `Example`s whose reference log-probs are already known; keeps the last outcome of every pair."""

    def __init__(self, model: PreTrainedModel, args: TrainingArguments, options: TrainingSection, **kwargs: Any):
        super().__init__(model, args, **kwargs)
        self.options = options
        self.outcomes: dict[str, PairOutcome] = {}
        self._sums: dict[str, list[torch.Tensor]] = defaultdict(list)
        # Our loss divides by the pairs of the global batch itself; the Trainer must not divide again.
        self.model_accepts_loss_kwargs = True

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """Pairs of the global batch: over the accumulation steps, and over the ranks."""
        count = torch.tensor(sum(len(b["pair_ids"]) for b in batch_samples), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        inner = self.accelerator.unwrap_model(model)
        _stop_dropout(inner)
        head = head_of(inner)
        options = self.options
        with self.accelerator.autocast():  # its own is around the model's forward, which is not called here
            out = linear_dual_clip_loss(
                hidden_states(inner, inputs),
                head.weight,
                inputs["labels"],
                inputs["ref_chosen_logps"],
                inputs["ref_rejected_logps"],
                beta=options.beta,
                chosen_clip=(options.chosen_floor, options.chosen_clip),
                rejected_clip=(-options.rejected_clip, options.rejected_ceiling),
                label_smoothing=inputs["label_smoothing"],
                weight=inputs["weight"],
                sft_weight=options.sft_weight,
                average=options.average_logps,
                normalizer=float(num_items_in_batch) if num_items_in_batch is not None else None,
                **head.options(),
            )
        self._note(inputs["pair_ids"], out)
        # Gradients are averaged over ranks, while the normaliser already counts the pairs of all of them.
        loss = out.loss * self.accelerator.num_processes if self.args.world_size > 1 else out.loss
        return (loss, out) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Forward and backward products of the tokens read, as the Trainer counts them: 6 a token and weight."""
        tokens: int = sum(level["input_ids"].numel() for level in inputs["levels"])
        weights = self.accelerator.unwrap_model(self.model).num_parameters(exclude_embeddings=True)
        return 6 * tokens * int(weights)

    def _note(self, pair_ids: list[str], out: Any) -> None:
        columns = [
            out.chosen_rewards.detach().float(),
            out.rejected_rewards.detach().float(),
            (~out.chosen_active).float(),
            (~out.rejected_active).float(),
        ]
        chosen, rejected, clip_w, clip_l = columns
        require_finite([chosen, rejected])
        noted = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "logps/chosen": out.chosen_logps.detach().float(),
            "logps/rejected": out.rejected_logps.detach().float(),
            "clip/chosen": clip_w,
            "clip/rejected": clip_l,
            "clip/saturated": clip_w * clip_l,
        }
        for name, values in noted.items():
            self._sums[name].append(values.cpu())
        for pair_id, w, r, cw, cl in zip(pair_ids, *(c.tolist() for c in columns), strict=True):
            self.outcomes[pair_id] = PairOutcome(w, r, bool(cw), bool(cl))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log, under the names that DPO trainers use."""
        for name, parts in self._sums.items():
            logs[name] = float(torch.cat(parts).mean())
        self._sums.clear()
        super().log(logs, start_time)


def _stop_dropout(model: torch.nn.Module) -> None:
    """Eval mode, so that the policy is computed as its reference was: equal weights have rewards of 0.

    Layers that are computed again for their gradient are so in training mode only; they have it until they begin.
    """
    model.eval()
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for layer in layers:
        if layer.gradient_checkpointing:
            layer.training = True
            if not isinstance(layer._gradient_checkpointing_func, _EvalMode):
                layer._gradient_checkpointing_func = _EvalMode(layer, layer._gradient_checkpointing_func)


@dataclass(frozen=True, slots=True)
class _EvalMode:
    """What computes a layer again, with the layer in eval mode both times."""

    layer: torch.nn.Module
    recompute: Callable[..., Any]

    def __call__(self, forward: Callable[..., Any], *inputs: Any) -> Any:
        def still(*inputs: Any) -> Any:
            self.layer.training = False
            try:
                return forward(*inputs)
            finally:
                self.layer.training = True

        return self.recompute(still, *inputs)


def require_finite(values: Iterable[torch.Tensor]) -> None:
    """Raises ConfigError, which says what to change, when training has diverged."""
    if not all(bool(v.isfinite().all()) for v in values):
        raise ConfigError(
            "training diverged: rewards or weights are not finite any more; "
            "lower training.learning_rate and choose another run.output_dir"
        )


def training_arguments(options: TrainingSection, output_dir: str, seed: int, device: torch.device) -> TrainingArguments:
    """Our options under the Trainer's names. What it saves are resume points; the checkpoint is the loop's work."""
    # The option's name changes in transformers 6, so it is given only where it is wanted.
    recompute: dict[str, Any] = {"gradient_checkpointing": True} if options.gradient_checkpointing else {}
    return TrainingArguments(
        **recompute,
        output_dir=output_dir,
        seed=seed,
        data_seed=seed,
        learning_rate=options.learning_rate,
        num_train_epochs=options.num_train_epochs,
        per_device_train_batch_size=options.per_device_train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        lr_scheduler_type=options.lr_scheduler_type,
        warmup_steps=options.warmup_ratio,  # a float below 1 is a share of all steps
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        bf16=options.bf16,
        report_to=options.report_to,
        save_strategy="steps" if options.save_steps else "no",
        save_steps=options.save_steps or 1,
        logging_steps=1,
        logging_strategy="steps",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=device.type == "cuda",
    )


def check_training(options: TrainingSection, device: torch.device) -> None:
    """Raises ConfigError, or MissingDependency, for options that the Trainer or its integrations would refuse."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            args = training_arguments(options, folder, 0, device)
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()  # asks for its package
    except (ValueError, RuntimeError, ImportError) as err:
        raise ConfigError(f"training: {' '.join(str(err).split())[:300]}") from err
    try:
        get_scheduler(args.lr_scheduler_type, torch.optim.SGD([torch.zeros(1)]), 1, 2)
    except (ValueError, TypeError) as err:
        raise ConfigError(
            f"training.lr_scheduler_type={options.lr_scheduler_type} needs settings of its own, which tso does not have; "
            "choose another, such as linear or cosine"
        ) from err
    if options.method == "lora":
        _peft()


def _peft() -> Any:
    try:
        import peft
    except ImportError as err:
        raise MissingDependency("training.method=lora needs peft: pip install 'tso-align[peft]'") from err
    return peft


def check_adapters(model: PreTrainedModel, options: TrainingSection) -> None:
    """Raises ConfigError for a model that PEFT cannot adapt. The model is of no use afterwards."""
    if options.method == "lora":
        try:
            _wrapped(model, options)
        except ValueError as err:
            why = " ".join(str(err).split())[:300]
            raise ConfigError(f"training.method=lora cannot adapt {type(model).__name__}: {why}; use full") from err


def _wrapped(model: PreTrainedModel, options: TrainingSection) -> Any:
    peft = _peft()
    settings = peft.LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, settings)


@contextlib.contextmanager
def adapted(model: PreTrainedModel, options: TrainingSection) -> Iterator[Any]:
    """The model as it is trained: itself, or wrapped in LoRA adapters that are merged into it afterwards."""
    if options.method == "full":
        yield model
        return
    wrapped = _wrapped(model, options)
    yield wrapped
    wrapped.merge_and_unload()
