"""Which cells answer, with which weights, and how their budgets move."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso import matrix
from tso.config import CellSection, Config, MatrixSection
from tso.matrix import Snapshot

POLICIES = [Snapshot(f"p{i}", f"p{i}") for i in range(4)]
SPECS = tuple(
    CellSection(name=name, model=name, draws=2) for name in ("policy", "reference", "previous", "policy@1", "human")
)


def cells(iteration, *, refresh=True, draws=None, config=None):
    config = config or replace(Config(), matrix=MatrixSection(cells=SPECS, refresh=refresh))
    policies = POLICIES[:iteration]
    return matrix.build(config, iteration, policies, policies[-1 if refresh else 0], {}, 0.1, {}, draws or {})


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_a_control_samples_as_many_answers_and_all_of_the_start_model(iteration):
    main, control = cells(iteration), cells(iteration, refresh=False)
    assert [(c.name, c.stage, c.draws) for c in control] == [(c.name, c.stage, c.draws) for c in main]
    assert {c.path for c in control if c.stage != "human"} == {"p0"}
    assert {c.name: c.path for c in main if c.stage == "earlier"} == (
        {} if iteration == 1 else {"previous": f"p{iteration - 2}", "policy@1": "p1"}
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), min_size=1, max_size=6), st.integers(0, 3))
def test_budgets_follow_yield_above_their_floors(rows, floor):
    """The slow twin: whole shares are within one draw of what is wished for, once the floors are met."""
    specs = tuple(CellSection(name=f"c{i}", draws=d, temperature=1 + i / 10) for i, (d, _) in enumerate(rows))
    now = cells(1, config=replace(Config(), matrix=MatrixSection(cells=specs)))
    kept = {f"c{i}": n for i, (_, n) in enumerate(rows)}
    moved = matrix.budgets(now, kept, floor)
    assert sum(moved.values()) == sum(c.draws for c in now)
    for c in now:
        assert moved[c.name] >= min(c.draws, floor)
        assert (moved[c.name] == 0) or c.draws > 0
    if floor == 0 and any(c.draws for c in now):
        rate = {c.name: (kept[c.name] + 1) / (c.draws + 1) for c in now if c.draws}
        mean = sum(rate.values()) / len(rate)
        wish = {c.name: c.draws * min(2, max(0.5, rate[c.name] / mean)) for c in now if c.draws}
        whole = sum(c.draws for c in now) / sum(wish.values())
        assert all(abs(moved[name] - whole * wish[name]) < 1 for name in wish)


def test_budgets_follow_yield_and_not_strength():
    """A weak cell whose answers end in kept pairs is of use: a pair needs a rejected side."""
    config = replace(Config(), matrix=MatrixSection(cells=SPECS[:2]))
    learned = {"policy": 3.0, "reference": -3.0}
    now = matrix.build(config, 2, POLICIES[:2], POLICIES[0], {}, 0.1, learned, {})
    assert [c.strength for c in now] == [3.0, -3.0]
    assert matrix.budgets(now, {"policy": 1, "reference": 9}, 1) == {"policy": 1, "reference": 3}


@pytest.mark.parametrize("floor", [0, 1])
def test_budgets_keep_their_total_however_often_they_move(floor):
    specs = tuple(
        CellSection(name=n, draws=d, temperature=t) for n, d, t in (("a", 1, 1), ("b", 1, 0.9), ("c", 1, 0.8))
    )
    config = replace(Config(), matrix=MatrixSection(cells=specs))
    now = cells(1, config=config)
    for iteration in (2, 3, 4):
        now = cells(iteration, config=config, draws=matrix.budgets(now, {"a": 10}, floor))
        assert sum(c.draws for c in now) == 3
    assert min(c.draws for c in now) == floor
