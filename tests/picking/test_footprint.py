"""What picking takes of memory, against measured peaks (GiB, OpenVINO, the shipped model; MRC and Zarr are alike)."""

from importlib.util import find_spec

import pytest

from tomopick import Grid
from tomopick.picking import footprint, memory
from tomopick.picking.load import load_model

MEASURED = {
    ((32, 96, 96), 10.0): 0.50,
    ((64, 128, 128), 10.0): 0.50,
    ((96, 256, 256), 5.0): 0.47,
    ((96, 256, 256), 10.0): 0.75,
    ((96, 256, 256), 15.0): 0.86,
    ((100, 300, 300), 14.0): 1.09,
    ((184, 384, 384), 5.0): 0.58,
    ((184, 384, 384), 10.0): 0.99,
    ((184, 384, 384), 15.0): 1.42,
    ((184, 630, 630), 5.0): 0.92,
    ((184, 630, 630), 10.0): 1.30,
    ((184, 630, 630), 15.0): 2.58,
    ((300, 700, 700), 10.0): 1.71,
    ((400, 700, 700), 5.0): 1.33,
}


@pytest.mark.skipif(find_spec("openvino") is None, reason="measured with OpenVINO")
@pytest.mark.parametrize("size", MEASURED)
def test_within_a_quarter_of_what_was_measured(size, monkeypatch):
    monkeypatch.setattr(memory, "tile_bytes", lambda device: float(2**30))  # as on the machine it was measured on
    found = footprint.picking_bytes(load_model("default").detectors, Grid(*size)) / 2**30
    assert found == pytest.approx(MEASURED[size], rel=0.25)
