"""Which pairs are worth a judge's time: those whose label is most likely wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tso.records import Pair


def expected_error(pair: Pair, variance: float) -> float:
    """Chance that a pair's label in force is wrong, 0 to 1/2; 1/2 where it has no direction.

    A label's confidence c says that its sides are d = log(c / (1 - c)) apart, where the cells' strengths were exact.
    They are estimates, and their difference has a `variance` (squared log-odds): the expected chance is
    sigmoid(-d / sqrt(1 + pi/8 variance)), by D. J. C. MacKay, Neural Computation 4 (1992), 720-736, equation 8.
    """
    if pair.label.chosen is None:
        return 0.5
    sure = min(max(pair.label.confidence, 0.5), 1 - 1e-12)
    distance = math.log(sure / (1 - sure)) / math.sqrt(1 + math.pi / 8 * variance)
    return 1 / (1 + math.exp(distance))


def variances(
    pairs: Sequence[Pair], cell_of: Mapping[int, str], errors: Mapping[str, float], unknown: float
) -> dict[str, float]:
    """Variance of the difference in strength between the two cells of each pair, by pair id.

    cell_of: cells by response id; errors: their standard errors; unknown: that of a cell which nobody compared yet.
    Labels by the implicit reward do not rest on strengths, so theirs is 0.
    """
    found = {}
    for pair in pairs:
        a, b = cell_of[pair.response_a], cell_of[pair.response_b]
        same = a == b or pair.label.source == "implicit"
        found[pair.id] = 0.0 if same else errors.get(a, unknown) ** 2 + errors.get(b, unknown) ** 2
    return found


def choose(
    pairs: Sequence[Pair], worth: Mapping[str, float], budget: float | None, settled: Collection[str] = ()
) -> list[Pair]:
    """The pairs to judge, most worthwhile first: as many as `budget` allows, a share up to 1, a number above; None: all.

    worth: expected error by pair id. Among equal ones every prompt has its turn. `settled` pairs come last: people have
    spoken on them, so a judge's verdict would change nothing.
    """
    turn: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for pair in pairs:
        turn[pair.id] = seen[pair.prompt_id]
        seen[pair.prompt_id] += 1
    ranked = sorted(
        pairs, key=lambda p: (p.id in settled, -worth[p.id], turn[p.id])
    )  # stable: equal ones stay in order
    return ranked[: allowed(len(pairs), budget)]


def allowed(pairs: int, budget: float | None) -> int:
    """How many of so many pairs a budget allows; a share is rounded up."""
    if budget is None:
        return pairs
    return min(pairs, math.ceil(budget * pairs - 1e-9) if budget <= 1 else int(budget))
