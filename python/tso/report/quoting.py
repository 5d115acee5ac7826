"""Texts among a cell's options, such as stop strings, in quotes and on one line: a line break is what many of them are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def quoted(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with every text, and every list of texts, as JSON writes them; numbers as they are."""
    return {k: json.dumps(v, ensure_ascii=False) if isinstance(v, str | list) else v for k, v in options.items()}
