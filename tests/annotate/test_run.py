"""A run waits for people, who judge its pairs on the page, and goes on with what they said."""

import os
import subprocess
import sys

import pytest
from tso.store import RunStore

from tests.people import ROOT, Server, ask, judge
from tests.tiny import words

pytest.importorskip("uvicorn", reason="the extra annotate is not installed here")


def test_a_run_that_waited_takes_up_what_people_said(tiny):
    output = tiny / "waited"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    more = ["run.iterations=1", "evaluate.draws=0", "evaluate.control=false", "correct.wait_for_people=true"]
    line = [sys.executable, "-m", "tso.train", *words(tiny, output), *more]

    def run():
        return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)

    stopped = run()
    assert stopped.returncode == 2
    assert "iteration 1 waits for people: let them judge its" in stopped.stderr
    assert f"tso annotate {output} --iteration 1" in stopped.stderr
    with Server(output, "--iteration", "1", "--repeat", "0") as server:
        item = ask(server.address + "turn", {"annotator": "ann"})[1]["item"]
        item = judge(server.address, "ann", item["id"], "edit", side="left", text="tea is warm .")[1]["item"]
        assert judge(server.address, "ann", item["id"], "right")[0] == 200
        better = item["right"]
        done = run()  # beside the page
        assert done.returncode == 0, done.stderr
        assert "people: 2 verdicts used" in done.stdout
    with RunStore.open_read_only(output) as store:
        sql = "SELECT r.text FROM labels l JOIN responses r ON r.response_id = l.chosen WHERE l.source = 'human' ORDER BY 1"
        assert sorted(row[0] for row in store.query(sql)) == sorted(["tea is warm .", better])
        store.balance(1)
        assert store._ledger.check() == []
