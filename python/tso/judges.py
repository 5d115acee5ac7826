"""What there is to say of each AI judge of a run, from its store alone: how it errs, whom it agrees with, what it costs."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tso.statistics import Kappa, Share, kappa
from tso.store import RunStore

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
    people = _people(store) if names else {}
    return [_statistics(store, name, people) for name in names]


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


def _statistics(store: RunStore, judge: str, people: Mapping[str, str]) -> JudgeStatistics:
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
    said = _verdicts(store, judge)
    asked = _settled_pairs(store, judge)
    sides = {name: side for name, side in said.items() if side in ("a", "b")}  # the prior knows no ties
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
        with_prior=_agreement(sides, _prior(store)),
        with_people=_agreement(said, people),
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


def _verdicts(store: RunStore, judge: str) -> dict[str, str]:
    """a, b, tie or both_bad by pair id. The judge's keep and flip are about a pair's first label."""
    rows = store.query(
        "SELECT c.pair_id, c.verdict, p.response_b = (SELECT chosen FROM labels l WHERE l.pair_id = p.pair_id "
        " ORDER BY label_id LIMIT 1) FROM corrections c JOIN pairs p USING (pair_id) "
        "WHERE c.source = 'judge' AND c.author = ? ORDER BY c.correction_id",
        (judge,),
    )
    return {pair_id: _side(verdict, bool(b_chosen)) for pair_id, verdict, b_chosen in rows}


def _side(verdict: str, b_chosen: bool) -> str:
    """keep and flip as the answer that they prefer; a label without a direction reads a over b."""
    if verdict not in ("keep", "flip"):
        return verdict
    return "b" if (verdict == "keep") == b_chosen else "a"


def _longer(store: RunStore, said: Mapping[str, str]) -> Share:
    rows = store.query(
        "SELECT p.pair_id, length(a.text), length(b.text) FROM pairs p "
        "JOIN responses a ON a.response_id = p.response_a JOIN responses b ON b.response_id = p.response_b"
    )
    won = [(said[name] == "a") == (a > b) for name, a, b in rows if said.get(name) in ("a", "b") and a != b]
    return Share(sum(won), len(won))


def _prior(store: RunStore) -> dict[str, str]:
    """The answer that the prior prefers, a or b, where it labelled a pair first and judges find one better."""
    rows = store.query(
        "SELECT p.pair_id, l.chosen = p.response_a FROM pairs p JOIN labels l ON l.label_id = "
        " (SELECT min(label_id) FROM labels WHERE pair_id = p.pair_id) "
        "WHERE l.source = 'prior' AND l.chosen IS NOT NULL"
    )
    return {name: "a" if a_chosen else "b" for name, a_chosen in rows}


def _people(store: RunStore) -> dict[str, str]:
    """What most people say of each pair's two answers: a, b, tie or both_bad. Each has one voice, by their last verdict.

    keep and flip are about the label that they saw: what rules and judges made of the pair's first one, or for a verdict
    that came when it had been trained on, the label in force. Such late verdicts are the last word. An edit is a voice
    that says nothing of the two answers.
    """
    rows = store.query(
        "SELECT c.pair_id, c.author, c.verdict, c.iteration > p.iteration, p.response_a, p.response_b, "
        " (SELECT chosen FROM labels l WHERE l.pair_id = p.pair_id ORDER BY label_id LIMIT 1), "
        " (SELECT chosen FROM labels l WHERE l.pair_id = p.pair_id ORDER BY label_id DESC LIMIT 1), "
        " (SELECT verdict FROM corrections m WHERE m.pair_id = p.pair_id AND m.source <> 'human' "
        "  ORDER BY m.source = 'judge' DESC, correction_id DESC LIMIT 1) "
        "FROM corrections c JOIN pairs p USING (pair_id) WHERE c.source = 'human' ORDER BY c.correction_id"
    )
    voices: dict[tuple[str, bool], dict[str, str]] = defaultdict(dict)
    for name, author, verdict, late, a, b, first, in_force, by_machine in rows:
        b_seen = in_force == b if late else (first == b) != (by_machine == "flip")
        about_both = not late or in_force in (a, b, None)  # an edited text may be in force, which is neither
        voices[name, bool(late)][author] = _side(verdict, b_seen) if about_both else "edit"
    found = {name: _majority(said) for (name, late), said in voices.items() if late or (name, True) not in voices}
    return {name: said for name, said in found.items() if said is not None and said != "edit"}


def _majority(voices: Mapping[str, str]) -> str | None:
    said, most = Counter(voices.values()).most_common(1)[0]
    return said if 2 * most > len(voices) else None


def _agreement(judge: Mapping[str, str], others: Mapping[str, str]) -> Kappa | None:
    """Kappa over the pairs on which both have spoken.

    Which answer is class `one` is decided by the pair's id, a hash: by its place in the store, where the order of cells
    decides, two raters who both follow the cells would seem to agree by chance alone.
    """
    table = [[0] * len(CLASSES) for _ in CLASSES]
    for name in judge.keys() & others.keys():
        row, column = (CLASSES.index(_class(name, said[name])) for said in (judge, others))
        table[row][column] += 1
    return kappa(table)


def _class(pair_id: str, said: str) -> str:
    if said not in ("a", "b"):
        return "neither"
    return "one" if (said == "a") == bool(zlib.crc32(pair_id.encode()) & 1) else "other"
