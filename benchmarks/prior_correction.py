"""How wrong the prior's labels are on real matrices, and what correcting some of them by a judge does about it.

    python benchmarks/prior_correction.py                      # every family
    python benchmarks/prior_correction.py --data FOLDER        # where the matrices are
    python benchmarks/prior_correction.py --only gemma --quick # a look at whether it runs; nothing is stored

Real answers of models of several sizes go through this project's own stages: a run store, `pair.make_pairs` with the prior of
scale, `correct.stage` with an AI judge and its budget, and the strengths by `correct.learn`. Nothing is sampled,
nothing trained.

The judge is asked about a pair in both orders, and its replies are drawn from its probability; only a verdict that both
agree on counts, and otherwise the pair is a tie and leaves. The noisy judge gives every fifth verdict by a coin. The
judge that corrects is never the yardstick: for falcon it is GPT-4 where Claude is the truth, for tulu people's votes
are the truth, and elsewhere GPT-4's score is the truth and the judge a noisy copy of it.

turn, drop: what becomes of a label that the judge contradicts (`correct.on_flip`): it is turned round, or its pair
leaves. error: share of wrong labels among those that are left, of pairs whose truth is known; left: share of these pairs
that has a label; strengths: error when every pair is labelled by the strengths that the verdicts taught, and log loss, in nats a pair, of
the probability that they give to the truth (a coin's is 0.693). "budget":
pairs chosen by doubt, in rounds; "random": the same number by lot. Means over seeds. Intervals are of 95 %, by a
bootstrap over prompts, the same for both choices.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import sys
import tempfile
import zlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
from machine import processor
from prior_data import Family, beaten, families
from tso.budgets import allowed
from tso.config import CorrectSection, JudgeSection, MatrixSection, PairSection
from tso.correct.budget import at_random
from tso.correct.calls import Judge
from tso.correct.contests import Match, matches
from tso.correct.learn import judged
from tso.correct.rubric import RUBRIC
from tso.correct.stage import correct
from tso.correct.strengths import fit
from tso.pair import make_pairs
from tso.progress import Face
from tso.records import Cell, Decoding, Message, Pair, Prompt
from tso.sample.base import Answer, Request
from tso.store import RunStore
from tso.store_rows import cell_rows, prompt_rows

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SHARES = (0.1, 0.25, 0.5, 1.0)
FLIPS = ("turn", "drop")  # correct.on_flip
COIN = 0.2  # of the noisy judge's verdicts
RESAMPLES = 2000
END = 1  # a token that words never are


@dataclass(frozen=True)
class Replay:
    """A family's pairs as the project made them."""

    family: Family
    store: RunStore
    prior: dict[str, float]
    pairs: dict[str, Pair]
    model: dict[int, str]  # by response
    matches: list[Match]
    texts: dict[int, str]  # by response

    def right(self, pair: Pair, chosen: int, rejected: int) -> bool | None:
        return self.family.truth(pair.prompt_id, self.model[chosen], self.model[rejected])


@dataclass(frozen=True)
class Outcome:
    """Counts by prompt: labels that are left, wrong ones among them, and wrong ones by the strengths learned."""

    left: np.ndarray
    wrong: np.ndarray
    by_strengths: np.ndarray
    surprise: np.ndarray  # of the truth by these strengths: minus log probability, nats


# A run without sampling


def begin(family: Family, folder: Path) -> Replay:
    """The answers in a store as if they had been sampled, and the pairs that the project makes of them."""
    store = RunStore.open_or_create(folder, {})
    smallest = min(family.sizes.values())
    step = MatrixSection().scale_prior
    prior = {m: step * math.log2(size / smallest) for m, size in family.sizes.items()}
    cells = [Cell(m, m, m, m, "base", family.sizes[m], Decoding(), prior[m], prior[m], 1) for m in family.sizes]
    whole = [p for p in family.prompts if all((p, m) in family.answers for m in family.sizes)]
    prompts = [Prompt(p, (Message("user", family.prompts[p]),)) for p in whole]
    store.commit(0, "start", prompt_rows(prompts))
    store.commit(1, "choose", cell_rows(1, cells))
    plan = store.plan(1, "train", 0, whole, cells, 512)
    for batch in range(plan.batches):
        draws = [(row[1], row[2]) for row in plan.batch(batch)]
        store.record(1, "train", batch, [(family.answers[d], words(family.answers[d]), "stop") for d in draws])
    make_pairs(store, PairSection(max_pairs=len(cells) ** 2, max_uses=len(cells)), 1)
    pairs = store.pairs(1)
    rows = store.query("SELECT response_id, cell, tokens, text FROM responses")
    model = {i: cell for i, cell, *_ in rows}
    found = matches(pairs, model, {i: tokens for i, _, tokens, _ in rows})
    return Replay(family, store, prior, {p.id: p for p in pairs}, model, found, {i: text for i, *_, text in rows})


def words(text: str) -> list[int]:
    """A number for each word: enough to compare texts and lengths by."""
    return [*(zlib.crc32(w.encode()) // 2 + 2 for w in text.split()), END]


# One replay


Looks = dict[str, tuple[float, float]]  # by pair, in either order: 1 the label is right, 0 wrong, 0.5 a tie


def looks(replay: Replay, coin: float, seed: int) -> Looks:
    """What the judge would say of every pair's label, shown with the chosen answer first and with it second."""
    found = {}
    for name, pair in replay.pairs.items():
        lots = random.Random(f"{replay.family.name} {seed} {pair.prompt_id} {name}")
        sides = [replay.model[i] for i in (pair.label.chosen, pair.label.rejected)]
        chances = replay.family.look(pair.prompt_id, *sides)
        found[name] = look(lots, chances, coin), look(lots, chances, coin)
    return found


def look(lots: random.Random, chances: tuple[float, float], coin: float) -> float:
    """One verdict, in one order."""
    if lots.random() < coin:
        return float(lots.random() < 0.5)
    drawn = lots.random()
    return 1.0 if drawn < chances[0] else 0.0 if drawn < sum(chances) else 0.5


@dataclass(frozen=True)
class Drawn:
    """A judge's sampler whose replies were drawn beforehand. Of pairs that are not in `of` it says nothing."""

    replay: Replay
    looks: Looks
    of: Container[str]

    def sample(self, model: str, requests: Sequence[Request]) -> list[Answer]:
        return [Answer(self.reply(r.prompt.id, r.prompt.messages[-1].content), (), "stop") for r in requests]

    def reply(self, name: str, question: str) -> str:
        if name not in self.of:
            return ""
        label = self.replay.pairs[name].label
        chosen_first = f"answer A begins]\n{self.replay.texts[label.chosen]}\n[" in question
        said = self.looks[name][0 if chosen_first else 1]
        verdict = "tie" if said == 0.5 else "A" if (said == 1.0) == chosen_first else "B"
        return json.dumps({"reason": "", "verdict": verdict})


def judge(replay: Replay, drawn: Looks, share: float, how: str, seed: int) -> Judge:
    """Of "random" and "all" the judge is asked about every pair, and answers where it is meant to."""
    number = allowed(len(replay.pairs), share)
    of = at_random(replay.matches, number, seed=seed) if how == "random" else replay.pairs
    options = JudgeSection(model="drawn", retries=0, batch_size=4096, budget=share if how == "budget" else None)
    # As if on a server, so that nobody looks for weights.
    return Judge("drawn", "http://drawn.invalid", "", Drawn(replay, drawn, frozenset(of)), RUBRIC, options, seed)


def replayed(replay: Replay, asked: Judge, on_flip: str, folder: Path) -> Outcome:
    """The judge's verdicts through the project's stages, in a copy of the store."""
    folder.mkdir()
    replay.store.fork(folder)
    options = CorrectSection(judge=asked.options, on_flip=on_flip)
    with RunStore.open_or_create(folder, {}) as store:
        correct(store, options, 1, lambda text: (), Face(quiet=True), judge=asked)
        fitted = fit(replay.prior, judged(store, replay.prior), options.strength_prior_weight)
        labels = {p.id: (p.label.chosen, p.label.rejected) for p in store.pairs(1)}
    return counted(replay, labels, {cell: fitted.of(cell)[0] for cell in replay.prior})


def counted(replay: Replay, labels: dict[str, tuple[int, int]], strength: dict[str, float]) -> Outcome:
    prompts = {p: i for i, p in enumerate(replay.family.prompts)}
    left, wrong, by_strengths, surprise = np.zeros((4, len(prompts)))
    for name, pair in replay.pairs.items():
        place, sides = prompts[pair.prompt_id], (pair.label.chosen, pair.label.rejected)
        known = replay.right(pair, *sides)
        if known is None:
            continue
        lead = strength[replay.model[sides[0]]] - strength[replay.model[sides[1]]]
        by_strengths[place] += 0.5 if lead == 0 else (lead > 0) != known
        surprise[place] += math.log1p(math.exp(-lead if known else lead))
        if name in labels:
            left[place] += 1
            wrong[place] += not replay.right(pair, *labels[name])
    return Outcome(left, wrong, by_strengths, surprise)


# Tables


def mean(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        *(
            np.mean([getattr(o, name) for o in outcomes], axis=0)
            for name in ("left", "wrong", "by_strengths", "surprise")
        )
    )


def error(outcome: Outcome, counts: np.ndarray | None = None) -> float | np.ndarray:
    if counts is None:
        return float(outcome.wrong.sum() / outcome.left.sum())
    return (counts @ outcome.wrong) / (counts @ outcome.left)


def interval(values: np.ndarray) -> str:
    low, high = 100 * np.quantile(values, [0.025, 0.975])
    return f"{low:+5.1f} to {high:+5.1f}"


def table(replay: Replay, seeds: int, folder: Path) -> tuple[list[str], list[str]]:
    """(the family's table, what it says about the two claims)."""
    family, number = replay.family, len(replay.pairs)
    before = counted(replay, {n: (p.label.chosen, p.label.rejected) for n, p in replay.pairs.items()}, replay.prior)
    known = before.left.sum()
    random_ = np.random.default_rng(0)
    size = len(family.prompts)
    counts = np.stack([np.bincount(random_.integers(size, size=size), minlength=size) for _ in range(RESAMPLES)])
    lines = [
        f"{family.name}: {', '.join(f'{m} {s:g}B' for m, s in family.sizes.items())}",
        f"  {number} pairs, the truth of {known:.0f} known: {family.yardstick}; the judge: {family.judge}",
        f"  the prior alone: error {100 * error(before):.1f} %, log loss {before.surprise.sum() / known:.3f}",
        f"  {'':29}{'turn':^37}{'drop':^37}",
        f"  {'judge':8}{'judged':>7}{'':4}{'':10}"
        + f"{'error':>7}{'left':>8}   budget less random" * 2
        + "  strengths  log loss",
    ]
    claims = []
    for name, coin in (("judge", 0.0), ("noisy", COIN)):
        drawn = [looks(replay, coin, seed) for seed in range(seeds)]
        falling = {(how, flip): [error(before)] for how in ("budget", "random") for flip in FLIPS}
        for share in SHARES:
            found = {}
            for how in ("budget", "random") if share < 1 else ("all",):
                for flip in FLIPS:
                    part = folder / f"{coin}-{share}-{how}-{flip}"
                    part.mkdir()
                    found[how, flip] = mean(
                        [
                            replayed(replay, judge(replay, drawn[s], share, how, s), flip, part / str(s))
                            for s in range(seeds)
                        ]
                    )
                line = f"  {name:8}{share:7.0%}    {how:10}"
                for flip in FLIPS:
                    outcome = found[how, flip]
                    apart = ""
                    if how == "random":
                        apart = interval(error(found["budget", flip], counts) - error(outcome, counts))
                    line += f"{100 * error(outcome):6.1f}%{outcome.left.sum() / known:8.1%}   {apart:18}"
                # Verdicts, and so what they teach, are the same in both.
                lines.append(line + f"{outcome.by_strengths.sum() / known:11.1%}{outcome.surprise.sum() / known:10.3f}")
            for (how, flip), errors in falling.items():
                errors.append(error(found[how if share < 1 else "all", flip]))
            if share <= 0.25:
                claims += [better(family, name, share, flip, found, counts) for flip in FLIPS]
        for (how, flip), errors in falling.items():
            falls = all(later < earlier for earlier, later in pairwise(errors))
            claims.append(
                f"{family.name}, {name}, {flip}, {how}: label error {'falls' if falls else 'DOES NOT FALL'} at every budget"
            )
    return lines, claims


def better(family: Family, name: str, share: float, flip: str, found: dict, counts: np.ndarray) -> str:
    difference = error(found["budget", flip], counts) - error(found["random", flip], counts)
    low, high = np.quantile(difference, [0.025, 0.975])
    return (
        f"{family.name}, {name}, {flip}, {share:.0%}: budget {'surely' if high < 0 or low > 0 else 'perhaps'} "
        f"{'better' if difference.mean() < 0 else 'WORSE'} than random"
    )


def run(args: argparse.Namespace) -> int:
    lines: list[str] = []

    def say(*more: str) -> None:
        print("\n".join(more), flush=True)
        lines.extend(more)

    say(
        f"date: {date.today().isoformat()}",
        f"machine: {processor()}; {platform.system()} {platform.machine()}; Python {platform.python_version()}",
        f"command: python benchmarks/prior_correction.py {' '.join(sys.argv[1:])}".rstrip(),
        f"seeds: {args.seeds}; no time is measured",
        "",
    )
    claims = []
    for family in families(args.data, args.only):
        with tempfile.TemporaryDirectory() as folder:
            replay = begin(family, Path(folder) / "run")
            with replay.store:
                found, said = table(replay, args.seeds, Path(folder))
        say(*found, "")
        claims += said
    say(*claims)
    if not args.only:
        share, number = beaten(args.data, "FuseChat-Llama-3.2-3B-Instruct", "falcon-40b-instruct")
        say(
            "",
            f"sizes across families: FuseChat 3B has the higher score than falcon 40B on {share:.1%} of {number} prompts",
        )
    if not args.quick and not args.only:
        path = RESULTS / f"{date.today().isoformat()}-prior-correction.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"\nstored in benchmarks/results/{path.name}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the matrix files")
    parser.add_argument("--only", default="", help="families with this in their name; nothing is stored")
    parser.add_argument("--seeds", type=int, default=10, help="draws of the judge's verdicts and of the lots")
    parser.add_argument("--quick", action="store_true", help="two seeds, nothing stored")
    args = parser.parse_args()
    if args.quick:
        args.seeds = 2
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
