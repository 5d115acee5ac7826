"""Voices on pairs, held to a recount from the rows of the store."""

import pytest
from tso.voices import heard, majority

from tests.report.judged import Recount, judged_run


@pytest.mark.parametrize("seed", range(4))
def test_every_pair_again_from_the_rows(tmp_path, monkeypatch, seed):
    with judged_run(tmp_path, monkeypatch, seed) as store:
        again = Recount(store)
        found = heard(store)
        assert [h.pair_id for h in found] == list(again.pairs)
        seen = {"late": 0, "disputed": 0}
        for h in found:
            name = h.pair_id
            assert [(v.source, v.author, v.said, v.late) for v in h.voices] == [
                (source, author, again.letter(name, what), late) for source, author, what, late in again.said[name]
            ]
            spoke, what = again.people(name)
            assert h.people == again.letter(name, what)
            assert h.disputed == (spoke and what is None)
            assert h.machines == again.letter(name, again.machine(name))
            assert (h.in_force and h.in_force[1]) == again.letter(name, again.in_force(name))
            first, last = again.labels[name][0]["chosen"], again.labels[name][-1]["chosen"]
            assert h.first_side == again.letter(name, first)
            assert h.side == (again.letter(name, last) if last in (*again.both(name), None) else "edit")
            assert h.dropped == (name in again.dropped)
            seen["late"] += any(v.late for v in h.voices)
            seen["disputed"] += h.disputed
        assert min(seen.values()) > 0


def test_of_nobody_there_is_no_majority():
    assert majority([]) is None
