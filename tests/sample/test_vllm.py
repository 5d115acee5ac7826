"""The sampler for vLLM against a fake module: what it is asked, and what becomes of its outputs.

vLLM itself needs a GPU, and is not run here. The fake takes exactly the arguments that are given.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field

import pytest
from tso.errors import MissingDependency, ModelError
from tso.records import Decoding, Message, Prompt
from tso.sample.base import Request
from tso.sample.vllm import VllmSampler


@dataclass
class SamplingParams:
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_tokens: int
    stop: list[str]
    seed: int


@dataclass
class Completion:
    text: str
    token_ids: list[int]
    finish_reason: str
    stop_reason: int | str | None = None


@dataclass
class Output:
    outputs: list[Completion]


@dataclass
class LLM:
    model: str
    dtype: str
    generation_config: str
    said = (
        Completion(" tea is warm ", [7, 8, 9, 3], "stop"),
        Completion("tea is", [7, 8], "length"),
        Completion("tea", [7, 8, 9], "stop", stop_reason="\nUser:"),
        Completion("tea", [7], "stop", stop_reason=5),
    )
    asked: list = field(default_factory=list)

    def __post_init__(self):
        if "broken" in self.model:
            raise RuntimeError("no memory\nat all")

    def generate(self, prompts, sampling_params, *, use_tqdm):
        assert use_tqdm is False
        self.asked.append((prompts, sampling_params))
        return [Output([c]) for c in self.said]


@pytest.fixture
def fake(monkeypatch):
    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_requests_and_answers(fake, tiny):
    how = Decoding(0.7, 0.9, 5, 12, None, 0.1, ("\nUser:",))
    prompt = Prompt("p", (Message("user", "we like tea"),))
    sampler = VllmSampler("auto")
    model = str(tiny / "model")
    answers = sampler.sample(model, [Request(prompt, how, 2**63 + i) for i in range(4)])
    engine, tokenizer = sampler._loaded
    assert (engine.model, engine.dtype, engine.generation_config) == (model, "auto", "vllm")
    [(prompts, params)] = engine.asked
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "we like tea"}], add_generation_prompt=True)
    assert prompts == [{"prompt_token_ids": asked["input_ids"]}] * 4
    assert params[1] == SamplingParams(0.7, 0.9, 5, 0.1, 12, ["\nUser:"], 1)
    assert [(a.text, a.finish_reason) for a in answers] == [
        ("tea is warm", "stop"), ("tea is", "length"), ("tea", "stop"), ("tea", "stop"),
    ]  # fmt: skip
    # The token that ends a turn stands once, and only where the answer ended by itself.
    tea = tokenizer("tea", add_special_tokens=False)["input_ids"]
    assert [a.token_ids for a in answers] == [(7, 8, 9, 3), (7, 8), (*tea, 3), (7, 5)]
    sampler.sample(model, [Request(prompt, how, 1)])
    assert sampler._loaded[0] is engine, "one model is loaded once"


def test_what_cannot_be_loaded_is_one_line(fake, tiny, tmp_path):
    import shutil

    broken = shutil.copytree(tiny / "model", tmp_path / "broken")
    with pytest.raises(ModelError, match="vLLM cannot load .*broken: no memory"):
        VllmSampler("auto").sample(str(broken), [])


def test_without_vllm_the_message_is_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependency, match="pip install 'tso-align\\[vllm\\]'"):
        VllmSampler("auto")
