"""The obvious way to compute what the data tools compute quickly, and where the real data lies."""

import re
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "matrix_judged.parquet"


def shingles(tokens: list[int], n: int) -> set[tuple[int, ...]]:
    return {tuple(tokens[i : i + n]) for i in range(max(len(tokens) - n, 0) + 1)} if tokens else set()


def jaccard(a: list[int], b: list[int], n: int) -> float:
    x, y = shingles(a, n), shingles(b, n)
    return len(x & y) / len(x | y) if x | y else 1.0


def words(column: list[str]) -> list[list[int]]:
    """Numbers for words: a tokenizer that is good enough for counting n-grams."""
    seen: dict[str, int] = {}
    return [[seen.setdefault(w, len(seen)) for w in re.findall(r"\w+|[^\w\s]", text)] for text in column]
