"""Which pairs a judge is shown when it cannot be shown all: those whose labels are most likely wrong.

A verdict removes an error where the label is wrong, so the pairs with the closest and least certain cells come first,
and among these the ones whose lengths speak against the label, as far as verdicts so far have followed length. The
budget is spent in rounds. The first is drawn by lot: it tells how strong the cells are and how far the judge follows
length, from pairs as they are. Each later one is chosen by a fit to the verdicts of those before. Pure functions;
whoever asks the judge keeps the verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice

from tso.correct.contests import Match, contest
from tso.correct.strengths import Contest, Strengths, fit

ROUNDS = 5  # of equal size; more change little, and a judge that answers many at once waits between them
LEAST = 16  # pairs of a round


def next_round(
    matches: Sequence[Match],
    verdicts: Mapping[str, float | None],
    budget: int,
    prior: Mapping[str, float],
    prior_weight: float,
    earlier: Sequence[Contest] = (),
    *,
    seed: int = 0,
) -> list[str]:
    """Ids of the pairs to judge next: by lot, then the most doubtful; empty when `budget` pairs were judged, or all.

    verdicts: by pair id, in the order they were given: 1 the label is right, 0 it is wrong, 0.5 neither side is better,
    None no usable verdict. A round that was interrupted is chosen again from the verdicts before it, and what is left
    of it is returned, so a resumed run asks for the same pairs. earlier: contests of other pairs, which count as well.
    """
    size = max(LEAST, -(-budget // ROUNDS))
    begun = len(verdicts) // size * size
    if len(verdicts) >= budget:
        return []
    before = dict(islice(verdicts.items(), begun))
    judged = [contest(m, said) for m in matches if (said := before.get(m.pair_id)) is not None]
    left = [m for m in matches if m.pair_id not in before]
    number = min(size, budget - begun)
    if begun == 0:
        chosen = at_random(left, number, seed=seed)
    else:
        chosen = most_doubtful(left, fit(prior, [*earlier, *judged], prior_weight), number, seed=seed)
    return [pair for pair in chosen if pair not in verdicts]


def most_doubtful(matches: Sequence[Match], fitted: Strengths, number: int, *, seed: int = 0) -> list[str]:
    """Ids of the `number` pairs whose labels are most likely wrong, the most doubtful first.

    A pair without a label is as doubtful as a coin. Equally doubtful pairs come in an order that `seed` decides.
    """
    chance = fitted.chance([m.first for m in matches], [m.second for m in matches], [m.excess for m in matches])
    doubt = [1 - float(p) if m.decided else 0.5 for m, p in zip(matches, chance, strict=True)]
    order = sorted(range(len(matches)), key=lambda i: (-doubt[i], _lot(matches[i].pair_id, seed)))
    return [matches[i].pair_id for i in order[:number]]


def at_random(matches: Sequence[Match], number: int, *, seed: int = 0) -> list[str]:
    """Ids of `number` pairs regardless of doubt; a larger number holds the smaller one's pairs."""
    return sorted((m.pair_id for m in matches), key=lambda name: _lot(name, seed))[:number]


def _lot(pair_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{pair_id}".encode()).digest()
