"""Two processes on one machine (gloo): python two_ranks.py FOLDER ddp | fsdp | fsdp-tied, started by test_kernels_ranks.py.

Each rank trains on its half of a batch; the gradients must be those of one process with the whole batch. The file
rank-0.txt says "equal" at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from tso_kernels import linear_dual_clip_loss, linear_sequence_logps

PAIRS, TOKENS, WIDTH, VOCABULARY = 4, 6, 8, 37


class Model(nn.Module):
    def __init__(self, tied: bool):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=not tied)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, batch):
        hidden = self.body(torch.tanh(self.embed(batch["ids"])))
        return self.loss(hidden, batch)

    def loss(self, hidden, batch):
        head = {"bias": self.head.bias}
        out = linear_dual_clip_loss(
            hidden, self.head.weight, batch["labels"], *batch["refs"], chosen_clip=0.3, sft_weight=0.1, **head
        )
        # A second path, so that both kinds of gradient are seen: log-probabilities, differentiated in the backward.
        return out.loss + 0.01 * linear_sequence_logps(hidden, self.head.weight, batch["labels"], **head).mean()


def make(tied):
    torch.manual_seed(1)
    return Model(tied)


def batch_for(pairs):
    g = torch.Generator().manual_seed(2)
    ids = torch.randint(VOCABULARY, (2, PAIRS, TOKENS), generator=g)
    labels = ids.roll(-1, dims=2)
    labels[..., -1] = -100
    refs = torch.randn(2, PAIRS, generator=g) * 3 - 20
    return {"ids": ids[:, pairs].flatten(0, 1), "labels": labels[:, pairs].flatten(0, 1), "refs": refs[:, pairs]}


def whole_batch(tied):
    model = make(tied)
    model(batch_for(slice(None))).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def step(kind, rank):
    model = make(kind == "fsdp-tied")
    mine = batch_for(slice(rank * PAIRS // 2, (rank + 1) * PAIRS // 2))
    if kind == "ddp":
        wrapped = DistributedDataParallel(model)
        wrapped(mine).backward()
    elif kind == "fsdp":
        # The head is a group of its own that nobody calls: its weight is a DTensor when the loss takes it.
        mesh = init_device_mesh("cpu", (2,))
        for part in (model.embed, model.body, model.head):
            fully_shard(part, mesh=mesh)
        assert hasattr(model.head.weight, "full_tensor")
        hidden = model.body(torch.tanh(model.embed(mine["ids"])))
        model.loss(hidden, mine).backward()
    else:
        # Tied weights belong to the root, whose forward gathers them: the loss is inside it, and sees plain tensors.
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        model(mine).backward()
    return model


def work(rank, folder, kind):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = step(kind, rank)
    want = whole_batch(kind == "fsdp-tied")
    for name, p in model.named_parameters():
        grad = p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
        torch.testing.assert_close(grad, want[name], rtol=1e-5, atol=1e-7)
    dist.barrier()
    dist.destroy_process_group()
    Path(folder, f"rank-{rank}.txt").write_text("equal", encoding="utf-8")


if __name__ == "__main__":
    mp.spawn(work, args=tuple(sys.argv[1:]), nprocs=2)
