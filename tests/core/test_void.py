"""Whatever a volume was filled up with is found, whatever its value and shape, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tomopick import Grid, Tomogram
from tomopick.core.statistics import radial_spectrum, skewness
from tomopick.core.void import find_void
from tomopick.picking.normalize import FixedLimits, RobustNormalization, ZScore

SHAPE = (40, 72, 80)


def noise(dtype="float32", seed=0, shape=SHAPE):
    """Skewed noise, as a microscope's particles make it, in the range of a data type."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) - 0.35 * (rng.standard_normal(shape) ** 2 - 1)
    scale, middle = {"int8": (18, 4), "int16": (900, 2000), "float32": (0.02, -0.4)}[dtype]
    values = values * scale + middle
    if dtype != "float32":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(np.float32)


def rim(shape, width):
    void = np.ones(shape, dtype=bool)
    void[width:-width, width:-width, width:-width] = False
    return void


def sections(shape, first, last):
    void = np.zeros(shape, dtype=bool)
    void[:first] = True
    void[shape[0] - last :] = True
    return void


def wedge(shape, slope):
    z, _, x = np.indices(shape)
    return z + slope * x < 0.6 * shape[0] * slope


def turned(shape, degrees):
    """What a turn about z leaves open."""
    y, x = np.indices(shape[1:]) - (np.array(shape[1:])[:, None, None] - 1) / 2
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    h, w = shape[1] / 2, shape[2] / 2
    return np.broadcast_to((abs(c * y + s * x) > h) | (abs(c * x - s * y) > w), shape).copy()


def lamella(shape, thickness, slope):
    z, _, x = np.indices(shape)
    return abs(z - shape[0] / 2 - slope * (x - shape[2] / 2)) > thickness / 2


def column(shape, radius):
    y, x = np.indices(shape[1:]) - (np.array(shape[1:])[:, None, None] - 1) / 2
    return np.broadcast_to(np.hypot(y, x) > radius, shape).copy()


VOIDS = st.one_of(
    st.builds(rim, st.just(SHAPE), st.integers(1, 8)),
    st.builds(sections, st.just(SHAPE), st.integers(1, 12), st.integers(0, 12)),
    st.builds(wedge, st.just(SHAPE), st.floats(0.2, 0.9)),
    st.builds(turned, st.just(SHAPE), st.floats(4, 40)),
    st.builds(lamella, st.just(SHAPE), st.integers(12, 28), st.floats(-0.15, 0.15)),
    st.builds(column, st.just(SHAPE), st.integers(26, 38)),
)
FILLS = {"int8": [-128, 0, 4, 127], "int16": [-32768, 0, 2000, 1234], "float32": [0, -0.4, 1e4, np.nan, np.inf]}


def moments(values):
    return values.mean(), values.std(), ((values - values.mean()) ** 3).mean() / values.std() ** 3


@settings(max_examples=150, derandomize=True)
@given(VOIDS, st.sampled_from(sorted(FILLS)), st.data())
def test_what_a_volume_was_filled_up_with_is_found(void, dtype, data):
    fill = data.draw(st.sampled_from(FILLS[dtype]))
    whole = noise(dtype, data.draw(st.integers(0, 3)))
    found = find_void(np.where(void, np.float32(fill), whole))
    assert found is not None
    # A fill that the specimen's voxels have as well takes some of those beside it along, and leaves thin tips.
    missed, extra = np.count_nonzero(void & ~found), np.count_nonzero(found & ~void)
    assert missed <= 0.01 * np.count_nonzero(void) + 8
    assert extra <= 0.01 * void.size
    left, right = moments(whole[~found].astype(np.float64)), moments(whole[~void].astype(np.float64))
    np.testing.assert_allclose(left[:2], right[:2], rtol=0.01, atol=0.01 * right[1])
    assert abs(left[2] - right[2]) < 0.01 + 0.01 * abs(right[2])


@pytest.mark.parametrize("normalize", [RobustNormalization(block=80.0), ZScore(), FixedLimits(-500, 500)])
@pytest.mark.parametrize("fill", [0.0, 4.0, -128.0, np.nan])
def test_grey_values_are_those_of_the_specimen(normalize, fill):
    whole, void = noise("int8", shape=(64, 96, 96)), sections((64, 96, 96), 9, 5)
    inside = normalize(Tomogram("A", np.ascontiguousarray(whole[9:-5]), Grid((50, 96, 96), 10.0)))
    filled = Tomogram("A", np.where(void, np.float32(fill), whole), Grid(whole.shape, 10.0))
    values = normalize(filled)
    assert np.isfinite(values).all() and np.ptp(values[:9]) == np.ptp(values[-5:]) == 0
    if not isinstance(normalize, RobustNormalization):  # whose zero is that of blocks, and they lie elsewhere
        np.testing.assert_allclose(values[0, 0, 0], inside.mean(), atol=0.02 * inside.std())
    np.testing.assert_allclose(values[9:-5].std(), inside.std(), rtol=0.03)
    assert abs(skewness(values, filled.void) - skewness(inside)) < 0.02
    np.testing.assert_allclose(radial_spectrum(values, filled.void), radial_spectrum(inside), atol=0.1)


@settings(max_examples=30, derandomize=True)
@given(st.floats(0.6, 30), st.floats(0, 1.2), st.integers(0, 5))
def test_equal_grey_values_of_the_specimen_are_none(deviation, blur, seed):
    """Bytes of any contrast, smooth or not, cut off at either end: each value is there many times."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), blur)
    assert find_void(np.clip(np.rint(values / values.std() * deviation), -30, 30).astype(np.float32)) is None


@pytest.mark.parametrize(
    "dtype, fill", [("int8", 127), ("int16", -32768), ("int16", 0), ("float32", 0), ("float32", 1e4)]
)
@pytest.mark.parametrize("seed", range(3))
def test_tips_and_islands_of_a_mask_are_void_too(dtype, fill, seed):
    """As a segmentation leaves them, too small to be told by themselves; of a far value each counts."""
    whole, shape = noise(dtype), SHAPE
    lobes = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 6)
    void = lobes > 0.3 * lobes.std()
    void[:, :, :6] = True
    found = find_void(np.where(void, np.float32(fill), whole))
    assert found is not None and not (void & ~found).any() and (found & ~void).sum() <= 1e-3 * void.size


@pytest.mark.parametrize("dtype, fills, width", [("int8", (4, -128), 12), ("int16", (2000, 0), 8),
                                                 ("float32", (1e4, -0.4), 5)])  # fmt: skip
def test_a_fill_within_another(dtype, fills, width):
    """A volume that was filled up with one value, and a mask multiplied in that lies farther out."""
    whole, outer, inner = noise(dtype), rim(SHAPE, 4), rim(SHAPE, width)
    values = np.where(outer, np.float32(fills[1]), np.where(inner, np.float32(fills[0]), whole))
    found = find_void(values)
    assert found is not None and (inner & ~found).sum() <= 8 and (found & ~inner).sum() <= 0.01 * inner.size


def test_gold_that_was_cut_off_is_specimen():
    values = noise("int8")
    z, y, x = np.indices(SHAPE)
    for centre in ((20, 30, 30), (0, 50, 60), (39, 20, 20), (20, 0, 50)):
        values[np.linalg.norm([a - c for a, c in zip((z, y, x), centre)], axis=0) < 7] = -128
    assert find_void(values) is None


def test_a_chunk_that_is_missing_within():
    values, void = noise(shape=(80, 96, 96)), np.zeros((80, 96, 96), dtype=bool)
    void[32:64, 32:64, 64:96] = True
    found = find_void(np.where(void, 0, values))
    assert not (found & ~void).any() and (void & ~found).sum() < 10  # corners


def test_sections_that_each_have_a_value_of_their_own():
    values = noise()
    values[[0, 17, 39]] = np.array([3.0, 4.0, 5.0])[:, None, None]
    found = find_void(values)
    assert np.flatnonzero(found.all(axis=(1, 2))).tolist() == [0, 17, 39] and found.sum() == 3 * found[0].size


def test_a_phantom_without_noise_has_no_void():
    values = np.zeros(SHAPE, dtype=np.float32)
    values[10:20, 10:20, 10:20] = -1
    assert find_void(values) is None


def test_a_part_and_a_resampled_volume_know_theirs():
    from tomopick.picking.resample import resample

    void = turned((40, 96, 96), 20)
    whole = Tomogram("A", np.where(void, np.float32(9e3), noise(shape=void.shape)), Grid(void.shape, 5.0))
    assert (whole.crop((1, 2, 3), (20, 60, 60)).void == void[1:21, 2:62, 3:63]).all()
    coarse = resample(whole, 10.0)
    assert coarse.void.shape == (20, 48, 48) and abs(coarse.void.mean() - void.mean()) < 0.01
    # Nothing of the fill leaks over the seam.
    assert coarse.values.max() < 1
    assert not coarse.holds(np.array([[50.0, 5.0, 5.0]]))[0] and coarse.holds(np.array([[50.0, 240.0, 240.0]]))[0]
