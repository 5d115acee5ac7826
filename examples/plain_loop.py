"""The dual-clip loss in a plain torch loop: no Trainer, no transformers, a tiny random model, seconds on a CPU.

    python examples/plain_loop.py

The task is made up so that the outcome can be checked: after a prompt of random tokens, an answer that counts upward
is preferred to one that counts downward. What carries over to a real model is `train`: hidden states in, the output
layer's weight beside them, and the log-probs of a frozen copy as the reference.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from tso_kernels import linear_dual_clip_loss, linear_sequence_logps

VOCABULARY, HIDDEN, PROMPT, ANSWER = 64, 32, 6, 8
IGNORE = -100


class TinyModel(nn.Module):
    """Stands in for a language model: `hidden` is its backbone, `head` its output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, HIDDEN)
        self.mix = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def hidden(self, ids: Tensor) -> Tensor:
        """[N, T] token ids -> [N, T, HIDDEN]; the logits would be head(hidden), and are never made here."""
        return self.mix(self.embed(ids))[0]


def make_pairs(count: int) -> tuple[Tensor, Tensor]:
    """(ids, labels), both [2 * count, T]: rows 0..count-1 chosen, the rest rejected, same prompts in the same order.

    labels[n, t] is the token that position t predicts, -100 for the prompt: only answers count.
    """
    prompt = torch.randint(VOCABULARY, (count, PROMPT))
    steps = torch.arange(1, ANSWER + 1)
    up, down = (prompt[:, -1:] + steps) % VOCABULARY, (prompt[:, -1:] - steps) % VOCABULARY
    whole = torch.cat([torch.cat([prompt, up], 1), torch.cat([prompt, down], 1)])
    labels = whole[:, 1:].clone()
    labels[:, : PROMPT - 1] = IGNORE
    return whole[:, :-1], labels


def train(policy: TinyModel, steps: int, pairs: int) -> None:
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        ids, labels = make_pairs(pairs)
        with torch.no_grad():
            ref_chosen, ref_rejected = linear_sequence_logps(
                reference.hidden(ids), reference.head.weight, labels
            ).chunk(2)
        out = linear_dual_clip_loss(
            policy.hidden(ids), policy.head.weight, labels, ref_chosen, ref_rejected,
            beta=0.2, chosen_clip=2.0, rejected_clip=1.0,
        )  # fmt: skip
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        if step == 1 or step % 15 == 0:
            margin = (out.chosen_rewards - out.rejected_rewards).mean()
            bound = (~out.rejected_active).float().mean()
            print(
                f"step {step:3d}   loss {out.loss:.4f}   margin {margin:6.3f}   rejected sides at their bound {bound:.0%}"
            )


@torch.no_grad()
def preferred(policy: TinyModel, pairs: int) -> float:
    """Share of unseen pairs whose upward answer is the likelier one."""
    ids, labels = make_pairs(pairs)
    up, down = linear_sequence_logps(policy.hidden(ids), policy.head.weight, labels).chunk(2)
    return float((up > down).float().mean())


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the model is so small that threads would wait for one another
    policy = TinyModel()
    before = preferred(policy, 500)
    train(policy, steps=60, pairs=32)
    print(f"upward answers preferred: {before:.0%} before, {preferred(policy, 500):.0%} after")


if __name__ == "__main__":
    main()
