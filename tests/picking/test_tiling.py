"""How volumes are cut, and the weights that join the tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomopick import recipes
from tomopick.picking.tiling import GaussianWindow, LargestTiles, LinearWindow, Means, SteepWindow, TilingSpec, cut

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


@pytest.mark.parametrize(
    "window",
    [LinearWindow(), SteepWindow(), SteepWindow(2.0, 0.1), GaussianWindow(), GaussianWindow(sigma=0.3, floor=0.1)],
)
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


# -- tiles that the planner chooses ---------------------------------------------------------------------------


def tile_and_sum(plan) -> tuple[int, int]:
    edges, starts = plan
    tile = int(np.prod(edges))
    return tile, tile * int(np.prod([len(axis) for axis in starts]))


@given(sizes, st.integers(0, 40), st.integers(10**4, 10**7), st.integers(10**4, 10**7), multiples)
def test_planned_tiles_cover_share_and_fit(volume, overlap, tile, strip, multiple):
    edges, starts = LargestTiles(Means(overlap, tile, strip)).plan(volume, multiple)
    for n, edge, axis in zip(volume, edges, starts):
        assert edge % multiple == 0 and axis[0] == 0 and all(a % multiple == 0 for a in axis)
        assert n <= axis[-1] + edge < n + multiple
        assert len(axis) == 1 or (np.diff(axis) <= max(multiple, edge - min(overlap, edge // 2))).all()
    smallest = np.prod([min(2 * overlap + 2 * multiple, n + multiple) for n in volume])
    assert np.prod(edges) <= max(tile, smallest)  # nothing smaller is left where it does not fit
    rows = max(strip // (volume[0] * volume[2]), 2 * overlap + 2 * multiple)
    assert edges[1] <= rows or np.prod(edges) <= smallest


@given(st.tuples(*[st.integers(40, 120)] * 3), st.integers(4, 16), st.integers(20_000, 400_000))
@settings(max_examples=30)
def test_no_other_tiles_that_fit_are_cheaper(volume, overlap, most):
    """Against all shapes of tile with stated edges."""
    tile, total = tile_and_sum(LargestTiles(Means(overlap, most, 10**9)).plan(volume, 8))
    if tile > most:
        return
    for edges in np.ndindex(*[-(-n // 8) for n in volume]):
        shape = tuple((e + 1) * 8 for e in edges)
        if np.prod(shape) <= most and min(shape) >= 2 * overlap:
            assert tile_and_sum(TilingSpec(shape, overlap).plan(volume, 8))[1] >= total


def test_a_volume_that_fits_is_one_tile():
    assert LargestTiles(Means(40, 10**8, 10**9)).plan((184, 630, 630), 8) == ((184, 632, 632), ([0], [0], [0]))


def test_larger_tiles_predict_less_twice():
    sums = [tile_and_sum(LargestTiles(Means(40, n, 10**9)).plan((184, 630, 630), 8))[1] for n in (3e6, 1e7, 3e7, 1e8)]
    assert sums == sorted(sums, reverse=True) and sums[0] > 1.5 * 184 * 630**2 > 1.1 * sums[-1] / 1.02


CHALLENGE = (184, 630, 630)  # of CZII's tomograms


@pytest.mark.parametrize("name", [n for n in recipes.names() if isinstance(recipes.get(n).tiling, TilingSpec)])
def test_tiles_that_a_recipe_of_ours_states_compute_little_of_a_challenge_volume_twice(name):
    method = recipes.get(name)
    tiling = method.tiling.fitted(lambda: Means(overlap=40, tile=11_000_000))
    edges, starts = tiling.plan(CHALLENGE, method.network.multiple)
    assert np.prod(edges) * np.prod([len(axis) for axis in starts]) <= 1.6 * np.prod(CHALLENGE)


def test_a_spec_takes_what_it_leaves_open_from_the_means():
    means = Means(24, 10**6, 10**8)
    asked = []

    def known():
        asked.append(1)
        return means

    fixed = TilingSpec((32, 64, 64), 8)
    assert fixed.fitted(known) is fixed and not asked
    assert TilingSpec((32, 64, 64)).fitted(known) == TilingSpec((32, 64, 64), 24)
    assert TilingSpec().fitted(known) == LargestTiles(means, LinearWindow())
    narrow = TilingSpec(overlap=8, window=SteepWindow()).fitted(known)
    assert narrow == LargestTiles(Means(8, 10**6, 10**8), SteepWindow())
    assert TilingSpec().plan((184, 630, 630), 8) == LargestTiles(Means()).plan((184, 630, 630), 8)


def test_steep_weights_leave_the_border_out():
    linear, steep = LinearWindow()(64), SteepWindow()(64)
    np.testing.assert_allclose(steep[8:56], linear[8:56] ** 3, rtol=1e-5)
