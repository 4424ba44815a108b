"""What picking takes of memory, against peaks that were measured (GiB, OpenVINO, the shipped model)."""

from importlib.util import find_spec

import pytest

from tomopick import Grid
from tomopick.picking import footprint
from tomopick.picking.load import load_model

MEASURED = {
    ((32, 96, 96), 10.0): 0.50,
    ((184, 630, 630), 10.0): 1.26,
    ((400, 700, 700), 5.0): 1.33,
    ((100, 300, 300), 14.0): 1.09,
}


@pytest.mark.skipif(find_spec("openvino") is None, reason="measured with OpenVINO")
@pytest.mark.parametrize("size", MEASURED)
def test_within_a_quarter_of_what_was_measured(size, monkeypatch):
    monkeypatch.setattr(footprint, "tile_bytes", lambda device: float(2**30))  # as on the machine it was measured on
    found = footprint.picking_bytes(load_model("default").detectors, Grid(*size)) / 2**30
    assert found == pytest.approx(MEASURED[size], rel=0.25)
