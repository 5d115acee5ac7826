"""Training goes on from its last whole resume point and ends with the same weights, outcomes and metrics."""

import json

import pytest
import torch
from transformers import TrainerCallback
from tso.config import TrainingSection
from tso.models import load_model
from tso.training.collate import Collator, Example
from tso.training.resume import MARK, ResumePoints
from tso.training.trainer import PairTrainer, adapted, training_arguments


def pairs():
    gen = torch.Generator().manual_seed(5)

    def ids(n):
        return tuple(torch.randint(7, 20, (n,), generator=gen).tolist())

    return [Example(f"p{i}", ids(4), ids(3 + i % 3), ids(5), 1.0, -9.0, -11.0) for i in range(14)]


def fit(tiny, folder, method, stop_at=None):
    """Weights, outcomes and history after training; `stop_at`: leave before that step."""
    options = TrainingSection(
        method=method, learning_rate=1e-3, num_train_epochs=2, per_device_train_batch_size=2, save_steps=3, lora_r=2
    )
    torch.manual_seed(1)
    model = load_model(str(tiny / "model"), dtype=torch.float32, device=torch.device("cpu"))
    args = training_arguments(options, str(folder), 3, torch.device("cpu"))
    with adapted(model, options) as trained:
        trainer = PairTrainer(trained, args, options, train_dataset=pairs(), data_collator=Collator(1))
        points = ResumePoints(trainer, folder)
        _, begin = points.newest()
        trainer.add_callback(points)
        if stop_at is not None:
            trainer.add_callback(Stop(stop_at))
        trainer.train(resume_from_checkpoint=begin)
    history = [
        {k: v for k, v in entry.items() if "/" in k or k in ("loss", "step")} for entry in trainer.state.log_history
    ]
    return {k: v.clone() for k, v in model.state_dict().items()}, trainer.outcomes, history[:-1], begin


class Stop(TrainerCallback):
    """Ends the training before a step, with whatever the disk holds by then; tests/test_resume.py kills for real."""

    def __init__(self, at):
        self.at = at

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_stopped_training_goes_on_and_ends_the_same(tiny, tmp_path, method):
    if method == "lora":
        pytest.importorskip("peft", reason="peft is an extra")
    weights, outcomes, history, begin = fit(tiny, tmp_path / "whole", method)
    assert begin is None
    folder = tmp_path / "killed"
    for at in (4, 8, 11):
        with pytest.raises(KeyboardInterrupt):
            fit(tiny, folder, method, at)
    again, seen, told, begin = fit(tiny, folder, method)
    assert begin is not None
    assert begin.endswith("checkpoint-9")
    assert seen == outcomes
    assert told == history
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[k], again[k]) for k in weights)


def test_a_half_written_point_does_not_count(tiny, tmp_path):
    whole, half = tmp_path / "checkpoint-3", tmp_path / "checkpoint-6"
    whole.mkdir()
    half.mkdir()
    outcome = {"chosen_reward": 0.5, "rejected_reward": -0.25, "chosen_saturated": True, "rejected_saturated": False}
    (whole / MARK).write_text(json.dumps({"p1": outcome}))
    (half / f"{MARK}.part").write_text("{")
    trainer = type("Trainer", (), {"outcomes": {}})()
    assert ResumePoints(trainer, tmp_path).newest() == (3, str(whole))
    assert trainer.outcomes["p1"].chosen_saturated
