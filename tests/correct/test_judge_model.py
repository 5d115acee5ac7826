"""A real model as the judge of a whole run: found, asked, and held to what the run began with."""

import json
import shutil

import pytest
from tso import train
from tso.correct.calls import Steps
from tso.store import RunStore

from tests.correct.doubles import SHOWN, says
from tests.sample.server import MODEL, serving
from tests.sample.test_base_models import gguf_of
from tests.tiny import TEMPLATE, bytewise_model, content_hash, words

ROOM = 2048  # positions: a question to a judge is longer than anything else that the tiny model reads


@pytest.fixture(scope="module")
def roomy(tiny, tmp_path_factory):
    """The tiny model and prompts, with room for a judge's questions."""
    folder = tmp_path_factory.mktemp("roomy")
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": ROOM}))
    return folder


def command(folder, output, *more):
    few = ["evaluate.control=false", "run.iterations=2", "correct.judge.max_new_tokens=8", "correct.judge.retries=1"]
    return ["--quiet", *words(folder, output), *few, *more]


def refused(capsys, *line):
    capsys.readouterr()
    assert train.main(list(line)) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def by_the_policy(roomy, tmp_path_factory):
    output = tmp_path_factory.mktemp("policy") / "run"
    assert train.main(command(roomy, output, "correct.judge.model=policy", "correct.judge.budget=6")) == 0
    return output


def test_the_policy_judges_its_own_iterations(by_the_policy):
    with RunStore.open_read_only(by_the_policy) as store:
        asked = store.query("SELECT iteration, count(*), count(DISTINCT pair_id) FROM judge_calls GROUP BY iteration")
        # Random weights give no JSON: each question fails twice, and the rule's labels stand.
        assert [(t, calls) for t, calls, _ in asked] == [(t, 4 * pairs) for t, _, pairs in asked]
        assert [t for t, _, _ in asked] == [0, 1, 2]  # 0: the held-out pairs
        assert store.query("SELECT count(*) FROM judge_calls WHERE verdict IS NOT NULL") == [(0,)]
        revisions = store.query("SELECT DISTINCT iteration, revision FROM judge_pairs ORDER BY iteration")
        assert revisions == [(t, store.checkpoint(max(t - 1, 0), "policy")[1]) for t in (0, 1, 2)]
        assert store.query("SELECT count(*) FROM corrections WHERE source = 'judge'") == [(0,)]
        assert min(n for (n,) in store.query("SELECT prompt_tokens FROM judge_calls")) > 200
    page = (by_the_policy / "report.html").read_text()
    assert "AI judges" in page
    assert "100% (6 of 6)" not in page  # three iterations of 6 pairs at most
    assert "could not be read" in page


@pytest.mark.parametrize(
    ("word", "moments"),
    [
        ("previous", [(0, "policy"), (0, "policy"), (1, "policy")]),
        ("reference", [(0, "reference"), (1, "reference"), (2, "reference")]),
    ],
)
def test_an_earlier_stage_judges(roomy, tmp_path, word, moments):
    more = ["run.iterations=3", f"correct.judge.model={word}", "correct.judge.budget=2", "evaluate.draws=0"]
    more += ["update.reference=soft", "correct.judge.retries=0"]
    assert train.main(command(roomy, tmp_path / "run", *more)) == 0
    with RunStore.open_read_only(tmp_path / "run") as store:
        revisions = store.query("SELECT DISTINCT iteration, revision FROM judge_pairs ORDER BY iteration")
        assert revisions == [(t, store.checkpoint(*moments[t - 1])[1]) for t in (1, 2, 3)]


def test_a_gguf_file_judges_from_within_the_run(roomy, tmp_path):
    folder = bytewise_model(tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 4 * ROOM}))
    file = gguf_of(folder, tmp_path / "judge.gguf", TEMPLATE)
    more = [f"correct.judge.model={file}", "correct.judge.budget=2", "evaluate.draws=0", "run.iterations=1"]
    assert train.main(command(roomy, tmp_path / "run", *more)) == 0
    with RunStore.open_read_only(tmp_path / "run") as store:
        path, revision = store.info(0, "start")["judge"]["model"]
        assert path.startswith("iteration-0/judge-")
        assert store.query("SELECT DISTINCT revision FROM judge_pairs") == [(revision,)]
        assert store.query("SELECT count(*) FROM judge_calls") > [(0,)]


def test_resuming_asks_nothing(roomy, by_the_policy):
    def calls():
        with RunStore.open_read_only(by_the_policy) as store:
            return store.query("SELECT * FROM judge_calls")

    before = calls()
    assert train.main(command(roomy, by_the_policy, "correct.judge.model=policy", "correct.judge.budget=6")) == 0
    assert calls() == before


def test_another_judge_is_another_run(roomy, by_the_policy, capsys):
    said = refused(capsys, *command(roomy, by_the_policy, "correct.judge.model=start", "correct.judge.budget=6"))
    assert 'other settings (correct.judge.model was "policy", now "start")' in said


def test_a_rubric_that_changed_is_refused_and_one_that_is_gone_is_in_the_store(roomy, tmp_path, capsys):
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("they like tea")
    other = shutil.copytree(roomy / "model", tmp_path / "judge")
    more = [f"correct.judge.model={other}", f"correct.judge.rubric={rubric}", "evaluate.draws=0", "run.iterations=1"]
    line = command(roomy, tmp_path / "run", *more)
    assert train.main(line) == 0
    rubric.write_text("they like bread")
    assert "rubric.txt has changed since this run began" in refused(capsys, *line)
    rubric.unlink()
    assert train.main(line) == 0
    with RunStore.open_read_only(tmp_path / "run") as store:
        assert store.info(0, "start")["judge"]["rubric"] == "they like tea"
        assert store.query("SELECT count(*) > 0 FROM judge_calls") == [(1,)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["correct.judge.model=/nowhere/judge"], "no such folder: /nowhere/judge"),
        (["correct.judge.model=policy", "correct.judge.rubric=/nowhere.txt"], "correct.judge.rubric: cannot read"),
        (["correct.judge.model=start", "correct.judge.max_new_tokens=2000"], "but the model reads 2048"),
        (
            [
                "correct.judge.model=start",
                "matrix.cells=[{name: a, model: policy}, {name: b, model: policy, max_new_tokens: 950}]",
            ],
            "two answers may have 950 each",
        ),
        (["correct.judge.model=Policy"], "did you mean policy?"),
        (["correct.judge.model=human"], "correct.judge.model='human': a judge is a model, or one of policy, previous,"),
        (["correct.judge.model=policy@1"], "policy, previous, reference, start; policy and previous move with the run"),
        (["correct.judge.model=nowhere.gguf"], "correct.judge.model: no such GGUF file: nowhere.gguf"),
        (
            ["correct.judge.model=openai:double"],
            "error: correct.judge: give model: openai:NAME and the server's base_url",
        ),
        (["correct.judge.base_url=http://localhost:1"], "base_url is given, but correct.judge.model is missing"),
        (["correct.judge.api_key_env=HOME"], "correct.judge.api_key_env is given, but correct.judge.model is missing"),
        (
            ["correct.judge.model=start", "correct.judge.base_url=http://localhost:1"],
            "correct.judge.base_url is for model: openai:NAME, not 'start'",
        ),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_before_anything_is_sampled(roomy, tmp_path, capsys, more, says):
    assert says in refused(capsys, *command(roomy, tmp_path / "run", *more))


def judging(sent):
    """What a server's model says: it prefers the answer with fewer letters, and to a probe it says anything."""
    text = sent["messages"][-1]["content"]
    if SHOWN.search(text) is None:
        return f"any words {sent.get('seed')}"
    a, b = SHOWN.search(text)["a"], SHOWN.search(text)["b"]
    return says("tie" if len(a) == len(b) else "A" if len(a) < len(b) else "B")


@pytest.mark.parametrize("takes_schemas", [True, False])
def test_a_server_judges_and_a_run_that_goes_on_asks_it_nothing_twice(roomy, tmp_path, takes_schemas, monkeypatch):
    pytest.importorskip("httpx2", reason="httpx2 is not installed: pip install 'tso-align[openai]'")
    with serving() as server:
        monkeypatch.setattr(server, "text", judging)
        if not takes_schemas:
            server.always = without_schemas
        more = ["run.iterations=1", f"correct.judge.model=openai:{MODEL}", f"correct.judge.base_url={server.url}"]
        line = command(roomy, tmp_path / "run", *more, "correct.judge.batch_size=4", "evaluate.draws=0")
        assert train.main(line) == 0
        asked = [
            s["messages"][-1]["content"] for _, s, _ in server.calls if "response_format" not in s or takes_schemas
        ]
        questions = [text for text in asked if SHOWN.search(text)]
        assert train.main(line) == 0
    with RunStore.open_read_only(tmp_path / "run") as store:
        calls = store.query("SELECT verdict, prompt_tokens, tokens FROM judge_calls")
        assert len(calls) == len(questions) == len(set(questions)) > 4
        assert all(verdict and read == 7 and written for verdict, read, written in calls)
        verdicts = {v for (v,) in store.query("SELECT verdict FROM corrections WHERE source = 'judge'")}
        assert verdicts & {"keep", "flip"}
        [(revision,)] = store.query("SELECT DISTINCT revision FROM judge_pairs")
        assert revision == f"{server.url}#{MODEL} {MODEL}"


def without_schemas(handler):
    if "response_format" in handler.sent:
        handler.reply(400, {"error": {"message": "response_format is not supported"}})
    else:
        handler.answer()


def test_a_run_that_was_stopped_while_judging_ends_as_the_undisturbed_one(roomy, tmp_path, monkeypatch):
    more = ["run.iterations=1", "evaluate.draws=0", "correct.judge.model=start", "correct.judge.batch_size=6"]
    more += ["correct.judge.votes=3", "correct.judge.temperature=1.0", "correct.judge.retries=1"]
    assert train.main(command(roomy, tmp_path / "whole", *more)) == 0
    once = Steps.once

    def stopped(steps, work):
        if steps.unit in (2, 5, 6) and not steps.store.done(steps.iteration, steps.stage, steps.unit):
            once(steps, work)
            raise KeyboardInterrupt
        once(steps, work)

    monkeypatch.setattr(Steps, "once", stopped)
    line = command(roomy, tmp_path / "parts", *more)
    assert [train.main(line) for _ in range(4)] == [130, 130, 130, 0]
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")


def well_but_for(server, word, fault):
    """Judges, but for pairs with an answer that holds the word."""

    def answer(handler):
        found = SHOWN.search(handler.sent["messages"][-1]["content"])
        fault(handler) if found and word in found["a"] + found["b"] else handler.answer()

    server.text, server.always = judging, answer


def judged_by(server, roomy, output, *more):
    own = [f"correct.judge.model=openai:{MODEL}", f"correct.judge.base_url={server.url}", "server.retries=1"]
    return command(roomy, output, "run.iterations=1", "evaluate.draws=0", *own, *more)


def questions_to(server):
    texts = [sent["messages"][-1]["content"] for _, sent, _ in server.calls]
    return [text for text in texts if SHOWN.search(text)]


@pytest.mark.parametrize(
    ("status", "says", "asked"), [(400, "no reply: HTTP 400: too long", 1), (500, "no reply: HTTP 500: too long", 2)]
)
def test_a_question_that_the_server_fails_with_is_a_failed_call_and_the_others_are_kept(
    roomy, tmp_path, status, says, asked
):
    with serving() as server:
        well_but_for(server, "sun", lambda h: h.reply(status, {"error": "too long"}))
        assert train.main(judged_by(server, roomy, tmp_path / "run")) == 0
        questions = questions_to(server)
    with RunStore.open_read_only(tmp_path / "run") as store:
        calls = store.query("SELECT verdict, reason FROM judge_calls")
        failed = [reason for verdict, reason in calls if verdict is None]
        assert set(failed) == {says}
        assert 0 < len(failed) < len(calls)
        # What had a reply was asked for once, and what had none not again under another fence.
        assert len(set(questions)) == len(calls)
        assert len(questions) == len(calls) + (asked - 1) * len(failed)


def test_a_judge_whose_server_goes_away_loses_nothing_that_came(roomy, tmp_path, capsys):
    output, questions = tmp_path / "run", []
    with serving() as server:
        server.text = judging

        def dies(handler):
            """After five replies, in the middle of the first batch."""
            if len(questions) == 5:
                handler.reply(503, {"error": "shut down"})
                return
            asked = handler.sent["messages"][-1]["content"]
            questions.extend([asked] * bool(SHOWN.search(asked)))
            handler.answer()

        server.always = dies
        line = judged_by(server, roomy, output, "server.concurrency=1")
        assert "HTTP 503: shut down" in refused(capsys, *line)
        with RunStore.open_read_only(output) as store:
            assert store.query("SELECT count(*), sum(verdict IS NULL) FROM judge_calls") == [(5, 0)]
        server.always = None
        server.calls.clear()
        assert train.main(line) == 0
        assert not set(questions) & set(questions_to(server))
        assert train.main(judged_by(server, roomy, tmp_path / "whole", "server.concurrency=4")) == 0
    with RunStore.open_read_only(output) as store, RunStore.open_read_only(tmp_path / "whole") as whole:
        for table in ("corrections", "labels", "drops", "strengths"):
            assert store.query(f"SELECT * FROM {table}") == whole.query(f"SELECT * FROM {table}")


def test_a_judge_that_refuses_its_first_questions_stops_the_run_and_a_mended_one_is_asked_again(
    roomy, tmp_path, capsys
):
    with serving() as server:
        well_but_for(server, "", lambda h: h.reply(400, {"error": "too long"}))
        line = judged_by(server, roomy, tmp_path / "run", "correct.judge.batch_size=2")
        for _ in range(2):
            said = refused(capsys, *line)
            assert f"the judge 'openai:{MODEL}': the server has no answer to any of its first 5 questions" in said
            assert "the last: HTTP 400: too long; mend what it says at the server and run again" in said
        asked = questions_to(server)
        assert len(set(asked)) == 5
        assert len(asked) == 10
        with RunStore.open_read_only(tmp_path / "run") as store:
            assert store.query("SELECT * FROM judge_calls") == []
        well_but_for(server, "sun", lambda h: h.reply(400, {"error": "too long"}))
        assert train.main(line) == 0
        assert train.main(judged_by(server, roomy, tmp_path / "whole", "correct.judge.batch_size=2")) == 0
    assert content_hash(tmp_path / "run") == content_hash(tmp_path / "whole")


def test_a_judge_that_refuses_one_prompt_goes_on(roomy, tmp_path):
    with serving() as server:
        well_but_for(server, "", lambda h: h.reply(400, {"error": "filtered"}))
        one = ["sample.prompts_per_iteration=1"]
        assert train.main(judged_by(server, roomy, tmp_path / "run", *one)) == 0
    with RunStore.open_read_only(tmp_path / "run") as store:
        [(reason,)] = store.query("SELECT DISTINCT reason FROM judge_calls")
        assert reason == "no reply: HTTP 400: filtered"


def test_a_key_that_a_judge_spells_in_its_reason_is_stored_nowhere(roomy, tmp_path, monkeypatch, capsys):
    key = "sk-never/to-be;told"
    monkeypatch.setenv("JUDGE_KEY", key)
    spelt = "".join(f"\\u{ord(c):04x}" for c in key)
    with serving() as server:
        server.text = lambda sent: judging(sent).replace("so it is", f"your key is {spelt}")
        line = judged_by(server, roomy, tmp_path / "run", "correct.judge.api_key_env=JUDGE_KEY")
        assert train.main(line) == 0
    with RunStore.open_read_only(tmp_path / "run") as store:
        assert store.query("SELECT DISTINCT reason FROM judge_calls") == [("your key is ***",)]
    assert key not in "".join(capsys.readouterr())
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes(), path
