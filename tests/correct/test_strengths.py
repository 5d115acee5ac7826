"""Bradley-Terry: the gradient is zero at the answer, the prior rules without data, and data wins in the end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.correct.strengths import fit

NAMES = ["a", "b", "c"]
PRIOR = {"a": 0.0, "b": 1.0, "c": -0.5}


def test_without_comparisons_the_prior_stays():
    assert {n: s for n, (s, _) in fit(NAMES, PRIOR, {}, 4.0).items()} == pytest.approx(PRIOR)


def test_many_comparisons_outweigh_the_prior():
    found = fit(NAMES, PRIOR, {("a", "b"): 900.0, ("b", "a"): 100.0}, 4.0)
    assert found["a"][0] - found["b"][0] == pytest.approx(np.log(9), abs=0.05)
    assert found["a"][1] < found["c"][1]


@given(st.lists(st.floats(0, 50), min_size=6, max_size=6), st.floats(0.1, 20))
def test_the_answer_maximises_the_penalised_likelihood(counts, weight):
    keys = [(x, y) for x in NAMES for y in NAMES if x != y]
    wins = dict(zip(keys, counts, strict=True))
    found = {n: s for n, (s, _) in fit(NAMES, PRIOR, wins, weight).items()}

    def value(s):
        fitted = sum(n * -np.log1p(np.exp(s[y] - s[x])) for (x, y), n in wins.items())
        return fitted - weight / 8 * sum((s[n] - PRIOR[n]) ** 2 for n in NAMES)

    best = value(found)
    for name in NAMES:
        for step in (-1e-3, 1e-3):
            assert value({**found, name: found[name] + step}) <= best + 1e-9
