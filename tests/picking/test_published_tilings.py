"""Published tilings: their windows, and their weights against the plain sum over all tiles."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tomopick.core.errors import RecipeError
from tomopick.core.types import Grid
from tomopick.networks.losses import DenseCrossEntropy, HeatmapWeightedMSE
from tomopick.picking.predict import VIEWS, Predictor, predict_rows
from tomopick.picking.published_tilings import EvenTiles, FlatWindow, ScanTiles, StepTiles
from tomopick.picking.rows import join_rows
from tomopick.picking.tiling import GaussianWindow, cut

CZII = (184, 630, 630)


def starts(tiling, volume=CZII, multiple=1):
    return tiling.plan(volume, multiple)


def test_scan_tiles_are_monais():
    """As MONAI's dense_patch_slices with the topcup package's overlap: 243 windows."""
    edges, (z, y, x) = starts(ScanTiles((96, 96, 96), 0.21), multiple=32)
    assert edges == (96, 96, 96)
    assert z == [0, 75, 88] and y == x == [0, 75, 150, 225, 300, 375, 450, 525, 534]
    assert starts(ScanTiles((160, 384, 384), 0.25))[1] == ([0, 24], [0, 246], [0, 246])
    assert starts(ScanTiles((96, 96, 96), 0.0), (192, 96, 20), 4) == ((96, 96, 20), ([0, 96], [0], [0]))
    assert starts(ScanTiles((8, 8, 8), 0.9), (12, 8, 8))[1][0] == [0, 1, 2, 3, 4]


def test_step_tiles_are_the_4th_places():
    edges, (z, y, x) = starts(StepTiles(), multiple=8)
    assert edges == (16, 128, 128) and (len(z), len(y), len(x)) == (22, 12, 12)
    assert z[-1] == 168 and y[-1] + 128 == 656
    _, (z, y, x) = starts(StepTiles((32, 128, 128), (16, 48, 48)), multiple=8)
    assert (len(z), len(y), len(x)) == (11, 12, 12) and z[-1] + 32 == 192
    assert starts(StepTiles(), (16, 100, 128), 8) == ((16, 104, 128), ([0], [0], [0]))


def test_even_tiles_are_bpds():
    edges, (z, y, x) = starts(EvenTiles(), multiple=4)
    assert edges == (96, 96, 96)
    assert z == [0, 88] and y == x == [0, 76, 152, 228, 305, 381, 457, 534]
    assert starts(EvenTiles(), (96, 97, 301))[1] == ([0], [0, 2], [0, 51, 103, 154, 206])


def test_weights():
    pyramid = StepTiles().weights((16, 128, 128))
    assert pyramid.max() == pytest.approx(1, abs=0.15) and pyramid.min() == pytest.approx(1e-6)
    assert np.unravel_index(pyramid.argmax(), pyramid.shape)[1:] == (63, 63)
    flat = StepTiles(flat=True).weights((16, 128, 128))
    assert flat.shape == pyramid.shape and flat.dtype == np.float32 and (flat == 1).all()
    border = EvenTiles().weights((96, 96, 96))
    assert border[8, 8, 8] == border[87, 50, 87] == np.float32(1.1)
    assert border[7, 50, 50] == border[50, 50, 88] == border[0, 0, 0] == np.float32(0.1)
    assert (EvenTiles().weights((12, 96, 96)) == np.float32(0.1)).all()
    assert (FlatWindow()(5) == 1).all() and FlatWindow()(5).dtype == np.float32


def engine(tile):
    """Stride 2; a tile's answer depends on all of it, so that blending matters. Three channels."""
    cells = tile.reshape(tile.shape[0] // 2, 2, tile.shape[1] // 2, 2, tile.shape[2] // 2, 2).mean(axis=(1, 3, 5))
    across = np.arange(cells.shape[2], dtype=np.float32)
    return np.stack([cells + 20 * tile.mean(), 0.1 * across + cells * 0, -cells]).astype(np.float32)


def predictor(tiling, loss, views="none", n=2):
    return Predictor(engine, loss.activation, tiling, 2, 4, tuple("abc"[:n]), VIEWS[views])


def plain(made: Predictor, values: np.ndarray, weights, activate) -> np.ndarray:
    """Sum over all tiles and views of a whole-volume array, divided by the sum of the weights."""
    edges, (zs, ys, xs) = made.tiling.plan(values.shape, made.multiple)
    total, mass = np.zeros((3, *(n + 200 for n in values.shape))), np.zeros([n + 200 for n in values.shape])
    for z in zs:
        for y in ys:
            for x in xs:
                tile = cut(values, (z, y, x), edges)
                for view in made.views:
                    answer = view.back(engine(view.of(tile)))
                    box = tuple(slice(s // 2, s // 2 + e // 2) for s, e in zip((z, y, x), edges))
                    total[:, *box] += weights * answer
                    mass[box] += weights
    with np.errstate(invalid="ignore"):
        mean = total / mass
    return activate(torch.from_numpy(mean.astype(np.float32))).numpy()[:, *(slice((n + 1) // 2) for n in values.shape)]


@pytest.mark.parametrize("shape", [(20, 42, 30), (16, 75, 16), (13, 33, 47)])
@pytest.mark.parametrize("views", ["none", "opposite"])
def test_the_mean_of_logits(shape, views):
    """Odd starts too; the background takes part until the end."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    loss = DenseCrossEntropy(background="last")
    made = predictor(ScanTiles((16, 16, 16), 0.21), loss, views)
    found = join_rows(predict_rows(made, "A", values, Grid(shape, 10.0)))
    wanted = plain(made, values, np.ones((8, 8, 8)), loss.activate)
    np.testing.assert_allclose(found.values, wanted, atol=1e-5)
    heatmaps = replace(made, tiling=replace(made.tiling, of_logits=False))
    other = join_rows(predict_rows(heatmaps, "A", values, Grid(shape, 10.0)))
    assert np.abs(found.values - other.values).max() > 1e-3
    heat = made.tile(values[:16, :16, :16].copy()) if min(shape) >= 16 else None
    assert heat is None or (heat.shape == (2, 8, 8, 8) and (heat.sum(axis=0) <= 1).all())


def test_an_end_that_no_tile_covers():
    made = replace(predictor(ScanTiles((16, 16, 16), 0.21), DenseCrossEntropy()), stride=4)
    with pytest.raises(RecipeError, match=r"ScanTiles leaves the end of a volume of 16x18x16 voxels uncovered"):
        next(predict_rows(made, "A", np.zeros((16, 18, 16), dtype=np.float32), Grid((16, 18, 16), 10.0)))


@pytest.mark.parametrize(
    "tiling",
    [StepTiles((8, 16, 16), (4, 6, 6)), StepTiles((8, 16, 16), (4, 6, 6), True), EvenTiles((16, 16, 16), 40, 2)],
)
@pytest.mark.parametrize("views", ["none", "flips"])
def test_weights_that_are_no_product(tiling, views):
    shape = (20, 45, 37)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    made = predictor(tiling, HeatmapWeightedMSE(), views, n=3)
    # A linear answer that is above 0 everywhere: the mean of heatmaps is then the mean of logits.
    values = np.abs(values) + 30
    found = join_rows(predict_rows(made, "A", values, Grid(shape, 10.0)))
    edges, _ = tiling.plan(shape, 4)
    wanted = plain(made, values, tiling.weights(tuple(e // 2 for e in edges)), torch.nn.functional.relu)
    np.testing.assert_allclose(found.values, wanted, rtol=2e-5, atol=1e-4)


def test_gaussian_weights_of_scan_tiles():
    shape = (20, 45, 37)
    values = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    loss, window = DenseCrossEntropy(background="first"), GaussianWindow()
    made = predictor(ScanTiles((16, 16, 16), 0.25, window), loss)
    found = join_rows(predict_rows(made, "A", values, Grid(shape, 10.0)))
    weights = np.einsum("i,j,k->ijk", *[window(8)] * 3)
    np.testing.assert_allclose(found.values, plain(made, values, weights, loss.activate), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScanTiles((0, 8, 8)), "its edges must be positive"),
        (lambda: ScanTiles(fraction=1.0), "tiling.fraction is 1; it must be from 0 to just below 1"),
        (lambda: StepTiles(step=(8, 0, 8)), "expected positive steps of at most a tile"),
        (lambda: StepTiles(step=(8, 200, 8)), "expected positive steps of at most a tile"),
        (lambda: EvenTiles(border=-1), "tiling.border must be at least 0"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
