"""Volume -> rows of heatmap -> strips, alone and averaged over members. An engine is any callable."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomopick.core.errors import TomopickError
from tomopick.core.types import Grid, Heatmap, PickableObject, Picks
from tomopick.networks.activations import Rectified
from tomopick.networks.engines import choose_device
from tomopick.networks.engines.eager import TorchEngine
from tomopick.picking.peaks import LocalMaxima
from tomopick.picking.predict import VIEWS, Predictor, predict_rows
from tomopick.picking.rows import average, join_rows, on_one_grid, with_halo
from tomopick.picking.tiling import GaussianWindow, LargestTiles, LinearWindow, Means, SteepWindow, TilingSpec
from tomopick.training.targets import GaussianTarget

A = PickableObject("a", 60.0)


class Identity(torch.nn.Module):
    """Two channels: the mean of each cell's block of voxels, and one minus it."""

    def __init__(self, stride: int = 1):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        x = torch.nn.functional.avg_pool3d(x, self.stride)
        return torch.cat([x, 1 - x], dim=1)


def predictor(stride=1, multiple=1, shape=(16, 16, 16), overlap=4, window=None, **more) -> Predictor:
    tiling = TilingSpec(shape, overlap, window or LinearWindow())
    engine = TorchEngine(Identity(stride), torch.device("cpu"))
    more = {"engine": engine, "objects": ("a", "b")} | more
    return Predictor(activation=Rectified(), tiling=tiling, stride=stride, multiple=multiple, **more)


def volume(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def blocks(values: np.ndarray, stride: int) -> np.ndarray:
    """Means of blocks, the volume padded with 0 to whole ones."""
    padded = np.pad(values, [(0, -n % stride) for n in values.shape])
    z, y, x = (n // stride for n in padded.shape)
    return padded.reshape(z, stride, y, stride, x, stride).mean(axis=(1, 3, 5))


# -- tiles and rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [LinearWindow(), GaussianWindow()])
@pytest.mark.parametrize("shape", [(16, 16, 16), (5, 9, 7), (33, 50, 41), (3, 64, 20), (1, 1, 1), (17, 16, 47)])
@pytest.mark.parametrize("stride, multiple", [(1, 1), (1, 4), (2, 4), (4, 8)])
def test_tiling_and_blending_give_the_volume_back(shape, stride, multiple, window):
    values, grid = volume(shape), Grid(shape, 10.0, (5.0, -20.0, 3.0))
    rows = list(predict_rows(predictor(stride, multiple, window=window), "TS_1", values, grid))
    whole = join_rows(rows)
    np.testing.assert_allclose(whole.values[0], blocks(values, stride), atol=1e-5)
    np.testing.assert_allclose(whole.values[1], 1 - blocks(values, stride), atol=1e-5)
    assert whole.objects == ("a", "b") and whole.run == "TS_1"
    # The first cell is centred on the first block of voxels.
    np.testing.assert_allclose(whole.grid.origin, grid.positions(np.full(3, (stride - 1) / 2)))
    assert whole.grid.voxel_spacing == stride * 10.0


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(0, 12), st.sampled_from([(1, 1), (1, 2), (2, 4)]))
@settings(max_examples=30)
def test_rows_follow_one_another_and_are_never_higher_than_a_tile(shape, overlap, network):
    stride, multiple = network
    grid = Grid(shape, 10.0)
    seen = []
    made = predictor(stride, multiple, (8, 8, 8), overlap, progress=lambda done, total: seen.append((done, total)))
    rows = list(predict_rows(made, "TS_1", volume(shape), grid))
    first = 0
    for strip in rows:
        assert strip.grid.shape[1] <= 8 // stride  # what is held never grows with y
        assert strip.values.base is None or strip.values.base.nbytes <= strip.values.nbytes  # nor hangs on more
        np.testing.assert_allclose(strip.grid.origin[1], ((stride - 1) / 2 + first * stride) * 10.0)
        first += strip.grid.shape[1]
    assert first == -(-shape[1] // stride)
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))]


def test_rows_are_given_out_before_the_next_are_predicted():
    done = []
    rows = predict_rows(
        predictor(shape=(8, 8, 8), overlap=0, progress=lambda n, _: done.append(n)),
        "TS_1", volume((8, 32, 8)), Grid((8, 32, 8), 10.0),
    )  # fmt: skip
    next(rows)
    assert done == [1]


def test_what_lies_outside_the_volume_is_zero_to_the_network():
    sums = []

    def engine(tile):
        sums.append(float(tile.sum()))
        return np.stack([tile, tile])

    values = np.ones((5, 5, 5), np.float32)
    join_rows(predict_rows(predictor(1, 4, engine=engine), "TS_1", values, Grid((5, 5, 5), 10.0)))
    assert sums == [125.0]


# -- views ---------------------------------------------------------------------------------------------------


def lopsided(tile: np.ndarray) -> np.ndarray:
    """A network without symmetry: each cell sees its lower neighbours along each axis, with unequal weights."""
    moved = [np.roll(tile, 1, axis) * w for axis, w in enumerate((0.1, 0.3, 0.5))]
    return np.clip(np.sum(moved, axis=0), 0, 1)[None]


@pytest.mark.parametrize(
    "name, turns",  # how z, y, x are flipped, and by how many quarter turns in the plane before that
    [
        ("none", [("", 0)]),
        ("opposite", [("", 0), ("zyx", 0)]),
        ("flips", [("", 0), ("z", 0), ("y", 0), ("x", 0)]),
        ("mirrors", [("", 0), ("y", 0), ("x", 0), ("y", 1)]),
        ("turns", [("", 0), ("z", 0), ("y", 0), ("x", 0), ("", 1), ("", 2), ("", 3)]),
        ("all", [(f, 0) for f in ("", "z", "y", "x", "zy", "zx", "yx", "zyx")]),
    ],
)
def test_views_are_turned_back_and_averaged(name, turns):
    tile = volume((4, 6, 8))
    wanted = []
    for axes, quarters in turns:
        flips = tuple("zyx".index(axis) for axis in axes)
        heat = lopsided(np.flip(np.rot90(tile, quarters, (1, 2)), flips))[0]
        wanted.append(np.rot90(np.flip(heat, flips), -quarters, (1, 2)))
    assert len({w.tobytes() for w in wanted}) == len(turns)
    found = predictor(engine=lopsided, objects=("a",), views=VIEWS[name])
    np.testing.assert_allclose(found.tile(tile)[0], np.mean(wanted, axis=0), atol=1e-6)
    assert found.tile(tile).dtype == np.float32


@pytest.mark.parametrize("view", sorted({v for views in VIEWS.values() for v in views}, key=str))
def test_indices_in_a_view_are_those_of_the_same_voxels(view):
    tile = volume((4, 6, 8))
    seen = view.of(tile)
    indices = np.argwhere(np.ones(seen.shape))
    np.testing.assert_array_equal(tile[tuple(view.indices_back(indices, tile.shape).T)], seen.ravel())


# -- strips --------------------------------------------------------------------------------------------------


def rows_of(whole: Heatmap, heights):
    start = 0
    z, n, x = whole.grid.shape
    for height in [*heights, n]:
        stop = min(n, start + height)
        if stop > start:
            grid = whole.grid.crop((0, start, 0), (z, stop - start, x))
            yield Heatmap(whole.run, whole.values[:, :, start:stop], grid, whole.objects)
        start = stop


def whole_heatmap(n: int) -> Heatmap:
    return Heatmap("TS_1", volume((1, 3, n, 4)), Grid((3, n, 4), 10.0, (1.0, 2.0, 3.0)), ("a",))


@given(st.integers(1, 40), st.lists(st.integers(1, 12), max_size=12), st.integers(0, 9))
def test_cores_cover_all_rows_once_with_their_halo(n, heights, halo):
    whole = whole_heatmap(n)
    answered = 0
    for strip in with_halo(rows_of(whole, heights), lambda grid: halo):
        first = round((strip.grid.origin[1] - 2.0) / 10.0)
        start, stop = first + strip.core.start, first + strip.core.stop
        assert start == answered and stop > start
        assert first == 0 or strip.core.start >= halo
        assert first + strip.grid.shape[1] == n or strip.grid.shape[1] - strip.core.stop >= halo
        np.testing.assert_array_equal(strip.values, whole.values[:, :, first : first + strip.grid.shape[1]])
        answered = stop
    assert answered == n


@given(st.integers(1, 40), st.lists(st.integers(1, 12), max_size=12))
def test_join_rows_is_the_whole(n, heights):
    whole = whole_heatmap(n)
    joined = join_rows(rows_of(whole, heights))
    np.testing.assert_array_equal(joined.values, whole.values)
    assert joined.grid == whole.grid and joined.objects == whole.objects


# -- ensembles -----------------------------------------------------------------------------------------------

CENTRES = np.array([[140.0, 163.0, 151.0], [133.0, 310.0, 142.0], [147.0, 468.0, 158.0]])  # [Å]


def member(grid: Grid, objects=("a",), height=9, centres=CENTRES):
    """Rows of the heatmap of known particles, as a member of this grid would give them."""
    known = [PickableObject(name, 90.0) for name in objects]
    truth = Picks("TS_1", centres, ["a"] * len(centres))
    whole = GaussianTarget()(truth, grid, known)
    return rows_of(whole, [height] * grid.shape[1])


def average_rows(members, weights=None):
    weights = weights or [1.0] * len(members)
    return (average(s, [dict.fromkeys("ab", w) for w in weights]) for s in on_one_grid(members))


FINE = Grid((30, 62, 30), 10.0)
OTHERS = {
    "the same": Grid((30, 62, 30), 10.0),
    "stride 2": Grid((30, 62, 30), 10.0).downsample(2),
    "another spacing": Grid((21, 44, 21), 14.2, (2.1, 2.1, 2.1)),
    "stride 2 of another spacing": Grid((24, 50, 24), 12.7, (1.35, 1.35, 1.35)).downsample(2),
    "another origin": Grid((31, 63, 31), 10.0, (-4.0, -3.0, -6.0)),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("heights", [(9, 4), (3, 17), (62, 1)])
def test_members_of_unlike_grids_agree_on_the_place(other, swap, heights):
    members = [member(FINE, height=heights[0]), member(OTHERS[other], height=heights[1])]
    strips = list(average_rows(members[::-1] if swap else members))
    assert max(s.grid.shape[1] for s in strips) <= max(heights)
    mean = join_rows(strips)
    assert mean.grid.voxel_spacing == 10.0
    found = LocalMaxima()(mean, [PickableObject("a", 90.0)], {"a": 0.5})
    assert len(found) == 3
    order = np.argsort(found.positions[:, 1])
    assert np.abs(found.positions[order] - CENTRES).max() < 0.05 * 10.0


def test_equal_members_are_unchanged():
    alone = join_rows(member(FINE))
    mean = join_rows(average_rows([member(FINE, height=7), member(FINE, height=20)], weights=[1.0, 3.0]))
    np.testing.assert_allclose(mean.values, alone.values, atol=1e-6)
    assert mean.grid == alone.grid


def test_weights_are_relative():
    whole = whole_heatmap(20)
    zero = Heatmap("TS_1", np.zeros_like(whole.values), whole.grid, ("a",))
    mean = join_rows(average_rows([rows_of(whole, [5] * 4), rows_of(zero, [3] * 7)], weights=[1.0, 3.0]))
    np.testing.assert_allclose(mean.values, whole.values / 4, atol=1e-6)


def test_an_object_that_one_member_knows_is_that_members():
    members = [member(FINE, ("a",)), member(OTHERS["stride 2"], ("b", "a"))]
    mean = join_rows(average_rows(members))
    assert mean.objects == ("a", "b")
    own = join_rows(average_rows([member(FINE, ("b",)), member(FINE, ("a",))]))
    assert own.objects == ("b", "a")
    np.testing.assert_allclose(own.values[1], join_rows(member(FINE, ("a",))).values[0], atol=1e-6)
    assert own.values[0].max() == 0


def test_interpolation_between_members_is_never_negative_and_overshoots_little():
    values = (volume((1, 8, 12, 8)) > 0.5).astype(np.float32)
    coarse = Heatmap("TS_1", values, Grid((8, 12, 8), 20.0, (5.0, 5.0, 5.0)), ("a",))
    fine = Heatmap("TS_1", np.zeros((1, 16, 24, 16), np.float32), Grid((16, 24, 16), 10.0), ("b",))
    mean = join_rows(average_rows([[fine], rows_of(coarse, [2] * 6)]))
    # Blocks of 0 and 1 are the worst case; cutting overshoot off at 1 would flatten true peaks and move them.
    assert mean.values.min() >= 0
    assert 1 <= mean.values.max() <= 1.6


# -- engines -------------------------------------------------------------------------------------------------


def test_an_engine_takes_flipped_views_and_answers_in_float32():
    engine = TorchEngine(Identity(), choose_device("cpu"))
    tile = volume((4, 4, 6))
    found = engine(np.flip(tile, (0, 2)))
    assert found.dtype == np.float32 and found.shape == (2, 4, 4, 6)
    np.testing.assert_allclose(found[0], tile[::-1, :, ::-1], atol=1e-6)


def test_an_engine_evaluates():
    network = torch.nn.Sequential(torch.nn.BatchNorm3d(1), torch.nn.Dropout(0.9))
    engine = TorchEngine(network, torch.device("cpu"))
    tile = volume((4, 4, 4))
    np.testing.assert_allclose(engine(tile)[0], tile, rtol=1e-4)
    np.testing.assert_array_equal(engine(tile), engine(tile))


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(TomopickError, match="cannot be used"):
        choose_device(name)


def test_pairs_of_strips_touch():
    rows = list(predict_rows(predictor(shape=(8, 8, 8)), "TS_1", volume((8, 30, 8)), Grid((8, 30, 8), 10.0)))
    for a, b in pairwise(rows):
        assert a.grid.origin[1] + a.grid.shape[1] * 10.0 == pytest.approx(b.grid.origin[1])


@pytest.mark.parametrize("slab", [1, 2000, 2**22])
def test_blending_does_not_depend_on_how_much_is_done_at_a_time(slab, monkeypatch):
    """Tiles reach beyond the volume, by whole slabs too."""
    monkeypatch.setattr("tomopick.picking.predict.SLAB", slab)
    values, grid = volume((21, 50, 17)), Grid((21, 50, 17), 10.0)
    made = predictor(1, 8, (16, 16, 16), views=VIEWS["all"])
    whole = join_rows(predict_rows(made, "TS_1", values, grid))
    np.testing.assert_allclose(whole.values[0], values, atol=1e-5)


def test_strips_take_little_memory(monkeypatch):
    monkeypatch.setattr("tomopick.picking.rows.BYTES_AT_ONCE", 3 * 4 * 4 * 5)  # five rows
    whole = whole_heatmap(40)
    strips = list(with_halo([whole], lambda grid: 2))
    assert max(s.grid.shape[1] for s in strips) <= 5 + 2 * 2
    assert sum(s.core.stop - s.core.start for s in strips) == 40


def test_planned_tiles_need_no_more_of_a_predictor():
    values, grid = volume((20, 60, 44)), Grid((20, 60, 44), 10.0)
    made = replace(predictor(2, 4), tiling=LargestTiles(Means(8, 20 * 24 * 28, 10**9), SteepWindow()))
    whole = join_rows(predict_rows(made, "TS_1", values, grid))
    np.testing.assert_allclose(whole.values[0], blocks(values, 2), atol=1e-5)
