"""`tso pairs`: each filter is held to a plain loop over the whole list, and what it asks for has to be there."""

import itertools
import json
import subprocess
import sys

import pytest
from tso import cli
from tso.errors import DataError
from tso.report.listing import Filter, listed, table
from tso.store import RunStore
from tso.verdicts import open_for_people

from tests.people import make_run
from tests.report.judged import Recount, judged_run
from tests.report.runs import ESCAPES, empty_run, full_run, write


@pytest.fixture
def run(tmp_path):
    return full_run(tmp_path / "run")


def test_every_pair_again_from_the_rows(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch) as store:
        again = Recount(store)
        found = listed(store, Filter())
        assert [p.pair_id for p in found] == list(again.pairs)
        for pair in found:
            name, label = pair.pair_id, again.labels[pair.pair_id][-1]
            assert pair.cells == tuple(again.cell[side] for side in again.both(name))
            assert (pair.source, pair.confidence, pair.weight) == (
                label["source"],
                label["confidence"],
                label["weight"],
            )
            assert pair.changed == (again.labels[name][0]["chosen"] != label["chosen"])
            assert [(g.source, g.author, g.late) for g in pair.verdicts] == [
                (who, by, late) for who, by, _, late in again.said[name]
            ]
            assert (pair.dropped is not None) == (name in again.dropped)


def test_every_filter_is_what_a_plain_loop_finds(tmp_path, monkeypatch):
    with judged_run(tmp_path, monkeypatch) as store:
        everything = listed(store, Filter())
        some = 0
        for cell, source, verdict, dropped, changed in itertools.product(
            (None, "fair"), (None, "judge", "human"), (None, "flip", "edit"), (None, "any", "tie"), (False, True)
        ):
            found = listed(store, Filter(1, None, cell, source, verdict, dropped, changed))
            assert found == [
                p
                for p in everything
                if (cell is None or cell in p.cells)
                and (source is None or p.source == source)
                and (verdict is None or any(g.verdict == verdict for g in p.verdicts))
                and (dropped is None or p.dropped == dropped or (dropped == "any" and p.dropped is not None))
                and (p.changed or not changed)
            ]
            some += bool(found)
        assert some > 20
        assert [p.pair_id for p in listed(store, Filter(prompt="p7"))] == ["pair7"]


def test_the_table(run):
    with RunStore.open_read_only(run) as store:
        lines = table(listed(store, Filter()))
    start, question = ["pair", "iteration", "A", "B", "label"], 'why? <script>alert("x")</script>'
    assert lines[0].split()[:5] == start
    assert [" ".join(line.split()) for line in lines[1:]] == [
        f"paaa111 1 human policy-1.0 B by rule 0.75, was A rule:a flip trained {question}",
        f"paab222 1 policy-1.0 policy-1.0 edit by human 1.00, was A Ann edit trained {question}",
        f"pbbb333 1 policy-1.0 policy-1.0 neither by prior 0.50 rule:a tie dropped: tie {question}",
    ]
    assert len({line.index("why?") for line in lines[1:]}) == 1


def test_a_line_cannot_drive_a_terminal(run):
    question = json.dumps([{"role": "user", "content": ESCAPES + "\n" + "long " * 50}])
    write(
        run,
        1,
        "more",
        prompts=[("q3", 2, "train", question, "[]", "{}")],
        pairs=[("pccc", 1, "train", 9, "q3", 1, 2, 0.0)],
        labels=[(9, "pccc", 1, "prior", 1, 2, 0.9, 1.0)],
    )
    with RunStore.open_read_only(run) as store:
        [pair] = listed(store, Filter(prompt="q3"))
        [_, line] = table([pair])
    assert line.isprintable()
    assert "\\u001b[31mred" in line
    assert line.endswith("\N{HORIZONTAL ELLIPSIS}")


def test_people_who_wait_to_be_heard_are_listed(tmp_path):
    folder = make_run(tmp_path / "run", 2)
    with open_for_people(folder) as store:
        store._ledger.say([("p01", "Ann", 0, "b", None, None, "", 0.5, None, None, None)])
        [pair] = listed(store, Filter(verdict="flip"))
        assert pair.pair_id == "p01"
        assert "Ann flip (waiting)" in table([pair])[1]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Filter(iteration=7), "no iteration '7' among the pairs of this run; there is 1$"),
        (Filter(prompt="q9"), "no prompt 'q9' among .*; there is q2, q1$"),
        (Filter(cell="policy-1.1"), "no cell 'policy-1.1' .* there is policy-1.0, ...$"),
        (Filter(source="people"), "no source 'people'"),
        (Filter(verdict="flipp"), "there is flip, ...$"),
        (Filter(dropped="ties"), "no reason of dropped pairs 'ties' .* there is tie, ...$"),
    ],
)
def test_what_the_run_does_not_have_is_refused(run, wanted, says):
    with RunStore.open_read_only(run) as store, pytest.raises(DataError, match=says):
        listed(store, wanted)


def test_a_run_without_pairs(tmp_path, capsys):
    assert cli.main(["pairs", str(empty_run(tmp_path / "run"))]) == 0
    assert capsys.readouterr() == ("", "no such pair\n")
    assert cli.main(["pairs", str(tmp_path / "run"), "--iteration", "1"]) == 2
    assert "there is none so far" in capsys.readouterr().err


def test_the_command_lists_limits_and_writes_json(run, capsys):
    assert cli.main(["pairs", str(run), "--json", "--limit", "2"]) == 0
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert err == "2 of 3 pairs\n"
    assert (first["pair_id"], first["cells"], first["chosen"], first["changed"]) == (
        "paaa111",
        ["human", "policy-1.0"],
        "b",
        True,
    )
    assert second["verdicts"] == [
        {"source": "human", "author": "Ann", "verdict": "edit", "confidence": 1.0, "late": False, "waiting": False}
    ]
    assert cli.main(["pairs", str(run), "--dropped", "any", "--changed"]) == 0
    assert capsys.readouterr() == ("", "no such pair\n")


@pytest.mark.parametrize("words", [["--limit", "0"], ["--cell", "none"]])
def test_mistakes_are_one_line(run, capsys, words):
    assert cli.main(["pairs", str(run), *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert cli.main(["pairs", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_at_work_is_listed(run, capsys):
    with RunStore.open_or_create(run, {}):
        assert cli.main(["pairs", str(run)]) == 0
    assert "pbbb333" in capsys.readouterr().out


def test_a_reader_may_stop_early(run):
    code = f"from tso import cli; import sys; sys.exit(cli.main(['pairs', {str(run)!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 0
