"""The reference model: who it is after an iteration. Owns the update rule (hard, soft, none)."""

from __future__ import annotations

from pathlib import Path

import torch

from tso.config import UpdateSection
from tso.models import load_model, load_tokenizer, located, save
from tso.store import RunStore

ROW = ["iteration", "role", "path", "sha256"]


def update(store: RunStore, options: UpdateSection, iteration: int, dtype: str) -> None:
    """Record the reference that iteration+1 trains against, as one unit."""
    if store.done(iteration, "update"):
        return
    policy = store.checkpoint(iteration, "policy")
    before = store.checkpoint(iteration - 1, "reference")
    if options.reference == "hard":
        after = policy
    elif options.reference == "none":
        after = before
    else:
        after = _mix(store.folder, before, policy, options.alpha, iteration, getattr(torch, dtype))
    store.commit(iteration, "update", {"checkpoints": (ROW, [(iteration, "reference", *after)])})


def _mix(
    folder: Path, reference: tuple[str, str], policy: tuple[str, str], alpha: float, iteration: int, dtype: torch.dtype
) -> tuple[str, str]:
    """alpha x policy + (1 - alpha) x reference, weight by weight (TR-DPO, arXiv 2404.09656)."""
    cpu = torch.device("cpu")
    start, end = located(folder, *reference), located(folder, *policy)
    old = load_model(start, dtype=dtype, device=cpu)
    new = load_model(end, dtype=dtype, device=cpu)
    with torch.no_grad():
        for mine, theirs in zip(old.parameters(), new.parameters(), strict=True):
            mine.lerp_(theirs, alpha)
    target = folder / f"iteration-{iteration}" / "reference"
    sha = save(old, load_tokenizer(end), target)
    return str(target.relative_to(folder)), sha
