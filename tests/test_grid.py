"""The short form of a matrix, and the table of what it costs."""

import re

import pytest
import yaml
from tso import cli, costs, matrix, settings
from tso.errors import ConfigError

NEEDED = ["model.name_or_path=some/model", "data.prompts=prompts.jsonl"]
GRID = """
matrix:
  grid:
    models:
      - policy
      - {model: "openai:org/big", base_url: "http://localhost:8000/v1", scale: 7, draws: 2}
      - {name: base, model: models/gemma.gguf, prompt_format: "Q: {prompt}\\nA:", stop: ["\\nQ:"]}
      - human
    decodings: [0.7, {temperature: 0, max_new_tokens: 32}, {temperature: 1.0, top_p: 0.9}, {temperature: 1.0, name: hot}]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(GRID)
    return file


def grid(text, *more):
    return settings.load(None, [*NEEDED, f"matrix.grid={text}", *more]).matrix.cells


def test_every_model_meets_every_decoding_and_people_stand_once(path):
    found = settings.load(path, NEEDED)
    tags = ["0.7", "greedy-n32", "1-p0.9", "hot"]
    assert [c.name for c in found.matrix.cells] == [
        *(f"{m}-{t}" for m in ("policy", "big", "base") for t in tags),
        "human",
    ]
    big = found.matrix.cells[5]
    assert (big.model, big.scale, big.draws, big.temperature, big.max_new_tokens) == ("openai:org/big", 7, 2, 0, 32)
    assert found.matrix.cells[8].stop == ("\nQ:",)
    assert "grid" not in yaml.safe_load(settings.to_yaml(found))["matrix"], "a resolved config has cells alone"


def test_a_grid_may_be_given_word_by_word():
    words = [*NEEDED, "matrix.grid.models=[policy, human]", "matrix.grid.decodings=[0.7]"]
    assert [c.name for c in settings.load(None, words).matrix.cells] == ["policy-0.7", "human"]
    with pytest.raises(ConfigError, match="did you mean 'matrix.grid.decodings'"):
        settings.load(None, [*words[:-1], "matrix.grid.decoding=[0.7]"])
    with pytest.raises(ConfigError, match="two lists, models and decodings"):
        settings.load(None, words[:-1])


def test_a_grid_takes_the_place_of_the_usual_cells_and_joins_listed_ones():
    assert [c.name for c in grid("{models: [policy], decodings: [1]}")] == ["policy-1"]
    listed = grid("{models: [policy], decodings: [1]}", "matrix.cells=[{name: people, model: human}]")
    assert [c.name for c in listed] == ["policy-1", "people"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3", "must be a mapping with two lists, models and decodings"),
        ("{models: [policy]}", "must be a mapping with two lists"),
        ("{models: [policy], decodings: [1], more: 1}", "must be a mapping with two lists"),
        ("{models: [], decodings: [1]}", "matrix.grid.models must be a list with at least one entry"),
        ("{models: [policy], decodings: 1}", "matrix.grid.decodings must be a list"),
        ("{models: [{modl: policy}], decodings: [1]}", "did you mean 'matrix.grid.models[0].model'"),
        ("{models: [policy], decodings: [{top_p: 2}]}", "matrix.grid.decodings[0].top_p=2.0: must be above 0"),
        ("{models: [policy], decodings: [hot]}", "matrix.grid.decodings[0].temperature must be a number"),
        ("{models: [policy], decodings: [{model: policy}]}", "a model belongs under matrix.grid.models"),
        ("{models: [{model: policy, top_p: 0.9}], decodings: [{top_p: 0.8}]}", "top_p stands in models[0] and in"),
        (
            "{models: [policy], decodings: [{system_prompt: a}, {system_prompt: b}]}",
            "the name 'policy-1' is used twice",
        ),
    ],
)
def test_mistakes_are_refused_by_name(text, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        grid(text)


def test_costs_are_those_of_the_most_that_can_be_drawn(path):
    found = settings.load(path, [*NEEDED, "sample.prompts_per_iteration=10", "sample.max_new_tokens=100"])
    by_name = {c.name: costs.cost(c, found) for c in found.matrix.cells}
    assert by_name["big-greedy-n32"] == costs.Cost(20, 20 * 768, 20 * 32)
    assert by_name["policy-0.7"] == costs.Cost(10, 10 * 768, 10 * 100)
    assert by_name["human"] == costs.Cost(10, 0, 0)
    [*rows, total, moved] = costs.table(found)
    assert len(rows) == len(by_name)
    for name in ("draws", "read", "written"):
        assert number(total, name) == sum(getattr(c, name) for c in by_name.values())
    # One draw of each cell stays where it is; the second of the four cells of `big` may go to where answers are longest.
    assert number(moved, "written") == number(total, "written") + 10 * (100 - 32)
    assert (moved["draws"], moved["read"]) == (total["draws"], total["read"])


def number(row, name):
    return int(row[name].replace(",", ""))


@pytest.mark.parametrize("still", ["update.budgets=false", "run.iterations=1", "matrix.min_draws=2"])
def test_draws_that_cannot_move_cost_no_more(path, still):
    assert costs.table(settings.load(path, [*NEEDED, still]))[-1]["cell"] == "total an iteration"


@pytest.mark.parametrize(("budget", "pairs"), [("null", 40), ("0.25", 10), ("7", 7)])
def test_a_judge_costs_its_calls(path, budget, pairs):
    words = ["sample.prompts_per_iteration=10", "pair.max_pairs=4", "sample.max_new_tokens=100"]
    words += ["correct.judge={model: start, votes: 3, temperature: 1, retries: 1}", f"correct.judge.budget={budget}"]
    row = costs.table(settings.load(path, [*NEEDED, *words]))[-1]
    assert (row["cell"], row["model"]) == ("judge", "start")
    calls = pairs * 2 * 3 * 2
    assert [number(row, n) for n in ("draws", "read", "written")] == [calls, calls * (768 + 200), calls * 160]


def test_a_judge_on_a_server_is_named_with_its_address(path):
    words = ["correct.judge={model: openai:org/big, base_url: 'http://localhost:8000/v1'}"]
    row = costs.table(settings.load(path, [*NEEDED, *words]))[-1]
    assert row["model"] == "openai:org/big at http://localhost:8000/v1"


@pytest.mark.parametrize("model", ["policy", "reference", "previous", "policy@1", "human"])
@pytest.mark.parametrize("given", ["scale: 70", "family: zzz"])
def test_the_runs_own_model_and_people_are_of_no_size_of_their_own(model, given):
    found = settings.load(None, [*NEEDED, f"matrix.cells=[{{name: a}}, {{name: b, model: {model}, {given}}}]"])
    with pytest.raises(ConfigError, match=f"cell 'b' has a {given.split(':')[0]}"):
        matrix.check(found)


def test_the_command_prints_the_table_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*NEEDED, "matrix.grid={models: [policy, previous, policy@1, human], decodings: [0.7]}"]
    assert cli.main(["matrix", *words]) == 0
    said = capsys.readouterr().out
    for name in (
        "policy-0.7",
        "previous-0.7",
        "policy@1-0.7",
        "human",
        "total an iteration",
        "64 prompts an iteration",
    ):
        assert name in said
    assert list(tmp_path.iterdir()) == []
    assert cli.main(["matrix", *NEEDED, "matrix.cells=[{name: '[/x] [red]'}, {name: b, model: previous}]"]) == 0
    assert "[/x] [red]" in capsys.readouterr().out
    assert cli.main(["matrix", *NEEDED, "matrix.cells=[{name: a, model: 'openai:x'}]"]) == 2
    assert "give model: openai:NAME and the server's base_url" in capsys.readouterr().err
