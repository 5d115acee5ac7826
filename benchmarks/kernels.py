"""The loss from hidden states against every peer that is installed, in one process on the same batch.

    python benchmarks/kernels.py                # small shapes; minutes on a CPU
    python benchmarks/kernels.py --shapes gpu   # the shapes of real models, on a GPU
    python benchmarks/kernels.py --quick        # a look at whether everything runs; its times mean nothing

A job is loss and gradients (of the hidden states, and of the head unless it is frozen) of a batch of pairs, from hidden
states and known reference log-probs. Each contestant gets the rows it would get in its own trainer, at their best: those
that can skip prompt and padding are handed completion rows only. Peers have no bounds: where a share of the sides is
saturated they compute plain DPO on the same batch. Rounds are interleaved; a round runs every contestant once. Printed
and stored: median with 10th and 90th percentile, the median as a multiple of the bare matrix products, ours against
each, peak memory above the inputs, and the relative error of the gradients against float64.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import processor, resident
from torch import Tensor
from tso_kernels import linear_dual_clip_loss, linear_sequence_logps

IGNORE = -100
BETA, CLIP = 0.1, 0.5
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """A batch: B pairs of T tokens, of which `share` are completion; `saturated` is the share of sides beyond a bound."""

    name: str
    width: int
    vocabulary: int
    pairs: int = 4
    tokens: int = 2048
    share: float = 0.5
    saturated: float = 0.0
    frozen: bool = False

    @property
    def title(self) -> str:
        head = "frozen head" if self.frozen else "head trained"
        return (
            f"{self.name}: H={self.width} V={self.vocabulary}, {self.pairs} pairs x 2 x {self.tokens} tokens, "
            f"{self.share:.0%} completion, {self.saturated:.0%} saturated, {head}"
        )


GPU = [
    Case("Llama-3-8B", 4096, 128256),
    Case("Gemma-2-2B", 2304, 262144),
    Case("Gemma-3-270M", 640, 262144),
    Case("SmolLM2-135M", 576, 49152),
]
SMALL = [Case("SmolLM2-135M", 576, 49152, tokens=256), Case("Gemma-3-270M", 640, 262144, tokens=256)]


def cases(shapes: str, quick: bool, shapes_only: bool) -> list[Case]:
    """Every shape at the middle setting; then the first one at the others."""
    base = [Case("tiny", 64, 1031, pairs=2, tokens=24)] if quick else GPU if shapes == "gpu" else SMALL
    if shapes_only:
        return base
    first = base[0]
    more = [replace(first, share=share) for share in (0.25, 1.0)]
    more += [replace(first, saturated=part) for part in (0.5, 1.0)]
    more += [replace(first, frozen=True), replace(first, frozen=True, saturated=0.5)]
    return [*base, *more]


@dataclass
class Batch:
    hidden: Tensor  # [2B, T, H]
    weight: Tensor  # [V, H]
    labels: Tensor  # [2B, T]
    refs: Tensor  # [2, B]
    clip: float
    rows: Tensor  # positions of completion tokens in the flattened batch
    slots: Tensor  # [R] sequence of each


def make_batch(case: Case, device: torch.device, dtype: torch.dtype) -> Batch:
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(2 * case.pairs, case.tokens, case.width, generator=g).to(device, dtype)
    weight = (torch.randn(case.vocabulary, case.width, generator=g) / case.width**0.5).to(device, dtype)
    labels = torch.randint(case.vocabulary, (2 * case.pairs, case.tokens), generator=g)
    labels[:, : round(case.tokens * (1 - case.share))] = IGNORE
    labels = labels.to(device)
    with torch.no_grad():
        logps = linear_sequence_logps(hidden, weight, labels)
    beyond = torch.arange(2 * case.pairs, device=device) < round(2 * case.pairs * case.saturated)
    side = torch.tensor([1.0, -1.0], device=device).repeat_interleave(case.pairs)
    # A saturated chosen side has gained much over its reference, a saturated rejected side has lost much.
    refs = logps - side * torch.where(beyond, 3 * CLIP / BETA, 0.2 * CLIP / BETA)
    rows = (labels.flatten() != IGNORE).nonzero().squeeze(1)
    clip = CLIP if case.saturated else float("inf")
    hidden.requires_grad_()
    weight.requires_grad_(not case.frozen)
    return Batch(hidden, weight, labels, refs.view(2, -1), clip, rows, rows // case.tokens)


def dpo(batch: Batch, logps: Tensor) -> Tensor:
    """Plain DPO of per-row log-probs."""
    sums = torch.zeros(batch.refs.numel(), device=logps.device).index_add(0, batch.slots, logps.float())
    ratios = sums.view(2, -1) - batch.refs
    return -F.logsigmoid(BETA * (ratios[0] - ratios[1])).mean()


def picked(batch: Batch) -> tuple[Tensor, Tensor]:
    """Completion rows [R, H], and their labels [R]."""
    return batch.hidden.flatten(0, 1)[batch.rows], batch.labels.flatten()[batch.rows]


def ours(batch: Batch, memory_budget: int | None = None) -> Tensor:
    return linear_dual_clip_loss(
        batch.hidden, batch.weight, batch.labels, *batch.refs, beta=BETA, chosen_clip=batch.clip,
        rejected_clip=batch.clip, memory_budget=memory_budget,
    ).loss  # fmt: skip


def ours_least_memory(batch: Batch) -> Tensor:
    return ours(batch, memory_budget=1)


def ours_online(batch: Batch) -> Tensor:
    """With the reference pass in the same step, under a copy of the policy's own head."""
    with torch.no_grad():
        refs = linear_sequence_logps(batch.hidden, batch.weight, batch.labels).view(2, -1)
    return ours(replace(batch, refs=refs))


def eager(batch: Batch) -> Tensor:
    rows, labels = picked(batch)
    logits = (rows @ batch.weight.t()).float()
    return dpo(batch, torch.log_softmax(logits, -1).gather(1, labels[:, None]).squeeze(1))


def trl(batch: Batch) -> Tensor:
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    rows, labels = picked(batch)
    out = ChunkedLogProbFunction.apply(
        rows, batch.weight, None, labels, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs",)
    )
    return dpo(batch, out[0])


def liger(batch: Batch) -> Tensor:
    """It has no precomputed reference: the same hidden states and head stand for it, in its own forward-only pass."""
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss

    loss = LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=True, compiled=batch.hidden.is_cuda)
    head = batch.weight.detach()
    return loss(batch.weight, batch.hidden, batch.labels, None, batch.hidden.detach(), head)[0]


def cce(batch: Batch, filter_eps: str | None = "high") -> Tensor:
    from cut_cross_entropy import linear_cross_entropy

    rows, labels = picked(batch)
    return dpo(batch, -linear_cross_entropy(rows, batch.weight, labels, reduction="none", filter_eps=filter_eps))


def cce_exact(batch: Batch) -> Tensor:
    return cce(batch, None)


def torch_fused(batch: Batch) -> Tensor:
    rows, labels = picked(batch)
    return dpo(batch, -F.linear_cross_entropy(rows, batch.weight, labels, reduction="none"))


def bare_products(batch: Batch) -> None:
    """The three products of a step over completion rows (two with a frozen head), and nothing else."""
    rows = batch.hidden.detach().flatten(0, 1)[batch.rows]
    weight = batch.weight.detach()
    logits = rows @ weight.t()
    _ = logits @ weight
    if batch.weight.requires_grad:
        _ = logits.t() @ rows


@dataclass
class Contestant:
    name: str
    loss: Callable[[Batch], Tensor]
    needs: str | None = None  # a package
    cuda: bool = False  # only there

    def missing(self, device: torch.device) -> str | None:
        if self.needs and importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        if self.cuda and device.type != "cuda":
            return "runs on CUDA only"
        if self.loss is torch_fused and not hasattr(F, "linear_cross_entropy"):
            return "this torch has no linear_cross_entropy"
        return None


CONTESTANTS = [
    Contestant("tso_kernels", ours),
    Contestant("tso_kernels, least memory", ours_least_memory),
    Contestant("tso_kernels, reference in the step", ours_online),
    Contestant("eager", eager),
    Contestant("eager, compiled", torch.compile(eager, dynamic=False), cuda=True),
    Contestant("TRL chunked_logprob", trl, "trl"),
    Contestant("Liger DPO, reference in the step", liger, "liger_kernel"),
    Contestant("cut-cross-entropy", cce, "cut_cross_entropy", cuda=True),
    Contestant("cut-cross-entropy, exact", cce_exact, "cut_cross_entropy", cuda=True),
    Contestant("torch linear_cross_entropy", torch_fused),
]


def step(loss: Callable[[Batch], Tensor], batch: Batch) -> tuple[Tensor, list[Tensor]]:
    value = loss(batch)
    wanted = [t for t in (batch.hidden, batch.weight) if t.requires_grad]
    return value.detach(), list(torch.autograd.grad(value, wanted))


class Clock:
    """Seconds of a call on this device, from a cold cache on a GPU."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.flush = torch.empty(256 << 20, dtype=torch.int8, device=device) if self.cuda else None

    def time(self, call: Callable[[], object]) -> float:
        if self.flush is None:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        self.flush.zero_()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1e3


def peak(call: Callable[[], object], device: torch.device) -> float:
    """MiB above what is held before the call."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    call()
    return resident("VmHWM") - before


def exact_gradients(batch: Batch) -> list[Tensor]:
    """Plain DPO's gradients of hidden states and weight in float64, written out, a few rows of logits at a time."""
    rows, labels = (t.detach() for t in picked(batch))
    rows, weight = rows.double(), batch.weight.detach().double()
    blocks = list(torch.arange(len(rows), device=rows.device).split(256))
    logps = torch.cat([torch.log_softmax(rows[b] @ weight.t(), 1).gather(1, labels[b, None]) for b in blocks])
    sums = torch.zeros(batch.refs.numel(), device=rows.device, dtype=torch.float64)
    ratios = sums.index_add(0, batch.slots, logps.squeeze(1)).view(2, -1) - batch.refs.double()
    slope = BETA * torch.sigmoid(-BETA * (ratios[0] - ratios[1])) / ratios.shape[1]
    coef = torch.stack((slope, -slope)).flatten()[batch.slots]  # -d loss / d log-prob of each row
    d_rows, d_weight = torch.zeros_like(rows), torch.zeros_like(weight)
    for b in blocks:
        grad = torch.softmax(rows[b] @ weight.t(), 1)
        grad.scatter_add_(1, labels[b, None], -torch.ones_like(grad[:, :1])).mul_(coef[b, None])
        d_rows[b] = grad @ weight
        d_weight.addmm_(grad.t(), rows[b])
    d_hidden = torch.zeros(batch.labels.numel(), rows.shape[1], device=rows.device, dtype=torch.float64)
    d_hidden[batch.rows] = d_rows
    return [d_hidden.view(batch.hidden.shape), d_weight]


def errors(case: Case, batch: Batch, runs: dict[str, Callable[[Batch], Tensor]]) -> dict[str, str]:
    """Relative error of the gradients against float64, for jobs that have the same answer."""
    if case.saturated:
        return {}
    exact = exact_gradients(batch)
    found = {}
    for name, loss in runs.items():
        if "in the step" in name:  # another reference, so another gradient
            continue
        _, gradients = step(loss, batch)
        gaps = [float((g.double() - e).norm() / e.norm()) for g, e in zip(gradients, exact, strict=False)]
        found[name] = f"{max(gaps):.1e}"
    return found


def run_case(case: Case, device: torch.device, dtype: torch.dtype, warmups: int, rounds: int) -> list[str]:
    batch = make_batch(case, device, dtype)
    runs = {c.name: c.loss for c in CONTESTANTS if c.missing(device) is None}
    calls: dict[str, Callable[[], object]] = {"bare products": lambda: bare_products(batch)}
    failed = {}
    for name, loss in runs.items():
        try:
            step(loss, batch)
        except Exception as err:  # a peer that fails on this shape is named, and the others go on
            failed[name] = f"{type(err).__name__}: {str(err).splitlines()[0][:90]}"
            continue
        calls[name] = lambda loss=loss: step(loss, batch)
    clock = Clock(device)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmups + rounds):
        for name, call in calls.items():
            seconds = clock.time(call)
            if number >= warmups:
                times[name].append(seconds)
    wrong = errors(case, batch, {n: f for n, f in runs.items() if n in calls})
    bare, mine = (statistics.median(times[name]) for name in ("bare products", "tso_kernels"))
    lines = [
        case.title,
        f"{'':38}{'ms':>10}{'p10':>10}{'p90':>10}{'x bare':>8}{'/ ours':>8}{'peak MiB':>10}{'error':>10}",
    ]
    for name, samples in times.items():
        median = statistics.median(samples)
        low, high = (
            (statistics.quantiles(samples, n=10, method="inclusive")[i] for i in (0, 8))
            if len(samples) > 1
            else (median, median)
        )
        numbers = f"{median * 1e3:10.2f}{low * 1e3:10.2f}{high * 1e3:10.2f}{median / bare:8.2f}{median / mine:8.2f}"
        lines.append(f"{name:38}{numbers}{peak(calls[name], device):10.0f}{wrong.get(name, '-'):>10}")
    lines += [f"{name}: failed on this shape: {why}" for name, why in failed.items()]
    return lines


def describe(device: torch.device, dtype: torch.dtype) -> list[str]:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{processor()}, {torch.get_num_threads()} threads"
    )
    versions = []
    for package in ("torch", "triton", "tso-kernels", "trl", "liger-kernel", "cut-cross-entropy"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    absent = [f"left out: {c.name} ({why})" for c in CONTESTANTS if (why := c.missing(device))]
    return [
        f"date: {date.today().isoformat()}",
        f"device: {name}; {str(dtype).removeprefix('torch.')}; Python {platform.python_version()}",
        "versions: " + ", ".join(versions),
        "command: python benchmarks/kernels.py " + " ".join(sys.argv[1:]),
        *absent,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=["small", "gpu"], default="gpu" if torch.cuda.is_available() else "small")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--quick", action="store_true", help="tiny shapes, two rounds, nothing stored")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warmups", type=int, default=10)
    parser.add_argument("--shapes-only", action="store_true", help="every shape at the middle setting, and no other")
    parser.add_argument("--only", help="run the cases whose title has this in it")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, args.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    warmups, rounds = (1, 2) if args.quick else (args.warmups, args.rounds)
    lines = describe(device, dtype)
    print("\n".join(lines), flush=True)
    kind = device.type if device.type == "cpu" else torch.cuda.get_device_name(device).split()[1].lower()
    part = "".join(f"-{word}" for word in re.findall(r"[a-z0-9]+", (args.only or "").lower()))
    path = RESULTS / f"{date.today().isoformat()}-kernels-{kind}-{str(dtype).removeprefix('torch.')}{part}.txt"
    wanted = [c for c in cases(args.shapes, args.quick, args.shapes_only) if not args.only or args.only in c.title]
    if not wanted:
        parser.error(f"no case has {args.only!r} in its title")
    for case in wanted:
        found = ["", *run_case(case, device, dtype, warmups, rounds)]
        print("\n".join(found), flush=True)
        lines += found
        if not args.quick:  # after every case, for the next one may take long
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not args.quick:
        print(f"\nstored in benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
