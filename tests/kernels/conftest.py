"""Small random problems for the kernels' tests, and the arithmetic that compares two answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from tso_kernels import reference
from tso_kernels.checks import make_rule
from tso_kernels.options import IGNORE


@dataclass(frozen=True)
class Problem:
    """Hidden states, a head, labels and reference log-probabilities for B pairs."""

    hidden: Tensor  # [2B, T, H]
    weight: Tensor  # [V, H]
    labels: Tensor  # [2B, T]
    ref_chosen: Tensor  # [B]
    ref_rejected: Tensor  # [B]
    bias: Tensor | None = None  # [V]

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers, rounded to `dtype`; reference log-probabilities stay at least fp32."""
        wide = torch.promote_types(dtype, torch.float32)
        heads = {name: None if t is None else t.to(dtype) for name, t in self._head().items()}
        return replace(self, **heads, ref_chosen=self.ref_chosen.to(wide), ref_rejected=self.ref_rejected.to(wide))

    def leaves(self) -> list[Tensor]:
        """Fresh leaves: hidden, weight and, if there is one, bias."""
        return [t.detach().clone().requires_grad_() for t in self._head().values() if t is not None]

    def _head(self) -> dict[str, Tensor | None]:
        return {"hidden": self.hidden, "weight": self.weight, "bias": self.bias}

    def run(self, loss: Callable[..., Any], upstream: float = 1.0, **options: Any) -> tuple[Any, list[Tensor]]:
        """The output of `loss`, and the gradients of upstream * its summed loss by every leaf."""
        leaves = self.leaves()
        if self.bias is not None:
            options["bias"] = leaves[2]
        output = loss(*leaves[:2], self.labels, self.ref_chosen, self.ref_rejected, **options)
        return output, list(torch.autograd.grad(output.loss.sum() * upstream, leaves))

    def define(self, upstream: float = 1.0, **options: Any) -> tuple[Any, list[Tensor]]:
        """The same from the definition, on this problem's numbers in their own dtype."""
        clips = {key: options.pop(key, default) for key, default in _RULE.items()}
        rule = make_rule(**clips)

        def loss(*tensors: Tensor, **more: Any) -> Any:
            return reference.linear_dual_clip_loss(*tensors, rule, **more)

        return self.run(loss, upstream, **options)


_RULE = {"beta": 0.1, "chosen_clip": float("inf"), "rejected_clip": float("inf")}


def make_problem(
    seed: int = 0,
    pairs: int = 3,
    tokens: int = 12,
    width: int = 8,
    vocabulary: int = 37,
    share: float = 0.6,
    bias: bool = False,
    spread: float = 4.0,
) -> Problem:
    """A float64 problem whose references are `spread` nats (standard deviation) away from the policy."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    hidden, weight = normal(2 * pairs, tokens, width), normal(vocabulary, width)
    labels = torch.randint(0, vocabulary, (2 * pairs, tokens), generator=g)
    labels[torch.rand(labels.shape, generator=g) > share] = IGNORE
    logps = reference.linear_sequence_logps(hidden, weight, labels) + spread * normal(2 * pairs)
    return Problem(hidden, weight, labels, *logps.chunk(2), normal(vocabulary) if bias else None)


def relative_error(got: Tensor, want: Tensor) -> float:
    """|got - want| / |want|, in the Euclidean norm and in float64."""
    got, want = got.detach(), want.detach().double()
    return float((got.double() - want).norm() / want.norm().clamp_min(1e-300))


@pytest.fixture(scope="session")
def problems() -> Callable[..., Problem]:
    return make_problem


@pytest.fixture(scope="session")
def error() -> Callable[[Tensor, Tensor], float]:
    return relative_error
