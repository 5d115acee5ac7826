"""Fixtures that several rooms share."""

import os

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes of two threads each wait for one another on two cores, and take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a tiny model in model/ and prompts in prompts.jsonl."""
    pytest.importorskip("transformers", reason="transformers is not installed here")
    from tests.tiny import make_model, make_prompts

    folder = tmp_path_factory.mktemp("tiny")
    make_model(folder / "model")
    make_prompts(folder / "prompts.jsonl")
    return folder
