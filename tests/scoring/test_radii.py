"""A diameter that was given as a radius."""

from dataclasses import replace

import numpy as np
import pytest

from real_data import real
from tomopick import PickableObject, Picks
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data import open_project
from tomopick.scoring.radii import diameter_doubts, radius_doubts


@pytest.mark.parametrize(("radius", "doubted"), [(150, False), (300, True), (75, True), (200, False), (None, False)])
def test_about_twice_or_half(radius, doubted):
    lines = radius_doubts([PickableObject("ribosome", radius)])
    assert bool(lines) == doubted and all("diameter" in line and f"{radius:g} Å" in line for line in lines)
    assert not radius_doubts([PickableObject("other", radius)])


def test_neighbours_that_would_overlap_tell_a_diameter():
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(*[np.arange(4) * 130.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    truth = {"A": Picks("A", lattice + rng.uniform(-3, 3, lattice.shape), ["ball"] * len(lattice))}
    assert diameter_doubts(truth, [PickableObject("ball", 60.0)]) == []
    (line,) = diameter_doubts(truth, [PickableObject("ball", 120.0)])
    assert line.startswith("64 of 64 true ball") and line.endswith("`objects=ball:60`")
    assert diameter_doubts({"A": truth["A"].select(np.arange(9))}, [PickableObject("ball", 120.0)]) == []  # too few


def test_true_radii_raise_no_doubt():
    project = open_project(real("czii/picks"))
    truth = {run: project.picks(run) for run in project.runs()}
    assert diameter_doubts(truth, CZII_OBJECTS) == []
    doubled = [replace(o, radius=2 * o.radius) for o in CZII_OBJECTS if o.name in ("apo-ferritin", "ribosome")]
    assert len(diameter_doubts(truth, doubled)) == 2
