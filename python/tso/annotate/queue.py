"""Which pairs come up for a person's judgement, and in which order. Reads the store and changes nothing.

In this order: what the person has in hand already, a repeated pair that is due, and pairs that fewer than `per_item`
people have judged. Pairs whose iteration was not corrected yet come first, since a verdict can still reach their
training; then the latest iterations. Nothing comes but what is wanted now, save a verdict that was just taken back.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tso.store import RunStore
from tso.verdicts import left_side

GAP = 10  # verdicts between a pair and its repetition, while there are other pairs: enough to forget what one said

SCOPE = """
    SELECT p.pair_id FROM pairs AS p
    JOIN labels AS l ON l.label_id = (SELECT max(label_id) FROM labels WHERE pair_id = p.pair_id AND source <> 'human')
    LEFT JOIN units AS u ON u.iteration = p.iteration AND u.stage = 'correct/train'
    WHERE p.purpose = 'train' AND (?1 IS NULL OR p.iteration = ?1)
      AND NOT EXISTS (SELECT 1 FROM drops AS d WHERE d.kind = 'pair' AND d.id = p.pair_id AND d.stage LIKE 'pair/%')
      AND (?2 = 'all' OR l.chosen IS NULL OR (SELECT verdict FROM corrections AS c
          WHERE c.pair_id = p.pair_id AND c.source <> 'human' ORDER BY correction_id DESC LIMIT 1) IN ('tie', 'both_bad'))
    ORDER BY u.stage IS NOT NULL, p.iteration DESC, p.position
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be judged, and how often."""

    iteration: int | None = None  # None: all
    only: str = "all"  # all | undecided: pairs that the prior, rules and judges left without a better side
    per_item: int = 1  # people a pair
    repeat: float = 0.1  # share of a person's pairs that come once more


@dataclass(frozen=True, slots=True)
class Mine:
    """What one person has judged and holds. A skipped pair is judged, but no verdict."""

    judged: dict[tuple[str, int], str]  # (pair, round) -> what was said, in order
    held: list[tuple[str, int]]  # assignments without a verdict, the latest first

    @property
    def known(self) -> set[tuple[str, int]]:
        return {*self.judged, *self.held}

    @property
    def verdicts(self) -> list[str]:
        """Pairs judged the first time, without those skipped, in order."""
        return [pair for (pair, round), said in self.judged.items() if round == 0 and said != "skip"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a person is. agreed of repeated: own verdicts that were the same the second time."""

    done: int
    left: int
    skipped: int
    repeated: int
    agreed: int


class Queue:
    """The pairs of one run. Several threads may ask at once."""

    def __init__(self, store: RunStore, wanted: Wanted):
        self._store, self._wanted = store, wanted
        self._seed = store.meta().get("run.seed", "0")
        self._scope: tuple[tuple[int, ...], list[str]] = ((), [])

    def candidates(self, annotator: str) -> Iterator[tuple[str, int, str]]:
        """(pair, round, answer on the left) in the order in which the person should be given them."""
        mine = self.mine(annotator)
        fresh = self._fresh(annotator, mine)
        due = self._due(annotator, mine, bool(fresh))
        rest = [(pair, 0) for pair in fresh]
        for pair, round in [*mine.held, *due, *rest]:
            yield pair, round, left_side(self._seed, annotator, pair, round)

    def progress(self, annotator: str) -> Progress:
        mine = self.mine(annotator)
        twice = [(mine.judged.get((pair, 0)), said) for (pair, round), said in mine.judged.items() if round > 0]
        plain = [(a, b) for a, b in twice if {a, b} <= {"a", "b", "tie", "both_bad"}]
        held = sum(round == 0 for _, round in mine.held)
        return Progress(
            len(mine.verdicts),
            len(self._fresh(annotator, mine)) + held,
            sum(said == "skip" for said in mine.judged.values()),
            len(plain),
            sum(a == b for a, b in plain),
        )

    def mine(self, annotator: str) -> Mine:
        judged = self._store.query(
            "SELECT pair_id, round, said FROM standing WHERE annotator = ? ORDER BY verdict_id", (annotator,)
        )
        # What was taken back comes before what was given meanwhile, also where the page is for other pairs now.
        held = self._store.query(
            "SELECT pair_id, round, coalesce((SELECT max(verdict_id) FROM verdicts AS v WHERE v.pair_id = g.pair_id "
            "AND v.annotator = g.annotator AND v.round = g.round), 0) AS undone FROM assignments AS g "
            "WHERE annotator = ? AND NOT EXISTS (SELECT 1 FROM standing AS s WHERE s.pair_id = g.pair_id "
            "AND s.annotator = g.annotator AND s.round = g.round) "
            "GROUP BY pair_id, round ORDER BY undone DESC, max(assignment) DESC",
            (annotator,),
        )
        scope = set(self.scope())
        return Mine(
            {(pair, round): said for pair, round, said in judged},
            [(pair, round) for pair, round, undone in held if undone or pair in scope],
        )

    def scope(self) -> list[str]:
        """Ids of the pairs to be judged, in order; read anew when the run has finished something."""
        key = self._store.query("SELECT max(rowid), count(*) FROM units")[0]
        if key != self._scope[0]:
            rows = self._store.query(SCOPE, (self._wanted.iteration, self._wanted.only))
            self._scope = (key, [row[0] for row in rows])
        return self._scope[1]

    def _fresh(self, annotator: str, mine: Mine) -> list[str]:
        """Pairs that the person has not seen, and too few others have judged. Who holds one is for the store to say."""
        others: dict[str, set[str]] = defaultdict(set)
        for pair, who in self._store.query("SELECT DISTINCT pair_id, annotator FROM standing WHERE said <> 'skip'"):
            others[pair].add(who)
        seen = {pair for pair, _ in mine.known}
        return [p for p in self.scope() if p not in seen and len(others[p] - {annotator}) < self._wanted.per_item]

    def _due(self, annotator: str, mine: Mine, more: bool) -> list[tuple[str, int]]:
        """Pairs to be judged once more now, in an order that is the same whenever it is asked for."""
        scope = set(self.scope())
        again = {pair for pair, round in mine.known if round > 0 and pair in scope}
        verdicts = [pair for pair in mine.verdicts if pair in scope]
        owed = int(self._wanted.repeat * len(verdicts) + 1e-9) - len(again)
        if owed <= 0:
            return []
        old = verdicts[:-GAP] if more else verdicts
        ready = [pair for pair in old if pair not in again]
        ready.sort(key=lambda pair: hashlib.blake2b(f"{self._seed}\0{annotator}\0{pair}".encode()).digest())
        return [(pair, 1) for pair in ready[:owed]]
