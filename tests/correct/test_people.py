"""Several people on one pair: a voice each, a majority or none, above judges and rules."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.config import CorrectSection
from tso.correct.base import Outcome, dispute
from tso.correct.people import Ruling, in_force, majority
from tso.records import VERDICTS, Correction, Label

VOICES = st.lists(
    st.builds(
        Correction,
        st.just("p"),
        st.just("human"),
        st.sampled_from("abcd"),
        st.sampled_from(VERDICTS),
        st.sampled_from([0.5, 0.75, 1.0]),
        st.text(max_size=3),
    ),
    min_size=1,
    max_size=12,
)


def voice(author, verdict, source="human", confidence=1.0):
    return Correction("p", source, author, verdict, confidence)


@given(VOICES)
def test_a_majority_is_more_than_half_of_the_people(given_):
    last = {}
    for correction in given_:
        last[correction.author] = correction
    counts = Counter(c.verdict for c in last.values())
    most = [v for v, n in counts.items() if n > len(last) / 2]
    found = majority(given_)
    assert (found is None) == (most == [])
    if found is not None:
        assert found.verdict == most[0]
        assert counts[found.verdict] / len(last) * 0.5 <= found.confidence <= 1
        assert any((c.author, c.reason) == (found.author, found.reason) for c in last.values())


@given(VOICES)
def test_one_persons_last_word_is_that_persons_verdict(given_):
    alone = [voice("a", c.verdict, confidence=c.confidence) for c in given_]
    assert majority(alone) == alone[-1]


@pytest.mark.parametrize(
    ("corrections", "verdict", "disputed"),
    [
        ([], None, False),
        ([voice("r", "flip", "rule")], "flip", False),
        ([voice("j", "keep", "judge"), voice("r", "flip", "rule")], "keep", False),
        ([voice("a", "flip"), voice("j", "keep", "judge"), voice("r", "keep", "rule")], "flip", False),
        ([voice("a", "flip"), voice("b", "keep"), voice("j", "keep", "judge")], None, True),
        ([voice("a", "flip"), voice("b", "keep"), voice("c", "keep")], "keep", False),
        ([voice("a", "flip"), voice("b", "tie"), voice("c", "keep")], None, True),
        ([voice("a", "flip"), voice("b", "keep"), voice("a", "keep")], "keep", False),
    ],
)
def test_who_counts(corrections, verdict, disputed):
    ruling = in_force(corrections)
    assert ruling == Ruling(ruling.verdict, disputed)
    assert (ruling.verdict.verdict if ruling.verdict else None) == verdict


def test_a_majority_is_as_sure_as_its_share():
    found = majority([voice("a", "flip"), voice("b", "keep"), voice("c", "flip", confidence=0.7)])
    assert found.confidence == pytest.approx((1 + 0 + 0.7) / 3)


@pytest.mark.parametrize(
    ("how", "chosen", "result"),
    [("drop", 1, None), ("weight", 1, Label("rule", 1, 2, 0.9, 0.3)), ("weight", None, None)],
)
def test_without_a_majority_the_pair_leaves_or_weighs_less(how, chosen, result):
    label = Label("rule", chosen, chosen and 2, 0.9, 1.0)
    options = CorrectSection(on_disagreement=how, disagreement_weight=0.3)
    outcome = dispute(Outcome(label), options)
    assert outcome.label == result
    assert outcome.dropped == ("" if result else "disagreement")
    assert dispute(Outcome(label, "contradicted"), options) == Outcome(label, "disagreement")
