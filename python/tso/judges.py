"""What there is to say of each AI judge of a run, from its store alone: how it errs, whom it agrees with, what it costs."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tso.statistics import Kappa, Share, kappa
from tso.store import RunStore
from tso.voices import SIDES, Heard, heard

CLASSES = ("one", "other", "neither")


@dataclass(frozen=True, slots=True)
class JudgeStatistics:
    """One judge over the whole run, by the name it was configured with."""

    judge: str
    chosen: int  # pairs that it was to judge
    failed: Share  # of the pairs that it was asked about: no verdict
    failed_calls: Share
    first_place: int  # couples of calls that both preferred the answer shown first
    position: Share  # of the couples of calls that were read: both orders preferred the same place
    ties: Share  # of its verdicts: a tie, whether it said so or its verdict turned with the order
    both_bad: Share
    longer: Share  # of its verdicts for one of two answers unlike in length: for the one with more characters
    with_prior: Kappa | None  # where the prior labelled first and the judge prefers one answer
    with_people: Kappa | None  # where people judged too: one answer, the other, neither
    prompt_tokens: int | None  # read by the judge; None where its backend did not tell
    tokens: int | None  # written by it; None as above


def of_run(store: RunStore) -> list[JudgeStatistics]:
    """Statistics of every judge that has made a call, by name."""
    names = [row[0] for row in store.query("SELECT DISTINCT judge FROM judge_calls ORDER BY judge")]
    pairs = heard(store) if names else []
    return [_statistics(store, name, pairs) for name in names]


def places(calls: Iterable[tuple[str, int, int, str | None]]) -> tuple[int, Share]:
    """(couples of calls that both prefer the first place; those that prefer one and the same place, of all read).

    calls: (pair id, response shown first, vote, verdict), one for each order of a vote; a couple is the two orders of one
    vote on a pair, and counts where both were read.
    """
    couples: dict[tuple[str, int], list[str | None]] = defaultdict(list)
    for pair_id, _, vote, verdict in calls:
        couples[pair_id, vote].append(verdict)
    read = [said for said in couples.values() if len(said) == 2 and None not in said]
    same = Counter(said[0] for said in read if said[0] == said[1] and said[0] in ("first", "second"))
    return same["first"], Share(same.total(), len(read))


def _statistics(store: RunStore, judge: str, pairs: Sequence[Heard]) -> JudgeStatistics:
    # Of each question the last attempt: a retry that could be read stands for it.
    last = store.query(
        "SELECT pair_id, shown_first, vote, verdict FROM judge_calls c WHERE judge = ?1 AND attempt = "
        " (SELECT max(attempt) FROM judge_calls d WHERE d.judge = ?1 AND d.pair_id = c.pair_id "
        "  AND d.shown_first = c.shown_first AND d.vote = c.vote) ORDER BY c.rowid",
        (judge,),
    )
    first_place, position = places(last)
    [(calls, unread, tokens, read)] = store.query(
        "SELECT count(*), sum(verdict IS NULL), sum(tokens), sum(prompt_tokens) FROM judge_calls WHERE judge = ?",
        (judge,),
    )
    [(chosen,)] = store.query("SELECT count(*) FROM judge_pairs WHERE judge = ?", (judge,))
    said = {h.pair_id: v.said for h in pairs for v in h.voices if (v.source, v.author) == ("judge", judge)}
    asked = _settled_pairs(store, judge)
    sides = {name: side for name, side in said.items() if side in SIDES}  # the prior knows no ties
    prior = {h.pair_id: h.first_side for h in pairs if h.first_source == "prior" and h.first_side}
    return JudgeStatistics(
        judge=judge,
        chosen=chosen,
        failed=Share(asked - len(said), asked),
        failed_calls=Share(unread, calls),
        first_place=first_place,
        position=position,
        ties=Share(sum(v == "tie" for v in said.values()), len(said)),
        both_bad=Share(sum(v == "both_bad" for v in said.values()), len(said)),
        longer=_longer(store, said),
        with_prior=agreement(sides, prior),
        with_people=agreement(said, by_people(pairs)),
        prompt_tokens=read,
        tokens=tokens,
    )


def _settled_pairs(store: RunStore, judge: str) -> int:
    """Pairs on which all calls were made and settled: those of iterations whose corrections are there."""
    [(count,)] = store.query(
        "SELECT count(*) FROM judge_pairs j JOIN pairs p USING (pair_id) JOIN units u ON u.iteration = p.iteration "
        "AND u.stage = 'correct/' || p.purpose WHERE j.judge = ?",
        (judge,),
    )
    return int(count)


def _longer(store: RunStore, said: Mapping[str, str]) -> Share:
    rows = store.query("SELECT pair_id, response_a, response_b FROM pairs ORDER BY pair_id")
    pairs = [(said[name], a, b) for name, a, b in rows if said.get(name) in SIDES]
    texts = store.responses_by_id(side for _, *sides in pairs for side in sides)
    # Counted here: SQLite's length() ends at the first NUL.
    gaps = [(side, len(texts[a].text) - len(texts[b].text)) for side, a, b in pairs]
    won = [(side == "a") == (gap > 0) for side, gap in gaps if gap]
    return Share(sum(won), len(won))


def by_people(pairs: Iterable[Heard]) -> dict[str, str]:
    """What most people say of each pair's two answers: a, b, tie or both_bad. An edit says nothing of them."""
    said = {h.pair_id: h.people for h in pairs}
    return {name: what for name, what in said.items() if what is not None and what != "edit"}


def agreement(one: Mapping[str, str], others: Mapping[str, str]) -> Kappa | None:
    """Kappa over the pairs on which both have spoken: one answer, the other, neither. Verdicts by pair id.

    Which answer is class `one` is decided by the pair's id, a hash: by its place in the store, where the order of cells
    decides, two raters who both follow the cells would seem to agree by chance alone.
    """
    table = [[0] * len(CLASSES) for _ in CLASSES]
    for name in one.keys() & others.keys():
        row, column = (CLASSES.index(_class(name, said[name])) for said in (one, others))
        table[row][column] += 1
    return kappa(table)


def _class(pair_id: str, said: str) -> str:
    if said not in SIDES:
        return "neither"
    return "one" if (said == "a") == bool(zlib.crc32(pair_id.encode()) & 1) else "other"
