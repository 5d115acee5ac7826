"""Rows for a store, and a Python process to open it in."""

import subprocess
import sys

PROMPT = ["prompt_id", "position", "split", "messages", "human", "tags"]
METRIC = ["iteration", "step", "name", "value"]


def prompts(n, held=0):
    return {
        "prompts": (PROMPT, [(f"p{i}", i, "train" if i < n else "heldout", "[]", "[]", "{}") for i in range(n + held)])
    }


def metrics(*rows):
    return {"metrics": (METRIC, list(rows))}


def python(code, *arguments, **options):
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, **options)
