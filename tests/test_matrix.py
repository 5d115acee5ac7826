"""Which cells answer, with which weights, and how their budgets move."""

from dataclasses import replace

import pytest
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
