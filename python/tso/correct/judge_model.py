"""Finding the judge that a run names: which sampler it is, and what that loads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tso import models
from tso.config import Config
from tso.correct import rubric
from tso.correct.calls import Judge, decoding_of
from tso.errors import ConfigError, DataError
from tso.matrix import longest_answer
from tso.progress import Face
from tso.records import Message, Prompt
from tso.sample.base import Sampler, chat
from tso.sample.choose import Samplers
from tso.sample.endpoint import PREFIX, Endpoint, endpoint
from tso.sample.probe import remarks
from tso.sample.transformers import prompt_ids
from tso.store import RunStore

WORDS = ("policy", "previous", "reference", "start")
NO_JUDGE = re.compile(r"human|policy@\d+")  # words of cells


def begin(
    config: Config,
    folder: Path,
    start: str,
    longest: Prompt,
    find: Callable[[str], Path],
    samplers: Samplers,
    warn: Callable[[str], None],
) -> dict[str, Any] | None:
    """What the start of a run keeps of its judge: rubric, and path and identity of a model of its own, as of a cell's.

    folder: the run's; start: that of the start model; find: the folder of a hub's model or a converted GGUF file. A server
    is tried as for a cell. Raises ConfigError where a question about `longest` would not fit, and ModelError where there
    is no such model. None where no judge is asked.
    """
    options, server = config.correct.judge, _endpoint(config)
    if options.model is None:
        return None
    text = rubric.load(options.rubric)
    if server is not None:
        found = samplers.asking({server.path: server}).probe(server.path, decoding_of(options))
        for line in remarks(server, found):
            warn(line)
        return {"rubric": text, "model": (server.path, f"{server.path} {found.model}")}
    own = None if options.model in WORDS else _find(options.model, find)
    _check_room(config, str(own or start), text, longest)
    named = None if own is None else (models.inside(folder, own), models.identity_of(own))
    return {"rubric": text, "model": named}


def _endpoint(config: Config) -> Endpoint | None:
    options = config.correct.judge
    for name in ("base_url", "api_key_env"):
        if options.model is None and getattr(options, name) is not None:
            raise ConfigError(
                f"correct.judge.{name} is given, but correct.judge.model is missing: name the server's model, "
                f"{PREFIX}NAME"
            )
    return endpoint(options.model or "", options.base_url, options.api_key_env, "correct.judge.")


def _find(name: str, find: Callable[[str], Path]) -> Path:
    if NO_JUDGE.fullmatch(name):
        how = "people judge with tso annotate" if name == "human" else "policy and previous move with the run"
        raise ConfigError(f"correct.judge.model={name!r}: a judge is a model, or one of {', '.join(WORDS)}; {how}")
    if models.is_gguf(name) and not Path(name).is_file():
        raise ConfigError(f"correct.judge.model: no such GGUF file: {name}")
    if not Path(name).is_dir() and (near := difflib.get_close_matches(name.lower(), WORDS, n=1, cutoff=0.75)):
        raise ConfigError(f"correct.judge.model: there is no model {name!r}; did you mean {near[0]}?")
    return find(name)


def check(store: RunStore, config: Config) -> None:
    """Raises DataError for a rubric file that has changed since the run began. One that is gone is in the store."""
    kept = store.info(0, "start").get("judge")
    path = config.correct.judge.rubric
    if kept is None or path is None:
        return
    try:
        now = rubric.load(path)
    except ConfigError:
        return
    if now != kept["rubric"]:
        raise DataError(f"{path} has changed since this run began; restore it, or choose another run.output_dir")


def load(store: RunStore, config: Config, iteration: int, face: Face) -> Judge | None:
    """The judge of an iteration's pairs; None where none is asked. Its model is loaded with the first question."""
    options = config.correct.judge
    if options.model is None:
        return None
    kept = store.info(0, "start")["judge"]
    path, revision = kept["model"] or store.checkpoint(*_moment(options.model, iteration))
    server, samplers = _endpoint(config), Samplers(config, face.say)
    known_as = {path: revision.removeprefix(f"{path} ")}
    sampler: Sampler = samplers.local if server is None else samplers.asking({path: server}, known_as)
    return Judge(options.model, path, revision, sampler, kept["rubric"], options, config.run.seed)


def _moment(word: str, iteration: int) -> tuple[int, str]:
    """Which checkpoint a word means while the pairs of `iteration` are judged: after which iteration, in which role.

    Before there is a previous policy, that is the start model.
    """
    newest = max(iteration - 1, 0)
    if word == "reference":
        return newest, "reference"
    return {"policy": newest, "previous": max(newest - 1, 0), "start": 0}[word], "policy"


def _check_room(config: Config, folder: str, text: str, longest: Prompt) -> None:
    """The judge's model has room for the longest prompt, two answers and a reply."""
    tokenizer = models.load_tokenizer(folder)
    asked = rubric.question(text, longest, "", "", rubric.draw_fence("", []))
    try:
        length = len(prompt_ids(tokenizer, chat(Prompt("", (Message("user", asked),)), None)))
    except Exception as err:  # chat templates raise their own classes
        said = " ".join(str(err).split())
        raise ConfigError(f"correct.judge.model: its chat template refuses the question: {said}") from err
    limit, replies = models.positions(folder), config.correct.judge.max_new_tokens
    answer = longest_answer(config)
    if limit and length + 2 * answer + replies > limit:
        raise ConfigError(
            f"correct.judge.model: a question about the longest prompt has {length} tokens, two answers may have "
            f"{answer} each and the reply {replies}, but the model reads {limit}; "
            "lower data.max_prompt_tokens, sample.max_new_tokens or that of a cell, or choose another judge"
        )
