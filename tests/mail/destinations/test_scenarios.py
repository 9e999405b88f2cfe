"""A small run of each oracle and scenario of bench/destinations, within its bounds."""

import pytest

from bench.destinations.scenarios import NOT_BUILT, ORACLES, PARTS, SCENARIOS, SOURCES

ALL = ORACLES + PARTS + SOURCES + SCENARIOS


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_it_stays_within_its_bounds(scenario):
    assert scenario.broken(scenario.run(True), is_small=True) == []


def test_every_scenario_of_the_specification_is_here_or_named_as_missing():
    assert sorted({scenario.number for scenario in SCENARIOS} | set(NOT_BUILT)) == list(range(1, 31))


def test_a_figure_that_is_not_measured_is_out_of_its_bounds():
    assert len(SCENARIOS[0].broken({}, is_small=True)) == len(SCENARIOS[0].small)
