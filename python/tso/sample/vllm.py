"""Sampling with vLLM in this process, for runs that name it (sample.backend=vllm) on a machine where it is installed.

Chats become tokens here, as for transformers, so that both backends see the same prompts. A draw's seed goes to vLLM's
own generator: the plan is the same, the texts are not those of transformers, and may differ from one run to another.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from tso.errors import MissingDependency, ModelError
from tso.models import load_tokenizer
from tso.sample.base import Answer, Request
from tso.sample.transformers import answer_ids, request_ids

SEEDS = 2**63  # seeds are whole numbers of 64 bits with their sign


class VllmSampler:
    """Keeps one model in memory at a time. dtype: auto (the weights' own), float32 or bfloat16."""

    def __init__(self, dtype: str):
        try:
            import vllm
        except ImportError as err:
            raise MissingDependency("sample.backend=vllm needs vLLM: pip install 'tso-align[vllm]'") from err
        self.dtype = dtype
        self._vllm = vllm
        self._path = ""
        self._loaded: tuple[Any, Any] | None = None

    def _load(self, path: str) -> tuple[Any, Any]:
        if self._loaded is None or path != self._path:
            self.release()
            tokenizer = load_tokenizer(path, chat=False)
            try:
                # generation_config="vllm": a cell's decoding is all there is, whatever the model's files suggest.
                model = self._vllm.LLM(model=path, dtype=self.dtype, generation_config="vllm")
            except Exception as err:  # vLLM raises classes of many libraries; the user needs one line
                raise ModelError(f"vLLM cannot load {path}: {str(err).strip()[:300]}") from err
            self._path, self._loaded = path, (model, tokenizer)
        return self._loaded

    def release(self) -> None:
        """Drop the model; vLLM frees its memory when nothing refers to it any more."""
        self._path, self._loaded = "", None
        gc.collect()

    def sample(self, model: str, requests: Sequence[Request]) -> list[Answer]:
        engine, tokenizer = self._load(model)
        prompts = [{"prompt_token_ids": request_ids(tokenizer, r.prompt, r.decoding)} for r in requests]
        outputs = engine.generate(prompts, [self._params(r) for r in requests], use_tqdm=False)
        return [_answer(tokenizer, output.outputs[0]) for output in outputs]

    def _params(self, request: Request) -> Any:
        how = request.decoding
        return self._vllm.SamplingParams(
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k,
            min_p=how.min_p,
            max_tokens=how.max_new_tokens,
            stop=list(how.stop),
            seed=request.seed % SEEDS,
        )


def _answer(tokenizer: Any, output: Any) -> Answer:
    """stop_reason is a stop string, the id of a token that ends a turn, or None for the tokenizer's own."""
    text = output.text.strip()
    if output.finish_reason != "stop":
        return Answer(text, tuple(output.token_ids), "length")
    if isinstance(output.stop_reason, str):
        return Answer(text, answer_ids(tokenizer, text) if text else (), "stop")
    ids = tuple(output.token_ids)
    end = tokenizer.eos_token_id if output.stop_reason is None else output.stop_reason
    return Answer(text, ids if ids[-1:] == (end,) else (*ids, end), "stop")
