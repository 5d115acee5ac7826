"""Resume points within an iteration's training: the Trainer's own checkpoints, each whole or not counted.

The Trainer writes a folder file by file, so a kill may leave a half-written one. A folder counts once `outcomes.json`,
written and synced after everything else, is in it; only then the one before is removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tso.models import sync_folder
from tso.training.trainer import PairOutcome, PairTrainer

MARK = "outcomes.json"


class ResumePoints(TrainerCallback):
    """Completes each checkpoint of `trainer` under `folder`, and finds the newest complete one."""

    def __init__(self, trainer: PairTrainer, folder: Path):
        self.trainer = trainer
        self.folder = folder

    def newest(self) -> tuple[int, str | None]:
        """(steps done, folder to resume from); (0, None) where there is none. Restores the outcomes of those steps."""
        step, found = max(self._complete(), default=(0, None))
        if found is None:
            return 0, None
        told = json.loads((found / MARK).read_text(encoding="utf-8"))
        self.trainer.outcomes = {pair_id: PairOutcome(**outcome) for pair_id, outcome in told.items()}
        return step, str(found)

    def _complete(self) -> Iterator[tuple[int, Path]]:
        for place in self.folder.glob("checkpoint-*"):
            if (place / MARK).exists():
                yield int(place.name.rpartition("-")[2]), place

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False  # what comes next is the checkpoint itself

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        place = self.folder / f"checkpoint-{state.global_step}"
        sync_folder(place)
        part = place / f"{MARK}.part"
        part.write_text(json.dumps({k: asdict(o) for k, o in self.trainer.outcomes.items()}), encoding="utf-8")
        part.rename(place / MARK)
        sync_folder(place)
        for other in self.folder.glob("checkpoint-*"):
            if other != place:
                shutil.rmtree(other)
