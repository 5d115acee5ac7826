"""A pair's story: complete, in order, one line a line."""

import pytest
import tso.report
from tso.errors import DataError
from tso.report.gather import gather
from tso.store import RunStore
from tso.verdicts import open_for_people

from tests.report.runs import COLUMNS, SCRIPT, SEED, empty_run, full_run, write


@pytest.fixture
def store(tmp_path):
    with RunStore.open_read_only(full_run(tmp_path / "run")) as store:
        yield store


def test_story_of_a_flipped_pair(store):
    assert tso.report.pair_story(store, "paaa111") == [
        "pair paaa111, iteration 1, prompt q1",
        "similarity of the sides 0.25",
        "",
        "prompt",
        "  system: be kind",
        '  user: why? <script>alert("x")</script>',
        "",
        "answer A, response 1, rejected",
        "  cell human",
        "  iteration 1, 2 tokens, ended by itself",
        "  score 0.750 by rule:a: as asked",
        '  score 0.500 by rule:b: <img src="http://evil.example/a.png" onerror=alert(1)>',
        "  text",
        '    human says <img src="http://evil.example/a.png" onerror=alert(1)>',
        "",
        "answer B, response 2, chosen",
        "  cell policy-1.0: policy",
        "  model revision a1b2c3d4e5f6",
        "  decoding temperature 0.7, top_p 0.95, max_new_tokens 32",
        f"  iteration 1, seed {SEED}, 2 tokens, ended by itself",
        "  text",
        '    model says <script>alert("x")</script>',
        "",
        "history",
        "  label by prior: A over B, confidence 0.88, weight 1",
        '  correction by rule rule:a: flip, confidence 0.75; because <script>alert("x")</script>',
        "  label by rule: B over A, confidence 0.75, weight 1",
        "  log-probs under the reference of iteration 1: chosen -12.50, rejected -20.25 nats",
        "  trained in iteration 1: reward of chosen +0.500, of rejected -0.250, saturated: chosen",
    ]


def test_story_of_an_edit_shows_the_new_text_as_the_chosen_side(store):
    lines = tso.report.pair_story(store, "paab222")
    assert "answer edit, response 7, chosen" in lines
    assert "answer A, response 2, neither" in lines
    assert "  label by human: edit over B, confidence 1.00, weight 1" in lines
    assert "  correction by human Ann: edit, confidence 1.00; two lines" in lines


def test_story_of_a_dropped_pair(store):
    lines = tso.report.pair_story(store, "pbbb333")
    assert "  label by prior: no side is better, confidence 0.50, weight 1" in lines
    assert "  dropped by correct/train: tie; no side is better" in lines
    assert not any("trained in" in line for line in lines)


def test_a_verdict_on_a_pair_without_an_order_says_which_side_is_better(tmp_path):
    folder = full_run(tmp_path / "run")
    verdicts = [(9 + i, "pbbb333", 1, "rule", "r", v, 0.5, None, "") for i, v in enumerate(("keep", "flip"))]
    write(folder, 1, "more", corrections=verdicts)
    with RunStore.open_read_only(folder) as store:
        lines = tso.report.pair_story(store, "pbbb333")
        corrected = {c.name: c.value for c in gather(store).funnels[1].groups[2]}
    assert "  correction by rule r: A is better, confidence 0.50" in lines
    assert "  correction by rule r: B is better, confidence 0.50" in lines
    assert corrected["corrected: put in order"] == 2
    assert corrected["corrected: flip"] == 1


@pytest.mark.parametrize("pair", ["paaa111", "paab222", "pbbb333"])
def test_lines_cannot_drive_a_terminal(store, pair):
    for line in tso.report.pair_story(store, pair):
        assert not any(ord(c) < 32 for c in line)
        assert "\u202e" not in line


def test_texts_of_several_lines_stay_apart(store):
    lines = tso.report.pair_story(store, "pbbb333")
    at = lines.index("    fourth")
    assert lines[at + 1] == "    answer"


@pytest.mark.parametrize(("wrong", "near"), [("paa", "paaa111, paab222"), ("pbbb334", "pbbb333"), ("", "paaa111")])
def test_unknown_pair_names_close_ids(store, wrong, near):
    with pytest.raises(DataError, match=f"no pair '{wrong}' in this run; its ids look like {near}"):
        tso.report.pair_story(store, wrong)


def test_unknown_pair_of_an_empty_run(tmp_path):
    with (
        RunStore.open_read_only(empty_run(tmp_path / "run")) as store,
        pytest.raises(DataError, match="has made no pairs yet"),
    ):
        tso.report.pair_story(store, "p1")


@pytest.fixture
def told(tmp_path):
    """A pair about which there is everything to tell: judges, people, noise, rewards, and a verdict that came late."""
    folder = full_run(tmp_path / "run")
    tables = {
        "judge_pairs": ["iteration", "pair_id", "judge", "revision", "round", "position"],
        "noise": ["iteration", "pair_id", "noise"],
        "rewards": ["iteration", "response_id", "policy", "reference", "reward"],
        "corrections": [*COLUMNS["corrections"], "answer", "verdict_id"],
    }
    with open_for_people(folder) as store:
        store._ledger.say([("paaa111", "Ann", 0, "b", None, None, "", 1.0, None, "one", 1_700_000_000_000)])
        store._ledger.say([("paaa111", "Ann", 0, "undo", None, None, "", 1.0, 1, "two", 1_700_000_001_000)])
        store._ledger.say([("paaa111", "Ann", 0, "skip", None, None, "", 1.0, None, "three", 1_700_000_002_000)])
        store._ledger.say([("paaa111", "Bob", 0, "edit", "a", f"better {SCRIPT}", "so", 0.5, None, None, 0)])
        store._ledger.say([("paaa111", "Ann", 1, "both_bad", None, None, "", 1.0, None, "four", 1_700_000_003_000)])
        bob = store.query("SELECT verdict_id FROM verdicts WHERE annotator = 'Bob'")[0][0]
    with RunStore.open_or_create(folder, {}) as store:
        late = (9, "paaa111", 2, "human", "Bob", "edit", 0.5, f"better {SCRIPT}", "so", "a", bob)
        store.commit(
            2,
            "more",
            {
                "judge_pairs": (tables["judge_pairs"], [(1, "paaa111", "a judge", "0123456789abcdef", 1, 4)]),
                "noise": (tables["noise"], [(1, "paaa111", 0.125)]),
                "rewards": (tables["rewards"], [(1, 2, -3.0, -2.5, -0.05)]),
                "corrections": (tables["corrections"], [late]),
            },
        )
    return folder


def test_all_that_there_is_to_tell_in_its_order(told):
    with RunStore.open_read_only(told) as store:
        lines = tso.report.pair_story(store, "paaa111")
    assert "  implicit reward -0.050 in iteration 1" in lines
    history = [line[2:] for line in lines[lines.index("history") + 1 :]]
    assert history == [
        "label by prior: A over B, confidence 0.88, weight 1",
        "chosen for judge a judge (revision 0123456789ab), round 2, place 5",
        "Ann said: B is better, on 2023-11-14 22:13:20 UTC, taken back",
        "Ann said: skipped, on 2023-11-14 22:13:22 UTC",
        "Bob said: an edit of A, confidence 0.50, taken up by the run; so",
        '  better <script>alert("x")</script>',
        "Ann said: both bad, round 2, on 2023-11-14 22:13:23 UTC, not taken up so far",
        'correction by rule rule:a: flip, confidence 0.75; because <script>alert("x")</script>',
        "label by rule: B over A, confidence 0.75, weight 1",
        "noise in iteration 1: the label is taken to be wrong with a chance of 0.125",
        "log-probs under the reference of iteration 1: chosen -12.50, rejected -20.25 nats",
        "trained in iteration 1: reward of chosen +0.500, of rejected -0.250, saturated: chosen",
        "correction by human Bob: edit, confidence 0.50, too late for training, in iteration 2; so",
        '  better <script>alert("x")</script>',
    ]


def test_the_page_tells_it_too(told):
    html = tso.report.write(told).read_text(encoding="utf-8")
    assert "Ann said: both bad, round 2" in html
    assert "better &lt;script&gt;" in html
    assert "implicit reward" in html
    assert SCRIPT not in html
