"""What there is to say of each person who judged pairs of a run, from its store alone: how much, how steadily, with whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tso.judges import agreement
from tso.statistics import Kappa, Share
from tso.store import RunStore
from tso.verdicts import Verdict, latest, standing
from tso.voices import Heard, Voice, heard, majority

Said = dict[str, str]
"""a, b, tie, both_bad or edit by pair id."""


@dataclass(frozen=True, slots=True)
class AnnotatorStatistics:
    """One person, by the name under which the verdicts came. Of several verdicts on a pair the last one counts."""

    annotator: str
    pairs: int  # that the person judged; skipped ones are not
    ties: Share  # of these
    both_bad: Share
    edits: Share
    skipped: int
    taken_back: int
    repeated: Share  # of the pairs judged once more, without edits: the same verdict as the first time
    with_others: Kappa | None  # with what more than half of the others say
    with_judges: Kappa | None  # with the judges' last verdict on a pair


def of_run(store: RunStore) -> list[AnnotatorStatistics]:
    """Statistics of everybody who gave a verdict, also one that the run has not taken up yet, by name."""
    pairs = heard(store)
    verdicts = standing(store)
    said = _said(pairs, verdicts)
    judges = {h.pair_id: v.said for h in pairs for v in h.voices if v.source == "judge"}
    skipped = Counter(_names(store, "standing WHERE said = 'skip'"))
    undone = Counter(_names(store, "verdicts WHERE said = 'undo'"))
    return [
        AnnotatorStatistics(
            annotator=name,
            pairs=len(said[name]),
            ties=_share(said[name], "tie"),
            both_bad=_share(said[name], "both_bad"),
            edits=_share(said[name], "edit"),
            skipped=skipped[name],
            taken_back=undone[name],
            repeated=_repeated([v for v in verdicts if v.annotator == name]),
            with_others=agreement(_plain(said[name]), _plain(_others(said, name))),
            with_judges=agreement(_plain(said[name]), judges),
        )
        for name in sorted({*said, *skipped, *undone})
    ]


def _said(pairs: Sequence[Heard], verdicts: Sequence[Verdict]) -> dict[str, Said]:
    """By person: verdicts of a recorded file, and over them what was said on the page or imported, and not taken back."""
    found: dict[str, Said] = defaultdict(dict)
    for pair in pairs:
        for voice in pair.voices:
            if voice.source == "human" and voice.verdict_id is None:
                found[voice.author][pair.pair_id] = voice.said
    for verdict in latest(verdicts):
        found[verdict.annotator][verdict.pair_id] = verdict.said
    return found


def _names(store: RunStore, rows: str) -> list[str]:
    return [row[0] for row in store.query(f"SELECT annotator FROM {rows}")]


def _share(said: Said, what: str) -> Share:
    return Share(sum(s == what for s in said.values()), len(said))


def _repeated(verdicts: Sequence[Verdict]) -> Share:
    first = {v.pair_id: v.said for v in verdicts if v.round == 0}
    twice = [(first.get(v.pair_id), v.said) for v in verdicts if v.round > 0]
    plain = [(a, b) for a, b in twice if a is not None and "edit" not in (a, b)]
    return Share(sum(a == b for a, b in plain), len(plain))


def _others(said: Mapping[str, Said], name: str) -> Said:
    voices: dict[str, list[Voice]] = defaultdict(list)
    for other, theirs in said.items():
        for pair, what in theirs.items():
            if other != name:
                voices[pair].append(Voice("human", other, what, late=False))
    found = {pair: majority(of_pair) for pair, of_pair in voices.items()}
    return {pair: what for pair, what in found.items() if what is not None}


def _plain(said: Said) -> Said:
    """Without edits, which say nothing of the two answers."""
    return {pair: what for pair, what in said.items() if what != "edit"}
