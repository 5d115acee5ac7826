"""The whole method in one straight line: prompts -> sample -> pair -> correct -> train -> update -> next iteration.

Every stage reads the run store and writes to it, a finished unit at a time, and does nothing when its unit is there
already: that alone is how a killed run goes on. Read this file first.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tso import export, matrix, pair, report
from tso.config import Config
from tso.correct import judge_model
from tso.correct import stage as correcting
from tso.correct.learn import estimate_noise, learn_strengths
from tso.errors import ConfigError
from tso.measure import conclude, measure
from tso.progress import Face
from tso.records import Cell
from tso.sample.stage import sample
from tso.settings import to_yaml
from tso.start import identity, prepare
from tso.store import RunStore
from tso.store_rows import cell_rows
from tso.training import stage as training
from tso.training.logps import implicit_rewards
from tso.training.reference import update


def run(config: Config, face: Face) -> Path:
    """Carry the run in config.run.output_dir to its end and return its folder."""
    folder = Path(config.run.output_dir)
    with RunStore.open_or_create(folder, identity(config)) as store:
        _not_fewer(store, config)
        training.remove_unfinished(folder)
        prepare(store, config, face)
        (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        last = config.run.iterations
        measure(store, config, 0, face)
        for iteration in range(1, last + 1):
            one_iteration(store, config, iteration, face)
        measure(store, config, last, face)
        with run_control(store, config, face) as control:
            conclude(store, config, control, face)
        _finish(store, last)
        page = report.write(folder)
    face.say(f"model: {export.final(folder)}    report: {page}")
    return folder


def _not_fewer(store: RunStore, config: Config) -> None:
    """A run may be given more iterations; with fewer, `final` would be one model and the table another."""
    [(begun,)] = store.query("SELECT coalesce(max(iteration), 0) FROM units")
    if config.run.iterations < begun:
        raise ConfigError(
            f"run.iterations={config.run.iterations}, but the run in {store.folder} has begun iteration {begun}: "
            f"give run.iterations={begun} or more, or choose another run.output_dir"
        )


def _finish(store: RunStore, iteration: int) -> None:
    """The run is complete after `iteration`, whether or not there was an evaluation: the report says so."""
    if not store.done(iteration, "finish"):
        store.commit(iteration, "finish")


def one_iteration(store: RunStore, config: Config, iteration: int, face: Face) -> None:
    """Steps 1 to 9 of the method."""
    cells = choose(store, config, iteration)
    sample(store, config, iteration, "train", store.batch(iteration), cells, training.encoder(store), face)
    implicit_rewards(store, config, iteration, face)
    pair.make_pairs(store, config.pair, iteration)
    store.balance(iteration)
    judge = judge_model.load(store, config, iteration, face)
    correcting.correct(store, config.correct, iteration, training.encoder(store), face, judge=judge)
    pair.settle(store, config.pair, iteration)
    pair.tell_lengths(store, iteration, face)
    learn_strengths(store, config.correct, iteration, cells, config.run.seed)
    estimate_noise(store, config.correct, iteration, cells)
    training.train(store, config, iteration, face)
    if iteration == 1 and wants_control(config):
        fork_control(store)
    update(store, config.update, iteration, config.model.dtype)
    export.write_all(store, iteration)
    face.say(f"iteration {iteration}: " + ", ".join(f"{n} {what}" for what, n in store.balance(iteration).items()))


def choose(store: RunStore, config: Config, iteration: int) -> list[Cell]:
    """The mini-batch of prompts and the matrix of this iteration, as one unit (step 1)."""
    if not store.done(iteration, "choose"):
        prompts = store.choose_prompts(
            iteration, config.sample.prompts_per_iteration, config.run.seed, _retired(store, config)
        )
        cells = _cells(store, config, iteration)
        batches = (["iteration", "position", "prompt_id"], [(iteration, i, p) for i, p in enumerate(prompts)])
        store.commit(iteration, "choose", {"batches": batches, **cell_rows(iteration, cells)})
    return [c for c in store.cells(iteration) if c.name != "evaluate"]


def _cells(store: RunStore, config: Config, iteration: int) -> list[Cell]:
    policies = [matrix.Snapshot(*store.checkpoint(k, "policy")) for k in range(iteration)]
    reference = matrix.Snapshot(*store.checkpoint(iteration - 1, "reference"))
    learned = {name: s for name, (s, _) in store.strengths(iteration - 1).items()}
    draws = {}
    if config.update.budgets and iteration > 1:
        before = [c for c in store.cells(iteration - 1) if c.name != "evaluate"]
        draws = matrix.budgets(before, _kept(store, iteration - 1), config.matrix.min_draws)
    start = store.info(0, "start")
    bases = {name: matrix.Snapshot(*found) for name, found in start["bases"].items()}
    return matrix.build(config, iteration, policies, reference, bases, start["scale"], learned, draws)


def _kept(store: RunStore, iteration: int) -> Counter[str]:
    """How often each cell's responses ended in a kept pair."""
    pairs = store.pairs(iteration)
    cells = store.responses_by_id(s for p in pairs for s in (p.response_a, p.response_b))
    return Counter(cells[s].cell for p in pairs for s in (p.response_a, p.response_b))


def _retired(store: RunStore, config: Config) -> dict[str, float]:
    """Sampling weights of prompts whose trained pairs are all saturated on both sides (step 9)."""
    rows = store.query(
        "SELECT p.prompt_id FROM outcomes o JOIN pairs p USING (pair_id) GROUP BY p.prompt_id "
        "HAVING min(o.chosen_saturated AND o.rejected_saturated) = 1"
    )
    return {row[0]: config.update.retired_weight for row in rows}


def wants_control(config: Config) -> bool:
    """A control run is of use only to a table that it can stand in, and differs only from the second iteration on."""
    return config.evaluate.control and config.evaluate.draws > 0 and config.run.iterations > 1


def fork_control(store: RunStore) -> None:
    """A copy of the store after the first iteration's training, before its update: where the control run starts.

    Once the reference is updated it is too late, so a run that asks for a control afterwards gets none.
    """
    folder = store.folder / "control"
    if (folder / "run.sqlite").exists() or store.done(1, "update"):
        return
    folder.mkdir(exist_ok=True)
    for name in ("iteration-0", "iteration-1"):
        link = folder / name
        if not link.is_symlink() and (store.folder / name).is_dir():
            link.symlink_to(Path("..") / name, target_is_directory=True)
    store.fork(folder)


@contextlib.contextmanager
def run_control(store: RunStore, config: Config, face: Face) -> Iterator[RunStore | None]:
    """The finished run of the same budget with the reference never updated and no resampling from the trained policy."""
    folder = store.folder / "control"
    if not wants_control(config) or not (folder / "run.sqlite").exists():
        if wants_control(config):
            face.warn("no control: it has to be asked for before the first iteration ends; start a new run for one")
        yield None
        return
    still = replace(
        config,
        matrix=replace(config.matrix, refresh=False),
        correct=replace(config.correct, wait_for_people=False),  # nobody judges its pairs
        update=replace(config.update, reference="none"),
        evaluate=replace(config.evaluate, control=False),
    )
    face.say("control run: same budget, reference never updated, no resampling")
    with RunStore.open_or_create(folder, {}) as control:
        update(control, still.update, 1, config.model.dtype)
        for iteration in range(2, config.run.iterations + 1):
            one_iteration(control, still, iteration, face)
        measure(control, still, config.run.iterations, face)
        _finish(control, config.run.iterations)
        yield control
