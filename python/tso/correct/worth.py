"""A judge's budget on one iteration's pairs: what is asked next, from what was found and what the run knows of its cells.

How doubtful a label is, is decided in budget.py; here are the pairs that this leaves out, and the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tso.config import CorrectSection
from tso.correct import budget
from tso.correct.base import directed
from tso.correct.contests import matches
from tso.correct.learn import judged
from tso.correct.votes import Finding
from tso.records import Pair
from tso.store import RunStore


class Worth:
    """The pairs of an iteration, and how many of them may be judged."""

    def __init__(
        self,
        store: RunStore,
        options: CorrectSection,
        iteration: int,
        pairs: Iterable[Pair],
        settled: Collection[str],
        most: int,
        seed: int,
    ):
        """settled: pairs on which people have spoken, so that a verdict would change nothing; they come last."""
        self.pairs, self.settled = {p.id: p for p in pairs}, settled
        self.most, self.seed, self.weight = most, seed, options.strength_prior_weight
        self.prior = {c.name: c.prior for c in store.cells(iteration)}
        answers = store.responses_by_id(s for p in self.pairs.values() for s in directed(p))
        open_pairs = [p for p in self.pairs.values() if p.id not in settled]
        cells, tokens = {i: r.cell for i, r in answers.items()}, {i: len(r.token_ids) for i, r in answers.items()}
        self.matches = [m for m in matches(open_pairs, cells, tokens) if {m.first, m.second} <= self.prior.keys()]
        self.earlier = judged(store, self.prior) if most < len(self.pairs) else []

    def next_round(self, findings: Mapping[str, Finding]) -> list[str]:
        """Ids of the pairs to judge next, after `findings` in the order in which they came; none when all is spent.

        A budget for all of them needs no choice. Last come those of one cell with itself, which have no label that could
        be wrong and teach nothing of cells, and after them those that people have settled.
        """
        left = self.most - len(findings)
        if left <= 0:
            return []
        rest = [name for name in self.pairs if name not in findings]
        if self.most == len(self.pairs):
            return rest
        contested = {m.pair_id for m in self.matches}
        verdicts = {name: self._outcome(name, f) for name, f in findings.items() if name in contested}
        chosen = budget.next_round(
            self.matches, verdicts, self.most, self.prior, self.weight, self.earlier, seed=self.seed
        )
        return chosen[:left] or sorted(rest, key=lambda name: name in self.settled)[:left]

    def _outcome(self, name: str, finding: Finding) -> float | None:
        """1 where the label is right, 0 where it is wrong, 0.5 where neither side is better, None without a verdict."""
        pair = self.pairs[name]
        if finding.verdict in ("a", "b"):
            better = pair.response_a if finding.verdict == "a" else pair.response_b
            return float(better == directed(pair)[0])
        return 0.5 if finding.verdict == "tie" else None
