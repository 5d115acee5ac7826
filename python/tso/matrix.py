"""The model matrix: which cells answer in an iteration, what they load, how strong they are taken to be.

Turns configured cells into `Cell` records for one iteration. Knows nothing of sampling or training. Strengths are
log-odds: a cell one unit above another is expected to win 73 % of the time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tso.config import CellSection, Config
from tso.errors import ConfigError
from tso.records import Cell, Decoding

STAGES = ("base", "earlier", "reference", "policy")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Weights as they stood after an iteration: what to load, and their identity."""

    path: str
    revision: str


def build(
    config: Config,
    iteration: int,
    policies: Sequence[Snapshot],
    reference: Snapshot,
    scale: float,
    learned: Mapping[str, float],
    draws: Mapping[str, int],
) -> list[Cell]:
    """The cells of `iteration` (from 1).

    policies: the policy after iterations 0 .. iteration-1; reference: the one in force; scale: billions of parameters
    of the policy; learned: strengths re-estimated so far, by cell; draws: budgets moved by yield, by cell.
    """
    cells = []
    for spec in config.matrix.cells:
        target = _resolve(spec, iteration, policies, reference, config.matrix.refresh)
        if target is None:
            continue
        stage, snapshot, age = target
        prior = spec.prior if spec.prior is not None else _default_prior(config, spec, stage, age, scale)
        cells.append(
            Cell(
                name=spec.name,
                model=spec.model,
                path=snapshot.path,
                revision=snapshot.revision,
                stage=stage,
                scale=None if stage == "human" else spec.scale or scale,
                decoding=Decoding(
                    spec.temperature, spec.top_p, spec.top_k, config.sample.max_new_tokens, spec.system_prompt
                ),
                prior=prior,
                strength=learned.get(spec.name, prior),
                # People do not answer twice: a prompt's first human answer is the one draw.
                draws=min(1, spec.draws) if stage == "human" else draws.get(spec.name, spec.draws),
            )
        )
    return _share_strengths(cells)


def _resolve(
    spec: CellSection, iteration: int, policies: Sequence[Snapshot], reference: Snapshot, refresh: bool
) -> tuple[str, Snapshot, int] | None:
    """(stage, weights, iterations of training behind them), or None while the cell does not exist yet.

    Without `refresh` the start model answers for every stage, in as many cells, so that the budget is the same.
    """
    newest = len(policies) - 1
    if spec.model == "human":
        return "human", Snapshot("", "human"), 0
    if spec.model == "policy":
        age = newest if refresh else 0
        return "policy", policies[age], age
    if spec.model == "reference":
        age = next((i for i, p in reversed(list(enumerate(policies))) if p.revision == reference.revision), 0)
        return ("reference", reference, age) if refresh else ("reference", policies[0], 0)
    if spec.model == "previous":
        age = newest - 1 if refresh else 0
        return ("earlier", policies[age], age) if newest >= 1 else None
    if match := re.fullmatch(r"policy@(\d+)", spec.model):
        age = int(match[1]) if refresh else 0
        return ("earlier", policies[age], age) if int(match[1]) <= newest else None
    if "@" in spec.model and spec.model.startswith(("policy", "reference", "previous")):
        raise ConfigError(f"cell {spec.name!r}: model {spec.model!r} is not policy@K with a whole number K")
    return "base", Snapshot(spec.model, spec.model), 0


def _default_prior(config: Config, spec: CellSection, stage: str, age: int, scale: float) -> float:
    """Human above models, larger above smaller, later above earlier (the order of the method's prior)."""
    if stage == "human":
        return config.matrix.human_prior
    size = math.log2(spec.scale / scale) * config.matrix.scale_prior if spec.scale else 0.0
    return size + age * config.matrix.stage_prior


def _share_strengths(cells: list[Cell]) -> list[Cell]:
    """Cells with the same weights and decoding are one model under two names: they get their mean strength."""
    groups: dict[tuple[str, Decoding], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.revision, cell.decoding), []).append(cell)
    shared = {key: math.fsum(c.strength for c in group) / len(group) for key, group in groups.items()}
    return [
        cell if cell.stage == "human" else replace(cell, strength=shared[cell.revision, cell.decoding])
        for cell in cells
    ]


def win_probability(a: float, b: float) -> float:
    """Bradley-Terry: P(a beats b) from two strengths in log-odds."""
    return 1.0 / (1.0 + math.exp(b - a))


def budgets(cells: Sequence[Cell], kept: Mapping[str, int], floor: int) -> dict[str, int]:
    """Draws for the next iteration: more for cells whose responses end in kept pairs, fewer for the others.

    The total stays what it was; no model cell falls below `floor` while it had that many, and one that has come down to
    0 stays there. kept: uses in kept pairs.
    """
    resting = {c.name: 0 for c in cells if c.stage != "human" and c.draws == 0}
    models = [c for c in cells if c.stage != "human" and c.draws > 0]
    total = sum(c.draws for c in models)
    yields = {c.name: (kept.get(c.name, 0) + 1) / (c.draws + 1) for c in models}
    mean = sum(yields.values()) / max(len(yields), 1)
    wanted = {c.name: c.draws * min(2.0, max(0.5, yields[c.name] / mean)) for c in models}
    result = {c.name: min(c.draws, floor) for c in models}
    for _ in range(total - sum(result.values())):
        # One draw at a time to the cell that is furthest below its wish; ties go to the first.
        best = max(models, key=lambda c: wanted[c.name] - result[c.name])
        result[best.name] += 1
    return {**resting, **result}
