"""The language-model head over compacted rows: one reused tile of logits, and the three matrix products.

Shared by every path that starts from hidden states. It knows neither pairs nor losses: it scores rows, and takes one
coefficient a row (the derivative of the loss by that row's negative log-probability) for the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tso_kernels.options import Shaping, accumulation_dtype
from tso_kernels.rows import MIN_ROWS, Rows, split_span

_VOCABULARY_BLOCK = 8192  # rows of the head whose half-precision gradient is widened to fp32 at a time
_WIDE_ELEMENTS = 1 << 21
_NARROWEST_BLOCK = 256  # tokens; a block of logits this narrow takes less memory than the rows' hidden states


class Job(NamedTuple):
    """What a pass over the head needs beside its tensors."""

    rows: Rows
    shaping: Shaping
    ops: ModuleType  # torch_ops or triton_ops
    dtype: torch.dtype  # of the products: the inputs' own, or autocast's
    capacity: int  # rows of the logits tile


class Wanted(NamedTuple):
    """Which gradients anyone will ask for; all False under no_grad."""

    hidden: bool
    weight: bool
    bias: bool


NOTHING = Wanted(False, False, False)


@contextmanager
def autocast_off(device: torch.device) -> Iterator[None]:
    """The passes choose their own dtypes; autocast must not change them from under an `out=`."""
    with torch.autocast(device_type=device.type, enabled=False):
        yield


class Gradients:
    """Accumulators of the gradients of one pass, None where nobody asks; half-precision inputs are summed in fp32."""

    def __init__(self, x: Tensor, weight: Tensor, wanted: Wanted) -> None:
        wide = accumulation_dtype(x.dtype)
        self.coef = x.new_zeros(len(x), dtype=wide)
        self.x = torch.zeros_like(x) if wanted.hidden else None  # without `coef`, which multiplies it at the end
        self.weight = x.new_empty(weight.shape, dtype=wide) if wanted.weight else None
        self.bias = x.new_zeros(len(weight), dtype=wide) if wanted.bias else None
        self._weight_begun = False  # clearing a tensor of the head's size first would cost a pass over it

    def add_weight(self, grad: Tensor, x: Tensor, coef: Tensor) -> None:
        """weight [V, H] += grad.T @ (coef * x)."""
        assert self.weight is not None
        keep, self._weight_begun = float(self._weight_begun), True
        scaled, largest = _relative(x, coef)
        if self.weight.dtype == x.dtype:
            torch.addmm(self.weight, grad.t(), scaled, beta=keep, out=self.weight)
            return
        for tokens in _token_blocks(grad):
            part = _wide_product(grad[:, tokens].t(), scaled).mul_(largest)
            self.weight[tokens] = self.weight[tokens] + part if keep else part

    def add_bias(self, grad: Tensor, coef: Tensor) -> None:
        """bias [V] += coef @ grad, without a wide copy of the whole tile."""
        assert self.bias is not None
        _add_rows(self.bias, grad, coef)

    def finish(self) -> Gradients:
        """After the last group: a head that no row reached has the gradient 0."""
        if self.weight is not None and not self._weight_begun:
            self.weight.zero_()
        return self

    def scaled(self, scale: Tensor | float) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of rows, weight and bias times a scalar (on the device, so that nothing waits); uses them up."""
        d_x = None if self.x is None else self.x * (self.coef * scale).unsqueeze(1)
        d_weight = None if self.weight is None else self.weight.mul_(scale)
        d_bias = None if self.bias is None else self.bias.mul_(scale)
        return d_x, d_weight, d_bias


class HeadPass:
    """Scores rows [R, H] against the head, and gathers the gradients of what was scored."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, wanted: Wanted) -> None:
        self.job = job
        self.x = hidden.reshape(-1, hidden.shape[-1])[job.rows.index].to(job.dtype)
        self.weight = weight.to(job.dtype)
        self.bias = None if bias is None else bias.to(job.dtype)
        self.logps = self.x.new_zeros(len(self.x), dtype=accumulation_dtype(job.dtype))
        self.lse = torch.zeros_like(self.logps)
        self.gradients = Gradients(self.x, self.weight, wanted)
        self._tile: Tensor | None = None

    def tiles(self, start: int, stop: int) -> list[tuple[int, int]]:
        return split_span(start, stop, self.job.capacity)

    def set_coef(self, start: int, stop: int, coef: Tensor) -> None:
        """Coefficients of rows [start, stop). The logits' scale joins them, for tiles hold gradients without it."""
        self.gradients.coef[start:stop] = coef * self.job.shaping.scale

    def score(self, start: int, stop: int, *, turn: bool = False) -> Tensor | None:
        """Fill `logps` and `lse` of rows [start, stop); with `turn` returns what `add_gradients` takes.

        That is the tile, [stop - start, V], valid until the next call.
        """
        ops, shaping, targets = self.job.ops, self.job.shaping, self.job.rows.targets[start:stop]
        x, span = self.x[start:stop], slice(start, stop)
        if not ops.fuses(x, self.weight, self.bias):
            tile = self._logits(start, stop)
            self.logps[span], self.lse[span] = ops.row_logps(tile, targets, shaping, turn)
            return tile if turn else None
        kept = self._room()[: len(x)] if turn else None
        self.logps[span], self.lse[span] = ops.score_head(x, self.weight, targets, shaping, kept)
        return None if kept is None else ops.grad_logits(kept, targets, self.lse[span], shaping, None, kept)

    def score_again(self, start: int, stop: int) -> Tensor:
        """The same tile from new logits, for rows whose `lse` is known."""
        logits = self._logits(start, stop)
        targets, lse = self.job.rows.targets[start:stop], self.lse[start:stop]
        tile: Tensor = self.job.ops.grad_logits(logits, targets, lse, self.job.shaping, None, logits)
        return tile

    def _logits(self, start: int, stop: int) -> Tensor:
        """Raw logits of rows [start, stop) in the tile; valid until the next call."""
        return self._product(self.x[start:stop], slice(None), self._room())

    def _room(self) -> Tensor:
        """The tile, allocated at its first use."""
        if self._tile is None:
            self._tile = self.x.new_empty(max(min(self.job.capacity, len(self.x)), MIN_ROWS), len(self.weight))
        return self._tile

    def _product(self, x: Tensor, tokens: slice, tile: Tensor) -> Tensor:
        """Raw logits of rows x [r, H] and a block of the vocabulary, in a tile that has room for them."""
        rows = len(x)
        if rows < MIN_ROWS:
            x = F.pad(x, (0, 0, 0, MIN_ROWS - rows))
        out = tile[: len(x)]
        if self.bias is None:
            torch.mm(x, self.weight[tokens].t(), out=out)
        else:
            torch.addmm(self.bias[tokens], x, self.weight[tokens].t(), out=out)
        return out[:rows]

    def add_gradients(self, start: int, stop: int, tile: Tensor) -> None:
        """Run the gradient products of rows [start, stop) with `coef`; the tile holds d(-logps) / d(scale * logits).

        The tile stays unscaled, within [-1, 1] in whatever dtype the logits have, and the small coefficients go to the
        other factor: a half-precision tile would lose both in one product.
        """
        sums = self.gradients
        coef = sums.coef[start:stop]
        if sums.x is not None:
            torch.mm(tile, self.weight, out=sums.x[start:stop])
        if sums.weight is not None:
            sums.add_weight(tile, self.x[start:stop], coef)
        if sums.bias is not None:
            sums.add_bias(tile, coef)

    def gradients_by_vocabulary(
        self, spans: list[tuple[int, int]], wanted: Wanted, weight_dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of rows, weight and bias from `lse` and `gradients.coef`, a block of the vocabulary at a time.

        The logits of the rows in `spans` (no others have a coefficient) are computed again; every block of the head's
        gradient is one product, written once in its final dtype. So nothing of the head's size is held besides it.
        """
        rows, sums = self.job.rows, self.gradients
        x, targets, lse, coef = (_take(t, spans) for t in (self.x, rows.targets, self.lse, sums.coef))
        d_x = torch.zeros_like(x, dtype=coef.dtype) if wanted.hidden else None
        d_weight = self.weight.new_zeros(self.weight.shape, dtype=weight_dtype) if wanted.weight else None
        d_bias = coef.new_zeros(len(self.weight)) if wanted.bias else None
        scaled, largest = _relative(x, coef)
        width = max(_NARROWEST_BLOCK, self.job.capacity * len(self.weight) // max(len(x), MIN_ROWS))
        blocks = split_span(0, len(self.weight), width) if len(x) else []
        tile = self.x.new_empty(max(len(x), MIN_ROWS), max((stop - start for start, stop in blocks), default=0))
        for start, stop in blocks:
            tokens = slice(start, stop)
            logits = self._product(x, tokens, tile[:, : stop - start])
            grad = self.job.ops.grad_logits(logits, targets, lse, self.job.shaping, None, logits, start)
            if d_x is not None:
                d_x += _wide_product(grad, self.weight[tokens])
            if d_weight is not None:
                d_weight[tokens] = _wide_product(grad.t(), scaled).mul_(largest)
            if d_bias is not None:
                _add_rows(d_bias[tokens], grad, coef)
        rows_of = None if d_x is None else _put(d_x.mul_(coef.unsqueeze(1)), spans, len(self.x))
        return rows_of, d_weight, d_bias


def _take(tensor: Tensor, spans: list[tuple[int, int]]) -> Tensor:
    """The rows of the spans, one after another; a view where it is one span."""
    parts = [tensor[start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else tensor[:0]


def _put(values: Tensor, spans: list[tuple[int, int]], rows: int) -> Tensor:
    """The opposite of `_take`, with zeros elsewhere."""
    if spans == [(0, rows)]:
        return values
    full = values.new_zeros(rows, values.shape[1])
    at = 0
    for start, stop in spans:
        full[start:stop] = values[at : at + stop - start]
        at += stop - start
    return full


def _relative(x: Tensor, coef: Tensor) -> tuple[Tensor, Tensor | float]:
    """(rows times their coefficients relative to the largest, the largest), so that none underflows in half precision."""
    if x.dtype == coef.dtype or len(x) == 0:
        return x * coef.unsqueeze(1), 1.0
    largest = coef.abs().amax().clamp_min(torch.finfo(coef.dtype).tiny)
    return (x * (coef / largest).unsqueeze(1)).to(x.dtype), largest


def _token_blocks(grad: Tensor) -> list[slice]:
    """Slices over the vocabulary for what needs a copy in fp32: each of 8 MiB at most on a CPU, or the narrowest."""
    width = _VOCABULARY_BLOCK
    if not grad.is_cuda:
        width = min(width, max(_NARROWEST_BLOCK, _WIDE_ELEMENTS // max(len(grad), 1)))
    return [slice(start, start + width) for start in range(0, grad.shape[1], width)]


def _add_rows(total: Tensor, grad: Tensor, coef: Tensor) -> None:
    """total [C] += coef @ grad."""
    if total.dtype == grad.dtype:
        total += coef @ grad
        return
    for tokens in _token_blocks(grad):
        total[tokens] += coef @ grad[:, tokens].to(coef.dtype)


def _wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, summed and returned in at least fp32.

    fp16 sums may pass 65504 where the CPU has no mixed product, so it widens; bf16 cannot.
    """
    if a.dtype in (torch.float32, torch.float64):
        return a @ b
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    if a.dtype == torch.float16:
        return a.float() @ b.float()
    return (a @ b).float()


def scatter_rows(d_x: Tensor | None, index: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
    """Put row gradients [R, H] back where their rows came from, in the shape of the hidden states; zeros elsewhere."""
    if d_x is None:
        return None
    full = d_x.new_zeros(shape, dtype=dtype)
    full.view(-1, shape[-1])[index] = d_x.to(dtype)
    return full
