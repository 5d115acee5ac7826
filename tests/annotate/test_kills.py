"""The server is killed with SIGKILL at random moments while people give verdicts: what was acknowledged is there, once.

A client sends each verdict until somebody acknowledges it, under the same name, as the page does. Servers come and go.
"""

import http.client
import random
import threading
import time
import uuid
from collections import Counter

import pytest
from tso.store import RunStore

from tests.people import Server, ask, make_run

pytest.importorskip("uvicorn", reason="the extra annotate is not installed here")

KILLS = 20
PAIRS = 4000  # more than two people get through
LONGEST = 0.25  # seconds from the first acknowledgement of a server to its end


class Person:
    """Judges one pair after the other, and now and then takes one back."""

    def __init__(self, name, where):
        self.name, self.where, self.chance = name, where, random.Random(name)
        self.acknowledged, self.faults, self.ended = [], [], False

    def insist(self, action, body):
        """The answer of whichever server gives one."""
        while not self.ended:
            try:
                status, told = ask(self.where() + action, {"annotator": self.name, **body})
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)  # dead, or not there yet
                continue
            if status == 200:
                return told
            if status not in (403, 503):  # 403: the address of a server that is gone, on a port that came back
                self.faults.append((action, body, status, told))
                return None
        return None

    def work(self):
        told = self.insist("turn", {})
        while told and told["item"]:
            undo = told["undo"] and self.chance.random() < 0.1
            request, said = str(uuid.uuid4()), self.chance.choice(["left", "right", "tie", "both_bad", "skip"])
            body = {"request": request} if undo else {"request": request, "item": told["item"]["id"], "said": said}
            told = self.insist("undo" if undo else "verdict", body)
            if told:
                self.acknowledged.append(request)


def test_no_acknowledged_verdict_is_lost_and_none_is_there_twice(tmp_path):
    run, chance = make_run(tmp_path / "run", PAIRS), random.Random(5)
    address = [""]
    people = [Person(name, lambda: address[0]) for name in ("ann", "bob")]
    threads = [threading.Thread(target=person.work) for person in people]
    for kill in range(KILLS + 1):
        with Server(run, "--repeat", "0.1") as server:
            address[0] = server.address
            if not kill:
                for thread in threads:
                    thread.start()
            before, deadline = sum(len(p.acknowledged) for p in people), time.monotonic() + 60
            while sum(len(p.acknowledged) for p in people) == before and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, LONGEST))
            if kill == KILLS:  # the last one is not killed before everybody has stopped
                for person in people:
                    person.ended = True
                for thread in threads:
                    thread.join(60)
    assert [fault for person in people for fault in person.faults] == []
    with RunStore.open_read_only(run) as store:
        assert store._ledger.check() == []
        stored = Counter(row[0] for row in store.query("SELECT request FROM verdicts"))
        twice = "SELECT pair_id, annotator, round FROM standing GROUP BY 1, 2, 3 HAVING count(*) > 1"
        shared = "SELECT pair_id FROM standing WHERE said <> 'skip' GROUP BY 1 HAVING count(DISTINCT annotator) > 1"
        assert (store.query(twice), store.query(shared)) == ([], [])
    acknowledged = [request for person in people for request in person.acknowledged]
    assert len(acknowledged) > KILLS
    assert set(stored.values()) == {1}
    assert set(acknowledged) <= set(stored)
    # What was stored without an answer is at most what each person had on the way when all stopped.
    assert len(stored) - len(acknowledged) <= len(people)
