"""Volumes on other grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopick.core.types import Grid, Tomogram
from tomopick.picking.resample import onto, resample


def field(grid: Grid, slope) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    return (grid.positions(index) @ np.asarray(slope) / 100).astype(np.float32)


def test_the_same_grid_is_the_same_array():
    values = np.random.default_rng(0).random((2, 4, 5, 6), dtype=np.float32)
    for smooth in (False, True):
        np.testing.assert_array_equal(onto(values, Grid((4, 5, 6), 10.0), Grid((4, 5, 6), 10.0), smooth), values)


@given(st.floats(0.4, 2.5), st.tuples(*[st.floats(-1, 1)] * 3), st.booleans())
def test_linear_fields_are_exact_inside(factor, slope, smooth):
    source = Grid((12, 13, 14), 10.0, (3.0, 1.0, -8.0))
    spacing = 10.0 * factor
    n = 1 + int(55 / spacing)
    target = Grid((n, n, n), spacing, (28.0, 27.0, 19.0))
    np.testing.assert_allclose(onto(field(source, slope), source, target, smooth), field(target, slope), atol=1e-5)


def test_beyond_the_border_is_the_border():
    values = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    for smooth in (False, True):
        wide = onto(values, Grid((1, 1, 5), 10.0), Grid((1, 1, 9), 10.0, (0, 0, -20.0)), smooth)
        assert wide[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("spacing", [6.3, 8.0, 13.1, 20.0])
def test_resampling_keeps_places(spacing):
    """A blob stays where it is [Å], whatever the voxels."""
    grid = Grid((40, 44, 48), 10.0, (0.0, 50.0, -30.0))
    centre = np.array([203.0, 261.0, 188.0])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    distance = np.linalg.norm(grid.positions(index) - centre, axis=-1)
    blob = Tomogram("TS_1", np.exp(-0.5 * (distance / 40) ** 2).astype(np.float32), grid)
    other = resample(blob, spacing)
    assert other.grid.voxel_spacing == spacing
    index = np.stack(np.meshgrid(*[np.arange(n) for n in other.grid.shape], indexing="ij"), -1)
    mean = (other.grid.positions(index) * other.values[..., None]).sum(axis=(0, 1, 2)) / other.values.sum()
    assert np.abs(mean - centre).max() < 0.5  # [Å]
    # The corners stay where they are: the faces of the first voxels are one plane.
    np.testing.assert_allclose(np.array(other.grid.origin) - spacing / 2, np.array(grid.origin) - 5.0)
    far = [np.array(g.origin) + (np.array(g.shape) - 0.5) * g.voxel_spacing for g in (grid, other.grid)]
    assert np.abs(far[0] - far[1]).max() <= spacing / 2 + 1e-6


def test_what_a_coarser_grid_cannot_carry_is_smoothed_away():
    noise = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    coarse = resample(Tomogram("TS_1", noise, Grid((32, 32, 32), 5.0)), 15.0)
    assert coarse.values.std() < 0.35
