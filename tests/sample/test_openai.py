"""The sampler for servers, against a double over a real socket that does what servers at their worst do."""

from __future__ import annotations

import asyncio
import html
import json
import pickle
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote

import pytest
from tso.errors import ConfigError, ModelError, ServerError, TsoError
from tso.records import Decoding, Message, Prompt
from tso.sample import client, openai
from tso.sample.base import Request
from tso.sample.client import Limits, Refused
from tso.sample.endpoint import Endpoint
from tso.sample.openai import OpenAISampler
from tso.sample.probe import Unanswered, remarks
from tso.sample.reply import read

from tests.sample.server import MODEL, serving

QUICK = Limits(concurrency=4, timeout=2.0, retries=3, first_wait=0.001, longest_wait=0.01)
HOW = Decoding(temperature=0.8, top_p=0.9, max_new_tokens=20)
REQUESTS = [Request(Prompt(f"p{i}", (Message("user", f"tell {i}"),)), HOW, seed=2**40 + i) for i in range(12)]
KEY = "sk-not-to-be-told"


@pytest.fixture
def server():
    with serving() as double:
        yield double


def sampler(server, limits=QUICK, **options):
    endpoint = Endpoint(server.url, MODEL, **options)
    return OpenAISampler({endpoint.path: endpoint}, limits), endpoint.path


def chats(server):
    return [sent for route, sent, _ in server.calls if route == "/v1/chat/completions"]


def answers(server, **options):
    """What an undisturbed server says; the probe is over then, and faults hit what a test asks for."""
    ask, path = sampler(server, **options)
    said = ask.sample(path, REQUESTS)
    server.calls.clear()
    server.answered.clear()
    return ask, path, said


def test_answers_come_in_order_with_their_seeds_and_settings(server):
    said = answers(server)[2]
    assert len({a.text for a in said}) == len(said)
    assert {a.finish_reason for a in said} == {"stop"}
    ask, path = sampler(server)
    assert ask.sample(path, REQUESTS[::-1]) == said[::-1]
    sent = chats(server)
    assert sorted(s["seed"] for s in sent) == list(range(12)), "a seed of 32 bits, for servers that take no more"
    assert {(s["model"], s["temperature"], s["top_p"], s["max_tokens"]) for s in sent} == {(MODEL, 0.8, 0.9, 20)}
    assert not any({"top_k", "min_p", "stop", "generation_config", "n"} & s.keys() for s in sent)
    assert server.most_under_way <= QUICK.concurrency


def test_as_many_requests_as_allowed_are_under_way(server):
    ask, path, _ = answers(server)
    server.pause = 0.1
    ask.sample(path, REQUESTS)
    assert server.most_under_way == QUICK.concurrency


HICCUPS = {
    "429 without Retry-After": lambda h: h.reply(429, {"error": {"message": "slow down"}}),
    "429 with Retry-After": lambda h: h.reply(429, {}, {"retry-after": "0.02"}),
    "429 with a date": lambda h: h.reply(429, {}, {"retry-after": format_datetime(datetime.now(UTC))}),
    "429 with nonsense": lambda h: h.reply(429, {}, {"retry-after": "soon"}),
    "429 with a year beyond all": lambda h: h.reply(429, {}, {"retry-after": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"}),
    "429 with no number": lambda h: h.reply(429, {}, {"retry-after": "nan"}),
    "500": lambda h: h.reply(500, b"<html>oh"),
    "503": lambda h: h.reply(503, {"detail": "loading"}),
    "reset": lambda h: h.reset(),
    "cut-off JSON": lambda h: h.reply(200, b'{"choices": [{"message": {"content": "hal'),
    "cut-off body": lambda h: (
        h.send_response(200),
        h.send_header("content-length", "900"),
        h.end_headers(),
        h.reset(),
    ),
    "no JSON": lambda h: h.reply(200, b"hello"),
    "deep JSON": lambda h: h.reply(200, b"[" * 100_000),
    "a list": lambda h: h.reply(200, []),
    "empty choices": lambda h: h.answer(choices=[]),
    "two choices": lambda h: h.answer(choices=[{}, {}]),
    "no message": lambda h: h.answer(choices=[{"finish_reason": "stop"}]),
    "a number for a text": lambda h: h.answer(choices=[{"finish_reason": "stop", "message": {"content": 5}}]),
    "no finish reason": lambda h: h.answer(choices=[{"finish_reason": None, "message": {"content": "a"}}]),
    "a tool call": lambda h: h.answer(choices=[{"finish_reason": "tool_calls", "message": {"content": None}}]),
    "a text without end": lambda h: h.answer(choices=[{"finish_reason": "stop", "message": {"content": "a" * 99_999}}]),
    "a huge body": lambda h: h.reply(200, b" " * (client.LARGEST + 1)),
    "no bytes": lambda h: h.reply(200, b""),
}


@pytest.mark.parametrize("name", HICCUPS)
def test_what_may_pass_is_asked_again_and_changes_no_answer(server, name):
    ask, path, said = answers(server)
    server.faults = [HICCUPS[name]] * 3
    assert ask.sample(path, REQUESTS) == said
    assert len(server.calls) == len(REQUESTS) + 3


@pytest.mark.parametrize("name", ["429 without Retry-After", "reset", "empty choices", "cut-off JSON"])
def test_a_storm_without_end_is_given_up_with_what_to_do(server, name):
    ask, path, _ = answers(server)
    server.always = HICCUPS[name]
    with pytest.raises(
        ServerError, match="gave no usable answer in 4 attempts .*run again: all answers that have come"
    ):
        ask.sample(path, REQUESTS)


def test_a_server_that_hangs_is_left_and_asked_again(server):
    limits = Limits(4, timeout=0.3, retries=1, first_wait=0.001, longest_wait=0.01)
    ask, path, said = answers(server, limits=limits)

    def drips(handler):
        """Each byte comes in time, the whole never."""
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    server.faults = [drips, lambda h: time.sleep(1)]
    assert ask.sample(path, REQUESTS) == said
    server.always = drips
    with pytest.raises(ServerError, match=r"no whole answer within 0.3 s \(server.timeout\)"):
        ask.sample(path, REQUESTS[:2])


def test_a_pause_that_the_server_asks_for_is_kept_by_all_calls(server, monkeypatch):
    ask, path, _ = answers(server)
    naps, sleep = [], asyncio.sleep
    monkeypatch.setattr(client.asyncio, "sleep", lambda seconds: (naps.append(seconds), sleep(0))[1])
    server.faults = [lambda h: h.reply(429, {}, {"retry-after": "500"})]
    server.always = lambda h: (time.sleep(0.2), h.answer())  # the refusal is there before any answer
    ask.sample(path, REQUESTS)
    kept = [seconds for seconds in naps if seconds > 400]
    assert len(kept) >= len(REQUESTS) - QUICK.concurrency + 1, "all calls that began after it, and its own"


def test_a_long_pause_is_told_once(server, monkeypatch):
    endpoint, told, sleep = Endpoint(server.url, MODEL), [], asyncio.sleep
    ask = OpenAISampler({endpoint.path: endpoint}, QUICK, tell=told.append)
    ask.probe(endpoint.path, HOW)
    monkeypatch.setattr(client.asyncio, "sleep", lambda seconds: sleep(0))
    server.faults = [lambda h: h.reply(429, {}, {"retry-after": "25"})] * 3
    ask.sample(endpoint.path, REQUESTS)
    assert told == [f"{server.url} asks to be left alone for 25 s; waiting"]


@pytest.mark.parametrize("asked", ["4000", "1e308", "inf", "tomorrow"])
def test_a_pause_that_is_too_long_is_told_and_not_waited_for(server, asked):
    if asked == "tomorrow":
        asked = format_datetime(datetime.now(UTC) + timedelta(days=1))
    ask, path, _ = answers(server)
    server.always = lambda h: h.reply(429, {}, {"retry-after": asked})
    with pytest.raises(ServerError, match=r"asks to be left alone for (\d+ s|more than a day); run again after that"):
        ask.sample(path, REQUESTS)


def test_a_refusal_is_not_repeated_and_what_is_under_way_comes_home(server):
    ask, path, said = answers(server)
    server.faults = [lambda h: h.reply(404, {"error": {"message": "no such model"}})]
    come = {}
    with pytest.raises(Refused, match="HTTP 404.*no such model") as refused:
        ask.each(path, REQUESTS, come.__setitem__)
    assert len(server.calls) < len(REQUESTS)
    assert {i: r.text for i, r in come.items()} == {i: said[i].text for i in come}
    assert sum(server.answered.values()) == len(come), "an answer that the server gave was dropped"
    assert pickle.loads(pickle.dumps(refused.value)).status == 404


ONE_QUESTION = {
    "refused": (lambda h: h.reply(400, {"error": {"message": "filtered"}}), "HTTP 400: filtered"),
    "too large": (lambda h: h.reply(413, b"too large"), "HTTP 413: too large"),
    "broken by it": (lambda h: h.reply(500, {"error": "oh"}), "HTTP 500: oh"),
    "a tool call": (HICCUPS["a tool call"], "an answer whose finish_reason is 'tool_calls'"),
    "reset": (lambda h: h.reset(), "RemoteProtocolError|ReadError"),
}


def about(handler, words):
    return words in handler.sent["messages"][-1]["content"]


@pytest.mark.parametrize("name", ONE_QUESTION)
def test_a_fault_of_one_question_is_handed_on_and_the_others_are_answered(server, name):
    fault, says = ONE_QUESTION[name]
    ask, path, said = answers(server)
    server.always = lambda h: fault(h) if about(h, "tell 3") else h.answer()
    come, failed = {}, {}
    ask.each(path, REQUESTS, come.__setitem__, failed.__setitem__)
    assert {i: r.text for i, r in come.items()} == {i: a.text for i, a in enumerate(said) if i != 3}
    assert list(failed) == [3]
    assert re.search(says, failed[3].why)
    assert pickle.loads(pickle.dumps(failed[3])).why == failed[3].why
    with pytest.raises(Unanswered, match="has no answer to one question"):
        ask.sample(path, REQUESTS[3:4])


@pytest.mark.parametrize("name", ONE_QUESTION)
def test_a_server_that_fails_with_every_question_is_no_fault_of_one(server, name):
    ask, path, _ = answers(server)
    server.always = ONE_QUESTION[name][0]
    failed = {}
    with pytest.raises(ServerError) as told:
        ask.each(path, REQUESTS, print, failed.__setitem__)
    assert not isinstance(told.value, Unanswered)
    assert failed == {}


def test_another_model_in_between_ends_it(server):
    ask, path, _ = answers(server)
    server.faults = [lambda h: h.answer(), lambda h: h.answer(model="another")]
    come = {}
    with pytest.raises(ModelError, match="answers as 'another', and before as 'double'"):
        ask.each(path, REQUESTS, come.__setitem__)
    assert "another" not in {r.model for r in come.values()}


def test_another_model_than_the_run_began_with_is_refused(server):
    ask, path = sampler(server)
    with pytest.raises(ModelError, match="answers as 'double', and before as 'old'"):
        ask.each(path, REQUESTS, print, known_as="old")


def test_null_is_an_empty_answer_and_a_filter_cuts_off(server):
    choice = {"finish_reason": "content_filter", "message": {"content": None}}
    said = read({"choices": [choice], "usage": {"prompt_tokens": -1, "completion_tokens": True}}, HOW)
    assert (said.text, said.finish_reason, said.model) == ("", "length", None)
    assert (said.prompt_tokens, said.completion_tokens) == (None, None)


def test_a_stop_string_that_the_server_leaves_in_is_cut_off():
    how = Decoding(stop=("\nUser:",))
    choice = {"finish_reason": "length", "message": {"content": "tea\nUser: more\nUser:"}}
    assert read({"choices": [choice]}, how).text == "tea"
    assert read({"choices": [choice]}, how).finish_reason == "stop"


def test_half_a_character_is_replaced_wherever_it_stands(server):
    half = {"finish_reason": "stop", "message": {"content": " a \ud800 "}}
    server.always = lambda h: h.answer(choices=[half], model="m\ud800", usage={"\ud800": 1})
    ask, path = sampler(server)
    come = {}
    ask.each(path, [replace(REQUESTS[0], decoding=Decoding(temperature=0))], come.__setitem__)
    assert (come[0].text, come[0].model) == ("a ?", "m?")
    server.always = lambda h: h.reply(404, {"error": "no \ud800"})
    with pytest.raises(Refused, match=re.escape("no ?")):
        ask.each(path, [replace(REQUESTS[0], decoding=Decoding(temperature=0))], print)


# --- the key


def test_the_key_is_sent_and_told_nowhere(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    ask, path, _ = answers(server, api_key_env="SOME_KEY")
    ask.sample(path, REQUESTS[:1])
    assert {auth for _, _, auth in server.calls} == {f"Bearer {KEY}"}
    echo = {"message": f"the key {KEY} is wrong"}
    for status in (400, 401, 500):
        server.always = lambda h, status=status: h.reply(status, echo)
        with pytest.raises(TsoError) as told:
            ask.sample(path, REQUESTS[:1])
        assert KEY not in repr(told.value)
        assert KEY not in str(told.value)
        assert told.value.__cause__ is None
    server.always = lambda h: h.answer(choices=[{"finish_reason": "stop", "message": {"content": f"it is {KEY}"}}])
    assert ask.sample(path, REQUESTS[:1])[0].text == "it is ***"
    assert KEY not in repr(ask.endpoints)


@pytest.mark.parametrize("key", ["c2stYWJj/ZGVmZ2hp+amtsbQ==", 'sk-"quoted/slash"-\\1234'])
def test_a_key_that_json_spells_otherwise_is_taken_out_too(server, monkeypatch, key):
    monkeypatch.setenv("SOME_KEY", key)
    ask, path, _ = answers(server, api_key_env="SOME_KEY")
    inside = json.dumps({"key": key})
    text = f"it is {key}, {inside} or {inside.replace('/', chr(92) + '/')}"
    choice = {"finish_reason": "stop", "message": {"content": text}}
    whole = {"model": MODEL, "choices": [choice]}
    for spelt in (json.dumps(whole), json.dumps(whole).replace("/", "\\/")):
        server.always = lambda h, spelt=spelt: h.reply(200, spelt.encode())
        assert ask.sample(path, REQUESTS[:1])[0].text == 'it is ***, {"key": "***"} or {"key": "***"}'
    for refusal in ({"error": {"message": f"bad key {key}"}}, {"error": {"sent": [key]}}, {"error": "x" * 290 + key}):
        for spelt in (json.dumps(refusal), json.dumps(refusal).replace("/", "\\/")):
            server.always = lambda h, spelt=spelt: h.reply(401, spelt.encode())
            with pytest.raises(TsoError) as told:
                ask.sample(path, REQUESTS[:1])
            assert key[:8] not in str(told.value)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (302, "", lambda key: {"location": "https://login.example/?k=" + quote(f"Bearer {key}", safe="")}),
        (403, "<html>bad key {}</html>", lambda key: {}),
    ],
)
def test_a_key_in_an_address_or_a_page_is_taken_out(server, monkeypatch, status, body, headers):
    key = 'sk-very/secret&key"-0001'
    monkeypatch.setenv("SOME_KEY", key)
    ask, path, _ = answers(server, api_key_env="SOME_KEY")
    server.always = lambda h: h.reply(status, body.format(html.escape(key)).encode(), headers(key))
    with pytest.raises(TsoError, match=re.escape("***")) as told:
        ask.sample(path, REQUESTS[:1])
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "key", ["sk-abc12345\nsecretline99", "sk-\u043a\u043b\u044e\u0447-1234", "sk a b", "sk-\x7f12345678"]
)
def test_what_can_be_no_key_is_refused_by_the_name_of_its_variable_alone(server, monkeypatch, key):
    monkeypatch.setenv("SOME_KEY", key)
    ask, path = sampler(server, api_key_env="SOME_KEY")
    with pytest.raises(ConfigError, match="what the environment variable SOME_KEY holds is no key") as told:
        ask.sample(path, REQUESTS[:1])
    assert "sk" not in str(told.value)
    assert server.calls == []


def test_a_key_that_is_missing_or_wrong_is_told_by_the_name_of_its_variable(server, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    ask, path = sampler(server, api_key_env="SOME_KEY")
    with pytest.raises(ConfigError, match="the environment variable SOME_KEY is not set"):
        ask.sample(path, REQUESTS)
    monkeypatch.setenv("SOME_KEY", KEY)
    server.always = lambda h: h.reply(401, {"error": "bad key"})
    with pytest.raises(TsoError, match=r"refuses access \(HTTP 401\): bad key; see the key in SOME_KEY"):
        ask.sample(path, REQUESTS)
    ask, path = sampler(server)
    with pytest.raises(TsoError, match="name the environment variable with its key by api_key_env"):
        ask.sample(path, REQUESTS)


def test_a_redirect_is_not_followed(server, monkeypatch):
    """It would take the key to another place."""
    ask, path, _ = answers(server)
    server.always = lambda h: h.reply(307, {}, {"location": "http://127.0.0.1:9/v1"})
    with pytest.raises(
        Refused, match=r"sends requests on to http://127.0.0.1:9/v1 \(HTTP 307\), which is not followed"
    ):
        ask.sample(path, REQUESTS[:1])


# --- the probe


def test_a_server_that_is_not_there_is_told_soon(server):
    endpoint = Endpoint("http://127.0.0.1:9/v1", MODEL)
    with pytest.raises(ServerError, match="gave no usable answer in 4 attempts .*Connect"):
        OpenAISampler({endpoint.path: endpoint}, QUICK).probe(endpoint.path, HOW)


def test_a_model_that_the_server_lacks_is_refused_with_the_nearest(server):
    server.models = ["doubel", "other"]
    ask, path = sampler(server)
    with pytest.raises(ModelError, match="has no model 'double'; it has doubel"):
        ask.probe(path, HOW)


@pytest.mark.parametrize("listed", [None, [], {"data": None}, ["double"]])
def test_a_server_need_not_list_its_models(server, monkeypatch, listed):
    server.models = listed
    if listed:
        monkeypatch.setattr("tests.sample.server.Handler.do_GET", lambda handler: handler.reply(200, listed))
    ask, path = sampler(server)
    assert ask.probe(path, HOW).model == MODEL


@pytest.mark.parametrize("reply", [(404, b"<html>"), (200, b"<html>")])
def test_an_address_without_its_version_is_told_so(server, monkeypatch, reply):
    server.models = None
    server.always = lambda h: h.reply(*reply)
    endpoint = Endpoint(server.url.removesuffix("/v1"), MODEL)
    with pytest.raises(TsoError, match=r"should the base_url http://127.0.0.1:\d+ end in /v1\?"):
        OpenAISampler({endpoint.path: endpoint}, QUICK).probe(endpoint.path, HOW)
    ask, path = sampler(server)
    with pytest.raises(TsoError) as told:
        ask.probe(path, HOW)
    assert "should" not in str(told.value)


@pytest.mark.parametrize(
    ("variable", "value", "url", "says"),
    [
        ("HTTP_PROXY", "foo://me:secret@bar", "http://example.invalid/v1", "names a proxy that cannot be used"),
        ("HTTP_PROXY", "socks5://me:secret@bar", "http://example.invalid/v1", "names a proxy that cannot be used"),
        ("SSL_CERT_FILE", "/nowhere.pem", "https://example.invalid/v1", "cannot read the certificates for https://"),
        ("SSL_CERT_FILE", "/nowhere.pem", "https://localhost:1/v1", "cannot read the certificates for https://"),
    ],
)
def test_a_setting_of_the_environment_that_cannot_be_used_is_named(monkeypatch, variable, value, url, says):
    for name in (variable, variable.lower()):
        monkeypatch.setenv(name, value)
    endpoint = Endpoint(url, MODEL)
    with pytest.raises(ConfigError, match=says) as told:
        OpenAISampler({endpoint.path: endpoint}, QUICK).probe(endpoint.path, HOW)
    assert "secret" not in str(told.value)


def test_a_greedy_server_is_refused_unless_the_cell_is_greedy(server):
    server.greedy = True
    ask, path = sampler(server)
    with pytest.raises(ModelError, match="the same answer to every seed.*switch sampling on at the server, or give"):
        ask.probe(path, HOW)
    ask.probe(path, Decoding(temperature=0))


def test_sampling_is_switched_on_where_it_takes_more_than_a_temperature(server):
    """As `transformers serve` wants it."""
    server.needs_config = True
    ask, path, _ = answers(server)
    how = Decoding(temperature=0.8, top_k=5, min_p=0.1)
    said = ask.sample(path, [Request(REQUESTS[0].prompt, how, seed) for seed in range(4)])
    assert len({a.text for a in said}) == 4
    sent = chats(server)[-1]
    assert json.loads(sent["generation_config"]) == {
        "do_sample": True, "temperature": 0.8, "top_k": 5, "top_p": 1.0, "min_p": 0.1,
    }  # fmt: skip
    assert not {"top_k", "min_p"} & sent.keys()


@pytest.mark.parametrize("status", [400, 422])
def test_what_a_server_does_not_take_is_left_away_where_it_may(server, status):
    def strict(handler):
        unknown = {"seed", "max_tokens"} & handler.sent.keys()
        say = f"unknown {unknown.pop()}; use max_completion_tokens" if "max_tokens" in unknown else "unknown: seed"
        handler.reply(status, {"error": say}) if {"seed", "max_tokens"} & handler.sent.keys() else handler.answer()

    server.always = strict
    server.text = lambda sent: f"{time.monotonic_ns()}"
    ask, path = sampler(server)
    found = ask.probe(path, HOW)
    assert (found.dialect.seed, found.dialect.limit) == (False, "max_completion_tokens")
    ask.sample(path, REQUESTS)
    assert all("seed" not in s and "max_completion_tokens" in s for s in chats(server)[-5:])


def test_a_missing_chat_template_is_refused_with_what_to_do(server):
    server.always = lambda h: h.reply(400, {"message": "As of v4.44, default chat template is no longer allowed"})
    ask, path = sampler(server)
    with pytest.raises(
        ModelError, match="no chat template.*start the server with one, or name the cell's prompt_format"
    ):
        ask.probe(path, HOW)


def test_a_plain_format_goes_the_other_way(server):
    how = Decoding(temperature=0.8, stop=("\nUser:",), prompt_format="User: {prompt}\nAssistant:")
    ask, path = sampler(server)
    talk = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "more {prompt}"))
    ask.sample(path, [Request(Prompt("p", talk), how, 1)])
    route, sent, _ = server.calls[-1]
    assert route == "/v1/completions"
    assert sent["prompt"] == "User: hi\nAssistant: hello\nUser: more {prompt}\nAssistant:"
    assert "messages" not in sent


def test_stop_strings_are_tried(server):
    how = Decoding(temperature=0.8, stop=("\nUser:",))
    ask, path = sampler(server)
    ask.probe(path, how)
    server.ignores_stop = True
    openai._found.clear()
    with pytest.raises(ModelError, match="does not end answers at stop strings"):
        ask.probe(path, how)


def test_a_server_may_leave_the_stop_string_in_with_the_rest_of_its_token(server):
    def sloppy(handler):
        whole = {**handler.sent, "stop": []}
        text = server.text(whole)
        for stop in handler.sent.get("stop", []):
            text = text[: text.find(stop) + len(stop) + 8] if stop in text else text
        handler.answer(choices=[{"finish_reason": "stop", "message": {"content": text}}])

    server.always = sloppy
    ask, path = sampler(server)
    ask.probe(path, Decoding(temperature=0.8, stop=("x",)))


def test_a_server_that_breaks_on_stop_strings_is_told_so(server):
    """As `transformers serve` does with some tokenizers."""
    server.always = lambda h: h.reply(500, b"oh") if "stop" in h.sent else h.answer()
    ask, path = sampler(server)
    with pytest.raises(ModelError, match="fails where a stop string is given; leave the cell's stop away: .*HTTP 500"):
        ask.probe(path, Decoding(temperature=0.8, stop=("x",)))


@pytest.mark.parametrize(
    "says",
    [
        "unknown: response_format",
        "This model does not support response format `json_schema`",
        'Either "json_schema" or "grammar" can be specified, but not both',
        "Structured outputs are switched off",
    ],
)
def test_a_schema_is_passed_to_a_server_that_takes_one(server, says):
    ask, path, said = answers(server)
    asked = [replace(r, schema={"type": "object"}) for r in REQUESTS[:1]]
    assert ask.sample(path, asked) == said[:1]
    assert chats(server)[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}

    def plain(handler):
        known = "response_format" not in handler.sent
        handler.answer() if known else handler.reply(422, {"error": says})

    server.always = plain
    assert ask.sample(path, asked) == said[:1]


def test_a_refused_schema_is_not_passed_again(server):
    ask, path, said = answers(server, limits=replace(QUICK, concurrency=1))

    def plain(handler):
        known = "response_format" not in handler.sent
        handler.answer() if known else handler.reply(400, {"error": "unknown: response_format"})

    server.always = plain
    assert ask.sample(path, [replace(r, schema={"type": "object"}) for r in REQUESTS]) == said
    assert len([sent for sent in chats(server) if "response_format" in sent]) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "gives empty answers"), ("tea " * 60, "does not keep to max_tokens")],
)
def test_answers_that_cannot_be_used_are_refused(server, text, says):
    server.text = lambda sent: text
    ask, path = sampler(server)
    with pytest.raises(ModelError, match=says):
        ask.probe(path, HOW)


def thinking(handler):
    """A model that needs 100 tokens for its thoughts, behind a parser that holds them apart."""
    message = {"role": "assistant", "content": None, "reasoning_content": "Okay, the user wants"}
    cut = {"finish_reason": "length", "message": message}
    handler.answer(choices=[cut]) if handler.sent["max_tokens"] < 100 else handler.answer()


@pytest.mark.parametrize("how", [HOW, Decoding(temperature=0), replace(HOW, stop=("x",))])
def test_a_model_that_thinks_first_is_tried_with_all_its_tokens(server, how):
    server.always = thinking
    ask, path = sampler(server)
    assert ask.probe(path, replace(how, max_new_tokens=200)).model == MODEL
    with pytest.raises(ModelError, match="gives empty answers; all of max_new_tokens=99 went into thoughts: raise it"):
        ask.probe(path, replace(how, max_new_tokens=99))


def test_another_name_than_the_one_asked_for_is_remarked(server):
    ask, path = sampler(server)
    names = {
        MODEL: False,
        "org/double-2026-01-01": False,
        "double:latest": False,
        "gpt-something": True,
        "doubles": True,
    }
    for name, remarked in {**names, "e": True}.items():
        openai._found.clear()
        server.always = lambda h, name=name: h.answer(model=name)
        told = remarks(ask.endpoints[path], ask.probe(path, HOW))
        assert [line.startswith(f"{path} answers under another name, '{name}'") for line in told] == [True] * remarked


def test_a_server_that_does_not_count_is_known(server):
    server.always = lambda h: h.answer(usage=None)
    ask, path = sampler(server)
    assert not ask.probe(path, HOW).reports_usage


def test_a_server_is_tried_once_in_a_process(server):
    ask, path = sampler(server)
    ask.probe(path, HOW)
    server.calls.clear()
    ask.probe(path, HOW)
    assert server.calls == []


def test_ctrl_c_waits_for_no_answer(server):
    ask, path, _ = answers(server, limits=Limits(4, timeout=600, retries=3))
    leave = threading.Event()
    server.always = lambda h: leave.wait(600)

    async def interrupted():
        task = asyncio.create_task(ask._each(ask.endpoints[path], REQUESTS, print, None, None))
        while not server.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert not leave.is_set()
    leave.set()
