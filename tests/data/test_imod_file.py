"""IMOD models that are cut off or damaged."""

import struct

import numpy as np
import pytest

from tomopick.core.errors import ReadError
from tomopick.core.types import PickableObject, Picks
from tomopick.data import MemoryProject
from tomopick.data.exporting import ExportOptions, export_picks
from tomopick.data.formats.imod_file import read_imod


@pytest.fixture
def model(tmp_path):
    project = MemoryProject([PickableObject("ball", 60.0)])
    project.write_picks(Picks("A", np.arange(12.0).reshape(4, 3) * 10, np.array(["ball"] * 4)), "a", "0")
    (path,) = export_picks(project, "imod", tmp_path / "A.mod", ExportOptions(voxel_spacing=10.0))
    return path


def test_a_whole_model_is_read(model):
    (found,) = read_imod(model).objects
    assert sum(len(c.points) for c in found.contours) == 4


def test_a_model_that_is_cut_off_anywhere_is_said_and_does_not_hang(model):
    data = model.read_bytes()
    for n in range(len(data)):
        model.write_bytes(data[:n])
        with pytest.raises(ReadError, match=r"cannot be read as an IMOD model|begins with"):
            read_imod(model)


@pytest.mark.parametrize("points", [2**31 - 1, -1, 5])
def test_a_contour_that_says_more_points_than_there_are_takes_no_room(model, points):
    data = model.read_bytes()
    at = data.index(b"CONT") + 4
    model.write_bytes(data[:at] + struct.pack(">i", points) + data[at + 4 :])
    with pytest.raises(ReadError, match="cannot be read as an IMOD model"):
        read_imod(model)
