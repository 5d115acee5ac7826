"""The model matrix: which cells answer in an iteration, what they load, how strong they are taken to be.

Turns configured cells into `Cell` records for one iteration. Knows nothing of sampling or training. Strengths are
log-odds: a cell one unit above another is expected to win 73 % of the time.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tso.budgets import budgets as divide
from tso.config import CellSection, Config
from tso.errors import ConfigError
from tso.families import check_own, check_sizes
from tso.models import is_gguf
from tso.records import Cell, Decoding
from tso.sample.endpoint import endpoint_of, endpoints, on_server

STAGES = ("base", "earlier", "reference", "policy")
WORDS = ("policy", "reference", "previous", "human")
EARLIER = re.compile(r"policy@(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Weights as they stood after an iteration, or of another model: what to load, and their identity."""

    path: str
    revision: str


def others(config: Config) -> list[str]:
    """Models that cells name beside those of the run itself, each once: names, folders, GGUF files, URL#NAME."""
    return list(
        dict.fromkeys(source(c) for c in config.matrix.cells if c.model not in WORDS and not EARLIER.fullmatch(c.model))
    )


def source(spec: CellSection) -> str:
    """What tells the model of a cell from others: its name, or on a server its endpoint's path."""
    endpoint = endpoint_of(spec)
    return spec.model if endpoint is None else endpoint.path


def check(config: Config) -> None:
    """Raises ConfigError for a cell that can never answer, and for a matrix that would begin without an answer."""
    last = config.run.iterations - 1
    for spec in config.matrix.cells:
        if (match := EARLIER.fullmatch(spec.model)) and int(match[1]) > last:
            raise ConfigError(
                f"cell {spec.name!r}: {spec.model} never answers; with run.iterations={last + 1} the last is policy@{last}"
            )
    own = [c for c in config.matrix.cells if c.model in WORDS or EARLIER.fullmatch(c.model)]
    check_own(own)
    check_sizes(config, [c for c in config.matrix.cells if c not in own])
    endpoints(config.matrix.cells)
    for name in (n for n in others(config) if not Path(n).is_dir() and not on_server(n)):
        if is_gguf(name):
            if not Path(name).is_file():
                raise ConfigError(f"matrix.cells: no such GGUF file: {name}")
            continue
        near = difflib.get_close_matches(name.partition("@")[0], WORDS, n=1, cutoff=0.75)
        if near:
            meant = "policy@K with a whole number K" if "@" in name else near[0]
            raise ConfigError(f"matrix.cells: there is no model {name!r}; did you mean {meant}?")
    start = Snapshot("", "")
    cells = build(config, 1, [start], start, dict.fromkeys(others(config), start), 1.0, {}, {})
    if not any(c.stage != "human" and c.draws for c in cells):
        raise ConfigError(
            "matrix.cells: no model would answer in the first iteration; add a cell whose model is policy or reference"
        )


def build(
    config: Config,
    iteration: int,
    policies: Sequence[Snapshot],
    reference: Snapshot,
    bases: Mapping[str, Snapshot],
    scale: float,
    learned: Mapping[str, float],
    draws: Mapping[str, int],
) -> list[Cell]:
    """The cells of `iteration` (from 1).

    policies: the policy after iterations 0 .. iteration-1; reference: the one in force; bases: `others` by name;
    scale: billions of parameters of the policy; learned: strengths re-estimated so far, by cell; draws: budgets moved by yield, by cell.
    """
    cells = []
    for spec in config.matrix.cells:
        target = _resolve(spec, policies, reference, bases, config.matrix.refresh)
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
                decoding=decoding_of(spec, config.sample.max_new_tokens),
                prior=prior,
                strength=learned.get(spec.name, prior),
                # People do not answer twice: a prompt's first human answer is the one draw.
                draws=min(1, spec.draws) if stage == "human" else draws.get(spec.name, spec.draws),
            )
        )
    return _share_strengths(cells)


def decoding_of(spec: CellSection, max_new_tokens: int) -> Decoding:
    """How a cell decodes; max_new_tokens: where the cell does not say."""
    return Decoding(
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
        max_new_tokens=spec.max_new_tokens or max_new_tokens,
        system_prompt=spec.system_prompt,
        min_p=spec.min_p,
        stop=spec.stop,
        prompt_format=spec.prompt_format,
    )


def longest_answer(config: Config) -> int:
    """Tokens that an answer may have at most, of a cell or to a held-out prompt; people's are as long as they are."""
    usual = config.sample.max_new_tokens
    return max(usual, *(decoding_of(spec, usual).max_new_tokens for spec in config.matrix.cells))


def _resolve(
    spec: CellSection,
    policies: Sequence[Snapshot],
    reference: Snapshot,
    bases: Mapping[str, Snapshot],
    refresh: bool,
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
    if match := EARLIER.fullmatch(spec.model):
        age = int(match[1]) if refresh else 0
        return ("earlier", policies[age], age) if int(match[1]) <= newest else None
    return "base", bases[source(spec)], 0


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
    return 1.0 / (1.0 + math.exp(min(b - a, 700.0)))  # a float holds e to the 709


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
    # Without a model that draws there is nothing to divide.
    return {**resting, **(divide(total, wanted, {c.name: min(c.draws, floor) for c in models}) if models else {})}
