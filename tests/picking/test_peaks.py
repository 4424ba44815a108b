"""Heatmap -> picks: against restatements that are plain, slow and obvious."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tomopick.core.errors import RecipeError
from tomopick.core.types import Grid, Heatmap, PickableObject, Picks
from tomopick.picking.decoders import Components, Watershed
from tomopick.picking.peaks import LocalMaxima, maxima, refine, window_maximum
from tomopick.picking.rows import decode_rows, with_halo

A, B = PickableObject("a", 30.0), PickableObject("b", 45.0)
seeds = st.integers(0, 10**6)
shapes = st.tuples(*[st.integers(1, 12)] * 3)


def noise(seed: int, shape, levels: int | None = None) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return values if levels is None else np.round(values * levels).astype(np.float32) / levels


def heatmap(values: np.ndarray, objects=(A,), spacing=10.0) -> Heatmap:
    return Heatmap("TS_1", values, Grid(values.shape[1:], spacing), tuple(o.name for o in objects))


def same(a: Picks, b: Picks) -> None:
    order_a, order_b = (np.lexsort((*p.positions.T.round(3), p.names)) for p in (a, b))
    assert a.names[order_a].tolist() == b.names[order_b].tolist()
    np.testing.assert_allclose(a.positions[order_a], b.positions[order_b], atol=1e-3)
    np.testing.assert_allclose(a.scores[order_a], b.scores[order_b], atol=1e-6)


# -- maxima of a window --------------------------------------------------------------------------------------


@given(seeds, shapes, st.integers(0, 5))
def test_window_maximum(seed, shape, radius):
    values = noise(seed, shape) - 0.5
    wanted = ndimage.maximum_filter(values, 2 * radius + 1, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(window_maximum(values, radius), wanted)


@given(seeds, shapes, st.integers(1, 4), st.sampled_from([None, 3]), st.floats(-0.1, 1), st.data())
def test_maxima_of_rows(seed, shape, radius, levels, lowest, data):
    values = noise(seed, shape, levels)
    start = data.draw(st.integers(0, shape[1] - 1))
    rows = slice(start, data.draw(st.integers(start + 1, shape[1] + 3)))
    wanted = np.argwhere((values == window_maximum(values, radius)) & (values > lowest))
    wanted = wanted[(wanted[:, 1] >= rows.start) & (wanted[:, 1] < rows.stop)]
    np.testing.assert_array_equal(maxima(values, radius, lowest, rows), wanted)


@given(seeds, shapes, st.integers(1, 6), st.sampled_from([None, 3, 30]), st.floats(0, 1), st.floats(0, 1.5))
def test_what_does_not_reach_may_be_left_out_unless_it_touches_its_equal(seed, shape, radius, levels, lowest, reach):
    values = noise(seed, shape, levels)
    every = np.argwhere((values == window_maximum(values, radius)) & (values > lowest))
    found = {tuple(v) for v in maxima(values, radius, lowest, reach=reach).tolist()}
    assert found <= {tuple(v) for v in every.tolist()}
    for voxel, height in zip(every.tolist(), refine(values, every)[1] if len(every) else []):
        box = values[tuple(slice(max(0, i - 1), i + 2) for i in voxel)]
        if height >= reach or np.count_nonzero(box == values[tuple(voxel)]) > 1:
            assert tuple(voxel) in found


@pytest.mark.parametrize("at_once", [300, 3000])
@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_maxima_do_not_depend_on_how_many_are_looked_at_together(radius, at_once, monkeypatch):
    values = noise(radius, (13, 40, 17), 50)
    wanted = np.argwhere((values == window_maximum(values, radius)) & (values > 0.3))
    monkeypatch.setattr("tomopick.picking.peaks.VOXELS_AT_ONCE", at_once)
    np.testing.assert_array_equal(maxima(values, radius, 0.3), wanted)


@pytest.mark.parametrize("levels", [2, 3, 50])
@pytest.mark.parametrize("radius", [2, 3, 5, 8])
def test_maxima_do_not_depend_on_how_they_are_compared(radius, levels, monkeypatch):
    values = noise(radius, (13, 40, 17), levels)
    wanted = np.argwhere((values == window_maximum(values, radius)) & (values > 0.3))
    for comparisons in (0, 1, 10**9):
        monkeypatch.setattr("tomopick.picking.peaks.AS_A_WHOLE", comparisons)
        np.testing.assert_array_equal(maxima(values, radius, 0.3), wanted)


def test_a_saturated_heatmap_is_not_compared_cube_by_cube(monkeypatch):
    # Where much is of one height no cube tells a summit, and there are as many cubes as cells.
    compared, plain = [], np.clip
    monkeypatch.setattr("tomopick.picking.peaks.np.clip", lambda a, *b: compared.append(np.size(a)) or plain(a, *b))
    values = np.zeros((24, 60, 60))
    values[:, 5:55, 5:55] = 1.0
    found = maxima(values, 9, 0.5)
    assert len(found) == np.count_nonzero(values)
    assert sum(compared) < 3 * 27 * len(found)  # three indices for each of the nearest; else for 19^3 - 1 a cell


# -- sub-voxel -----------------------------------------------------------------------------------------------


@given(st.tuples(*[st.floats(-0.49, 0.49)] * 3), st.floats(0.36, 5), st.floats(0.01, 1))
def test_refine_is_exact_for_gaussians(shift, sigma, height):
    offsets = np.stack(np.meshgrid(*[np.arange(-2, 3.0)] * 3, indexing="ij"), -1) - shift
    values = height * np.exp(-0.5 * (offsets**2).sum(-1) / sigma**2)
    position, top = refine(values, np.array([[2, 2, 2]]))
    np.testing.assert_allclose(position[0], np.add(2, shift), atol=1e-6)
    assert top[0] == pytest.approx(height)


@given(st.tuples(*[st.floats(-0.49, 0.49)] * 3), st.floats(0.1, 3), st.floats(-2, 0))
def test_refine_is_exact_for_parabolas_that_are_not_positive(shift, steep, height):
    offsets = np.stack(np.meshgrid(*[np.arange(-1, 2.0)] * 3, indexing="ij"), -1) - shift
    values = height - steep * (offsets**2).sum(-1)
    position, top = refine(values, np.array([[1, 1, 1]]))
    np.testing.assert_allclose(position[0], np.add(1, shift), atol=1e-6)
    assert top[0] == pytest.approx(height, abs=1e-9)


@given(seeds)
def test_refine_stays_within_half_a_voxel_and_never_lowers(seed):
    values = noise(seed, (8, 9, 10)) ** 8  # from 1e-8 to 1
    peaks = np.argwhere(values == window_maximum(values, 1))
    position, top = refine(values, peaks)
    assert np.abs(position - peaks).max() <= 0.5
    assert (top >= values[tuple(peaks.T)] - 1e-7).all()


def test_a_neighbour_near_zero_does_not_lift_a_peak():
    """The logarithm of 1e-9 beside two equal voxels would make 0.82 of 0.5."""
    values = np.full((3, 3, 4), 1e-9)
    values[1, 1, 1:3] = 0.5
    position, top = refine(values, np.array([[1, 1, 1]]))
    np.testing.assert_allclose(position, [[1, 1, 1.5]])
    assert 0.5 < top[0] < 0.6


@pytest.mark.parametrize("spacing, cells", [(10.012, 3), (9.2, 3), (12.0, 3), (20.0, 2), (100.0, 1)])
def test_a_window_of_one_size_for_all_objects(spacing, cells):
    peaks, grid = LocalMaxima(half_width=30.0, min_distance=0.0), Grid((24, 24, 24), spacing)
    assert [peaks.radius_cells(obj, grid) for obj in (A, B)] == [cells, cells]
    values = np.zeros((2, 24, 24, 24), np.float32)
    values[:, 12, 12, 12], values[:, 12, 12, 12 + cells], values[:, 12, 12, 11 - cells] = 0.9, 0.8, 0.7
    found = peaks(Heatmap("TS_1", values, grid, (A.name, B.name)), (A, B), {A.name: 0.3, B.name: 0.3})
    for obj in (A, B):  # the second lies within the window of the first
        x = np.sort(grid.indices(found.of(obj.name).positions)[:, 2])
        np.testing.assert_allclose(x, [11 - cells, 12], atol=0.5)


def test_a_window_below_zero():
    with pytest.raises(RecipeError, match=r"peaks.half_width is -3; it must be 0 \(for `window`\) or more \[Å\]"):
        LocalMaxima(half_width=-3)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_settings_that_mean_nothing_are_refused(value):
    for field in ("window", "half_width", "min_distance"):
        with pytest.raises(RecipeError, match=rf"peaks\.{field} is {value:g}; it must be"):
            LocalMaxima(**{field: value})
    for decoder, field in ((Components, "min_cells"), (Watershed, "min_cells"), (Watershed, "separation")):
        with pytest.raises(RecipeError, match=rf"peaks\.{field} is {value:g}; it must be"):
            decoder(**{field: value})
    with pytest.raises(RecipeError, match=r"peaks\.window is 0; it must be"):
        LocalMaxima(window=0)


# -- strips --------------------------------------------------------------------------------------------------


def strips(whole: Heatmap, heights: list[int]):
    start = 0
    z, n, x = whole.grid.shape
    for height in [*heights, n]:
        stop = min(n, start + height)
        if stop > start:
            grid = whole.grid.crop((0, start, 0), (z, stop - start, x))
            yield Heatmap(whole.run, whole.values[:, :, start:stop], grid, whole.objects)
        start = stop


@given(seeds, st.lists(st.integers(1, 14), max_size=12), st.floats(0, 0.9))
@settings(max_examples=60)
def test_strips_give_the_candidates_of_the_whole(seed, heights, threshold):
    values = np.stack([noise(seed, (7, 40, 9)), noise(seed + 1, (7, 40, 9))]) ** 3
    rng = np.random.default_rng(seed)
    for z, y, x in rng.integers(0, (6, 38, 8), size=(6, 3)):
        values[int(rng.integers(2)), z : z + 2, y : y + 2, x : x + 2] = 1.0  # plateaus, cut by strips or not
    whole = heatmap(values, (A, B))
    peaks, objects, cuts = LocalMaxima(window=0.67), (A, B), {"a": threshold, "b": threshold}
    parts = with_halo(strips(whole, heights), lambda grid: peaks.halo(objects, grid))
    found = Picks.join("TS_1", [peaks.candidates(strip, objects, cuts) for strip in parts])
    wanted = peaks.candidates(whole, objects, cuts)
    assert len(wanted) > 0
    same(found, wanted)
    thin = decode_rows(strips(whole, heights), peaks, objects, cuts, "TS_1")
    direct = peaks(whole, objects, cuts)
    np.testing.assert_array_equal(thin.positions.round(3), direct.positions.round(3))
    np.testing.assert_array_equal(thin.names, direct.names)


def test_channels_are_found_by_name():
    values = np.zeros((2, 9, 9, 9), np.float32)
    values[1, 4, 4, 4] = 0.9
    found = LocalMaxima()(heatmap(values, (B, A)), (A, B), {"a": 0.5, "b": 0.5})
    assert found.names.tolist() == ["a"]


# -- minimum distance ----------------------------------------------------------------------------------------


def greedy(positions: np.ndarray, scores: np.ndarray, distance: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if all(np.linalg.norm(positions[i] - positions[j]) >= distance for j in kept):
            kept.append(i)
    return kept


@given(seeds, st.integers(0, 60), st.floats(5, 80))
def test_thin_is_greedy_by_score(seed, n, distance):
    rng = np.random.default_rng(seed)
    positions, scores = rng.uniform(0, 200, (n, 3)), rng.random(n)
    names = rng.choice(["a", "b"], n)
    peaks = LocalMaxima(min_distances={"a": distance, "b": 2 * distance})
    found = peaks.thin(Picks("TS_1", positions, names, scores), (A, B))
    wanted = []
    for name, d in (("a", distance), ("b", 2 * distance)):
        own = np.flatnonzero(names == name)
        wanted += own[greedy(positions[own], scores[own], d)].tolist()
    wanted.sort(key=lambda i: -scores[i])
    np.testing.assert_array_equal(found.positions, positions[wanted].reshape(-1, 3))
    assert found.names.tolist() == names[wanted].tolist() if wanted else len(found) == 0


def test_exactly_the_minimum_distance_is_far_enough():
    picks = Picks("TS_1", [[0, 0, 0], [0, 0, 36.0], [0, 0, 71.9]], ["a"] * 3, [0.9, 0.8, 0.7])
    assert LocalMaxima(min_distance=1.2).thin(picks, (A,)).positions[:, 2].tolist() == [0, 36.0]


def test_the_kept_do_not_depend_on_the_order_of_equals():
    picks = Picks("TS_1", [[0, 0, 0], [0, 0, 20], [0, 0, 40.0]], ["a"] * 3, [0.5] * 3)
    forth = LocalMaxima().thin(picks, (A,))
    back = LocalMaxima().thin(picks.select([2, 1, 0]), (A,))
    np.testing.assert_array_equal(forth.positions, back.positions)
    assert len(forth) == 2


def test_objects_do_not_suppress_one_another():
    values = np.zeros((2, 9, 9, 9), np.float32)
    values[0, 4, 4, 4], values[1, 4, 4, 5] = 0.9, 0.8
    found = LocalMaxima()(heatmap(values, (A, B)), (A, B), {"a": 0.5, "b": 0.5})
    assert found.names.tolist() == ["a", "b"] and found.scores.tolist() == pytest.approx([0.9, 0.8])


# -- plateaus and thresholds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1, 2), (3, 3, 3), (2, 4, 5)])
def test_a_plateau_gives_one_pick_in_its_middle(size):
    """A heatmap ends at 1: where the network went beyond, the corner of the plateau is no better than its middle."""
    values = np.zeros((1, 16, 16, 16), np.float32)
    values[0, 5 : 5 + size[0], 6 : 6 + size[1], 7 : 7 + size[2]] = 1.0
    found = LocalMaxima()(heatmap(values), (A,), {"a": 0.5})
    np.testing.assert_allclose(found.positions / 10, [np.add((5, 6, 7), (np.array(size) - 1) / 2)], atol=1e-6)
    assert found.scores.tolist() == [1.0]


def test_a_clipped_gaussian_keeps_its_centre():
    centre = np.array([10.3, 11.4, 9.8])
    offsets = np.stack(np.meshgrid(*[np.arange(22.0)] * 3, indexing="ij"), -1) - centre
    values = np.minimum(1.3 * np.exp(-0.5 * (offsets**2).sum(-1) / 3**2), 1).astype(np.float32)
    found = LocalMaxima()(heatmap(values[None]), (PickableObject("a", 90.0),), {"a": 0.5})
    assert len(found) == 1
    assert np.abs(found.positions[0] / 10 - centre).max() < 0.35  # half a voxel at most


def test_a_score_that_reaches_its_threshold_is_kept():
    values = np.zeros((1, 9, 9, 9), np.float32)
    values[0, 4, 4, 4] = 0.5
    for threshold, n in ((0.5, 1), (np.nextafter(0.5, 1), 0), (0.0, 1)):
        assert len(LocalMaxima()(heatmap(values), (A,), {"a": threshold})) == n
    assert len(LocalMaxima()(heatmap(np.zeros((1, 9, 9, 9), np.float32)), (A,), {"a": 0.0})) == 0


def test_a_higher_threshold_gives_the_same_picks_less_the_lower_ones():
    values = ndimage.gaussian_filter(noise(3, (20, 20, 20)), 1.5)
    values = ((values - values.min()) / np.ptp(values))[None]
    low = LocalMaxima().candidates(heatmap(values), (A,), {"a": 0.2})
    high = LocalMaxima().candidates(heatmap(values), (A,), {"a": 0.6})
    assert 0 < len(high) < len(low)
    same(high, low.above({"a": 0.6}))


def test_other_smallest_distances():
    from tomopick.core.errors import SelectionError
    from tomopick.picking.decoders import Components
    from tomopick.picking.peaks import distances_of, with_distances

    mt = PickableObject("mt", 125.0)
    peaks = with_distances(LocalMaxima(min_distances={"x": 5.0}), {"mt": 80.0})
    assert distances_of(peaks, [mt]) == {"mt": 80.0} and distances_of(LocalMaxima(), [mt]) == {"mt": 150.0}
    assert peaks.min_distances == {"x": 5.0, "mt": 80.0} and with_distances(peaks, {}) is peaks
    for wrong in (0.0, -3.0, float("nan")):
        with pytest.raises(SelectionError, match="expected a positive number"):
            with_distances(peaks, {"mt": wrong})
    with pytest.raises(SelectionError, match="keeps no distance"):
        with_distances(Components(), {"mt": 80.0})
