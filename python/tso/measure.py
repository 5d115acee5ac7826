"""Held-out answers of a policy, and the table at the end: which stages to run, while evaluate/ does the arithmetic."""

from __future__ import annotations

from dataclasses import replace

from tso import evaluate, pair
from tso.config import Config
from tso.correct import judge_model
from tso.correct import stage as correcting
from tso.evaluate import heldout
from tso.models import located
from tso.progress import Face
from tso.records import Cell, Decoding
from tso.sample.stage import sample
from tso.store import RunStore
from tso.store_rows import cell_rows
from tso.training import logps
from tso.training import stage as training


def measure(store: RunStore, config: Config, iteration: int, face: Face) -> None:
    """Answers of the policy after `iteration` to the held-out prompts, and their scores.

    At iteration 0 people's answers join, and held-out pairs are made and corrected as in training.
    """
    prompts = [p.id for p in store.prompts("heldout")]
    options = config.evaluate
    if not options.draws or not prompts:
        return
    if not store.done(iteration, "evaluate/cell"):
        store.commit(iteration, "evaluate/cell", cell_rows(iteration, _cells(store, config, iteration), first=1000))
    names = ("evaluate", "evaluate-human")
    cells = [c for c in store.cells(iteration) if c.name in names]
    encode = training.encoder(store)
    sample(store, config, iteration, "evaluate", prompts, cells, encode, face)
    correcting.score_answers(
        store, config.correct.rule, store.responses(iteration, "evaluate"), iteration, "evaluate", face
    )
    if iteration == 0:
        # One pair a prompt: held-out pairs are for a mean, and each costs every model a forward pass.
        pair.make_pairs(store, replace(config.pair, max_pairs=1), 0, "evaluate")
        judge = judge_model.load(store, config, 0, face)
        correcting.correct(store, config.correct, 0, encode, face, "evaluate", judge)


def _cells(store: RunStore, config: Config, iteration: int) -> list[Cell]:
    path, sha = store.checkpoint(iteration, "policy")
    options = config.evaluate
    decoding = Decoding(options.temperature, options.top_p, 0, config.sample.max_new_tokens, None)
    cells = [Cell("evaluate", "policy", path, sha, "policy", None, decoding, 0.0, 0.0, options.draws)]
    if iteration == 0:
        prior = config.matrix.human_prior
        cells.append(Cell("evaluate-human", "human", "", "human", "human", None, decoding, prior, prior, 1))
    return cells


def conclude(store: RunStore, config: Config, control: RunStore | None, face: Face) -> None:
    """The final table, kept in the store for the report."""
    last = config.run.iterations
    options = config.evaluate
    if not options.draws or not store.prompts("heldout") or not config.correct.rule:
        face.say("no evaluation: it needs held-out prompts, evaluate.draws of 1 or more, and correct.rule")
        return
    arms = [heldout.Arm("start", store, 0, "policy"), heldout.Arm(f"iteration {last}", store, last, "policy")]
    if control is not None:
        arms.append(heldout.Arm("control", control, last, "policy"))
    pairs = store.pairs(0, "evaluate")
    start = located(store.folder, *store.checkpoint(0, "policy"))
    examples = training.build_examples(store, config, pairs, start)
    for arm in arms:
        logps.held_out_logps(arm.store, config, arm.iteration, examples, f"held-out pairs: {arm.name}", face)
    rows = evaluate.compare_arms(
        arms, beta=config.training.beta, margin=config.correct.margin, resamples=options.bootstrap, seed=config.run.seed
    )
    said, shown = heldout.verdict(rows), heldout.as_text(rows)
    if not store.done(last, "evaluate/table"):
        store.commit(last, "evaluate/table", info={"columns": heldout.COLUMNS, "rows": shown, "verdict": said})
    face.table(f"{len(store.prompts('heldout'))} held-out prompts", heldout.COLUMNS, shown)
    if control is not None:
        face.say("control: the same budget, reference never updated, no resampling from the trained model")
    face.say(said)
