"""TRL's DPOTrainer with the dual-clip loss of this package, computed without logits: a drop-in for `loss_type="sigmoid"`.

    from tso_kernels.integrations.trl import DualClipConfig as DPOConfig, DualClipTrainer as DPOTrainer

With infinite bounds and label_smoothing=0.0 (the defaults) losses and gradients are TRL's own. Precomputed reference
log-probs, a reference model, adapters of PEFT in the layers (LoRA and its like) and torch_compile work as they do there.
TRL's "sigmoid" ignores label_smoothing; this loss applies it. What the fused loss does not make, it does not log or
return: entropy, mean logits and token accuracy, and the logits of `predict`; it adds clip/chosen, clip/rejected and
clip/saturated. Vision datasets, and adapters that act around the model (prompt tuning), are refused. Written against TRL
1.16.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import use_adapter

from tso_kernels import checks
from tso_kernels.api import linear_dual_clip_loss, linear_sequence_logps
from tso_kernels.integrations import hf
from tso_kernels.options import IGNORE, LinearDualClipOutput

_NOT_OF_THE_MODEL = ("completion_mask", "ref_chosen_logps", "ref_rejected_logps")  # of a batch, as TRL has it


@dataclass
class DualClipConfig(DPOConfig):
    """`DPOConfig` with the bounds. Everything else is TRL's, but for `label_smoothing`, in [0, 0.5), which this loss applies
    where TRL's "sigmoid" ignores it. Raises TypeError or ValueError for values that the loss would refuse.
    """

    chosen_clip: float = field(
        default=math.inf,
        metadata={"help": "Reward of the chosen side above which it is pushed no further; inf for no bound."},
    )
    rejected_clip: float = field(
        default=math.inf,
        metadata={"help": "Minus the reward of the rejected side below which it is pushed no further; inf for none."},
    )
    memory_budget: int | None = field(
        default=None, metadata={"help": "Bytes that the loss may work with; None: see linear_dual_clip_loss."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _options(self)


class DualClipTrainer(DPOTrainer):
    """`trl.DPOTrainer` whose loss is `linear_dual_clip_loss`. Raises ValueError for what this loss has not: options,
    adapters that act around the model, output layers that do more than a product, compute_metrics, vision datasets.
    """

    def __init__(self, model: Any, ref_model: Any = None, args: DPOConfig | None = None, **kwargs: Any) -> None:
        config = DualClipConfig() if args is None else args
        self._clips, self._memory_budget = _options(config)
        _check(config)
        if kwargs.get("compute_metrics") is not None:
            raise ValueError(_NO_METRICS)
        if kwargs.get("peft_config") is not None:
            hf.check_adapter(kwargs["peft_config"])
        super().__init__(model, ref_model, config, **kwargs)
        if self._is_vision_dataset:
            raise ValueError("the dataset has images: vision datasets are not supported here; use trl.DPOTrainer")
        if self.accelerator.num_processes > 1 and self.accelerator.state.dynamo_plugin.backend.value != "NO":
            # accelerate loses the wrapper inside the compiled module when it unwraps it, and the gradient exchange with it
            raise ValueError(
                "torch_compile=True (or accelerate's dynamo_backend) works in one process only: leave it out under DDP and "
                "FSDP, or compile the layers of the model yourself (layer.compile())"
            )
        if self.aux_loss_enabled:
            raise ValueError(
                "a router's auxiliary loss is not added here: set router_aux_loss_coef=0.0, or use trl.DPOTrainer"
            )
        hf.head_of(self.model)  # an adapted or unusual output layer is refused before training, not in it

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        """(chosen, rejected) [B] under the reference: its own model, or the policy's without its adapter."""
        inner = self.accelerator.unwrap_model(model)

        def forward() -> Tensor:
            return linear_sequence_logps(*self._tensors(inner, inputs), **self._options(inner))

        off = disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs)
        with torch.no_grad(), off, self._reference_adapter(), self.accelerator.autocast():
            logps: Tensor = hf.run_as_forward(model, inner, forward)
        return logps.chunk(2)

    def _reference_adapter(self) -> AbstractContextManager[Any]:
        peft_config = getattr(self.accelerator.unwrap_model(self.model), "peft_config", None)
        if self.ref_model is not None or peft_config is None:
            return nullcontext()
        adapter: AbstractContextManager[Any] = use_adapter(
            self.accelerator.unwrap_model(self.model), adapter_name="ref" if "ref" in peft_config else None
        )
        return adapter

    def _tensors(self, inner: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states, the head's weight and shifted labels; the backbone gets of a batch what TRL gives it."""
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, IGNORE)
        given = {name: value for name, value in inputs.items() if name not in _NOT_OF_THE_MODEL}
        return hf.hidden_states(inner, **given), hf.head_of(inner).weight, hf.shifted(labels)

    def _options(self, inner: Any) -> dict[str, Any]:
        return hf.head_of(inner).options() | {"memory_budget": self._memory_budget}

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if self.precompute_ref_logps:
            chosen, rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            chosen, rejected = self.compute_ref_log_probs(model if self.ref_model is None else self.ref_model, inputs)
        inner = self.accelerator.unwrap_model(model)

        def forward() -> LinearDualClipOutput:
            with self.accelerator.autocast():
                return linear_dual_clip_loss(
                    *self._tensors(inner, inputs),
                    chosen,
                    rejected,
                    beta=self.beta,
                    chosen_clip=self._clips[0],
                    rejected_clip=self._clips[1],
                    label_smoothing=self.label_smoothing,
                    **self._options(inner),
                )

        out = hf.run_as_forward(model, inner, forward)
        self._note(inputs, out)
        return (out.loss, out) if return_outputs else out.loss

    def _note(self, inputs: dict[str, Any], out: LinearDualClipOutput) -> None:
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            tokens = self.accelerator.gather_for_metrics(inputs["attention_mask"].sum()).sum().item()
            self._total_train_tokens += tokens // self._tp_size
        saturated = (~out.chosen_active).float(), (~out.rejected_active).float()
        columns = {
            "rewards/chosen": out.chosen_rewards,
            "rewards/rejected": out.rejected_rewards,
            "rewards/margins": out.chosen_rewards - out.rejected_rewards,
            "rewards/accuracies": (out.chosen_rewards > out.rejected_rewards).float(),
            "logps/chosen": out.chosen_logps,
            "logps/rejected": out.rejected_logps,
            "clip/chosen": saturated[0],
            "clip/rejected": saturated[1],
            "clip/saturated": saturated[0] * saturated[1],
        }
        metrics = self._metrics[mode]
        metrics["num_tokens"] = [self._total_train_tokens]
        gathered = self.accelerator.gather(torch.stack([c.float() for c in columns.values()], dim=1))
        for name, mean in zip(columns, gathered.mean(0).tolist(), strict=True):
            metrics[name].append(mean)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        """The loss alone, also in `predict`: there are no logits to hand on."""
        if self.compute_metrics is not None:
            raise ValueError(_NO_METRICS)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None


_NO_METRICS = "compute_metrics needs logits, which this loss never makes; leave it out, or use trl.DPOTrainer"


def _options(config: DPOConfig) -> tuple[tuple[Any, Any], int | None]:
    """The bounds and the memory budget of a config that may be TRL's own, all checked as the loss would."""
    clips = getattr(config, "chosen_clip", math.inf), getattr(config, "rejected_clip", math.inf)
    checks.make_rule(config.beta, *clips)
    if not 0 <= checks.check_number("label_smoothing", config.label_smoothing) < 0.5:
        raise ValueError(
            f"label_smoothing must be in [0, 0.5), the chance that a label is wrong: {config.label_smoothing}"
        )
    budget = getattr(config, "memory_budget", None)
    return clips, None if budget is None else checks.check_count("memory_budget", budget, 1)


def _check(config: DPOConfig) -> None:
    """Refuse, by name, what TRL's loss offers and this one does not."""
    wrong = {
        "loss_type": config.loss_type not in ("sigmoid", ["sigmoid"]),
        "loss_weights": config.loss_weights not in (None, [1.0]),
        "f_divergence_type": str(getattr(config.f_divergence_type, "value", config.f_divergence_type)) != "reverse_kl",
        "ld_alpha": config.ld_alpha is not None,
        "use_weighting": config.use_weighting,
    }
    names = [name for name, is_wrong in wrong.items() if is_wrong]
    if names:
        raise ValueError(
            f"{', '.join(names)}: the dual-clip loss is the sigmoid loss with bounds, and has nothing else of TRL's; leave "
            "these at their defaults, or use trl.DPOTrainer"
        )
