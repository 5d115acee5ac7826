"""What training leaves in the run's folder."""

from dataclasses import replace

import pytest
from tso.config import Config, ModelSection
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
