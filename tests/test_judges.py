"""Statistics of judges, held to a recount in plain Python over the rows of the store."""

import random

import pytest
from tso import judges
from tso.config import CorrectSection
from tso.correct import calls
from tso.correct.stage import correct
from tso.progress import Face
from tso.records import Correction
from tso.report.judges import COLUMNS, judge_table
from tso.report.story import pair_story
from tso.statistics import Share, kappa
from tso.voices import heard

from tests.correct.doubles import constant, judge, perfect
from tests.correct.pairs import pairs_store

COUNT = 60


def noisy(seed):
    """Right most of the time; now and then it names a place, cannot be read, or finds both bad."""
    draw = random.Random(seed)

    def reply(first, second, request):
        what = draw.random()
        if what < 0.1:
            return "no idea"
        if what < 0.2:
            return constant("both_bad")(first, second, request)
        return constant("A")(first, second, request) if what < 0.4 else perfect(first, second, request)

    return reply


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Two iterations' worth of verdicts by two judges and people, on one iteration's pairs and late ones."""
    monkeypatch.setattr(calls, "located", lambda folder, path, revision: path)
    draw = random.Random(3)
    sides = [("x" * draw.randint(0, 3) + "-" * draw.randint(0, 9) + str(i), "x-" + str(i) * 3) for i in range(COUNT)]
    sure = [draw.choice([0.5, 0.7, 0.9]) for _ in range(COUNT)]
    verdicts = ["keep", "flip", "flip", "tie", "both_bad", "edit"]

    def said(pair, verdict):
        return Correction(pair, "human", "someone", verdict, 1.0, "", "a new text" if verdict == "edit" else None)

    people = [said(f"pair{i}", draw.choice(verdicts)) for i in range(0, COUNT, 3)]
    late = [said(f"pair{i}", draw.choice(verdicts)) for i in range(1, COUNT, 3)]
    given = list(people)
    monkeypatch.setattr("tso.correct.recorded.load", lambda _: list(given))
    options = CorrectSection(recorded="people.jsonl")
    with pairs_store(tmp_path, sides, confidence=sure) as opened:
        who = judge(noisy(1), name="noisy", retries=1, votes=3, temperature=1.0, budget=50.0)
        correct(opened, options, 1, lambda text: (7, 3), Face(quiet=True), judge=who)
        given += late
        correct(opened, options, 2, lambda text: (7, 3), Face(quiet=True), judge=judge(perfect, name="idle"))
        yield opened


def rows(store, table):
    columns = [row[1] for row in store.query(f"SELECT * FROM pragma_table_info('{table}')")]
    return [dict(zip(columns, row, strict=True)) for row in store.query(f"SELECT * FROM {table} ORDER BY rowid")]


def sides_of(pair):
    return pair["response_a"], pair["response_b"]


def test_every_number_again_from_the_rows(store):
    [found] = judges.of_run(store)
    made = rows(store, "judge_calls")
    assert found.judge == "noisy"
    assert found.chosen == 50 == len(rows(store, "judge_pairs"))
    assert found.failed_calls == Share(sum(c["verdict"] is None for c in made), len(made))
    assert (found.prompt_tokens, found.tokens) == (100 * len(made), 3 * len(made))

    last = {}
    for call in made:
        last[call["pair_id"], call["vote"], call["shown_first"]] = call["verdict"]
    couples = {}
    for (pair, vote, _), verdict in last.items():
        couples.setdefault((pair, vote), []).append(verdict)
    read = [c for c in couples.values() if None not in c]
    assert found.position == Share(sum(c in (["first"] * 2, ["second"] * 2) for c in read), len(read))
    assert found.first_place == sum(c == ["first"] * 2 for c in read) > 0

    answer = {r["response_id"]: r["text"] for r in rows(store, "responses")}
    pairs = {p["pair_id"]: p for p in rows(store, "pairs")}
    labels = {}
    for label in rows(store, "labels"):
        labels.setdefault(label["pair_id"], []).append(label)

    def better(pair, verdict, label):
        chosen = label["chosen"] or pairs[pair]["response_a"]
        other = pairs[pair]["response_a"] + pairs[pair]["response_b"] - chosen
        return {"keep": chosen, "flip": other}.get(verdict, verdict)

    of_judge, of_people = {}, {}
    for c in rows(store, "corrections"):
        history = labels[c["pair_id"]]
        if c["source"] == "judge":
            of_judge[c["pair_id"]] = better(c["pair_id"], c["verdict"], history[0])
        elif c["iteration"] == 2:
            of_people[c["pair_id"]] = better(c["pair_id"], c["verdict"], history[-1])
        else:
            shown = history[-1] if history[-1]["source"] == "human" else None
            of_people[c["pair_id"]] = shown["chosen"] if shown else c["verdict"]
    edits = {p for p, v in of_people.items() if v not in ("tie", "both_bad", *sides_of(pairs[p]))}
    of_people = {p: v for p, v in of_people.items() if p not in edits}
    assert found.failed == Share(50 - len(of_judge), 50)
    assert found.ties == Share(list(of_judge.values()).count("tie"), len(of_judge))
    assert found.both_bad == Share(list(of_judge.values()).count("both_bad"), len(of_judge))

    sides = {p: v for p, v in of_judge.items() if v in answer}
    won = total = 0
    for p, winner in sides.items():
        loser = pairs[p]["response_a"] + pairs[p]["response_b"] - winner
        if len(answer[winner]) != len(answer[loser]):
            total += 1
            won += len(answer[winner]) > len(answer[loser])
    assert found.longer == Share(won, total)

    with_prior = [(p, v == labels[p][0]["chosen"]) for p, v in sides.items() if labels[p][0]["chosen"]]
    assert found.with_prior.pairs == len(with_prior)
    assert found.with_prior.agreement == pytest.approx(sum(same for _, same in with_prior) / len(with_prior))

    both = [(of_judge[p], of_people[p]) for p in of_judge if p in of_people]
    alike = sum(j == h or {j, h} <= {"tie", "both_bad"} for j, h in both)
    assert found.with_people.pairs == len(both) > 10
    assert found.with_people.agreement == pytest.approx(alike / len(both))


def test_two_who_follow_the_cells_agree_beyond_chance():
    """By the places of the answers everything would be one class, and agreement nothing but chance."""
    same = {f"p{i:x}": "a" for i in range(200)}
    assert judges.agreement(same, same).value == 1.0
    other = dict.fromkeys(same, "b")
    assert judges.agreement(same, other).value == pytest.approx(-1.0, abs=0.05)
    assert kappa([[200, 0], [0, 0]]) is None


def test_people_are_compared_by_what_most_of_them_say(tmp_path, monkeypatch):
    """The judge keeps pair0 and turns pair1; people saw both as it left them."""
    monkeypatch.setattr(calls, "located", lambda folder, path, revision: path)
    said = {
        "pair0": ["keep", "keep", "flip"],  # a
        "pair1": ["keep", "keep", "tie"],  # b, as the judge
        "pair2": ["keep", "flip"],  # no majority
        "pair3": ["tie", "both_bad", "tie"],
        "pair4": ["edit", "edit", "keep"],
    }
    people = [
        Correction(pair, "human", f"person {i}", verdict, 1.0, "", "new" if verdict == "edit" else None)
        for pair, verdicts in said.items()
        for i, verdict in enumerate(verdicts)
    ]
    again = Correction("pair1", "human", "person 2", "flip", 1.0)  # the third thought better of it
    monkeypatch.setattr("tso.correct.recorded.load", lambda _: [*people, again])
    with pairs_store(tmp_path, [("xx", "x"), ("x", "xx"), ("xx", "x"), ("xx", "x"), ("xx", "x")]) as store:
        options = CorrectSection(recorded="people.jsonl")
        correct(store, options, 1, lambda text: (7, 3), Face(quiet=True), judge=judge(perfect))
        assert judges.by_people(heard(store)) == {"pair0": "a", "pair1": "b", "pair3": "tie"}


def test_a_run_without_a_judge_has_no_table(tmp_path):
    with pairs_store(tmp_path, [("a", "b")]) as store:
        assert judges.of_run(store) == []
        assert judge_table(store) is None


def test_the_table_of_the_report(store):
    table = judge_table(store)
    row = dict(zip(COLUMNS, table.rows[0], strict=True))
    [found] = judges.of_run(store)
    assert (row["judge"], row["pairs"], row["tokens read"]) == ("noisy", 50, found.prompt_tokens)
    low, high = found.longer.interval
    assert row["longer wins"].endswith(f"({found.longer.hits} of {found.longer.total}), {low:.0%} to {high:.0%}")
    assert row["kappa with prior"].startswith(f"{found.with_prior.value:.2f}, {found.with_prior.low:.2f} to")


def test_the_history_of_a_pair_tells_every_call(store):
    [(name, count)] = store.query(
        "SELECT pair_id, count(*) FROM judge_calls GROUP BY pair_id HAVING sum(attempt) > 0 ORDER BY pair_id LIMIT 1"
    )
    lines = [line.strip() for line in pair_story(store, name) if line.strip().startswith("judge noisy")]
    assert len(lines) == count
    assert lines[0].startswith("judge noisy, A before B: ")
    assert lines[1].startswith("judge noisy, B before A: ")
    again = next(line for line in lines if "attempt 2" in line)
    assert "3 tokens" in again
    assert any("could not be read, 3 tokens; it is not one JSON object" in line for line in lines)
