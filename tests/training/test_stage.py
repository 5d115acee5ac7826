"""What training leaves in the run's folder."""

from dataclasses import replace

import pytest
from tso.config import Config, ModelSection, TrainingSection
from tso.records import Label, Message, Prompt, Response
from tso.store import RunStore
from tso.store_rows import label_rows, merge, prompt_rows, response_rows
from tso.training import stage


def test_what_a_kill_left_half_written_is_swept_away_and_nothing_else(tmp_path):
    for name in ("iteration-1/checkpoint.part", "control/iteration-2/checkpoint.part", "mine.part"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "control" / "iteration-1").symlink_to(tmp_path / "iteration-1")
    for name in ("iteration-1/pairs.part", ".report.html.77.part", "metrics.part", "report.html"):
        (tmp_path / name).touch()
    (tmp_path / "final.part").symlink_to("iteration-1", target_is_directory=True)
    stage.remove_unfinished(tmp_path)
    assert {p.name for p in tmp_path.rglob("*")} == {
        "iteration-1",
        "control",
        "iteration-2",
        "mine.part",
        "report.html",
    }


@pytest.mark.parametrize(
    ("name", "told"), [("org/model-1.5", True), ("gpt2", True), ("/home/me/model", False), ("./model", False)]
)
def test_the_card_names_a_base_model_only_by_its_name_on_a_hub(name, told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = replace(Config(), model=ModelSection(name_or_path=name))
    assert (f"base_model: {name}\n" in stage._card(config, 1, 5)) == told
    (tmp_path / name.lstrip("/")).mkdir(parents=True)  # now a folder here has that name
    assert "base_model" not in stage._card(config, 1, 5)


@pytest.mark.parametrize(("least", "expected"), [(0.0, [0.2, 0.0]), (0.1, [0.2, 0.1]), (0.3, [0.3, 0.3])])
def test_a_pairs_noise_reaches_its_example_and_label_smoothing_is_the_least(tiny, tmp_path, least, expected):
    answers = [Response(i, "q", "policy", f"text {i}", (8, 9 + i, 3), "stop", 1) for i in range(4)]
    columns = ["pair_id", "iteration", "purpose", "position", "prompt_id", "response_a", "response_b", "similarity"]
    pairs = [(f"p{i}", 1, "train", i, "q", 2 * i, 2 * i + 1, 0.0) for i in (0, 1)]
    labels = [(f"p{i}", Label("human", 2 * i, 2 * i + 1, 1.0, 1.0)) for i in (0, 1)]
    noise = (["iteration", "pair_id", "noise"], [(1, "p0", 0.2)])
    rows = merge(
        prompt_rows([Prompt("q", (Message("user", "hello"),))]),
        response_rows(answers),
        {"pairs": (columns, pairs), "noise": noise},
        label_rows(1, 1, labels),
    )
    config = replace(Config(), training=TrainingSection(label_smoothing=least))
    with RunStore.open_or_create(tmp_path, {}) as store:
        store.commit(1, "pairs", rows)
        examples = stage.build_examples(store, config, store.pairs(1), str(tiny / "model"))
    assert [e.label_smoothing for e in examples] == expected
