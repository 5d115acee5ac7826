"""The whole history of one pair, as lines of text: where both answers came from, and what was said of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from tso.errors import DataError
from tso.store import RunStore

SIDE = (
    "SELECT r.cell, c.revision, c.decoding, d.seed, r.iteration, r.finish_reason, r.tokens, r.text, s.score, s.reason "
    "FROM responses r LEFT JOIN draws d USING (draw_id) LEFT JOIN cells c ON c.iteration = r.iteration AND c.cell = r.cell "
    "LEFT JOIN scores s ON s.response_id = r.response_id WHERE r.response_id = ?"
)


def pair_story(store: RunStore, pair_id: str) -> list[str]:
    """Lines that tell a pair's history. Raises DataError, naming close ids, for a pair that the run does not have."""
    rows = store.query(
        "SELECT iteration, prompt_id, response_a, response_b, similarity FROM pairs WHERE pair_id = ?", (pair_id,)
    )
    if not rows:
        known = [row[0] for row in store.query("SELECT pair_id FROM pairs ORDER BY pair_id")]
        near = difflib.get_close_matches(pair_id, known, n=3, cutoff=0.3) or known[:3]
        raise DataError(f"no pair {pair_id!r} in this run; pairs look like {', '.join(near) or 'nothing yet'}")
    iteration, prompt_id, a, b, similarity = rows[0]
    prompt = next(p for p in store.prompts() if p.id == prompt_id)
    lines = [f"pair {pair_id} of iteration {iteration}, similarity of the sides {similarity:.2f}"]
    lines += [f"{m.role}: {m.content}" for m in prompt.messages]
    for response in (a, b):
        lines += _side(store, response)
    return [*lines, *_labels(store, pair_id), *_corrections(store, pair_id), *_end(store, pair_id)]


def _side(store: RunStore, response: int) -> Iterator[str]:
    cell, revision, decoding, seed, iteration, finish, tokens, text, score, reason = store.query(SIDE, (response,))[0]
    origin = (
        f"cell {cell}" if seed is None else f"cell {cell}, weights {revision[:12]}, decoding {decoding}, seed {seed}"
    )
    judged = "" if score is None else f", score {score:.2f} ({reason})"
    yield f"answer {response}: {origin}, iteration {iteration}, {tokens} tokens, ended by {finish}{judged}"
    yield f"    {text}"


def _labels(store: RunStore, pair_id: str) -> Iterator[str]:
    for source, chosen, rejected, confidence, weight in store.query(
        "SELECT source, chosen, rejected, confidence, weight FROM labels WHERE pair_id = ? ORDER BY label_id",
        (pair_id,),
    ):
        said = "neither side" if chosen is None else f"{chosen} over {rejected}"
        yield f"label by {source}: {said}, confidence {confidence:.2f}, weight {weight:g}"


def _corrections(store: RunStore, pair_id: str) -> Iterator[str]:
    for source, author, verdict, confidence, reason in store.query(
        "SELECT source, author, verdict, confidence, reason FROM corrections WHERE pair_id = ? ORDER BY correction_id",
        (pair_id,),
    ):
        yield f"correction by {source} {author}: {verdict}, confidence {confidence:.2f}; {reason}"


def _end(store: RunStore, pair_id: str) -> Iterator[str]:
    for stage, reason, detail in store.query(
        "SELECT stage, reason, detail FROM drops WHERE kind = 'pair' AND id = ? ORDER BY iteration", (pair_id,)
    ):
        yield f"dropped by {stage}: {reason}{'; ' + detail if detail else ''}"
    for model, chosen, rejected in store.query(
        "SELECT model, chosen, rejected FROM logps WHERE pair_id = ? ORDER BY iteration", (pair_id,)
    ):
        yield f"log-probs under the {model}: chosen {chosen:.2f}, rejected {rejected:.2f}"
    for w, r, sw, sr in store.query(
        "SELECT chosen_reward, rejected_reward, chosen_saturated, rejected_saturated FROM outcomes WHERE pair_id = ?",
        (pair_id,),
    ):
        yield f"trained: rewards {w:+.3f} and {r:+.3f}, saturated: chosen {bool(sw)}, rejected {bool(sr)}"
