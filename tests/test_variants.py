"""The ways to train and update that the other tests leave at their defaults, each through the whole loop."""

import shutil

import pytest
from tso.models import weights_sha256
from tso.store import RunStore

from tests.test_loop import command
from tests.tiny import WORDS, make_model


def run(tiny, output, *more):
    done = command(tiny, output, "evaluate.draws=0", *more)
    assert done.returncode == 0, done.stderr
    return RunStore.open_read_only(output)


def test_lora_trains_and_leaves_a_plain_model(tiny, tmp_path):
    pytest.importorskip("peft", reason="peft is an extra")
    with run(tiny, tmp_path / "out", "training.method=lora", "run.iterations=1") as store:
        path, sha = store.checkpoint(1, "policy")
        assert sha != store.checkpoint(0, "policy")[1]
        assert store.query("SELECT count(*) FROM outcomes")[0][0] > 0
    from safetensors import safe_open

    with safe_open(tmp_path / "out" / path / "model.safetensors", "pt") as whole:
        assert not [name for name in whole.keys() if "lora" in name]  # noqa: SIM118 - not a dict


@pytest.mark.parametrize("rule", ["none", "soft"])
def test_reference_updates(tiny, tmp_path, rule):
    with run(tiny, tmp_path / "out", f"update.reference={rule}", "update.alpha=0.25", "run.iterations=1") as store:
        start, after, policy = (
            store.checkpoint(0, "reference"),
            store.checkpoint(1, "reference"),
            store.checkpoint(1, "policy"),
        )
        if rule == "none":
            assert after == start
            return
    from safetensors.torch import load_file

    old, new = (
        load_file(tiny / "model" / "model.safetensors"),
        load_file(tmp_path / "out" / policy[0] / "model.safetensors"),
    )
    for name, mixed in load_file(tmp_path / "out" / after[0] / "model.safetensors").items():
        assert (mixed - (old[name] + 0.25 * (new[name] - old[name]))).abs().max() < 1e-6


def test_lora_gives_the_same_model_twice(tiny, tmp_path):
    pytest.importorskip("peft", reason="peft is an extra")
    ends = []
    for name in ("one", "two"):
        with run(tiny, tmp_path / name, "training.method=lora", "run.iterations=1") as store:
            ends.append(store.checkpoint(1, "policy")[1])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("how", ["implicit", "agreement"])
def test_the_trained_policy_labels_pairs_by_its_implicit_reward(tiny, tmp_path, how):
    with run(tiny, tmp_path / "out", f"pair.label={how}", "correct.rule=null", "training.beta=0.3") as store:
        assert {p.label.source for p in store.pairs(1, dropped=True)} == {"prior"}
        pairs, rewards = store.pairs(2, dropped=True), store.rewards(2)
        assert {p.label.source for p in pairs} == {how}
        strength = {c.name: c.strength for c in store.cells(2)}
        cells = store.responses_by_id(rewards)
        for pair in pairs:
            a, b = pair.response_a, pair.response_b
            by_reward = rewards[a] - rewards[b]
            by_prior = strength[cells[a].cell] - strength[cells[b].cell]
            agree = by_reward * by_prior > 0
            better = (a if by_reward > 0 else b) if how == "implicit" or agree else None
            assert pair.label.chosen == better
        undecided = {p.id for p in pairs if p.label.chosen is None}
        reasons = dict(store.query("SELECT id, reason FROM drops WHERE kind = 'pair' AND iteration = 2"))
        assert undecided <= reasons.keys()
        for policy, reference, reward in store.query("SELECT policy, reference, reward FROM rewards"):
            assert reward == pytest.approx(0.3 * (policy - reference), abs=1e-12)
            assert policy != reference


def test_gradient_checkpointing_and_bf16(tiny, tmp_path):
    run(
        tiny, tmp_path / "out", "training.gradient_checkpointing=true", "training.bf16=true", "run.iterations=1"
    ).close()


def test_a_base_cell_with_another_tokenizer_is_read_in_the_policys_tokens(tiny, tmp_path):
    other = make_model(tmp_path / "other", list(reversed(WORDS)))
    cells = f"matrix.cells=[{{name: base, model: {other}}}, {{name: policy}}, {{name: human, model: human}}]"
    with run(tiny, tmp_path / "out", cells, "run.iterations=1") as store:
        answers = [a for a in store.responses(1, "train") if a.cell == "base" and a.text]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    assert answers
    for answer in answers:
        assert tokenizer.decode(answer.token_ids, skip_special_tokens=True) == answer.text


def test_a_hub_model_is_pinned_to_its_revision(tiny, tmp_path, monkeypatch):
    """The hub's own cache layout, without a network: two commits of one model, of which the first is asked for."""
    repo = tmp_path / "hub" / "models--some--model"
    commits = ["a" * 40, "b" * 40]
    shutil.copytree(tiny / "model", repo / "snapshots" / commits[0])
    make_model(repo / "snapshots" / commits[1], list(reversed(WORDS)))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commits[1])
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ["model.name_or_path=some/model", f"model.revision={commits[0]}", "run.iterations=1"]
    with run(tiny, tmp_path / "out", *words) as store:
        path, sha = store.checkpoint(0, "policy")
    assert commits[0] in path
    assert sha == weights_sha256(tiny / "model")
