"""Grey values: what must not change them, and statistics that tell volumes apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tomopick.core.errors import ReadError, RecipeError
from tomopick.core.statistics import contrast_at, radial_spectrum, skewness
from tomopick.core.types import Grid, Tomogram
from tomopick.picking.normalize import FixedLimits, RobustNormalization, ZScore

NORMALIZE = RobustNormalization(block=80.0)
SHAPE = (48, 96, 96)


def tomogram(values: np.ndarray, spacing: float = 10.0) -> Tomogram:
    values = np.asarray(values, dtype=np.float32)
    return Tomogram("TS_1", values, Grid(values.shape, spacing))


def specimen(seed: int = 0, shape=SHAPE, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Ice of deviation 1 with dark balls, and where the balls are."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, shape, (n, 3)).astype(int)
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(centres.T)] = True
    balls = ndimage.distance_transform_edt(~inside) <= 4
    return rng.normal(size=shape).astype(np.float32) - 1.5 * balls, balls


def beads(shape, share: float, seed: int = 1) -> np.ndarray:
    """Balls that fill a share of the volume."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(shape, dtype=bool)
    n = max(1, round(share * inside.size / 515))  # voxels of a ball of radius 5
    inside[tuple((rng.uniform(6, np.array(shape) - 6, (n, 3))).astype(int).T)] = True
    return ndimage.distance_transform_edt(~inside) <= 5


def test_ice_has_mean_0_and_deviation_1():
    values = NORMALIZE(tomogram(np.random.default_rng(0).normal(300, 20, SHAPE)))
    assert values.dtype == np.float32
    assert abs(np.median(values)) < 0.02
    # The compression hardly touches one deviation; the band lies above the median block.
    assert abs(np.quantile(values, 0.84) - 2 * np.arcsinh(0.5)) < 0.06


@pytest.mark.parametrize("share", [0.0002, 0.01])
def test_gold_decides_nothing(share):
    clean, _ = specimen()
    gold = np.where(beads(SHAPE, share), clean - 50, clean)
    assert (gold < -40).mean() > 0.5 * share
    mean, deviation = NORMALIZE.statistics(tomogram(clean))
    mean_gold, deviation_gold = NORMALIZE.statistics(tomogram(gold))
    assert abs(deviation_gold / deviation - 1) < 0.05
    assert abs(mean_gold - mean) < 0.05 * deviation


def test_strong_particles_in_quiet_ice_are_no_outliers():
    """A denoised volume: its particles stand far above the noise, yet they are the specimen."""
    _, balls = specimen(n=200)
    rng = np.random.default_rng(2)
    values = ndimage.gaussian_filter(np.where(balls, -1.0, 0.0), 1) + rng.normal(0, 0.01, SHAPE)
    plain = RobustNormalization(block=80.0, outlier=np.inf)
    assert NORMALIZE.statistics(tomogram(values)) == plain.statistics(tomogram(values))


def test_empty_ice_above_and_below_changes_little():
    thin, balls = specimen(n=90, shape=(48, 192, 192))
    rng = np.random.default_rng(3)
    ice = [rng.normal(0, 0.5, thin.shape).astype(np.float32) for _ in range(2)]
    thick = np.concatenate([ice[0], thin, ice[1]])
    normalize = RobustNormalization()
    in_thin, in_thick = normalize(tomogram(thin)), normalize(tomogram(thick))[48:96]
    assert np.corrcoef(in_thin[balls], in_thick[balls])[0, 1] > 0.999
    # (Deviations of the whole volumes differ by 40 %.)
    assert abs(in_thick[balls].mean() / in_thin[balls].mean() - 1) < 0.1
    assert abs(in_thick[balls].std() / in_thin[balls].std() - 1) < 0.1


@pytest.mark.parametrize("filling", [0.0, 1000.0, np.nan])
def test_borders_are_left_out(filling):
    inner, _ = specimen()
    padded = np.pad(inner, ((8, 16), (24, 24), (16, 32)), constant_values=filling)
    found = NORMALIZE(tomogram(padded))
    wanted = NORMALIZE(tomogram(inner))
    assert np.isfinite(found).all()
    assert np.abs(found[8:-16, 24:-24, 16:-32] - wanted).max() < 0.05
    if np.isnan(filling):
        assert (found[:8] == 0).all() and (found[:, :, -32:] == 0).all()


def test_single_voxels_that_are_not_finite():
    values, _ = specimen()
    broken = values.copy()
    rng = np.random.default_rng(4)
    for bad in (np.nan, np.inf, -np.inf):
        broken[tuple(rng.integers(0, SHAPE, (200, 3)).T)] = bad
    found, wanted = NORMALIZE(tomogram(broken)), NORMALIZE(tomogram(values))
    good = np.isfinite(broken)
    assert np.abs(found[good] - wanted[good]).max() < 0.02
    assert (found[np.isnan(broken)] == 0).all()
    assert set(np.abs(found[np.isinf(broken)]).tolist()) == {10.0}


@given(st.floats(1e-3, 1e4), st.floats(-1e3, 1e3))
@settings(max_examples=20)
def test_affine_grey_changes_do_not_matter(scale, shift):
    values, _ = specimen(shape=(24, 48, 48), n=12)
    found = NORMALIZE(tomogram(values * scale + shift * scale))
    np.testing.assert_allclose(found, NORMALIZE(tomogram(values)), atol=2e-3)


def test_what_is_read_is_not_written():
    values, _ = specimen()
    before = values.copy()
    NORMALIZE(tomogram(values))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("value", [0.0, 7.3e6, np.nan, np.inf])
def test_nothing_in_it(value):
    with pytest.raises(ReadError, match="run TS_1: every voxel has the same value or is not finite"):
        NORMALIZE(tomogram(np.full((32, 32, 32), value)))


def test_volumes_smaller_than_a_block():
    values = RobustNormalization()(tomogram(np.random.default_rng(0).normal(size=(5, 6, 7))))
    assert values.shape == (5, 6, 7) and 0.5 < values.std() < 1.2


# -- those of published methods --------------------------------------------------------------------------------


def test_a_z_score_is_of_the_whole_volume():
    values = np.random.default_rng(0).normal(1e5, 20, SHAPE).astype(np.float32)
    found = ZScore()(tomogram(values))
    wanted = (values - values.mean(dtype=np.float64)) / values.std(dtype=np.float64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    small = ZScore()(tomogram(values * 1e-10))  # as small as grey values are in the challenge
    np.testing.assert_allclose(small, wanted, atol=1e-3)


def test_fixed_limits_are_the_same_for_every_volume():
    values = np.linspace(-3, 5, 64, dtype=np.float32).reshape(4, 4, 4)
    np.testing.assert_allclose(FixedLimits(-1, 1)(tomogram(values)), (values + 1) / 2, atol=1e-6)
    low, high = -1.1769942e-05, 1.2801160e-05
    found = FixedLimits(low, high)(tomogram(np.array([[[low, high, 0.0]]])))
    np.testing.assert_allclose(found.ravel(), [0, 1, -low / (high - low)], atol=1e-6)
    for limits in ((1, 1), (2, 1), (np.nan, 1), (0, np.inf)):
        with pytest.raises(RecipeError, match="expected low < high"):
            FixedLimits(*limits)


@pytest.mark.parametrize("normalize", [ZScore(), FixedLimits(-2.0, 3.0)])
def test_published_normalisations_leave_out_what_is_not_finite(normalize):
    values, _ = specimen()
    broken = values.copy()
    rng = np.random.default_rng(4)
    for bad in (np.nan, np.inf, -np.inf):
        broken[tuple(rng.integers(0, SHAPE, (200, 3)).T)] = bad
    before = broken.copy()
    found, wanted, good = normalize(tomogram(broken)), normalize(tomogram(values)), np.isfinite(broken)
    np.testing.assert_array_equal(broken, before)
    assert np.abs(found[good] - wanted[good]).max() < 0.02 and (found[~good] == 0).all()
    for value in (0.0, 7.3e6, np.nan, np.inf):
        with pytest.raises(ReadError, match="run TS_1: every voxel has the same value or is not finite"):
            normalize(tomogram(np.full((8, 8, 8), value)))


# -- statistics ----------------------------------------------------------------------------------------------


def test_the_spectrum_tells_smooth_from_noisy():
    noisy = np.random.default_rng(0).normal(size=(20, 80, 90)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noisy, 1.5)
    flat, falling = radial_spectrum(noisy), radial_spectrum(smooth / smooth.std())
    assert flat.shape == falling.shape == (16,)
    assert np.ptp(flat) < 0.4  # white
    assert falling[1] - falling[12] > 2 and flat[12] - falling[12] > 1


def test_the_spectrum_peaks_where_the_wave_is():
    x = np.arange(96)
    wave = np.broadcast_to(np.sin(2 * np.pi * x * 21 / 96), (16, 96, 96))
    assert radial_spectrum(wave).argmax() == int(21 / 96 / 0.5 * 16)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 9)])
def test_the_spectrum_of_small_volumes_is_finite(shape):
    assert np.isfinite(radial_spectrum(np.random.default_rng(0).normal(size=shape))).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_contrast_and_skewness_have_the_particles_sign(sign):
    dark, balls = specimen(n=40)
    centres = np.argwhere(balls)[::400]
    values = -sign * (dark - 2.0 * balls)
    grid = Grid(SHAPE, 10.0, (100.0, 0.0, -50.0))
    assert np.sign(contrast_at(values, grid, grid.positions(centres), 40.0)) == sign
    assert np.sign(skewness(values)) == sign and abs(skewness(values)) > 0.15


def test_contrast_is_inside_minus_outside():
    index = np.stack(np.meshgrid(*[np.arange(33)] * 3, indexing="ij"), -1)
    values = np.where(np.linalg.norm(index - 16, axis=-1) <= 4, -3.0, 0.5)
    grid = Grid((33, 33, 33), 10.0)
    assert contrast_at(values, grid, [[160.0, 160, 160]], 40.0) == pytest.approx(-3.5)
    assert contrast_at(values, grid, [[0.0, 160, 160]], 40.0) == 0.0  # too near the border to say
    assert contrast_at(values, grid, np.zeros((0, 3)), 40.0) == 0.0
    assert skewness(np.zeros((8, 8, 8))) == 0.0


@pytest.mark.parametrize("shape", [(24, 64, 48), (16, 16, 16), (17, 40, 33), (5, 9, 300)])
def test_small_volumes_have_finite_statistics(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, shape).astype(np.float32)
    mean, deviation = RobustNormalization().statistics(Tomogram("small", values, Grid(shape, 10.0)))
    assert abs(mean - 3.0) < 0.5
    assert 1.5 < deviation < 2.5


@pytest.mark.parametrize("rows", [48, 64, 80])
@pytest.mark.parametrize("level", [0.0, 3.0, 30.0, 300.0])
def test_padding_that_is_not_quite_constant_is_left_out(rows: int, level: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(level, 1.0, (48, 96, 96)).astype(np.float32)
    values[:, :rows] = rng.normal(0.0, 1e-3, (48, rows, 96))
    mean, deviation = RobustNormalization().statistics(Tomogram("padded", values, Grid(values.shape, 10.0)))
    assert abs(mean - level) < 0.2
    assert 0.9 < deviation < 1.1


def test_volumes_whose_variation_is_a_few_voxels_far_out():
    values = np.random.default_rng(0).standard_normal((16, 32, 32)).astype(np.float32)
    values[3, 4, 5] = values[12, 30, 30] = values[2, 3, 30] = 1e30
    try:
        assert np.isfinite(RobustNormalization()(tomogram(values))).all()
    except ReadError as error:
        assert "its grey values have no scale" in str(error)
    flat = np.zeros((16, 32, 32), np.float32)
    flat[8, 8, 8], flat[8, 20, 20] = 1e30, -1e30
    with pytest.raises(ReadError, match=r"no scale|every voxel"):
        RobustNormalization()(tomogram(flat))
