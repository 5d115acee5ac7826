"""Responses become pairs: clean, label by the prior, pick, and filter over the whole run's history (steps 3 to 5).

Decides order and reasons; texts are compared, scored and picked in Rust (`tso._core`, through tso.dedup and
tso.diversity).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tso import lengths
from tso.config import PairSection
from tso.dedup import dedup_pairs, dedup_texts
from tso.diversity import COUNTS, diversity, pick_pairs, repetition
from tso.errors import InternalError
from tso.matrix import win_probability
from tso.progress import Face
from tso.records import Cell, Label, Pair, Response
from tso.store import RunStore
from tso.store_rows import Rows, drop_rows, label_rows, merge, metric_rows

UNDECIDED = 0.05  # quality of a pair that the prior cannot order: still worth a judge's look, after the others


@dataclass(frozen=True, slots=True)
class Candidate:
    """Rows a and b of the cleaned responses, and how likely a is the better one, as `source` sees it."""

    a: int
    b: int
    p_a: float
    source: str  # prior, implicit, agreement


def make_pairs(store: RunStore, options: PairSection, iteration: int, purpose: str = "train") -> None:
    """Write the pairs of an iteration, their first labels, and every drop with its reason, as one unit."""
    stage = f"pair/{purpose}"
    if store.done(iteration, stage):
        return
    cells = {c.name: c for c in store.cells(iteration)}
    answers = store.responses(iteration, purpose)
    unanswered = store.unanswered(iteration, purpose)
    clean, dropped = clean_responses([a for a in answers if a.id not in unanswered], options)
    dropped += [(draw, "unanswered", why) for draw, why in unanswered.items()]
    rows = [_tokens(r) for r in clean]
    candidates = propose(clean, cells, store.rewards(iteration), options.label)
    candidates = [c for c in candidates if options.length != "cap" or _within(rows, c, options.length_ratio)]
    picked, alike = _pick(rows, clean, candidates, options)
    pairs = [_pair(iteration, clean, candidates[i], s) for i, s in zip(picked, alike, strict=True)]
    paired = {side for p in pairs for side in (p.response_a, p.response_b)}
    dropped += [(r.id, "not_picked", "") for r in clean if r.id not in paired]
    refused = _filter(store, pairs, {r.id: r for r in clean}, options, purpose)
    store.commit(
        iteration,
        stage,
        merge(
            _pair_rows(purpose, pairs),
            label_rows(store.next_id("labels", "label_id"), iteration, [(p.id, p.label) for p in pairs]),
            drop_rows(iteration, stage, "response", dropped),
            drop_rows(iteration, stage, "pair", refused),
            metric_rows(iteration, 0, _metrics(purpose, answers, clean, pairs, options)),
        ),
        info={"responses": len(answers), "pairs": len(pairs), "dropped_pairs": len(refused)},
    )


def clean_responses(
    answers: Sequence[Response], options: PairSection
) -> tuple[list[Response], list[tuple[int, str, str]]]:
    """(what is left, (response id, reason, detail) of the rest); each response leaves for one reason."""
    dropped: list[tuple[int, str, str]] = []
    left = []
    loops = repetition([_tokens(r) for r in answers], ngram=options.ngram) if answers else np.empty(0)
    first: dict[tuple[str, str], int] = {}
    for response, share in zip(answers, loops, strict=True):
        if not response.text.strip():
            dropped.append((response.id, "empty", ""))
        elif not response.token_ids:
            dropped.append(
                (response.id, "unreadable", "the policy's tokenizer has no tokens for it, or only by control tokens")
            )
        elif options.drop_cutoff and response.finish_reason == "length":
            dropped.append((response.id, "cut_off", ""))
        elif share > options.max_repetition:
            dropped.append((response.id, "looping", f"{share:.2f} of its n-grams repeat"))
        elif (same := first.setdefault((response.prompt_id, response.text.strip()), response.id)) != response.id:
            # Tokens alone do not tell: one text may be cut into tokens in several ways.
            dropped.append((response.id, "duplicate", f"of response {same}"))
        else:
            left.append(response)
    if not left:
        return left, dropped
    groups = _group_numbers([r.prompt_id for r in left])
    found = dedup_texts(
        [_tokens(r) for r in left],
        groups=groups,
        ngram=options.ngram,
        threshold=options.near_threshold,
        threads=options.threads,
    )
    dropped += [
        (r.id, "duplicate", f"of response {left[int(found.cluster[i])].id}")
        for i, r in enumerate(left)
        if not found.keep[i]
    ]
    return [r for i, r in enumerate(left) if found.keep[i]], dropped


def propose(
    clean: Sequence[Response], cells: dict[str, Cell], rewards: Mapping[int, float], how: str
) -> list[Candidate]:
    """Every two responses of one prompt, with the probability that the first is better (step 4).

    rewards: the policy's implicit rewards by response id, empty before it was trained; how: config pair.label.
    """
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for i, response in enumerate(clean):
        by_prompt[response.prompt_id].append(i)
    return [
        Candidate(a, b, *opinion(clean[a], clean[b], cells, rewards, how))
        for rows in by_prompt.values()
        for a, b in combinations(rows, 2)
    ]


def opinion(
    a: Response, b: Response, cells: dict[str, Cell], rewards: Mapping[int, float], how: str
) -> tuple[float, str]:
    """(probability that a is better, whose opinion that is): Bradley-Terry on cell strengths, or on implicit rewards.

    Where both have to agree, they are as sure as the less sure of them, and undecided (one half) when they do not.
    """
    prior = win_probability(cells[a.cell].strength, cells[b.cell].strength)
    if how == "prior" or a.id not in rewards or b.id not in rewards:
        return prior, "prior"
    implicit = win_probability(rewards[a.id], rewards[b.id])
    if how == "implicit":
        return implicit, "implicit"
    agree = (prior - 0.5) * (implicit - 0.5) > 0
    return (min(prior, implicit, key=lambda p: abs(p - 0.5)) if agree else 0.5), "agreement"


def _pick(
    rows: list[list[int]], clean: Sequence[Response], candidates: list[Candidate], options: PairSection
) -> tuple[list[int], list[float]]:
    if not candidates:
        return [], []
    picked, alike = pick_pairs(
        rows,
        prompt=_group_numbers([clean[c.a].prompt_id for c in candidates]),
        a=[c.a for c in candidates],
        b=[c.b for c in candidates],
        quality=[_quality(rows, c, options) for c in candidates],
        max_pairs=options.max_pairs,
        max_uses=options.max_uses,
        ngram=options.ngram,
    )
    return [int(i) for i in picked], [float(s) for s in alike]


def _within(rows: list[list[int]], candidate: Candidate, ratio: float) -> bool:
    return lengths.within(len(rows[candidate.a]), len(rows[candidate.b]), ratio)


def _quality(rows: list[list[int]], candidate: Candidate, options: PairSection) -> float:
    """How far the label is decided; with pair.length=match, times how alike the two lengths are."""
    decided = UNDECIDED + abs(2 * candidate.p_a - 1)
    if options.length != "match":
        return decided
    return decided * lengths.likeness(len(rows[candidate.a]), len(rows[candidate.b]))


def _pair(iteration: int, clean: Sequence[Response], candidate: Candidate, similarity: float) -> Pair:
    a, b = clean[candidate.a], clean[candidate.b]
    first, second = (a, b) if candidate.p_a >= 0.5 else (b, a)
    sure = max(candidate.p_a, 1 - candidate.p_a)
    chosen, rejected = (first.id, second.id) if sure > 0.5 else (None, None)
    label = Label(candidate.source, chosen, rejected, sure, 1.0)
    # By their texts, as in the id: in another run a pair of this id has the same a and b, whatever the order of its cells,
    # so that what people said of a and b there means the same here.
    a, b = sorted((a, b), key=lambda r: r.text)
    return Pair(pair_id(iteration, a, b), iteration, a.prompt_id, a.id, b.id, similarity, label)


def pair_id(iteration: int, a: Response, b: Response) -> str:
    """Stable across machines and evaluation settings: a hash of iteration, prompt and the two texts, which differ."""
    text = "\0".join([str(iteration), a.prompt_id, *sorted([a.text, b.text])])
    return "p" + hashlib.sha256(text.encode()).hexdigest()[:15]


def settle(store: RunStore, options: PairSection, iteration: int, purpose: str = "train") -> None:
    """Look for contradictions once more when corrections have given the pairs their final direction; keep the surest."""
    stage = f"settle/{purpose}"
    if store.done(iteration, stage):
        return
    fresh = store.pairs(iteration, purpose)
    texts = store.responses_by_id(s for p in fresh for s in (p.label.chosen, p.label.rejected) if s is not None)
    refused = contradictions(store, fresh, texts, options, purpose)
    gone = {r[0] for r in refused}
    refused += surplus([p for p in fresh if p.id not in gone], options.max_kept)
    store.commit(iteration, stage, drop_rows(iteration, stage, "pair", refused), info={"dropped_pairs": len(refused)})


def tell_lengths(store: RunStore, iteration: int, face: Face) -> None:
    """Write the length gap of the kept pairs by source of their labels, as one unit, and warn of a lopsided one."""
    if store.done(iteration, "lengths"):
        return
    pairs = store.pairs(iteration)
    answers = store.responses_by_id(s for p in pairs for s in (p.label.chosen, p.label.rejected) if s is not None)
    found = lengths.gaps(pairs, {i: len(_tokens(r)) for i, r in answers.items()})
    store.commit(iteration, "lengths", metric_rows(iteration, 0, lengths.metrics(found)))
    if said := lengths.warning(found):
        face.warn(f"iteration {iteration}: {said}")


def surplus(pairs: Sequence[Pair], most: int | None) -> list[tuple[str, str, str]]:
    """(pair id, reason, detail) of the pairs beyond the `most` surest.

    What a person has said comes first, however sure; among equally sure pairs every prompt has its turn.
    """
    if most is None or len(pairs) <= most:
        return []
    seen: Counter[str] = Counter()
    turn = {}
    for p in pairs:
        turn[p.id] = seen[p.prompt_id]
        seen[p.prompt_id] += 1
    ranked = sorted(
        pairs, key=lambda p: (p.label.source != "human", -p.label.confidence, turn[p.id])
    )  # stable: equal ones stay in order
    return [(p.id, "surplus", f"confidence {p.label.confidence:.2f}") for p in ranked[most:]]


def _filter(
    store: RunStore, pairs: list[Pair], responses: dict[int, Response], options: PairSection, purpose: str
) -> list[tuple[str, str, str]]:
    """(pair id, reason, detail) of new pairs that history or their own sides rule out (step 5).

    Only new pairs can leave here: an older pair was trained on already. Pairs without a label have no direction yet;
    their contradictions are looked for again once they are corrected.
    """
    refused = [
        (p.id, "alike", f"similarity {p.similarity:.2f}") for p in pairs if p.similarity > options.max_similarity
    ]
    gone = {r[0] for r in refused}
    fresh = [p for p in pairs if p.id not in gone and p.label.chosen is not None]
    return refused + contradictions(store, fresh, responses, options, purpose)


def contradictions(
    store: RunStore, fresh: list[Pair], responses: dict[int, Response], options: PairSection, purpose: str
) -> list[tuple[str, str, str]]:
    """Duplicates, reversals and cycles among `fresh` pairs and the kept pairs of earlier iterations.

    Pairs of other prompts have nothing to do with these, so the history is only as long as that of the prompts.
    """
    if not fresh:
        return []
    new, prompts = {p.id for p in fresh}, {p.prompt_id for p in fresh}
    history = (p for p in store.pairs(purpose=purpose) if p.prompt_id in prompts and p.id not in new)
    old = [p for p in history if p.label.chosen is not None]
    sides = (s for p in old for s in (p.label.chosen, p.label.rejected) if s is not None)
    texts = {
        **store.responses_by_id(sides),
        **responses,
    }  # a side may be a person's edit, which is no answer of the pair
    whole = [*old, *fresh]
    numbers = _group_numbers([p.prompt_id for p in whole])
    found = dedup_pairs(
        [[n] for n in numbers],  # a prompt is its number: equal prompts, and no others, are compared
        [_side(texts, p.label.chosen) for p in whole],
        [_side(texts, p.label.rejected) for p in whole],
        ngram=options.ngram,
        threshold=options.near_threshold,
        keep=[p.label.confidence for p in whole],
        threads=options.threads,
    )
    return [(p.id, found.reason_names(i), "") for i, p in enumerate(whole) if i >= len(old) and not found.keep[i]]


def _pair_rows(purpose: str, pairs: list[Pair]) -> Rows:
    columns = ["pair_id", "iteration", "purpose", "position", "prompt_id", "response_a", "response_b", "similarity"]
    rows = [
        (p.id, p.iteration, purpose, i, p.prompt_id, p.response_a, p.response_b, p.similarity)
        for i, p in enumerate(pairs)
    ]
    return {"pairs": (columns, rows)}


def _metrics(
    purpose: str, answers: Sequence[Response], clean: Sequence[Response], pairs: list[Pair], options: PairSection
) -> dict[str, float]:
    if purpose != "train" or not clean:
        return {}
    scores = diversity(
        [_tokens(r) for r in clean], _group_numbers([r.prompt_id for r in clean]), threads=options.threads
    )
    means = {
        f"data/diversity/{name}": float(np.nanmean(values))
        for name, values in scores.items()
        if name not in COUNTS and not np.isnan(values).all()
    }
    return {"data/responses": len(answers), "data/clean": len(clean), "data/pairs": len(pairs), **means}


def _tokens(response: Response) -> list[int]:
    """Without the end-of-turn token, so that the same words compare equal whether or not the answer ended."""
    ids = response.token_ids
    return list(ids[:-1] if response.finish_reason == "stop" else ids)


def _side(texts: dict[int, Response], response_id: int | None) -> list[int]:
    """Tokens of a side that a label names. Raises InternalError for a label that names none."""
    if response_id is None:
        raise InternalError("a pair without a label was held against the labelled ones; please report this")
    return _tokens(texts[response_id])


def _group_numbers(names: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
