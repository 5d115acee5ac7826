"""What everybody says of the two answers of each pair, and which of them counts; from the store alone.

The store keeps verdicts as they were taken up: keep and flip, said of a label. Here they are turned back into the answer
that they prefer, so that rules, judges and people can be held against one another. Decides nothing for training: that is
the correct stage's, whose precedence this follows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tso.store import RunStore

SIDES = ("a", "b")


@dataclass(frozen=True, slots=True)
class Voice:
    """One verdict on a pair. said: a, b, tie, both_bad or edit; an edit says nothing of the two answers."""

    source: str  # rule | judge | human
    author: str
    said: str
    late: bool  # it came when the pair had been trained on, or had left
    verdict_id: int | None = None  # of what a person said, where the store has it


@dataclass(frozen=True, slots=True)
class Heard:
    """A pair with all that was taken up on it, in order.

    first_side, side: the answer that the first label and the one in force prefer, a or b; None where neither is better, and
    edit for a person's text. by_machines: what the label was before people spoke, in the same words, tie and both_bad too.
    """

    pair_id: str
    iteration: int
    purpose: str  # train | evaluate
    first_source: str
    first_side: str | None
    side: str | None
    dropped: bool
    voices: tuple[Voice, ...]

    @property
    def machines(self) -> str | None:
        """What judges say, the latest of them, or else rules."""
        for source in ("judge", "rule"):
            said = [v.said for v in self.voices if v.source == source]
            if said:
                return said[-1]
        return None

    @property
    def by_machines(self) -> str | None:
        return self.machines or self.first_side

    @property
    def people(self) -> str | None:
        """What more than half of the people say, each by the last verdict, late ones too."""
        return majority(self._of_people())

    @property
    def disputed(self) -> bool:
        """People spoke, and no verdict has more than half of them."""
        return bool(self._of_people()) and self.people is None

    @property
    def in_force(self) -> tuple[str, str] | None:
        """(source, what it says) of the verdict in force: people's, else a judge's, else a rule's.

        None where nobody spoke, or where people disagree.
        """
        if self._of_people():
            return None if self.people is None else ("human", self.people)
        said = self.machines
        source = "judge" if any(v.source == "judge" for v in self.voices) else "rule"
        return None if said is None else (source, said)

    def _of_people(self) -> list[Voice]:
        return [v for v in self.voices if v.source == "human"]


def majority(voices: Iterable[Voice]) -> str | None:
    """What more than half of the authors say, each by the last verdict; None where nothing has that many."""
    last = {v.author: v.said for v in voices}
    if not last:
        return None
    said, most = Counter(last.values()).most_common(1)[0]
    return said if 2 * most > len(last) else None


def heard(store: RunStore) -> list[Heard]:
    """Every pair of the run, in order, with what was said of it."""
    voices = _voices(store)
    rows = store.query(
        "SELECT p.pair_id, p.iteration, p.purpose, p.response_a, p.response_b, f.source, f.chosen, l.chosen, "
        " EXISTS (SELECT 1 FROM drops d WHERE d.kind = 'pair' AND d.id = p.pair_id) FROM pairs p "
        "JOIN labels f ON f.label_id = (SELECT min(label_id) FROM labels WHERE pair_id = p.pair_id) "
        "JOIN labels l ON l.label_id = (SELECT max(label_id) FROM labels WHERE pair_id = p.pair_id) "
        "ORDER BY p.iteration, p.purpose DESC, p.position"
    )
    return [
        Heard(
            name,
            iteration,
            purpose,
            source,
            _side(first, a, b),
            _side(last, a, b),
            bool(dropped),
            tuple(voices.get(name, ())),
        )
        for name, iteration, purpose, a, b, source, first, last, dropped in rows
    ]


def _side(chosen: int | None, a: int, b: int) -> str | None:
    return None if chosen is None else {a: "a", b: "b"}.get(chosen, "edit")


def _voices(store: RunStore) -> dict[str, list[Voice]]:
    """By pair id, in the order of giving.

    A rule's and a judge's keep and flip are about a pair's first label. A person's are about the label that was seen: what
    rules and judges made of the first one, or for a late verdict the label in force. Where a person's verdict names the
    answer, that decides. A late keep or flip beside an edited text is about that text, and says nothing of the two answers.
    """
    rows = store.query(
        "SELECT c.pair_id, c.source, c.author, c.verdict, c.answer, c.verdict_id, c.iteration > p.iteration, "
        " p.response_a, p.response_b, "
        " (SELECT chosen FROM labels l WHERE l.pair_id = p.pair_id ORDER BY label_id LIMIT 1), "
        " (SELECT chosen FROM labels l WHERE l.pair_id = p.pair_id ORDER BY label_id DESC LIMIT 1), "
        " (SELECT verdict FROM corrections m WHERE m.pair_id = p.pair_id AND m.source <> 'human' "
        "  ORDER BY m.source = 'judge' DESC, correction_id DESC LIMIT 1) "
        "FROM corrections c JOIN pairs p USING (pair_id) ORDER BY c.correction_id"
    )
    found: dict[str, list[Voice]] = defaultdict(list)
    for name, source, author, verdict, answer, verdict_id, late, a, b, first, in_force, by_machine in rows:
        if verdict not in ("keep", "flip"):
            said = verdict
        elif answer:
            said = answer
        elif source == "human" and late:
            said = _preferred(verdict, in_force == b) if in_force in (a, b, None) else "edit"
        elif source == "human":
            said = _preferred(verdict, (first == b) != (by_machine == "flip"))
        else:
            said = _preferred(verdict, first == b)
        found[name].append(Voice(source, author, said, bool(late), verdict_id))
    return found


def _preferred(verdict: str, b_chosen: bool) -> str:
    """keep and flip as the answer that they prefer; a label without a direction reads a over b."""
    return "b" if (verdict == "keep") == b_chosen else "a"
