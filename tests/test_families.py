"""Sizes make a prior within the start model's family only."""

import math
from dataclasses import replace

import pytest
from tso import matrix
from tso.config import CellSection, Config, MatrixSection, ModelSection
from tso.errors import ConfigError
from tso.matrix import Snapshot


def config(cell, own="ours", **options):
    cells = (CellSection(name="policy"), cell)
    return replace(Config(), model=ModelSection(family=own), matrix=MatrixSection(cells=cells, **options))


def other(**options):
    return CellSection(name="big", model="org/big-model", **options)


@pytest.mark.parametrize("own", ["ours", None])
@pytest.mark.parametrize("family", ["theirs", None])
def test_a_size_of_another_family_or_of_no_known_one_is_refused_with_the_reason(own, family):
    with pytest.raises(ConfigError, match="'big' has a scale.*do not compare across families.*prior.*compare_families"):
        matrix.check(config(other(scale=40.0, family=family), own))


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (other(scale=40.0, family="ours"), {}),
        (other(scale=40.0, family="theirs", prior=0.0), {}),
        (other(family="theirs"), {}),
        (other(), {}),
        (other(scale=40.0), {"compare_families": True}),
        (CellSection(name="own", model="reference"), {}),
    ],
)
def test_what_compares_no_sizes_across_families_passes(cell, options):
    matrix.check(config(cell, **options))


def test_within_the_family_every_doubling_adds_the_scale_prior():
    spec = config(other(scale=4.0, family="ours"), scale_prior=0.5)
    start = Snapshot("p", "p")
    made = matrix.build(spec, 1, [start], start, {"org/big-model": Snapshot("b", "b")}, 1.0, {}, {})
    assert [c.prior for c in made] == [0.0, 0.5 * math.log2(4)]


def test_two_sizes_of_a_family_other_than_the_start_models_are_refused_too():
    cells = (CellSection(name="policy"), other(scale=1.0, family="x"), CellSection(name="b", model="org/b", family="x"))
    with pytest.raises(ConfigError, match="across families"):
        matrix.check(replace(Config(), matrix=MatrixSection(cells=cells)))
