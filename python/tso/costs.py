"""What a matrix costs, before anything runs: the table of `tso matrix`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tso.budgets import allowed
from tso.config import CellSection, Config
from tso.matrix import EARLIER, decoding_of, longest_answer
from tso.models import is_gguf
from tso.records import Decoding

COLUMNS = ["cell", "model", "decoding", "scale", "prior", "from", "draws", "read", "written"]
WORDS = 3  # the first columns are text


@dataclass(frozen=True, slots=True)
class Cost:
    """The most that a cell takes of one iteration: answers, tokens of prompts read for them, tokens written."""

    draws: int
    read: int
    written: int


def cost(spec: CellSection, config: Config) -> Cost:
    """As the matrix is configured; budgets move draws between cells later, and their total stays. People cost nothing.

    Prompts are counted at data.max_prompt_tokens and answers at their limit, in each cell's own tokens; a system prompt
    and a plain format come on top of that.
    """
    prompts = config.sample.prompts_per_iteration
    if spec.model == "human":
        return Cost(min(1, spec.draws) * prompts, 0, 0)
    draws, longest = spec.draws * prompts, decoding_of(spec, config.sample.max_new_tokens).max_new_tokens
    return Cost(draws, draws * config.data.max_prompt_tokens, draws * longest)


def table(config: Config) -> list[dict[str, str]]:
    """Rows of COLUMNS: a cell each, their total, what it may come to when budgets have moved draws, and the judge."""
    costs = [cost(spec, config) for spec in config.matrix.cells]
    rows = [_row(spec, one, config) for spec, one in zip(config.matrix.cells, costs, strict=True)]
    total = Cost(*(sum(getattr(one, name) for one in costs) for name in ("draws", "read", "written")))
    rows.append({"cell": "total an iteration", **_counts(total)})
    moved = _moved(config, total)
    if moved.written > total.written:
        rows.append({"cell": "at most, once draws move", **_counts(moved)})
    judge = config.correct.judge
    if judge.model is not None:
        rows.append({"cell": "judge", "model": _model(judge.model, judge.base_url), **_counts(judge_cost(config))})
    return rows


def _moved(config: Config, total: Cost) -> Cost:
    """The total where budgets have moved every draw that they may to the cell with the longest answers."""
    if not config.update.budgets or config.run.iterations == 1:
        return total
    models = [c for c in config.matrix.cells if c.model != "human" and c.draws > 0]
    lengths = [decoding_of(c, config.sample.max_new_tokens).max_new_tokens for c in models]
    least = [min(c.draws, config.matrix.min_draws) for c in models]
    free = sum(c.draws for c in models) - sum(least)
    answer = sum(n * length for n, length in zip(least, lengths, strict=True)) + free * max(lengths, default=0)
    return Cost(total.draws, total.read, answer * config.sample.prompts_per_iteration)


def judge_cost(config: Config) -> Cost:
    """The calls of a judge on as many pairs as can be made, each in both orders, with all retries.

    Read: the prompt and two answers at their limits; the rubric, and answers of people that are longer, come on top.
    """
    judge = config.correct.judge
    pairs = allowed(config.sample.prompts_per_iteration * config.pair.max_pairs, judge.budget)
    calls = 2 * judge.votes * pairs * (1 + judge.retries)
    read = config.data.max_prompt_tokens + 2 * longest_answer(config)
    return Cost(calls, calls * read, calls * judge.max_new_tokens)


def _row(spec: CellSection, one: Cost, config: Config) -> dict[str, str]:
    human = spec.model == "human"
    return {
        "cell": spec.name,
        "model": _model(spec.model, spec.base_url),
        "decoding": "" if human else _told(decoding_of(spec, config.sample.max_new_tokens)),
        "scale": "" if spec.scale is None else f"{spec.scale:g}",
        "prior": "auto" if spec.prior is None else f"{spec.prior:+g}",
        "from": str(_begins(spec)),
        **_counts(one),
    }


def _model(name: str, base_url: str | None) -> str:
    """A model as the config names it, with its server."""
    if base_url is not None:
        return f"{name} at {base_url}"
    return Path(name).name if is_gguf(name) else name


def _counts(one: Cost) -> dict[str, str]:
    return {name: f"{getattr(one, name):,}" for name in ("draws", "read", "written")}


def _begins(spec: CellSection) -> int:
    """The first iteration in which the cell has a model."""
    if match := EARLIER.fullmatch(spec.model):
        return int(match[1]) + 1
    return 2 if spec.model == "previous" else 1


def _told(how: Decoding) -> str:
    """What differs from plain sampling, in short."""
    words = ["greedy" if how.temperature == 0 else f"T {how.temperature:g}"]
    words += [f"top_p {how.top_p:g}"] * (how.top_p < 1) + [f"top_k {how.top_k}"] * (how.top_k > 0)
    words += [f"min_p {how.min_p:g}"] * (how.min_p > 0) + [f"{len(how.stop)} stop"] * bool(how.stop)
    words += ["system prompt"] * (how.system_prompt is not None) + ["plain format"] * (how.prompt_format is not None)
    return ", ".join([*words, f"{how.max_new_tokens} tokens"])
