"""Votes become a verdict: held to a table written out by hand, and to counting that is as plain as can be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.correct.votes import meant, reinforced, settle

VOTES = ["first", "second", "tie", "both_bad", None]
TURNED = {"a": "b", "b": "a"}
VOTE = st.sampled_from(VOTES)


@pytest.mark.parametrize(
    ("a_first", "b_first", "verdict", "by_place"),
    [
        ("first", "second", "a", False),
        ("second", "first", "b", False),
        ("first", "first", "tie", True),
        ("second", "second", "tie", True),
        ("first", "tie", "tie", False),
        ("both_bad", "second", "tie", False),
        ("tie", "tie", "tie", False),
        ("both_bad", "both_bad", "both_bad", False),
        ("first", None, None, False),
        (None, None, None, False),
    ],
)
def test_one_vote_in_each_order(a_first, b_first, verdict, by_place):
    found = settle([a_first], [b_first])
    assert (found.verdict, found.by_place) == (verdict, by_place)


def plain(a_first, b_first):
    """What the two orders say, by counting every verdict there is."""
    said = []
    for votes, a_is_first in ((a_first, True), (b_first, False)):
        there = [meant(v, a_is_first) for v in votes if v is not None]
        if len(there) <= len(votes) - len(there):
            return None
        said.append(next((v for v in ("a", "b", "tie", "both_bad") if there.count(v) > len(there) / 2), "tie"))
    return said[0] if said[0] == said[1] else "tie"


@given(st.integers(0, 3).flatmap(lambda n: st.tuples(*[st.lists(VOTE, min_size=2 * n + 1, max_size=2 * n + 1)] * 2)))
def test_any_number_of_votes(votes):
    found = settle(*votes)
    assert found.verdict == plain(*votes)
    assert 0 <= found.agreeing <= found.votes == sum(v is not None for half in votes for v in half)
    assert 0 < found.confidence < 1
    # The names a and b are by chance: the other way round, the other side wins and all else stays.
    other = settle(votes[1], votes[0])
    assert other.verdict == TURNED.get(found.verdict, found.verdict)
    assert (other.by_place, other.agreeing, other.votes) == (found.by_place, found.agreeing, found.votes)


def test_a_verdict_that_was_confirmed_is_surer_than_either():
    assert reinforced(0.7, 0.75) == pytest.approx(0.875)
    assert reinforced(1.0, 0.75) == 1.0
    assert reinforced(0.5, 0.75) == 0.75
