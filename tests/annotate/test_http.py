"""The page's routes over a real socket: what they answer, what they refuse, and how two people share the pairs."""

import http.client
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from tso._core import Ledger
from tso.store import RunStore

from tests.people import ROOT, Server, ask, judge, make_run
from tests.report.runs import write

pytest.importorskip("uvicorn", reason="the extra annotate is not installed here")
pytest.importorskip("starlette", reason="the extra annotate is not installed here")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("page") / "run", 6)
    with Server(run) as server:
        yield server


def turn(server, who, body=None):
    return ask(server.address + "turn", body or {"annotator": who})


def standing(run):
    with RunStore.open_read_only(run) as store:
        return store.query("SELECT pair_id, annotator, said, side, text, round FROM standing ORDER BY verdict_id")


@pytest.mark.parametrize(
    ("name", "kind"), [("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")]
)
def test_the_page_comes_with_headers_that_let_nothing_else_in(page, name, kind):
    parts = urlsplit(page.address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("GET", parts.path + name)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    connection.close()


@pytest.mark.parametrize("name", ["page.html", "../secret", "desk.py", "page.css/", "turn", "verdict", "undo"])
def test_nothing_else_can_be_read(page, name):
    assert ask(page.address + name, method="GET")[0] in (404, 405)


@pytest.mark.parametrize("path", ["", "/", "/x/", "//", "/%00/", "/turn"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_key_everything_is_refused(page, path, method):
    parts = urlsplit(page.address)
    origin = f"{parts.scheme}://{parts.netloc}"
    status, told = ask(origin + path, {} if method == "POST" else None, method=method)
    assert (status, "no valid key" in told) == (403, True)


def test_a_key_that_is_nearly_right_is_refused(page):
    assert ask(page.address[:-2] + "/")[0] == 403
    assert ask(page.address[:-1] + "x/")[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:1"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_hosts_and_origins_are_refused_though_they_know_the_key(page, headers):
    assert ask(page.address + "turn", {"annotator": "eve"}, headers)[0] == 403


def test_its_own_origin_and_a_tunnel_of_another_port_are_let_in(page):
    for headers in (
        {"Host": "localhost:9"},
        {"Host": "localhost:9", "Origin": "http://localhost:9", "Sec-Fetch-Site": "same-origin"},
    ):
        assert ask(page.address + "turn", {"annotator": "lee"}, headers)[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[1]", 400, "send an object"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b" " * (1 << 20) + b"{}", 413, "at most"),
        ({}, 400, "annotator has to be text"),
        ({"annotator": "  "}, 400, "no name of a person"),
        ({"annotator": "x" * 65}, 400, "no name of a person"),
        ({"annotator": "a\x1b[31m"}, 400, "no name of a person"),
        ({"annotator": 3}, 400, "annotator has to be text"),
    ],
)
def test_bodies_that_are_none(page, body, status, says):
    found, told = ask(page.address + "turn", body)
    assert (found, says in told["error"]) == (status, True), told


def test_a_form_of_another_page_is_no_request(page):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert ask(page.address + "turn", {"annotator": "eve"}, {"Content-Type": kind})[0] == 415


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"said": "a"}, "a verdict is one of"),
        ({"said": "undo"}, "a verdict is one of"),
        ({"said": 1}, "said has to be text"),
        ({"said": "edit"}, "a verdict is one of"),
        ({"said": "left", "text": "x"}, "a verdict is one of"),
        ({"said": "left", "side": "left"}, "a verdict is one of"),
        ({"said": "edit", "side": "up", "text": "x"}, "left or right"),
        ({"said": "edit", "side": "left", "text": " \n"}, "is empty"),
        ({"said": "edit", "side": "left", "text": "x" * 100_001}, "100001 characters"),
        ({"said": "edit", "side": "left", "text": "\ud800"}, "lone surrogate"),
        ({"item": 10**6}, "was not given item"),
        ({"item": -1}, "number of an item"),
        ({"item": "1"}, "number of an item"),
        ({"item": True}, "number of an item"),
        ({"request": ""}, "request has to be text"),
        ({"request": "r" * 201}, "request has to be text"),
        ({"annotator": "mallory"}, "was not given item"),
    ],
)
def test_verdicts_that_are_none_change_nothing(page, change, says):
    item = turn(page, "vic")[1]["item"]
    body = {"annotator": "vic", "item": item["id"], "said": "left", "request": "r", **change}
    status, told = ask(page.address + "verdict", body)
    assert (status, says in told["error"]) == (400, True), told
    assert turn(page, "vic")[1]["item"] == item


def test_an_edit_that_changes_nothing_is_none(page):
    item = turn(page, "vic")[1]["item"]
    status, told = judge(page.address, "vic", item["id"], "edit", side="left", text=item["left"])
    assert (status, "answer of before" in told["error"]) == (400, True)


def test_verdicts_undo_and_skip_are_in_the_store_when_they_are_answered(tmp_path):
    run = make_run(tmp_path / "run", 4)
    with Server(run, "--repeat", "0") as server:
        told = turn(server, "ann")[1]
        expected = []
        for said in ("left", "tie", "skip"):
            item = told["item"]
            number = int(item["left"][1:])
            answer = {"left": item["left"][0]}.get(said, said)
            status, told = judge(server.address, "ann", item["id"], said)
            expected.append((f"p{number:02}", "ann", answer, None, None, 0))
            assert (status, standing(run)) == (200, expected)
        assert told["progress"] == {"done": 2, "left": 1, "skipped": 1, "repeated": 0, "agreed": 0}
        status, told = ask(server.address + "undo", {"annotator": "ann", "request": "u"})
        assert (status, standing(run)) == (200, expected[:2])
        assert ask(server.address + "undo", {"annotator": "ann", "request": "u"})[0] == 200  # sent twice
        assert standing(run) == expected[:2]
        item = told["item"]  # the one that was skipped, in the order in which it stood
        side = "right"
        status, told = judge(server.address, "ann", item["id"], "edit", side=side, text="better\nthan both")
        assert standing(run)[-1] == ("p02", "ann", "edit", item[side][0], "better\nthan both", 0)
        assert judge(server.address, "ann", item["id"], "tie")[0] == 409
        assert judge(server.address, "ann", told["item"]["id"], "both_bad")[1]["item"] is None
        assert len(standing(run)) == 4


def test_a_request_that_is_sent_again_is_one_verdict(tmp_path):
    run = make_run(tmp_path / "run", 3)
    with Server(run) as server:
        item = turn(server, "ann")[1]["item"]["id"]
        for _ in range(3):
            assert judge(server.address, "ann", item, "left", request="same")[0] == 200
        assert judge(server.address, "ann", item, "right", request="same")[0] == 409
        assert len(standing(run)) == 1


@pytest.mark.parametrize("per_item", [1, 2])
def test_people_at_once_get_no_pair_more_often_than_asked(tmp_path, per_item):
    run = make_run(tmp_path / "run", 20)
    with Server(run, "--per-item", str(per_item), "--repeat", "0") as server:

        def work(who):
            told = turn(server, who)[1]
            while told["item"]:
                told = judge(server.address, who, told["item"]["id"], "left")[1]

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, ["ann", "bob", "cat", "dan"]))
    said = standing(run)
    by_pair = {pair: {who for p, who, *_ in said if p == pair} for pair, *_ in said}
    assert {pair: len(who) for pair, who in by_pair.items()} == {f"p{i:02}": per_item for i in range(20)}
    assert len(said) == 20 * per_item


def test_a_share_of_pairs_comes_again_and_agreement_is_told(tmp_path):
    run = make_run(tmp_path / "run", 20)
    with Server(run, "--repeat", "0.2") as server:
        told, seen = turn(server, "ann")[1], []
        while told["item"]:
            item = told["item"]
            seen.append(item["prompt"][0]["content"])
            better = "left" if item["left"].startswith("a") else "right"  # always answer a, wherever it stands
            told = judge(server.address, "ann", item["id"], better)[1]
        assert told["progress"] == {"done": 20, "left": 0, "skipped": 0, "repeated": 4, "agreed": 4}
    assert len(seen) == 24
    assert len(set(seen)) == 20
    again = [i for i, question in enumerate(seen) if question in seen[:i]]
    assert all(i - seen.index(seen[i]) >= 10 or i >= 20 for i in again)
    assert [row[5] for row in standing(run) if row[2] == "a"].count(1) == 4


def test_the_order_of_the_answers_is_blind_and_differs_between_people(tmp_path):
    run = make_run(tmp_path / "run", 40)
    with Server(run, "--per-item", "2", "--repeat", "0") as server:
        orders = {}
        for who in ("ann", "bob"):
            told, orders[who] = turn(server, who)[1], ""
            while told["item"]:
                orders[who] += told["item"]["left"][0]
                told = judge(server.address, who, told["item"]["id"], "tie")[1]
    assert all(8 < order.count("a") < 32 for order in orders.values())
    assert orders["ann"] != orders["bob"]


def test_only_named_people_and_addresses_for_each(tmp_path):
    run = make_run(tmp_path / "run", 2)
    with Server(run, "--annotator", "Ann B", "--annotator", "bob") as server:
        assert server.addresses[0].endswith("?annotator=Ann%20B")
        assert turn(server, "Ann B")[0] == 200
        status, told = turn(server, "eve")
        assert (status, "none of this page's people" in told["error"]) == (400, True)


def test_only_undecided_pairs(tmp_path):
    run = make_run(tmp_path / "run", 3)
    with Ledger.open(run / "run.sqlite") as ledger:
        columns = ["label_id", "pair_id", "iteration", "source", "chosen", "rejected", "confidence", "weight"]
        rows = {"labels": (columns, [(9, "p01", 1, "rule", None, None, 0.5, 1.0)])}
        ledger.write(1, "x", 0, "{}", rows)
    both_bad = (1, "p02", 1, "rule", "r", "both_bad", 1.0, None, "")
    write(run, 1, "correct/train", corrections=[both_bad])
    with Server(run, "--only", "undecided") as server:
        told = turn(server, "ann")[1]
        assert told["item"]["prompt"][0]["content"] == "question 1"
        told = judge(server.address, "ann", told["item"]["id"], "left")[1]
        assert told["item"]["prompt"][0]["content"] == "question 2"
        assert judge(server.address, "ann", told["item"]["id"], "left")[1]["item"] is None


def test_a_pair_that_people_decided_stays_undecided_for_the_others(tmp_path):
    run = make_run(tmp_path / "run", 1)
    with Ledger.open(run / "run.sqlite") as ledger:
        columns = ["label_id", "pair_id", "iteration", "source", "chosen", "rejected", "confidence", "weight"]
        labels = [(9, "p00", 1, "rule", None, None, 0.5, 1.0), (10, "p00", 1, "human", 1, 2, 1.0, 1.0)]
        ledger.write(1, "x", 0, "{}", {"labels": (columns, labels)})
    with Server(run, "--only", "undecided") as server:
        assert turn(server, "bob")[1]["item"]["prompt"][0]["content"] == "question 0"


def test_the_page_of_one_iteration_gives_no_pairs_of_another(tmp_path):
    run = make_run(tmp_path / "run", 15)
    more = [(f"p{i}", 2, "train", i, f"q{i - 20}", 2 * (i - 20) + 1, 2 * (i - 20) + 2, 0.0) for i in range(20, 24)]
    labels = [(i, f"p{i}", 2, "prior", 2 * (i - 20) + 1, 2 * (i - 20) + 2, 0.75, 1.0) for i in range(20, 24)]
    write(run, 2, "pair/train", pairs=more, labels=labels)
    with Server(run, "--iteration", "1", "--repeat", "0") as server:
        told = turn(server, "ann")[1]
        for _ in range(12):
            told = judge(server.address, "ann", told["item"]["id"], "tie")[1]
        assert told["item"]  # stays in hand
    with Server(run, "--iteration", "2", "--repeat", "0.5") as server:
        told = turn(server, "ann")[1]
        assert told["progress"]["left"] == 4
        while told["item"]:
            told = judge(server.address, "ann", told["item"]["id"], "tie")[1]
        assert told["progress"] == {"done": 16, "left": 0, "skipped": 0, "repeated": 2, "agreed": 2}
    assert {pair for pair, *_ in standing(run)[12:]} == {"p20", "p21", "p22", "p23"}
    with Server(run, "--iteration", "1", "--repeat", "0") as server:  # the last verdict was on the other iteration
        back = ask(server.address + "undo", {"annotator": "ann", "request": "back"})[1]["item"]
        assert back["prompt"][0]["content"] in {f"question {i}" for i in range(4)}


def test_it_works_beside_a_run_that_holds_the_store(tmp_path):
    run = make_run(tmp_path / "run", 3)
    with Ledger.open(run / "run.sqlite") as writer, Server(run) as server:
        item = turn(server, "ann")[1]["item"]
        assert judge(server.address, "ann", item["id"], "left")[0] == 200
        writer.write(1, "more", 0, "{}", {})
        assert judge(server.address, "ann", turn(server, "ann")[1]["item"]["id"], "left")[0] == 200
        assert writer.check() == []
    assert len(standing(run)) == 2


ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.parametrize("how", ENDS)
def test_ctrl_c_ends_it(tmp_path, how):
    with Server(make_run(tmp_path / "run", 1)) as server:
        turn(server, "ann")
        assert server.kill(how) == 128 + how


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--per-item", "0"], "--per-item 0: give 1 or more"),
        (["--repeat", "1.5"], "--repeat 1.5: give a share"),
        (["--repeat", "nan"], "--repeat nan: give a share"),
        (["--iteration", "0"], "--iteration 0"),
        (["--port", "70000"], "--port 70000"),
        (["--annotator", " "], "no name of a person"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, says):
    run = make_run(tmp_path / "run", 1)
    assert says in refused(run, *options)


def test_no_run_and_a_port_that_is_taken(tmp_path, page):
    assert "holds no run" in refused(tmp_path)
    run = make_run(tmp_path / "run", 1)
    assert "cannot listen there" in refused(run, "--port", str(urlsplit(page.address).port))


def refused(run, *options):
    line = [sys.executable, "-m", "tso", "annotate", str(run), *options]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    return done.stderr


def test_texts_travel_as_they_are(tmp_path):
    text = "<script>x</script> \u2028 \u202e {{ 7*7 }} \x00 é"
    run = make_run(tmp_path / "run", 1, {0: (text, "plain")})
    with Server(run) as server:
        item = turn(server, "ann")[1]["item"]
        assert {item["left"], item["right"]} == {text, "plain"}
        assert json.dumps(item).isascii()
