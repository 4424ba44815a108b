"""The shipped model of surroundings, on a simulated tomogram of a seed that nothing has learned from."""

from dataclasses import replace

import numpy as np

from tomopick.core.presets import CZII_OBJECTS
from tomopick.picking.placing import model_masks
from tomopick.picking.resample import onto
from tomopick.simulation import simulate
from tomopick.simulation.run import SimulationSpec


def test_sample_and_gold_are_found():
    spec = SimulationSpec((72, 144, 144), voxel_spacing=(10.0, 10.0))
    specimen = replace(spec.specimen, gold=(60.0, 60.0), membranes=(0.0, 0.0), carbon=0.0, crowding=(1.0, 1.0))
    made = simulate(replace(spec, specimen=specimen), CZII_OBJECTS, run="a", seed=77, surroundings=True)
    (tomogram,) = made.tomograms.values()
    found = model_masks("surroundings", tomogram, "cpu")
    assert set(found) == {"sample", "gold", "carbon", "membrane"}
    for name, least in (("sample", 0.7), ("gold", 0.4)):
        mask = found[name]
        truth = onto(made.surroundings[name].astype(np.float32), tomogram.grid, mask.grid) > 0.5
        overlap = (mask.values & truth).sum() / (mask.values | truth).sum()
        assert truth.any() and overlap > least, name
    assert found["carbon"].values.mean() < 0.01  # there is none
