"""Runs with verdicts of rules, judges and people by chance, made by the project's own correct stage."""

import random

from tso.config import CorrectSection
from tso.correct import calls
from tso.correct.stage import correct
from tso.progress import Face
from tso.records import Correction

from tests.correct.doubles import constant, judge, perfect
from tests.correct.pairs import pairs_store

CELLS = ("strong", "fair", "weak")
PEOPLE = ("Ann", "Bob", "Cy")
WORDS = ("keep", "keep", "flip", "flip", "tie", "both_bad", "edit")


def rows(store, table):
    """The rows of a table as they are written, as dicts."""
    columns = [row[1] for row in store.query(f"SELECT * FROM pragma_table_info('{table}')")]
    return [dict(zip(columns, row, strict=True)) for row in store.query(f"SELECT * FROM {table} ORDER BY rowid")]


def judged_run(folder, monkeypatch, seed=0, count=80):
    """An open store: the judge has seen half of the pairs, up to three people some, and some of theirs came late."""
    monkeypatch.setattr(calls, "located", lambda folder, path, revision: path)
    draw = random.Random(seed)

    def reply(first, second, request):
        return (constant(draw.choice(["A", "tie"])) if draw.random() < 0.3 else perfect)(first, second, request)

    def verdicts(share):
        return [
            Correction(f"pair{i}", "human", who, said, 1.0, "", f"text {i}" if said == "edit" else None)
            for i in range(count)
            for who in PEOPLE
            if draw.random() < share
            for said in [draw.choice(WORDS)]
        ]

    given = verdicts(0.3)
    monkeypatch.setattr("tso.correct.recorded.load", lambda _: list(given))
    options = CorrectSection(recorded="people.jsonl")
    sides = [("x" * draw.randint(0, 3) + f"-{i}", f"{i}-" + "x" * draw.randint(0, 3)) for i in range(count)]
    sure = [draw.choice([0.5, 0.7, 0.9]) for _ in range(count)]
    couples = [draw.sample(CELLS, 2) if i % 8 else ["fair", "fair"] for i in range(count)]
    store = pairs_store(folder, sides, confidence=sure, cells=lambda i: couples[i])
    who = judge(reply, name="noisy", budget=float(count // 2))
    correct(store, options, 1, lambda text: (7,) * (1 + len(text) % 4), Face(quiet=True), judge=who)
    given += verdicts(0.1)
    correct(store, options, 2, lambda text: (7,) * (1 + len(text) % 4), Face(quiet=True))
    return store


class Recount:
    """The same pairs once more, from the rows of the store by the plainest way. Sides are response ids."""

    def __init__(self, store):
        self.pairs = {p["pair_id"]: p for p in rows(store, "pairs")}
        self.labels = {name: [x for x in rows(store, "labels") if x["pair_id"] == name] for name in self.pairs}
        self.dropped = {d["id"] for d in rows(store, "drops") if d["kind"] == "pair"}
        self.cell = {r["response_id"]: r["cell"] for r in rows(store, "responses")}
        self.said = {name: [] for name in self.pairs}  # (source, author, what, late)
        corrections = rows(store, "corrections")
        machine = {c["pair_id"]: c["verdict"] for c in corrections if c["source"] != "human"}
        for c in corrections:
            pair, history = self.pairs[c["pair_id"]], self.labels[c["pair_id"]]
            late = c["iteration"] > pair["iteration"]
            seen = history[-1 if late else 0]["chosen"] or pair["response_a"]
            if c["source"] == "human" and not late and machine.get(c["pair_id"]) == "flip":
                seen = self.other(c["pair_id"], seen)
            if seen not in self.both(c["pair_id"]):
                what = "edit" if c["verdict"] in ("keep", "flip") else c["verdict"]
            else:
                what = {"keep": seen, "flip": self.other(c["pair_id"], seen)}.get(c["verdict"], c["verdict"])
            self.said[c["pair_id"]].append((c["source"], c["author"], what, late))

    def both(self, name):
        return self.pairs[name]["response_a"], self.pairs[name]["response_b"]

    def other(self, name, side):
        return sum(self.both(name)) - side

    def people(self, name):
        """(somebody spoke, what more than half say)"""
        voices = [v for v in self.said[name] if v[0] == "human"]
        last = {author: what for _, author, what, _ in voices}
        for what in last.values():
            if list(last.values()).count(what) > len(last) / 2:
                return True, what
        return bool(last), None

    def machine(self, name):
        found = [what for source, _, what, _ in self.said[name] if source != "human"]
        return found[-1] if found else None

    def in_force(self, name):
        spoke, what = self.people(name)
        return what if spoke else self.machine(name)

    def letter(self, name, side):
        return {self.both(name)[0]: "a", self.both(name)[1]: "b"}.get(side, side)
