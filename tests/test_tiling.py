"""How volumes are cut, and the weights that join the tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopick.tiling import GaussianWindow, LinearWindow, TilingSpec, cut

sizes = st.tuples(*[st.integers(1, 300)] * 3)
multiples = st.sampled_from([1, 2, 3, 4, 8, 16])


@given(sizes, st.tuples(*[st.integers(1, 96)] * 3), st.integers(0, 100), multiples)
def test_tiles_cover_every_voxel_and_share_the_overlap(volume, shape, overlap, multiple):
    edges, starts = TilingSpec(shape, overlap).plan(volume, multiple)
    for n, wanted, edge, axis in zip(volume, shape, edges, starts):
        assert edge % multiple == 0 and 0 < edge <= max(multiple, wanted)
        assert edge <= n + multiple - 1  # a small volume does not get a large tile
        assert axis[0] == 0 and all(a % multiple == 0 for a in axis)
        assert n <= axis[-1] + edge < n + multiple  # reaches the end, and hardly beyond
        steps = np.diff(axis)
        assert (steps > 0).all()
        # What is asked for, as far as half a tile and steps of a multiple allow.
        assert (steps <= max(multiple, edge - min(overlap, edge // 2))).all()


@given(sizes, st.integers(0, 32))
def test_no_more_tiles_than_needed(volume, overlap):
    edges, starts = TilingSpec((64, 64, 64), overlap).plan(volume, 4)
    for n, edge, axis in zip(volume, edges, starts):
        step = (edge - min(overlap, edge // 2)) // 4 * 4 or 4
        assert len(axis) == 1 + max(0, -(-(n - edge) // step))


def test_an_overlap_that_is_no_multiple_is_not_undercut():
    """Steps of 98 voxels rounded to 100 would leave 28 of the 30 asked for."""
    _, starts = TilingSpec((128, 128, 128), overlap=30).plan((128, 128, 225), 4)
    assert starts == ([0], [0], [0, 48, 100]) or max(np.diff(starts[2])) <= 98


@pytest.mark.parametrize("window", [LinearWindow(), GaussianWindow(), GaussianWindow(sigma=0.3, floor=0.1)])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_windows_are_positive_symmetric_and_largest_in_the_middle(window, n):
    weights = window(n)
    assert weights.shape == (n,) and weights.dtype == np.float32 and (weights >= window.floor).all()
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-5)
    assert (np.diff(weights[: (n + 1) // 2]) >= 0).all() and weights.max() <= 1


@given(st.tuples(*[st.integers(-6, 6)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_cut_is_the_box_with_zeros_around(start, shape):
    values = np.arange(1, 61, dtype=np.float32).reshape(3, 4, 5)
    padded = np.pad(values, 12)
    box = tuple(slice(12 + a, 12 + a + n) for a, n in zip(start, shape))
    np.testing.assert_array_equal(cut(values, start, shape), padded[box])
