"""Diversity scores of groups of tokenised responses, against every peer that is installed.

    python benchmarks/diversity.py               # groups of 8, 32 and 228 responses, then what is ours alone
    python benchmarks/diversity.py --only vendi  # one score; also self-BLEU, Jaccard, throughput
    python benchmarks/diversity.py --quick       # a look at whether everything runs; its times mean nothing

A job is one score of one group; the time is that of a group, imports and the preparation of inputs excluded. Ours gets
NumPy arrays of token ids and one call a group, on one thread; peers get what they take, made beforehand: lists of ids
(nltk, Python sets) or of the ids as strings (fast-bleu, vendi-score). All run in one process with one thread. Rounds
are interleaved: seven at most, and for a contestant no more once it has taken 20 seconds in all; the medians count.
Values have to be equal to ours within 1e-6, or the exit code is 1. fast-bleu is exempt: nltk is the definition, and
fast-bleu 0.0.90 gives different values when it is called twice, for the brevity penalty of a short text is missing now
and then.

self-BLEU-4: equal weights, smoothing method 1. Jaccard: the mean over all pairs of sets of 5-grams. Vendi: order 1, on
the kernel of `vendi_score.text_utils.ngram_vendi_score`. That function is written for an older SciPy and imports models
and data sets, so its kernel is made here by the same scikit-learn calls and scored by `vendi_score.vendi.score_K`.
Groups are of responses of four tokens or more, for which both kernels are the same.

Groups are neighbouring responses of the two matrix files, tokenised by a 32k byte-level BPE trained on them: of one
prompt for the most part where they are small. Throughput, ours alone: a million groups of eight real responses cut to
32 tokens, all in one call, on one thread and on all cores; and the novelty of 10,000 edited real responses against
100,000 others.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from dedup_data import NGRAM, Tokens, offsets_of, plant, positions, real_tokens, take
from machine import processor

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SIZES = {8: 20, 32: 5, 228: 1}  # responses of a group -> groups
ENOUGH = 20.0  # seconds of a contestant in one case, after which it runs no more rounds
ALLOWED = 1e-6
LEAST = 4  # tokens of a response
CUT = 32
PACKAGES = ("tso-align", "numpy", "nltk", "fast-bleu", "vendi-score", "scikit-learn", "scipy")

Score = Callable[[Any], float]


@dataclass(frozen=True)
class Contestant:
    score: str
    name: str
    package: str
    needs: str  # what the group is made into: tokens, ids or words
    load: Callable[[], Score]
    reliable: bool = True  # whether its values can be relied on

    @property
    def missing(self) -> bool:
        return importlib.util.find_spec(self.package) is None


@dataclass
class Entry:
    contestant: Contestant
    job: Score
    groups: list[Any]
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def run(self) -> None:
        start = time.perf_counter()
        self.values = [self.job(group) for group in self.groups]
        self.times.append(time.perf_counter() - start)

    @property
    def milliseconds(self) -> float:
        """Of one group."""
        return 1e3 * statistics.median(self.times) / len(self.groups)


# Contestants


def ours(column: str) -> Score:
    from tso import diversity

    def job(tokens: Tokens) -> float:
        return float(diversity(tokens, scores=[column], ngram=NGRAM, threads=1)[column][0])

    job(Tokens(np.zeros(1, np.int32), np.array([0, 1])))  # Arrow is imported by the first call
    return job


def nltk_self_bleu() -> Score:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method1

    def job(rows: list[list[int]]) -> float:
        return statistics.fmean(
            sentence_bleu(rows[:i] + rows[i + 1 :], row, smoothing_function=smooth) for i, row in enumerate(rows)
        )

    return job


def fast_self_bleu() -> Score:
    from fast_bleu import SelfBLEU

    weights = {4: (0.25, 0.25, 0.25, 0.25)}
    return lambda rows: statistics.fmean(SelfBLEU(rows, weights).get_score()[4])


def python_sets() -> Score:
    def job(rows: list[list[int]]) -> float:
        sets = [{tuple(row[i : i + NGRAM]) for i in range(max(len(row) - NGRAM, 0) + 1)} for row in rows]
        return statistics.fmean(len(a & b) / len(a | b) for a, b in combinations(sets, 2))

    return job


def vendi_score() -> Score:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize
    from vendi_score import vendi

    def counts(rows: list[list[str]], n: int) -> Any:
        options = {"tokenizer": list, "preprocessor": list, "token_pattern": None, "lowercase": False}
        return CountVectorizer(ngram_range=(n, n), **options).fit_transform(rows)

    def job(rows: list[list[str]]) -> float:
        vectors = [normalize(counts(rows, n)) for n in range(1, 5)]
        return float(vendi.score_K(np.mean([(each @ each.T).toarray() for each in vectors], axis=0)))

    return job


OURS = "tso"
CONTESTANTS = (
    Contestant("self-BLEU-4", OURS, "tso", "tokens", functools.partial(ours, "self_bleu")),
    Contestant("self-BLEU-4", "fast-bleu", "fast_bleu", "words", fast_self_bleu, reliable=False),
    Contestant("self-BLEU-4", "nltk", "nltk", "ids", nltk_self_bleu),
    Contestant("Jaccard", OURS, "tso", "tokens", functools.partial(ours, "jaccard")),
    Contestant("Jaccard", "Python sets", "numpy", "ids", python_sets),
    Contestant("vendi", OURS, "tso", "tokens", functools.partial(ours, "vendi")),
    Contestant("vendi", "vendi-score", "vendi_score", "words", vendi_score),
)


# Cases


def groups_of(base: Tokens, size: int, count: int) -> list[Tokens]:
    """Groups of neighbours, spread over the data."""
    starts = np.linspace(0, base.rows - size, count).astype(int).tolist()
    return [base.part(start, start + size) for start in starts]


def as_needed(group: Tokens, needs: str) -> Any:
    if needs == "tokens":
        return group
    ends = group.offsets.tolist()
    rows = [group.values[start:end].tolist() for start, end in pairwise(ends)]
    return rows if needs == "ids" else [[str(number) for number in row] for row in rows]


def run_case(score: str, groups: list[Tokens], rounds: int) -> tuple[list[str], float]:
    """The table of one score on these groups, and the largest difference to ours."""
    present = [c for c in CONTESTANTS if c.score == score and not c.missing]
    entries = [Entry(c, c.load(), [as_needed(group, c.needs) for group in groups]) for c in present]
    for _ in range(rounds):
        for entry in entries:
            if sum(entry.times) < ENOUGH:
                entry.run()
    mine = next(entry for entry in entries if entry.contestant.name == OURS)
    tokens = statistics.fmean(len(group.values) for group in groups)
    title = f"{score}, {groups[0].rows} responses, {tokens:,.0f} tokens ({len(groups)} group{'s' * (len(groups) > 1)})"
    lines = [f"{title:58}{'ms':>12}{'/ ours':>10}{'rounds':>8}{'difference':>12}"]
    worst = 0.0
    for entry in entries:
        apart = float(np.abs(np.array(entry.values) - np.array(mine.values)).max())
        if entry.contestant.reliable:
            worst = max(worst, apart if np.isfinite(apart) else np.inf)
        ratio = entry.milliseconds / mine.milliseconds
        lines.append(
            f"{entry.contestant.name:58}{entry.milliseconds:12.3f}{ratio:10.1f}{len(entry.times):8}{apart:12.1e}"
        )
    return lines, worst


def throughput(base: Tokens, groups: int, rows: int, rounds: int) -> Iterator[str]:
    """What is ours alone: many small groups in one call, and novelty against a long history."""
    from tso.diversity import SCORES, diversity, novelty

    texts, numbers = many_groups(base, groups)
    jobs = {
        f"{groups:,} groups of 8, {len(texts.values) / groups:.0f} tokens: {names}": functools.partial(
            diversity, texts, numbers, scores=scores
        )
        for names, scores in (("all but vendi", SCORES), ("vendi", ("vendi",)))
    }
    history, new = past_and_new(base, rows)
    jobs[f"novelty of {new.rows:,} responses against {history.rows:,}"] = functools.partial(novelty, new, history)
    cores = os.cpu_count() or 1
    yield f"{'ours alone':58}{'threads':>12}{'seconds':>10}"
    for name, job in jobs.items():
        for threads in sorted({1, cores}):
            seconds = statistics.median(timed(functools.partial(job, threads=threads)) for _ in range(rounds))
            yield f"{name:58}{threads:12}{seconds:10.3f}"


def timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def many_groups(base: Tokens, groups: int) -> tuple[Tokens, np.ndarray[Any, Any]]:
    """The beginnings of the responses over and over, eight a group."""
    lengths = np.minimum(base.lengths, CUT)
    cut = base.values[positions(base.offsets[:-1], lengths)]
    times = -(-8 * groups // base.rows)
    offsets = offsets_of(np.tile(lengths, times))[: 8 * groups + 1]
    return Tokens(np.tile(cut, times)[: offsets[-1]], offsets), np.repeat(np.arange(groups), 8)


def past_and_new(base: Tokens, rows: int) -> tuple[Tokens, Tokens]:
    """`rows` responses with many tokens replaced, and a tenth as many of the same kind."""
    edited, *_ = plant(base, -(-11 * rows // (10 * base.rows)))
    return edited.part(0, rows), edited.part(rows, rows + rows // 10)


# The whole run


def describe() -> list[str]:
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            here = package == "tso-align" and importlib.util.find_spec("tso")
            versions.append(f"{package} {'from the source tree' if here else 'absent'}")
    absent = dict.fromkeys(c.name for c in CONTESTANTS if c.missing)
    return [
        f"date: {date.today().isoformat()}",
        f"machine: {processor()}, {os.cpu_count()} cores; {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}",
        "versions: " + ", ".join(versions),
        "command: python benchmarks/diversity.py " + " ".join(sys.argv[1:]),
        *[f"left out: {name} (not installed)" for name in absent],
    ]


def run_all(args: argparse.Namespace) -> int:
    lines: list[str] = []

    def say(*more: str) -> None:
        print("\n".join(more), flush=True)
        lines.extend(more)

    say(*describe())
    base = real_tokens(args.data)
    base = take(base, np.flatnonzero(base.lengths >= LEAST))
    sizes, rounds, groups, rows = SIZES, args.rounds, 1_000_000, 100_000
    if args.quick:
        sizes, rounds, groups, rows = {8: 2, 32: 1}, 1, 1000, 1000
    worst = 0.0
    for score in dict.fromkeys(c.score for c in CONTESTANTS):
        for size, count in sizes.items():
            if args.only.lower() in score.lower():
                found, apart = run_case(score, groups_of(base, size, count), rounds)
                worst = max(worst, apart)
                say("", *found)
    if args.only in "throughput":
        say("")
        for line in throughput(base, groups, rows, min(rounds, 3)):
            say(line)
    if args.only != "throughput":
        verdict = "equal" if worst <= ALLOWED else "NOT EQUAL"
        say("", f"largest difference to a peer (fast-bleu apart): {worst:.1e}, {verdict} within {ALLOWED:.0e}")
    if not args.quick and not args.only:
        path = RESULTS / f"{date.today().isoformat()}-diversity.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"\nstored in benchmarks/results/{path.name}")
    return int(worst > ALLOWED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the matrix files")
    parser.add_argument("--only", default="", help="scores with this in their name, or throughput; nothing is stored")
    parser.add_argument("--rounds", type=int, default=7, help="at most")
    parser.add_argument("--quick", action="store_true", help="a few small groups, one round, nothing stored")
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # NumPy's libraries read these when they are loaded, which is over by now.
        return subprocess.run([sys.executable, *sys.argv], env=os.environ | ONE_THREAD, check=False).returncode
    return run_all(args)


if __name__ == "__main__":
    sys.exit(main())
