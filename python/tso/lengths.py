"""How much longer the chosen sides are than the rejected ones, and choosing pairs in which they are not.

Length is a known shortcut: where one side is nearly always the longer one, a policy can learn length and nothing else.
Lengths are in tokens. Pure functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tso.records import Pair

LOPSIDED = 0.7  # share of pairs with the same side the longer one, above which it is worth a warning
LEAST = 10  # pairs, below which such a share says too little


@dataclass(frozen=True, slots=True)
class Gap:
    """Of the labelled pairs of one source. Pairs with sides of equal length count half to either side."""

    pairs: int
    tokens: float  # mean of chosen less rejected
    longer: float  # share in which the chosen side is the longer one


def gaps(pairs: Iterable[Pair], tokens: Mapping[int, int]) -> dict[str, Gap]:
    """By source of the label in force; `all` is of every labelled pair. tokens: by response id."""
    found: dict[str, list[int]] = defaultdict(list)
    for pair in pairs:
        if pair.label.chosen is not None and pair.label.rejected is not None:
            apart = tokens[pair.label.chosen] - tokens[pair.label.rejected]
            found[pair.label.source].append(apart)
            found["all"].append(apart)
    return {source: _gap(values) for source, values in sorted(found.items())}


def _gap(apart: list[int]) -> Gap:
    longer = sum(1.0 if x > 0 else 0.5 if x == 0 else 0.0 for x in apart)
    return Gap(len(apart), sum(apart) / len(apart), longer / len(apart))


def metrics(found: Mapping[str, Gap]) -> dict[str, float]:
    gap = {f"data/length/gap/{source}": g.tokens for source, g in found.items()}
    return gap | {f"data/length/chosen_longer/{source}": g.longer for source, g in found.items()}


def warning(found: Mapping[str, Gap]) -> str | None:
    """What to tell where one side is the longer one in more than LOPSIDED of the pairs; None where it is not."""
    whole = found.get("all")
    if whole is None or whole.pairs < LEAST or max(whole.longer, 1 - whole.longer) <= LOPSIDED:
        return None
    side, share = ("chosen", whole.longer) if whole.longer > 0.5 else ("rejected", 1 - whole.longer)
    by_source = ", ".join(f"{s} {g.longer:.0%} of {g.pairs}" for s, g in found.items() if s != "all")
    return (
        f"the {side} side is the longer one in {share:.0%} of the pairs, so the policy may learn length alone "
        f"(chosen longer, by source of the label: {by_source}); pair.length=match or cap chooses pairs of like length"
    )


def likeness(a: int, b: int) -> float:
    """Shorter by longer of two lengths in tokens, above 0 and at most 1."""
    return (min(a, b) + 1) / (max(a, b) + 1)


def within(a: int, b: int, ratio: float) -> bool:
    """Whether the longer of two answers has at most `ratio` times the tokens of the shorter; empty ones count as 1."""
    return max(a, b, 1) <= ratio * max(min(a, b), 1)
