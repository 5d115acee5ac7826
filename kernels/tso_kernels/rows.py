"""Which rows count, in which order: from padded or packed labels to one compact list of completion rows.

Sequences become slots. Unpaired, slot s is sequence s. Paired, pair i owns the neighbouring slots 2i (chosen, sequence
i) and 2i + 1 (rejected, sequence B + i), so that a group of whole pairs is one contiguous run of rows. This file knows
nothing of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from tso_kernels.options import IGNORE

# No matrix product has fewer rows than this. BLAS libraries switch to other kernels, with another order of summation,
# for a handful of rows; above it, on the CPUs we tried, a row's logits do not depend on which rows stand beside it.
MIN_ROWS = 64


@dataclass(frozen=True)
class Rows:
    """The counted rows of a batch, slot after slot, in their original order within a slot."""

    index: Tensor  # [R] int64: position in the flattened hidden states
    targets: Tensor  # [R] int64: the label of each
    counts: list[int]  # rows of each slot, on the host
    starts: list[int]  # first row of each slot, and R at the end
    lengths: Tensor  # [slots] counts on the device, at least 1 each: what `average` divides by
    paired: bool

    @property
    def largest_pair(self) -> int:
        """Rows of the largest pair; 0 where sequences are not paired."""
        pairs = zip(self.counts[::2], self.counts[1::2], strict=True) if self.paired else ()
        return max((chosen + rejected for chosen, rejected in pairs), default=0)

    def pairs_with_rows(self) -> Tensor:
        """[slots / 2] bool: whether either side of a pair has a row."""
        some = [chosen + rejected > 0 for chosen, rejected in zip(self.counts[::2], self.counts[1::2], strict=True)]
        return torch.tensor(some, dtype=torch.bool).to(self.lengths.device, non_blocking=True)

    def repeat(self, per_slot: Tensor, first: int = 0) -> Tensor:
        """Give every row its slot's value, for the slots first, first + 1, ... that `per_slot` covers."""
        counts = self.counts[first : first + len(per_slot)]
        repeats = torch.tensor(counts, dtype=torch.int64).to(per_slot.device, non_blocking=True)
        return torch.repeat_interleave(per_slot, repeats, output_size=sum(counts))


def select_rows(labels: Tensor, sequence_ids: Tensor | None, sequences: int, vocabulary: int, *, paired: bool) -> Rows:
    """Compact labels [N, T], or labels [R] with sequence_ids [R], to the rows that count. One host synchronisation.

    Raises ValueError where a counted label is outside 0..V-1, or its sequence id outside 0..N-1.
    """
    flat = labels.reshape(-1)
    index = torch.nonzero(flat != IGNORE).squeeze(1)
    targets = flat[index].to(torch.int64)
    ids = index // max(labels.shape[-1], 1) if sequence_ids is None else sequence_ids[index].to(torch.int64)
    known = ids.clamp(0, max(sequences - 1, 0))
    counts = _host_counts(known, sequences, bad=((targets < 0) | (targets >= vocabulary), known != ids))
    slots = 2 * (known % (sequences // 2)) + known // (sequences // 2) if paired and sequences else known
    order = torch.argsort(slots, stable=True)
    if paired:
        half = sequences // 2
        counts = [counts[side * half + pair] for pair in range(half) for side in (0, 1)]
    lengths = torch.tensor(counts, dtype=torch.float32).clamp_min(1).to(labels.device)
    return Rows(index[order], targets[order], counts, [0, *accumulate(counts)], lengths, paired)


def _host_counts(ids: Tensor, sequences: int, bad: tuple[Tensor, Tensor]) -> list[int]:
    """Rows of each sequence, brought to the host together with the two range checks."""
    checks = torch.stack([flag.sum() for flag in bad])
    *counts, bad_labels, bad_ids = torch.cat([torch.bincount(ids, minlength=sequences), checks]).tolist()
    if bad_labels:
        raise ValueError(f"{bad_labels} labels are outside 0..V-1; mark positions that do not count with {IGNORE}")
    if bad_ids:
        raise ValueError(f"{bad_ids} counted rows have a sequence id outside 0..{sequences - 1}")
    return counts


def row_capacity(vocabulary: int, itemsize: int, budget: int) -> int:
    """How many rows of logits fit `budget` bytes, never fewer than `MIN_ROWS`."""
    return max(MIN_ROWS, budget // max(vocabulary * itemsize, 1))


def split_span(start: int, stop: int, capacity: int) -> list[tuple[int, int]]:
    """Cut [start, stop) into the fewest pieces of at most `capacity` rows, as equal as can be."""
    pieces = -(-(stop - start) // capacity)
    cuts = [start + (stop - start) * piece // max(pieces, 1) for piece in range(pieces + 1)]
    return list(pairwise(cuts))


def group_pairs(counts: list[int], capacity: int) -> list[tuple[int, int]]:
    """Cut pairs (two slots each) into runs [first, last) of at most `capacity` rows; a larger pair is its own run."""
    groups: list[tuple[int, int]] = []
    first, used = 0, 0
    for pair in range(len(counts) // 2):
        size = counts[2 * pair] + counts[2 * pair + 1]
        if pair > first and used + size > capacity:
            groups.append((first, pair))
            first, used = pair, 0
        used += size
    return [*groups, (first, len(counts) // 2)]


def nonzero_runs(values: list[float], starts: list[int], first: int = 0) -> list[tuple[int, int]]:
    """Row spans of the maximal runs of slots (from `first` on) whose value is not 0; empty slots never split one."""
    runs: list[tuple[int, int]] = []
    for slot, value in enumerate(values, first):
        start, stop = starts[slot], starts[slot + 1]
        if value == 0 or start == stop:
            continue
        if runs and runs[-1][1] == start:
            start = runs.pop()[0]
        runs.append((start, stop))
    return runs
