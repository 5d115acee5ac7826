"""A store with pairs of two cells whose better side is the one with more of the letter x."""

from tso.records import Cell, Decoding, Label, Response
from tso.store import RunStore
from tso.store_rows import cell_rows, label_rows, merge, response_rows

from tests.stores import prompts

PAIR = ["pair_id", "iteration", "purpose", "position", "prompt_id", "response_a", "response_b", "similarity"]


PRIORS = {"strong": 1.0, "fair": 0.9, "weak": 0.0}


def pairs_store(folder, sides, *, confidence=0.7, cells=lambda i: ("strong", "weak")):
    """One pair for each (text a, text b) of `sides`, all labelled a over b by the prior.

    confidence: one for all, or one for each; cells: the two cells of the i-th pair. The store is open; pairs are named
    pair0, pair1 and so on.
    """
    store = RunStore.open_or_create(folder, {})
    matrix = [Cell(n, "policy", "", n, "policy", 1.0, Decoding(), s, s, 1) for n, s in PRIORS.items()]
    answers, pairs, labels = [], [], []
    for i, texts in enumerate(sides):
        a, b = 2 * i + 1, 2 * i + 2
        for number, cell, text in zip((a, b), cells(i), texts, strict=True):
            answers.append(Response(number, f"p{i}", cell, text, (9, 3), "stop", 1))
        pairs.append((f"pair{i}", 1, "train", i, f"p{i}", a, b, 0.0))
        sure = confidence[i] if isinstance(confidence, list) else confidence
        labels.append((f"pair{i}", Label("prior", a if sure > 0.5 else None, b if sure > 0.5 else None, sure, 1.0)))
    rows = (
        prompts(len(sides)),
        response_rows(answers),
        {"pairs": (PAIR, pairs)},
        label_rows(1, 1, labels),
        cell_rows(1, matrix),
    )
    store.commit(1, "pair/train", merge(*rows))
    return store


def metrics(store, iteration=1):
    return dict(store.query("SELECT name, value FROM metrics WHERE iteration = ?", (iteration,)))
