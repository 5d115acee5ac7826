"""`matrix.grid`: models times decodings as a short way to write many cells.

    matrix:
      grid:
        models: [policy, {model: openai:big, base_url: "http://localhost:8000/v1", scale: 7}, human]
        decodings: [{temperature: 0.7, top_p: 0.95}, {temperature: 1.0}]

An entry of either list holds options of a cell; a plain word is a model, a plain number a temperature. Every model meets
every decoding, in order, and people stand once, for nobody decodes them. A cell's name is that of its model and that of
its decoding, `policy-0.7`; an entry may bring a `name` of its own. Knows nothing of what the options mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tso.errors import ConfigError

Entry = dict[str, Any]
Check = Callable[[Entry, str], Any]

SHORT = {"top_p": "p", "top_k": "k", "min_p": "m", "max_new_tokens": "n"}
PARTS = ("models", "decodings")


def spread(grid: Any, check: Check) -> list[Entry]:
    """The cells of a grid as mappings. `check(entry, where)` raises ConfigError for options that no cell has."""
    if not isinstance(grid, Mapping) or set(grid) != set(PARTS):
        raise ConfigError("matrix.grid must be a mapping with two lists, models and decodings")
    models, decodings = (_entries(grid[part], part, check) for part in PARTS)
    tags = _tags(decodings)
    cells = []
    for i, model in enumerate(models):
        name = model.pop("name", None) or _short_name(str(model.get("model", "policy")))
        if model.get("model") == "human":
            cells.append({**model, "name": name})
            continue
        for j, (decoding, tag) in enumerate(zip(decodings, tags, strict=True)):
            _no_option_twice(model, decoding, i, j)
            cells.append({**model, **decoding, "name": f"{name}-{tag}"})
    return cells


def _entries(listed: Any, part: str, check: Check) -> list[Entry]:
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"matrix.grid.{part} must be a list with at least one entry")
    plain = "model" if part == "models" else "temperature"
    entries = [{str(k): v for k, v in e.items()} if isinstance(e, Mapping) else {plain: e} for e in listed]
    for i, entry in enumerate(entries):
        check({"name": "to be made", **entry}, f"matrix.grid.{part}[{i}].")
        if part == "decodings" and "model" in entry:
            raise ConfigError(f"matrix.grid.decodings[{i}].model: a model belongs under matrix.grid.models")
    return entries


def _no_option_twice(model: Entry, decoding: Entry, i: int, j: int) -> None:
    for key in sorted(set(model) & set(decoding)):
        raise ConfigError(
            f"matrix.grid: {key} stands in models[{i}] and in decodings[{j}]; a cell has one, so keep it in one of them"
        )


def _short_name(model: str) -> str:
    """`org/model-7b`, `folder/model.gguf` and `openai:org/model` by their last part."""
    return model.removeprefix("openai:").rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def _tags(decodings: list[Entry]) -> list[str]:
    """A decoding by its temperature, and by those of its other options in which the decodings differ."""
    differing = [key for key in SHORT if len({str(d.get(key)) for d in decodings}) > 1]
    tags = []
    for decoding in decodings:
        others = [f"{SHORT[key]}{decoding[key]}" for key in differing if key in decoding]
        heat = f"{float(decoding.get('temperature', 1.0)):g}"
        tags.append(str(decoding.pop("name", None) or "-".join(["greedy" if heat == "0" else heat, *others])))
    return tags
