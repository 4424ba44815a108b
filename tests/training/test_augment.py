"""Random changes: points move with the volume, exact steps stay exact, nothing is random but the generator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tomopick.core.errors import RecipeError
from tomopick.picking.peaks import refine
from tomopick.training.augment import (
    Augmentation,
    Blur,
    DropBlock,
    Flip,
    Noise,
    Rot90,
    Rotate,
    ScaleShift,
    move_points,
    sample_patch,
)

SIGMA = 3.0
SPATIAL = {
    "flip": (Flip("zyx", 0.7),),
    "rot90": (Rot90(1.0),),
    "rotate": (Rotate(p=1.0),),
    "all": (Flip(), Rot90(), Rotate(p=1.0)),
}
seeds = st.integers(0, 10**6)
odd_even = st.tuples(*[st.integers(19, 28)] * 3)


def blob(shape, centre) -> np.ndarray:
    factors = [np.exp(-0.5 * ((np.arange(n) - c) / SIGMA) ** 2) for n, c in zip(shape, centre)]
    return np.einsum("i,j,k->ijk", *factors).astype(np.float32)


@pytest.mark.parametrize("steps", SPATIAL)
@given(seeds, odd_even, st.booleans())
@settings(max_examples=40)
def test_points_follow_the_volume(steps, seed, shape, over_the_border):
    rng = np.random.default_rng(seed)
    size = np.array([40, 44, 47])
    # A patch around the particle; near a border of the volume it reaches far beyond.
    particle = rng.uniform(8, 10, 3) if over_the_border else rng.uniform(18, 24, 3)
    centre = np.rint(particle + rng.uniform(-3, 3, 3) - (np.array(shape) - 1) / 2) + (np.array(shape) - 1) / 2
    matrix = Augmentation(SPATIAL[steps]).matrix(rng)
    patch = sample_patch(blob(size, particle), centre, shape, matrix)
    assert patch.shape == shape and patch.dtype == np.float32
    wanted = move_points([particle], centre, shape, matrix)[0]
    assert np.abs(displacement(patch, wanted, SIGMA / np.cbrt(abs(np.linalg.det(matrix))))).max() < 0.05


def displacement(patch: np.ndarray, centre: np.ndarray, sigma: float) -> np.ndarray:
    """How far the blob lies from `centre`: least squares over the voxels within two sigma."""
    offset = np.stack(np.meshgrid(*[np.arange(n) for n in patch.shape], indexing="ij"), -1) - centre
    model = np.exp(-0.5 * (offset**2).sum(-1) / sigma**2)
    near = model > np.exp(-2)
    slopes = model[near][:, None] * offset[near] / sigma**2
    return np.linalg.lstsq(slopes, patch[near] - model[near], rcond=None)[0]


def axis_aligned(seed: int) -> np.ndarray:
    return Augmentation((Flip(), Rot90())).matrix(np.random.default_rng(seed))


@given(seeds, odd_even)
def test_flips_and_quarter_turns_do_not_interpolate(seed, shape):
    """Every voxel of the patch is a voxel of the volume: the one that its index says."""
    rng = np.random.default_rng(seed)
    values = rng.random((30, 31, 32), dtype=np.float32)
    shape = (shape[0], shape[1], shape[1] + 2 * int(rng.integers(-2, 3)))  # x and y both odd or both even
    centre = rng.integers(-4, 20, 3) + (np.array(shape) - 1) / 2
    matrix = axis_aligned(seed)
    patch = sample_patch(values, centre, shape, matrix)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    source = np.rint((index - (np.array(shape) - 1) / 2) @ matrix.T + centre).astype(int)
    inside = ((source >= 0) & (source < values.shape)).all(axis=1)
    wanted = np.zeros(len(index), np.float32)
    wanted[inside] = values[tuple(source[inside].T)]
    np.testing.assert_array_equal(patch.ravel(), wanted)


def test_a_quarter_turn_of_an_odd_by_even_patch_keeps_its_shape_and_place():
    """It meets the volume between its voxels; cut without interpolation it came out a voxel too small."""
    quarter = Rot90(1.0)(np.random.default_rng(0))
    particle, shape = np.array([20.0, 21.3, 19.6]), (21, 22, 25)
    centre = np.array([20, 20.5, 20])
    patch = sample_patch(blob((40, 40, 40), particle), centre, shape, quarter)
    assert patch.shape == shape
    wanted = move_points([particle], centre, shape, quarter)[0]
    peak = np.array(np.unravel_index(patch.argmax(), shape))
    assert np.abs(refine(patch, peak[None])[0][0] - wanted).max() < 0.1


@given(seeds)
def test_moving_points_is_what_sampling_does(seed):
    rng = np.random.default_rng(seed)
    matrix = Augmentation(SPATIAL["all"]).matrix(rng)
    centre, shape, points = rng.uniform(0, 40, 3), rng.integers(1, 30, 3), rng.uniform(0, 40, (4, 3))
    moved = move_points(points, centre, shape, matrix)
    np.testing.assert_allclose((moved - (shape - 1) / 2) @ matrix.T + centre, points, atol=1e-9)
    np.testing.assert_allclose(move_points([centre], centre, shape, matrix), [(shape - 1) / 2])


@given(seeds)
def test_matrices_turn_and_scale_as_far_as_they_say(seed):
    matrix = Rotate(about_z=30, about_xy=4, scale=0.1, p=1.0)(np.random.default_rng(seed))
    scale = np.cbrt(np.linalg.det(matrix))
    assert 0.9 <= scale <= 1.1
    turn = matrix / scale
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    tilt = np.degrees(np.arccos(np.clip(turn[0, 0], -1, 1)))  # of z, the first axis
    assert tilt <= 4 * np.sqrt(2) + 1e-9
    assert abs(np.degrees(np.arctan2(turn[2, 1], turn[1, 1]))) <= 30 + 4
    quarter = Rot90(1.0)(np.random.default_rng(seed))
    assert quarter[0].tolist() == [1, 0, 0] and np.linalg.det(quarter) == pytest.approx(1)


def test_every_flip_and_turn_comes():
    rng = np.random.default_rng(0)
    seen = {tuple(np.rint(Augmentation((Flip(), Rot90())).matrix(rng)).ravel().tolist()) for _ in range(300)}
    assert len(seen) == 16  # two in z times the eight of a square
    flips = [Flip("x", 0.5)(rng) for _ in range(50)]
    assert {tuple(np.diag(f).tolist()) for f in flips} == {(1, 1, 1), (1, 1, -1)}


INTENSITY = [Noise(p=1.0), ScaleShift(p=1.0), Blur(p=1.0)]


@pytest.mark.parametrize("step", INTENSITY, ids=lambda s: type(s).__name__)
def test_intensity_steps_depend_on_the_generator_alone(step):
    values = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    before = values.copy()
    np.random.seed(1)  # whoever seeds the global generator changes nothing
    first = step(values, np.random.default_rng(7))
    again = step(values, np.random.default_rng(7))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(values, before)  # patches may be views of the volume
    assert first.dtype == np.float32
    assert not np.array_equal(first, values)
    assert not np.array_equal(first, step(values, np.random.default_rng(8)))


def test_intensity_steps_do_what_they_say():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 30, 30)).astype(np.float32)
    blurred = Blur(p=1.0)(values, rng)
    assert blurred.std() < values.std() and abs(blurred.mean() - values.mean()) < 0.01
    noisy = [(Noise(sigma=0.3, p=1.0)(values, rng) - values).std() for _ in range(20)]
    assert 0 < min(noisy) < 0.15 < max(noisy) <= 0.31
    scaled = ScaleShift(scale=0.2, shift=0.2, p=1.0)(values, rng)
    slope, shift = np.polyfit(values.ravel(), scaled.ravel(), 1)
    assert 0.8 <= slope <= 1.2 and abs(shift) <= 0.2


def test_zero_probability_is_the_identity():
    values = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    never = Augmentation((Flip(p=0.0), Rot90(p=0.0), Rotate(p=0.0)), (Noise(p=0.0), ScaleShift(p=0.0), Blur(p=0.0)))
    for seed in range(50):
        rng = np.random.default_rng(seed)
        matrix = never.matrix(rng)
        np.testing.assert_array_equal(matrix, np.eye(3))
        patch = sample_patch(values, np.array([3.5, 4, 4.5]), values.shape, matrix)
        np.testing.assert_array_equal(never.colour(patch, rng), values)
    assert Augmentation((), ()).matrix(np.random.default_rng(0)).tolist() == np.eye(3).tolist()


def test_outside_the_volume_is_zero():
    values = np.ones((8, 8, 8), np.float32)
    for matrix in (np.eye(3), Rotate(p=1.0)(np.random.default_rng(0))):
        assert not sample_patch(values, np.array([100.5, 3.5, 3.5]), (8, 8, 8), matrix).any()
        patch = sample_patch(values, np.array([3.5, 3.5, 3.5]), (24, 8, 8), matrix)
        assert not patch[:6].any() and not patch[-6:].any() and patch[12, 4, 4] == pytest.approx(1)


@given(seeds, odd_even)
@settings(max_examples=20)
def test_inside_the_volume_nothing_is_lost_at_the_patchs_edges(seed, shape):
    rng = np.random.default_rng(seed)
    centre = np.rint([40, 40, 40] - np.array(shape) / 2) + (np.array(shape) - 1) / 2 + 10
    patch = sample_patch(np.ones((80, 80, 80), np.float32), centre, shape, Augmentation(SPATIAL["all"]).matrix(rng))
    np.testing.assert_allclose(patch, 1, atol=1e-5)


@pytest.mark.parametrize(("gamma", "kernel", "share"), [(0.004, 3, 0.1026), (0.002, 3, 0.0526), (0.001, 5, 0.1176)])
def test_dropblock_drops_cubes_and_as_many_as_it_says(gamma, kernel, share):
    values = np.random.default_rng(0).standard_normal((64, 80, 96)).astype(np.float32) + 100
    found = DropBlock(gamma, kernel)(values, np.random.default_rng(1))
    dropped = found == 0
    assert share == pytest.approx(1 - (1 - gamma) ** kernel**3, abs=5e-5)
    inner = dropped[5:-5, 5:-5, 5:-5]
    assert inner.mean() == pytest.approx(share, rel=3 / np.sqrt(gamma * inner.size))
    np.testing.assert_array_equal(found[~dropped], values[~dropped])
    assert found.dtype == np.float32 and values.min() > 0  # the input is left alone
    # Whole cubes and nothing else: what is left of them when eroded grows back to all that is dropped.
    cube, inside = np.ones((kernel,) * 3), (slice(kernel, -kernel),) * 3
    np.testing.assert_array_equal(ndimage.binary_opening(dropped, cube)[inside], dropped[inside])


def test_dropblock_by_chance_and_never():
    values, rng = np.ones((20, 20, 20), np.float32), np.random.default_rng(0)
    hit = [bool((DropBlock(0.05, p=0.5)(values, rng) == 0).any()) for _ in range(200)]
    assert 60 < sum(hit) < 140
    assert (DropBlock(0.0)(values, rng) == 1).all()


@pytest.mark.parametrize("wrong", [{"gamma": 1.0}, {"gamma": -0.1}, {"kernel": 2}, {"kernel": 0}])
def test_impossible_dropblocks(wrong):
    with pytest.raises(RecipeError, match=r"^DropBlock has gamma"):
        DropBlock(**wrong)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_impossible_noise_and_blur(sigma):
    with pytest.raises(RecipeError, match=r"^Noise has sigma"):
        Noise(sigma)
    with pytest.raises(RecipeError, match=r"^Blur has sigma_voxels .* from 0\.2 on"):
        Blur(sigma)


def test_tilts_about_one_axis_alone():
    """As the 1st place of the challenge tilts: about x, which stays where it is."""
    for seed in range(20):
        matrix = Rotate(about_z=0.0, about_xy=45.0, scale=0.0, p=1.0, tilts="x")(np.random.default_rng(seed))
        np.testing.assert_allclose(matrix[2], [0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(matrix[:, 2], [0, 0, 1], atol=1e-12)
        assert abs(np.degrees(np.arctan2(matrix[0, 1], matrix[1, 1]))) <= 45
