"""A judge that looks at one answer at a time: finding it by its name, checking what it says, comparing two scores.

`everyday` is the built-in judge; anyone's own is a function(prompt, response) -> number or Score in 0..1.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import reduce
from typing import Any

from tso.correct.everyday import everyday
from tso.errors import ConfigError, DataError
from tso.records import Comparison, Prompt, Response, Score

__all__ = ["Judge", "compare", "everyday", "load"]

Judge = Callable[[Prompt, Response], Score]


def load(spec: str) -> Judge:
    """The judge that `package.module:function` names, with its answers checked.

    Raises ConfigError when there is none. The judge raises DataError, naming the prompt, when the function fails or
    gives anything but a number from 0 to 1.
    """
    function = _resolve(spec)

    def judge(prompt: Prompt, response: Response) -> Score:
        try:
            result = function(prompt, response)
        except (Exception, SystemExit) as err:  # a judge that exits must not end the run as if it were finished
            raise DataError(f"correct.rule {spec} failed on prompt {prompt.id!r}: {type(err).__name__}: {err}") from err
        return _as_score(result, spec, prompt)

    return judge


def _resolve(spec: str) -> Callable[[Prompt, Response], Any]:
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"correct.rule={spec!r} must be package.module:function, such as tso.correct.rule:everyday")
    try:
        module = importlib.import_module(module_name)
    except Exception as err:  # whatever the user's module does when it is imported
        said = f"{type(err).__name__}: {err}"
        raise ConfigError(f"correct.rule: cannot import {module_name!r} ({said}); is it on PYTHONPATH?") from err
    try:
        function = reduce(getattr, name.split("."), module)
    except AttributeError as err:
        raise ConfigError(f"correct.rule: {module_name} has no function {name!r}") from err
    if not callable(function):
        raise ConfigError(f"correct.rule: {spec} is a {type(function).__name__}, not a function")
    return function


def _as_score(result: Any, spec: str, prompt: Prompt) -> Score:
    """Numbers of any kind count, NumPy's and torch's too; text that looks like one is a mistake."""
    value, reason = (result.value, result.reason) if isinstance(result, Score) else (result, "")
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise DataError(f"correct.rule {spec} gave {value!r} for prompt {prompt.id!r}; a number from 0 to 1 is needed")
    return Score(number, str(reason))


def compare(a: Score, b: Score, margin: float, bad_below: float) -> Comparison:
    """The better one by more than `margin`, else a tie; both below `bad_below` are both bad.

    Confidence grows from 0.5 at no difference to 1 at a difference of 1.
    """
    gap = a.value - b.value
    sure = min(1.0, 0.5 + abs(gap) / 2)
    reason = f"{a.value:.2f} ({a.reason}) against {b.value:.2f} ({b.reason})"
    if a.value < bad_below and b.value < bad_below:
        return Comparison("both_bad", 1.0, reason)
    if abs(gap) <= margin:
        return Comparison("tie", 1 - sure + 0.5, reason)
    return Comparison("a" if gap > 0 else "b", sure, reason)
