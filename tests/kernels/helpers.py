"""Random problems for the kernels, and the definition's answer to them."""

import math
from dataclasses import dataclass, field

import torch
from tso_kernels import reference

IGNORE = reference.IGNORE


@dataclass
class Problem:
    """hidden [2B, T, H], weight [V, H], labels [2B, T] with random counted spans, refs [B]."""

    hidden: torch.Tensor
    weight: torch.Tensor
    labels: torch.Tensor
    refs: tuple[torch.Tensor, torch.Tensor]
    bias: torch.Tensor | None = None
    options: dict = field(default_factory=dict)
    head: dict = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> "Problem":
        bias = None if self.bias is None else self.bias.to(dtype)
        return Problem(
            self.hidden.to(dtype), self.weight.to(dtype), self.labels, self.refs, bias, self.options, self.head
        )


def problem(seed: int, *, pairs: int = 3, tokens: int = 7, hidden: int = 8, vocabulary: int = 37, **extra) -> Problem:
    gen = torch.Generator().manual_seed(seed)
    labels = torch.randint(vocabulary, (2 * pairs, tokens), generator=gen)
    start = torch.randint(tokens, (2 * pairs, 1), generator=gen)
    stop = start + 1 + torch.randint(tokens, (2 * pairs, 1), generator=gen)
    place = torch.arange(tokens)
    labels[(place < start) | (place >= stop)] = IGNORE
    states = torch.randn(2 * pairs, tokens, hidden, generator=gen)
    weight = torch.randn(vocabulary, hidden, generator=gen) * 0.5
    whole = Problem(states, weight, labels, (torch.zeros(pairs), torch.zeros(pairs)), **extra)
    logps = define(whole.to(torch.float64)).logps.detach()
    noise = torch.randn(2 * pairs, generator=gen)
    whole.refs = tuple((logps + 2 * noise).float().chunk(2))
    return whole


@dataclass
class Definition:
    loss: torch.Tensor
    logps: torch.Tensor
    grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None


def define(p: Problem, *, grads: bool = False, normalizer: float | None = None) -> Definition:
    """The answer of the definition in the dtype of `p`, gradients by autograd."""
    hidden, weight = p.hidden.clone().requires_grad_(), p.weight.clone().requires_grad_()
    bias = None if p.bias is None else p.bias.clone().requires_grad_()
    options = {"beta": 0.1, "chosen_clip": math.inf, "rejected_clip": math.inf, "label_smoothing": 0.0, **p.options}
    sft, average = options.pop("sft_weight", 0.0), options.pop("average", False)
    scale = options.pop("pair_weight", 1.0)
    sums = reference.linear_sequence_logps(hidden, weight, p.labels, bias=bias, **p.head)
    means = reference.linear_sequence_logps(hidden, weight, p.labels, bias=bias, average=True, **p.head)
    logps = means if average else sums
    chosen, rejected = logps.chunk(2)
    refs = [r.to(logps.dtype) for r in p.refs]
    losses = reference.pair_terms(chosen, rejected, *refs, weight=scale, **options)[0]
    total = (losses - sft * scale * means.chunk(2)[0]).sum() / (normalizer or len(losses))
    if not grads:
        return Definition(total, logps)
    wanted = [hidden, weight] + ([] if bias is None else [bias])
    found = torch.autograd.grad(total, wanted)
    return Definition(total, logps, (*found, None)[:3])
