"""A whole run with cells on a server: it ends, keeps what it was told, and keeps no key."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from tokenizers import pre_tokenizers
from tso import train
from tso.models import load_tokenizer
from tso.sample import openai
from tso.sample.arrivals import Arrivals
from tso.sample.probe import ASKED
from tso.store import RunStore

from tests.sample.server import MODEL, serving
from tests.tiny import content_hash, words

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture
def server():
    openai._found.clear()
    with serving() as double:
        yield double


def cells(url, **more):
    told = "".join(f", {name}: {value}" for name, value in more.items())
    far = f"{{name: far, model: 'openai:{MODEL}', base_url: '{url}', draws: 2, temperature: 0.8{told}}}"
    return f"matrix.cells=[{{name: policy}}, {far}, {{name: human, model: human}}]"


def run(tiny, output, *more):
    options = ["run.iterations=1", "evaluate.draws=0", "evaluate.control=false", "server.retries=0"]
    return train.main(["--debug", *words(tiny, output), *options, *more])


def test_a_run_with_a_server_and_a_key(tiny, tmp_path, server, monkeypatch, capsys):
    monkeypatch.setenv("FAR_KEY", KEY)
    output = tmp_path / "out"
    assert run(tiny, output, cells(server.url, api_key_env="FAR_KEY")) == 0
    with RunStore.open_read_only(output) as store:
        said = {r.id: r for r in store.responses(1, "train") if r.cell == "far"}
        assert len(said) == 10
        arrived = store.query("SELECT draw, text, model, prompt_tokens, completion_tokens FROM arrivals")
        assert {(draw, text) for draw, text, *_ in arrived} == {(i, r.text) for i, r in said.items()}
        assert {(model, tokens) for _, _, model, tokens, _ in arrived} == {(MODEL, 7)}
        # In the policy's tokens, with its end of turn.
        assert all(r.token_ids[-1] == 3 and r.finish_reason == "stop" for r in said.values())
        [far] = [c for c in store.cells(1) if c.name == "far"]
        assert (far.stage, far.path) == ("base", f"{server.url}#{MODEL}")
        store.balance(1)
    assert {auth for _, _, auth in server.calls} == {f"Bearer {KEY}"}
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    for path in output.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_run_within_an_event_loop_as_in_a_notebook(tiny, tmp_path, server):
    async def cell():
        return run(tiny, tmp_path / "out", cells(server.url))

    assert asyncio.run(cell()) == 0
    with RunStore.open_read_only(tmp_path / "out") as store:
        assert store.query("SELECT count(*) FROM arrivals") == [(10,)]
        store.balance(1)


def test_a_server_that_fails_in_between_costs_nothing_that_came(tiny, tmp_path, server, capsys):
    output = tmp_path / "out"
    calls = []

    def seven(handler):
        calls.append(1)
        handler.answer() if len(calls) <= 7 else handler.reply(500, {"error": "out of memory"})

    server.always = seven
    assert run(tiny, output, cells(server.url)) == 2
    assert "HTTP 500: out of memory" in capsys.readouterr().err
    with RunStore.open_read_only(output) as store:
        before = set(store.query("SELECT * FROM arrivals"))
    assert before
    server.always = None
    server.calls.clear()
    assert run(tiny, output, cells(server.url), "server.concurrency=2", "server.retries=1") == 0
    with RunStore.open_read_only(output) as store:
        assert before < set(store.query("SELECT * FROM arrivals"))
    assert len(server.calls) == 10 - len(before)


def test_what_a_server_cannot_do_is_refused_before_anything_is_sampled(tiny, tmp_path, server, capsys):
    server.greedy = True
    assert run(tiny, tmp_path / "out", cells(server.url)) == 2
    assert "the same answer to every seed" in capsys.readouterr().err
    server.greedy = False
    assert run(tiny, tmp_path / "out", cells(server.url)) == 0, "the folder is free for a mended config"


def test_a_server_that_has_another_model_when_the_run_goes_on_is_refused(tiny, tmp_path, server, capsys):
    def dies(handler):
        handler.answer() if len(server.calls) < 7 else handler.reply(404, {"error": "bye"})

    server.always = dies
    assert run(tiny, tmp_path / "out", cells(server.url)) == 2
    capsys.readouterr()
    openai._found.clear()  # as in another process
    server.always = lambda h: h.answer(model="newer")
    assert run(tiny, tmp_path / "out", cells(server.url)) == 2
    assert "answers as 'newer', and before as 'double'" in capsys.readouterr().err


def test_an_answer_that_the_policy_cannot_read_is_dropped_with_its_reason(tiny, tmp_path, server):
    """Split at spaces alone, the tokenizer takes <e> for the token that ends a turn."""
    folder = shutil.copytree(tiny / "model", tmp_path / "model")
    tokenizer = load_tokenizer(str(folder))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save_pretrained(folder)
    text = server.text
    server.text = lambda sent: text(sent).rsplit(" ", 2)[0] + (" <e> tea" if sent["seed"] % 2 else " a b")
    output = tmp_path / "out"
    assert run(tiny, output, cells(server.url), f"model.name_or_path={folder}") == 0
    with RunStore.open_read_only(output) as store:
        bad = {str(r.id) for r in store.responses(1, "train") if "<e>" in r.text}
        assert bad
        dropped = store.query("SELECT id FROM drops WHERE kind = 'response' AND reason = 'unreadable'")
        assert {row[0] for row in dropped} == bad
        store.balance(1)


def test_a_key_that_is_not_set_is_told_first(tiny, tmp_path, server, monkeypatch, capsys):
    monkeypatch.delenv("FAR_KEY", raising=False)
    assert run(tiny, tmp_path / "out", cells(server.url, api_key_env="FAR_KEY")) == 2
    assert "the environment variable FAR_KEY is not set" in capsys.readouterr().err


def refusing(*prompts):
    """A filter that takes offence at some prompts."""

    def answer(handler):
        asked = handler.sent["messages"][-1]["content"]
        bad = any(asked.startswith(f"we like {word} and") for word in prompts)
        handler.reply(400, {"error": {"message": "filtered"}}) if bad else handler.answer()

    return answer


def test_a_server_that_answers_under_another_name_is_remarked_once(tiny, tmp_path, server, capsys):
    server.always = lambda h: h.answer(model="gpt-something")
    two = f"{{name: hot, model: 'openai:{MODEL}', base_url: '{server.url}', temperature: 1.5}}]"
    assert run(tiny, tmp_path / "out", cells(server.url)[:-1] + ", " + two) == 0
    assert capsys.readouterr().out.count("answers under another name, 'gpt-something'") == 1


def test_a_draw_that_the_server_refuses_is_dropped_with_its_reason_and_asked_for_once(tiny, tmp_path, server, capsys):
    server.always = refusing("a")
    output = tmp_path / "out"
    assert run(tiny, output, cells(server.url)) == 0
    assert "warning: cell 'far': the server has no answer to 2 of 10 draws" in capsys.readouterr().out
    with RunStore.open_read_only(output) as store:
        told = store.query("SELECT id, detail FROM drops WHERE kind = 'response' AND reason = 'unanswered'")
        refused = {i for i, _ in told}
        assert refused == {str(r.id) for r in store.responses(1, "train") if r.cell == "far" and not r.text}
        assert len(refused) == 2
        assert {detail for _, detail in told} == {"HTTP 400: filtered"}
        assert store.balance(1)["dropped/unanswered"] == 2
    sent = len(server.calls)
    assert run(tiny, output, cells(server.url)) == 0
    assert len(server.calls) == sent


def test_a_cell_that_is_refused_every_time_stops_the_run_until_the_server_is_mended(tiny, tmp_path, server, capsys):
    server.always = refusing("the", "a", "sun", "rain", "is", "was", "cold", "warm", "and", "or")
    output = tmp_path / "out"
    assert run(tiny, output, cells(server.url)) == 2
    said = capsys.readouterr().err
    assert "cell 'far': the server has no answer to any of its first 5 prompts; the last: HTTP 400: filtered" in said
    assert run(tiny, output, cells(server.url)) == 2
    server.always = refusing("a")
    assert run(tiny, output, cells(server.url)) == 0
    with RunStore.open_read_only(output) as store:
        assert store.balance(1)["dropped/unanswered"] == 2


def offended(server):
    """A filter that refuses the first prompt that it is asked about, beside that of the trial."""
    first = []

    def answer(handler):
        asked = handler.sent["messages"][-1]["content"]
        with server.lock:
            first.extend([asked] * (asked != ASKED.messages[0].content and not first))
        handler.reply(400, {"error": {"message": "filtered"}}) if asked in first else handler.answer()

    return answer


@pytest.mark.parametrize("prompts", [5, 1])
def test_one_prompt_that_is_refused_as_often_as_it_is_drawn_stops_nothing(tiny, tmp_path, server, prompts):
    server.always = offended(server)
    line = cells(server.url).replace("draws: 2", "draws: 9")
    assert run(tiny, tmp_path / "out", line, f"sample.prompts_per_iteration={prompts}", "server.concurrency=1") == 0
    with RunStore.open_read_only(tmp_path / "out") as store:
        refused = {r.prompt_id for r in store.responses(1, "train") if r.cell == "far" and not r.text}
        assert len(refused) == 1
        assert store.balance(1)["dropped/unanswered"] == 9


def test_draws_without_an_answer_do_not_depend_on_when_a_run_was_stopped(tiny, tmp_path, server, monkeypatch):
    server.always = refusing("a", "sun")
    assert run(tiny, tmp_path / "whole", cells(server.url)) == 0
    keep, kept = Arrivals.keep_unanswered, []

    def stopped(arrivals, draw, why):
        keep(arrivals, draw, why)
        kept.append(draw.id)
        raise KeyboardInterrupt

    monkeypatch.setattr(Arrivals, "keep_unanswered", stopped)
    results = [run(tiny, tmp_path / "parts", cells(server.url)) for _ in range(5)]
    assert results == [130] * 4 + [0]
    assert len(kept) == len(set(kept)) == 4
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")
