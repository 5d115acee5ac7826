"""A run's options from YAML and `section.key=value` words.

Unknown keys, wrong types and impossible values are refused by name, with the nearest valid key. What options there are
is in config.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tso.config import MOST, CellSection, Config
from tso.errors import ConfigError
from tso.grid import PARTS, spread


def load(path: str | Path | None, overrides: Sequence[str] = (), *, base: Config | None = None) -> Config:
    """Config from a YAML file, then `section.key=value` words, on top of `base`. Raises ConfigError."""
    tree = as_tree(base or Config())
    usual = tree["matrix"]["cells"]
    tree["matrix"]["grid"] = None
    if path is not None:
        _merge(tree, _read_yaml(Path(path)), where="")
    for word in overrides:
        _merge(tree, _parse_override(word), where="")
    _spread_grid(tree["matrix"], usual)
    config: Config = _build(Config, tree, where="")
    _check_whole(config)
    return config


def _spread_grid(matrix: dict[str, Any], usual: Any) -> None:
    """Put the cells of `matrix.grid` in place of the usual ones, before those that are listed beside it."""
    grid = matrix.pop("grid")
    if grid is None:
        return
    cells = spread(grid, lambda entry, where: _build(CellSection, entry, where))
    listed = [] if matrix["cells"] is usual else matrix["cells"]
    if not isinstance(listed, list | tuple):
        raise ConfigError(f"matrix.cells must be a list, not {listed!r}")
    matrix["cells"] = [*cells, *listed]


def as_tree(config: Any) -> dict[str, Any]:
    """Nested dicts and lists, as YAML would hold them."""
    return dataclasses.asdict(config)


def to_yaml(config: Config) -> str:
    return yaml.safe_dump(_plain(as_tree(config)), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


class _Twice(yaml.constructor.ConstructorError):
    pass


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where YAML would quietly take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise _Twice(problem=f"{key!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Once)
    except FileNotFoundError as err:
        raise ConfigError(f"no config file {path}; give a YAML file, or section.key=value words") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read config {path}: {err}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(err).split())}") from err
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold sections such as 'model:' with keys under them")
    return tree


def _parse_override(word: str) -> dict[str, Any]:
    key, equals, text = word.partition("=")
    parts = key.split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"{word!r} is not of the form section.key=value, for example training.learning_rate=1e-6")
    try:
        value = yaml.load(text, _Once) if text else ""
    except _Twice as err:
        raise ConfigError(f"{key}: {err.problem}") from err
    except yaml.YAMLError:
        value = text  # a plain word with YAML's special characters in it, such as a Windows path
    if value is not None and not isinstance(value, str) and _takes_text(*parts):
        value = text  # YAML takes words such as no and judge: for something else
    for part in reversed(parts):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def _takes_text(*parts: str) -> bool:
    """Whether the option of that name, section by section, is text, or text or nothing."""
    hint: Any = Config
    for part in parts:
        hint = typing.get_type_hints(hint).get(part) if dataclasses.is_dataclass(hint) else None
    return hint in (str, str | None)


def _merge(tree: dict[str, Any], extra: dict[str, Any], where: str) -> None:
    known = list(dict.fromkeys([*tree, *PARTS] if where == "matrix.grid." else tree))  # a grid grows word by word
    for key, value in extra.items():
        name = f"{where}{key}"
        if key not in known:
            raise ConfigError(f"unknown option {name!r}{_nearest(str(key), known, where)}")
        if isinstance(tree.get(key), dict):
            if not isinstance(value, dict):
                raise ConfigError(f"{name} is a section: give keys under it, not {value!r}")
            _merge(tree[key], value, f"{name}.")
        else:
            tree[key] = value


def _nearest(key: str, known: Any, where: str) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {where + close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _build(cls: type, tree: Any, where: str) -> Any:
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(tree, dict):
        raise ConfigError(f"{where.rstrip('.')} must be a mapping of keys to values, not {tree!r}")
    for key in tree:
        if key not in known:
            raise ConfigError(f"unknown option {where + str(key)!r}{_nearest(str(key), known, where)}")
    values = {}
    for name, spec in known.items():
        value = _coerce(hints[name], tree[name], f"{where}{name}") if name in tree else spec.default
        check = spec.metadata.get("check")
        if check and not (value is None or check[0](value)) and not _left_empty(where, name, value):
            raise ConfigError(f"{where}{name}={value!r}: {check[1]}")
        values[name] = value
    return cls(**values)


def _left_empty(where: str, name: str, value: Any) -> bool:
    """Two options have no default; `_check_whole` asks for them in words of their own."""
    return value == "" and where + name in ("model.name_or_path", "data.prompts")


def _coerce(hint: Any, value: Any, name: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _coerce(typing.get_args(hint)[0], value, name)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, f"{name}.")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} must be a list, not {value!r}")
        return tuple(_coerce(typing.get_args(hint)[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    return _scalar(hint, value, name)


def _scalar(hint: type, value: Any, name: str) -> Any:
    if hint is float:
        # YAML 1.1 reads 1e-6 (no dot) as text; people write it, and infinity, all the time.
        if isinstance(value, str) and value.strip().lower() in ("inf", "infinity"):
            return math.inf
        try:
            number = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise ConfigError(f"{name} must be a number, not {value!r}")
        return number
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and not _storable(value):
        raise ConfigError(f"{name}={value!r}: half a character, which no file can hold; write it as UTF-8")
    if type(value) is not hint:
        kind = {
            int: "a whole number",
            bool: "true or false",
            str: "text (in quotes, where YAML reads it as another kind)",
        }
        raise ConfigError(f"{name} must be {kind[hint]}, not {value!r}")
    if isinstance(value, int) and abs(value) > MOST:
        raise ConfigError(f"{name}={value!r}: must be at most {MOST}")
    return value


def _storable(text: str) -> bool:
    """Whether it has no half of a surrogate pair, as escapes in YAML can spell and names of files can hold."""
    return text == text.encode("utf-8", "replace").decode()


def _check_whole(config: Config) -> None:
    """What one option alone cannot tell."""
    for name, value in (("model.name_or_path", config.model.name_or_path), ("data.prompts", config.data.prompts)):
        if not value:
            raise ConfigError(f"{name} is needed: run python -m tso.train {name}=... (or no arguments: the quickstart)")
    names = [cell.name for cell in config.matrix.cells]
    taken = sorted({"evaluate", "evaluate-human"} & set(names))
    if taken:
        raise ConfigError(f"matrix.cells: the name {taken[0]!r} is used for the evaluation; choose another")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"matrix.cells: the name {twice[0]!r} is used twice; every cell needs a name of its own")
    if not any(cell.model != "human" and cell.draws > 0 for cell in config.matrix.cells):
        raise ConfigError("matrix.cells: at least one cell with a model and draws of 1 or more is needed")
    judge = config.correct.judge
    if judge.votes > 1 and judge.temperature == 0:
        raise ConfigError(
            f"correct.judge.votes={judge.votes} with correct.judge.temperature=0 would ask for the same reply again; "
            "give a temperature, such as 0.7, or votes=1"
        )
    if config.data.max_prompt_tokens >= config.training.max_length:
        raise ConfigError("data.max_prompt_tokens must be smaller than training.max_length, to leave room for answers")
