"""Where the simulator says that gold, carbon, membranes, frost and the sample are."""

from dataclasses import replace

import numpy as np
import pytest

from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import Grid
from tomopick.simulation import simulate
from tomopick.simulation.layer import Layer
from tomopick.simulation.projection import project, reconstruct
from tomopick.simulation.run import SimulationSpec
from tomopick.simulation.specimen import Specimen
from tomopick.simulation.surroundings import add_carbon, add_frost, add_gold, add_membrane

GRID = Grid((48, 64, 64), 10.0)


def specimen(seed=0, margin=200.0):
    return Specimen(GRID, Layer(235.0, 300.0, (315.0, 315.0)), np.random.default_rng(seed), margin=margin)


@pytest.mark.parametrize("margin", [0.0, 200.0])
def test_what_is_marked_is_where_the_potential_is(margin):
    made = specimen(margin=margin)
    for _ in range(6):
        add_gold(made, 50.0)
    marks = made.surroundings()
    rim = round(margin / 10)
    inner = made.potential[:, rim : rim + 64, rim : rim + 64]
    gold = marks["gold"]
    assert gold.any() and (inner[gold] > 10).all() and (inner[~gold] < 12).all()
    assert not (gold & marks["sample"]).any() and not marks["carbon"].any()


def test_the_sample_is_the_ice():
    sample = specimen().surroundings()["sample"]
    z = 10.0 * np.arange(48)
    np.testing.assert_array_equal(sample.all(axis=(1, 2)), np.abs(z - 235.0) < 150.0)
    np.testing.assert_array_equal(sample.any(axis=(1, 2)), sample.all(axis=(1, 2)))


def test_membranes_lie_in_the_ice_and_are_as_thick_as_a_bilayer():
    made = specimen(3)
    while not made.surroundings()["membrane"].any():
        add_membrane(made)
    marks = made.surroundings()
    assert not (marks["membrane"] & ~marks["sample"]).any()
    touched = made.potential[:, 20:84, 20:84] > 0.8  # a head group's density
    assert touched.any() and marks["membrane"][touched].mean() > 0.9  # but for its rim


def test_a_membrane_is_where_the_tilts_show_it():
    made = specimen(3)
    while made.surroundings()["membrane"].sum() < 3000:
        add_membrane(made)
    every, some = made.surroundings(), made.surroundings((-40.0, 40.0))
    assert not every["hidden membrane"].any()
    np.testing.assert_array_equal(every["membrane"], some["membrane"] | some["hidden membrane"])
    assert 0.3 < some["membrane"].sum() / every["membrane"].sum() < 0.7


def test_what_the_tilts_show_is_in_a_tomogram_of_them():
    made = specimen(3)
    while made.surroundings()["membrane"].sum() < 3000:
        add_membrane(made)
    angles = np.arange(-60.0, 1.0, 3.0)  # to one side alone: a wrong sign would turn all around
    box = np.ascontiguousarray(made.potential[:, 20:84, 20:84].transpose(0, 2, 1))
    seen = reconstruct(project(box, angles), angles, *box.shape[:2]).transpose(0, 2, 1)
    taken, other = (made.surroundings(ends)["membrane"] for ends in ((-50.0, -10.0), (10.0, 50.0)))
    assert seen[taken].mean() > 1.7 * seen[other].mean() > 0  # small spheres: a wrong sign gives the inverse


def test_carbon_and_frost_are_no_sample():
    made = specimen(1)
    add_carbon(made, 0.3, 150.0)
    for _ in range(4):
        add_frost(made, 120.0)
    marks = made.surroundings()
    assert marks["carbon"].any() and not (marks["carbon"] & marks["sample"]).any()
    assert (made.potential[:, 20:84, 20:84][marks["carbon"]] > 1.9).all()
    assert not (marks["frost"] & marks["sample"]).mean() > 0.002  # but for voxels on the surface


def test_a_run_tells_them_where_it_is_asked_to_and_is_the_same_run():
    spec = SimulationSpec((48, 64, 64), tomo_types=("wbp",))
    spec = replace(spec, specimen=replace(spec.specimen, gold=(4000.0, 4000.0)))
    plain = simulate(spec, CZII_OBJECTS, run="a", seed=1)
    told = simulate(spec, CZII_OBJECTS, run="a", seed=1, surroundings=True)
    kinds = {"sample", "gold", "carbon", "membrane", "hidden membrane", "frost"}
    assert plain.surroundings == {} and set(told.surroundings) == kinds
    np.testing.assert_array_equal(plain.tomograms["wbp"].values, told.tomograms["wbp"].values)
    values, gold = told.tomograms["wbp"].values, told.surroundings["gold"]
    assert gold.any() and values[gold].mean() < values.mean() - 2 * values.std()  # dark, as gold is
