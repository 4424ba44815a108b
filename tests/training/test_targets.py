"""Targets besides the Gaussian of `test_geometry`: balls, single voxels, one Gaussian for all."""

import numpy as np
import pytest

from tomopick.core.errors import RecipeError
from tomopick.core.types import Grid, PickableObject, Picks
from tomopick.training.targets import BallTarget, FixedGaussianTarget, GaussianTarget, VoxelTarget

SMALL, LARGE = PickableObject("small", 40.0, 1), PickableObject("large", 100.0, 2)
GRID = Grid((12, 14, 16), 10.0)


def drawn(target, *picks, grid=GRID, objects=(SMALL, LARGE)):
    """Heatmap of (name, index) pairs, indices in voxels of `GRID`."""
    positions = GRID.positions(np.array([index for _, index in picks], dtype=float).reshape(-1, 3))
    return target(Picks("A", positions, np.array([name for name, _ in picks], dtype=str)), grid, objects)


@pytest.mark.parametrize("target", [BallTarget(), VoxelTarget(), FixedGaussianTarget()], ids=str)
def test_shape_type_and_channels(target):
    found = drawn(target, ("large", (6, 7, 8)))
    assert found.values.shape == (2, *GRID.shape) and found.values.dtype == np.float32
    assert found.objects == ("small", "large") and found.grid == GRID
    assert not found.values[0].any() and found.values[1, 6, 7, 8] == 1
    assert found.values.min() >= 0 and found.values.max() <= 1
    assert not drawn(target).values.any()


def test_a_ball_is_what_lies_within_its_radius():
    centre = np.array([5.3, 6.8, 7.5])
    found = drawn(BallTarget(radius_factor=0.5), ("small", (4, 4, 4)), ("large", centre)).values
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    np.testing.assert_array_equal(found[1], np.linalg.norm(index - centre, axis=-1) <= 5.0)
    np.testing.assert_array_equal(found[0], np.linalg.norm(index - 4, axis=-1) <= 2.0)
    assert found[0].sum() == 33  # as the package that the radius of two voxels is from


def test_radii_by_name():
    found = drawn(BallTarget(radii={"large": 20.0}), ("large", (6, 6, 6)), ("small", (3, 3, 3))).values
    assert found[1].sum() == 33 and found[0].sum() == 33
    assert BallTarget(radius_factor=0.25).radius(LARGE) == 25.0
    package = BallTarget(radii={"large": 30.0}, fixed=25.0)
    assert (package.radius(SMALL), package.radius(LARGE)) == (25.0, 30.0)


def test_the_smallest_ball_still_marks_its_cell():
    found = drawn(BallTarget(radii={"small": 0.1}), ("small", (3.4, 5.4, 7.6)), ("small", (0.0, 13.4, 0))).values
    assert np.argwhere(found[0]).tolist() == [[0, 13, 0], [3, 5, 8]]


def test_balls_reach_in_and_are_cut_off_at_the_border():
    found = drawn(BallTarget(radius_factor=1.0), ("small", (-2, 7, 8)), ("small", (30, 7, 8))).values[0]
    assert found[0].any() and found[2, 7, 8] and not found[3:].any()


def test_exclusive_balls_leave_what_several_claim_to_none():
    picks = ("small", (5, 5, 5)), ("small", (5, 5, 8)), ("large", (5, 13, 14))
    shared, own = (drawn(BallTarget(exclusive=e), *picks).values for e in (False, True))
    # Balls of radius 2 at a distance of 3 share what is at most 2 from both.
    assert shared[0, 5, 5, 6] and shared[0, 5, 5, 7] and not own[0, 5, 5, 6] and not own[0, 5, 5, 7]
    assert shared[0, 5, 5, 5] == own[0, 5, 5, 3] == 1 and own[1, 5, 13, 14] == 1
    assert own.sum(axis=0).max() == 1 and (own <= shared).all()


def test_a_voxel_target_marks_the_cell_that_holds_the_centre():
    picks = ("small", (3.4, 4.6, 5.0)), ("large", (11.4, 0, 15.2)), ("large", (11.6, 0, 0)), ("small", (-0.6, 0, 0))
    found = drawn(VoxelTarget(), *picks).values
    assert np.argwhere(found).tolist() == [[0, 3, 5, 5], [1, 11, 0, 15]]


@pytest.mark.parametrize("stride", [2, 4])
def test_a_coarse_cell_holds_the_voxels_that_it_covers(stride):
    grid = GRID.crop((0, 0, 0), (8, 12, 16)).downsample(stride)
    for voxel in ((0, 0, 0), (7, 11, 15), (3, 4, 5), (1, 2, 7)):
        found = drawn(VoxelTarget(), ("small", voxel), grid=grid).values[0]
        assert np.argwhere(found).tolist() == [[i // stride for i in voxel]]


def test_a_fixed_gaussian_is_as_wide_for_every_object():
    found = drawn(FixedGaussianTarget(sigma=25.0), ("small", (5, 6, 7.5)), ("large", (5, 6, 7.5))).values
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0, 5, 6, 5], np.exp(-0.5), rtol=1e-6)
    by_name = drawn(GaussianTarget(sigmas={"small": 25.0, "large": 25.0}), ("small", (5, 6, 7.5)))
    np.testing.assert_array_equal(found[0], by_name.values[0])


@pytest.mark.parametrize(
    "made",
    [lambda: BallTarget(radius_factor=0.0), lambda: FixedGaussianTarget(sigma=-1.0), lambda: BallTarget(fixed=-2.0)],
)
def test_impossible_targets(made):
    with pytest.raises(RecipeError, match=r"^target\.(radius_factor is 0|sigma is -1|fixed is -2); it must be "):
        made()
