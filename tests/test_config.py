"""Every mistake in a config is refused by name, and every option is read somewhere."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest
from tso import config as config_module
from tso.config import Config
from tso.errors import ConfigError
from tso.settings import load, to_yaml

NEEDED = ["model.name_or_path=some/model", "data.prompts=prompts.jsonl"]
SOURCES = Path(config_module.__file__).parent


def test_overrides_reach_their_sections():
    config = load(None, [*NEEDED, "training.learning_rate=2e-5", "training.chosen_clip=inf", "run.seed=7"])
    assert (config.training.learning_rate, config.training.chosen_clip, config.run.seed) == (2e-5, float("inf"), 7)


def test_yaml_round_trip(tmp_path):
    config = load(None, [*NEEDED, "training.beta=0.3"])
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert load(path) == config


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("training.learning_rat=1", "did you mean 'training.learning_rate'"),
        ("trainin.beta=1", "did you mean 'training'"),
        ("training.beta=-1", "training.beta=-1.0: must be greater than 0"),
        ("training.learning_rate=inf", "training.learning_rate=inf: must be greater than 0, and finite"),
        ("data.max_prompts=0", "data.max_prompts=0: must be greater than 0"),
        ("training.beta=nan", "must be a number"),
        ("training.chosen_floor=1", "training.chosen_floor=1.0: must not be positive"),
        ("training.per_device_train_batch_size=1.5", "must be a whole number"),
        ("matrix.refresh=maybe", "must be true or false"),
        ("update.reference=often", "must be one of hard, soft, none"),
        ("matrix.cells=3", "matrix.cells must be a list"),
        ("matrix.cells=[{name: a, modl: policy}]", "did you mean 'matrix.cells[0].model'"),
        ("matrix.cells=[{name: a}, {name: a}]", "used twice"),
        ("matrix.cells=[{name: a, name: b}]", "matrix.cells: 'name' stands twice"),
        ('matrix.cells=[{name: "a\\uD800"}]', "half a character, which no file can hold"),
        ('matrix.cells=[{name: a, stop: ["\\uDC00"]}]', "matrix.cells[0].stop[0]='\\udc00': half a character"),
        ("matrix.cells=[{name: evaluate}]", "is used for the evaluation"),
        ("training=3", "not of the form section.key=value"),
        ("data.max_prompt_tokens=5000", "leave room for answers"),
        ("run.seed=4294967296", "run.seed=4294967296: must be at most 2147483647"),
        ("pair.threads=99999999999", "must be at most"),
        ("model.threads=2000", "model.threads=2000: must be between 1 and 1024"),
        ("matrix.human_prior=inf", "matrix.human_prior=inf: must be log-odds between"),
        ("matrix.cells=[{name: a, prior: .inf}]", "matrix.cells[0].prior=inf: must be log-odds between"),
        ("matrix.cells=[{name: a, temperature: 1e-40}]", "must be 0 (greedy), or at least 0.001"),
        ("correct.judge.votes=2", "correct.judge.votes=2: must be an odd number"),
        ("correct.judge.votes=3", "would ask for the same reply again"),
        ("correct.judge.budget=0", "correct.judge.budget=0.0: must be a share above 0"),
        ("correct.judge.budget=1.5", "correct.judge.budget=1.5: must be a share above 0"),
        ("correct.judge.modle=x", "did you mean 'correct.judge.model'"),
        ("correct.judge.model.x=1", "correct.judge.model must be text"),
        ("correct.judge=x", "correct.judge is a section"),
        ("update.reference=no", "update.reference='no': must be one of hard, soft, none"),
    ],
)
def test_mistakes_are_refused_by_name(word, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        load(None, [*NEEDED, word])


def test_model_and_prompts_are_asked_for():
    with pytest.raises(ConfigError, match="model.name_or_path is needed"):
        load(None, [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a", "must hold sections"),
        ("a: [", "not valid YAML"),
        ("model: 3", "is a section"),
        (b"\xff", "cannot read"),
        ("model: {}\ndata: {}\nmodel: {}", "'model' stands twice"),
    ],
)
def test_bad_files(tmp_path, text, says):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=says):
        load(path, NEEDED)


def test_words_that_yaml_takes_for_something_else_are_text():
    config = load(None, [*NEEDED, "correct.rule=judge:", "run.output_dir=007", "model.revision=null"])
    assert (config.correct.rule, config.run.output_dir, config.model.revision) == ("judge:", "007", None)
    assert load(None, [*NEEDED, "correct.judge.model=no"]).correct.judge.model == "no"


def test_missing_file():
    with pytest.raises(ConfigError, match="no config file nowhere.yaml"):
        load("nowhere.yaml")


def test_every_option_says_what_it_means():
    """In a comment on one of its lines or the line above: README sends people to config.py for the meanings."""
    text = Path(config_module.__file__).read_text("utf-8")
    lines, silent = text.splitlines(), []
    for section in ast.parse(text).body:
        for option in section.body if isinstance(section, ast.ClassDef) else []:
            if isinstance(option, ast.AnnAssign) and getattr(getattr(option.value, "func", None), "id", "") == "option":
                own = "".join(lines[option.lineno - 1 : option.end_lineno])
                if "  # " not in own and not lines[option.lineno - 2].startswith("    # "):
                    silent.append(f"{section.name}.{option.target.id}")
    assert silent == []


def every_option(section=Config, where=""):
    """Names of all options, with those of sections inside sections."""
    for option in dataclasses.fields(section):
        if dataclasses.is_dataclass(option.default_factory):
            yield from every_option(option.default_factory, f"{where}{option.name}.")
        else:
            yield where + option.name


def test_every_option_is_read_somewhere():
    code = "\n".join(p.read_text() for p in SOURCES.rglob("*.py") if p.name != "config.py")
    assert [name for name in every_option() if not re.search(rf"\.{name.rpartition('.')[2]}\b", code)] == []
