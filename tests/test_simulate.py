"""The simulator: known answers for densities, geometry and optics, and what a whole run promises."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tomopick.errors import TomopickError
from tomopick.presets import CZII_OBJECTS
from tomopick.simulate import (
    BlobDensity,
    ContrastTransfer,
    MapDensity,
    MicroscopeSpec,
    RestorationSpec,
    SimulationSpec,
    SpecimenSpec,
    czii_spec,
    density_of,
    simulate_run,
)
from tomopick.simulate.bodies import distractor, symmetry
from tomopick.simulate.microscope import electron_wavelength, interaction
from tomopick.simulate.projection import image_width, project, reconstruct
from tomopick.simulate.restore import shrink
from tomopick.simulate.specimen import Habits, Specimen, slab
from tomopick.types import Grid, PickableObject

GRID = Grid((64, 64, 64), 10.0)
ANGLES = np.arange(-60.0, 61.0, 3.0)
OBJECTS = {thing.name: thing for thing in CZII_OBJECTS}


def centre_of_mass(start, box):
    return (np.indices(box.shape).reshape(3, -1) * box.ravel()).sum(axis=1) / box.sum() + start


def whole(density, rotation, spacing=4.0):
    """On one fixed grid around the centre."""
    side = 2 * int(np.ceil(1.2 * density.radius / spacing)) + 1
    values = np.zeros((side, side, side))
    grid = Grid(values.shape, spacing, ((1 - side) / 2 * spacing,) * 3)
    start, box = density.sample(rotation, np.zeros(3), grid)
    values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
    return values


def only(name, count, **others):
    """A specimen of `count` particles per reference volume of one object, and nothing else."""
    nothing = (0.0, 0.0)
    settings = {"distractors": nothing, "background": nothing, "membranes": nothing, "gold": nothing, "dominance": 0.0}
    return SpecimenSpec(copies=((name, (count, count)),), crowding=(1, 1), contrast=(1, 1), **(settings | others))


@pytest.mark.parametrize("name", OBJECTS)
def test_centre_of_mass_is_the_position(name):
    rng = np.random.default_rng(1)
    for _ in range(3):
        centre = rng.uniform(300, 330, 3)
        start, box = density_of(OBJECTS[name]).sample(Rotation.random(None, rng).as_matrix(), centre, GRID)
        assert np.abs(centre_of_mass(start, box) - GRID.indices(centre)).max() < 0.01


@pytest.mark.parametrize(
    ("name", "group"),
    [("apo-ferritin", "O"), ("virus-like-particle", "I"), ("beta-galactosidase", "D2"), ("thyroglobulin", "C2")],
)
def test_symmetry(name, group):
    density = density_of(OBJECTS[name])
    still = whole(density, np.eye(3))
    for operator in symmetry(group)[:6]:
        assert np.abs(whole(density, operator) - still).max() < 1e-3 * still.max()


def test_what_is_not_symmetric():
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    ferritin, ribosome = density_of(OBJECTS["apo-ferritin"]), density_of(OBJECTS["ribosome"])
    assert np.abs(whole(ferritin, quarter) - whole(ferritin, np.eye(3))).max() < 1e-3 * whole(ferritin, quarter).max()
    assert np.abs(whole(ribosome, quarter) - whole(ribosome, np.eye(3))).max() > 0.3 * whole(ribosome, quarter).max()


def test_sizes_and_masses():
    bodies = {name: density_of(thing) for name, thing in OBJECTS.items()}
    total = {name: density.sample(np.eye(3), np.full(3, 315.0), GRID)[1].sum() for name, density in bodies.items()}
    assert total["beta-galactosidase"] / total["apo-ferritin"] == pytest.approx(465 / 480, rel=0.01)
    assert total["thyroglobulin"] / total["beta-amylase"] == pytest.approx(660 / 224, rel=0.01)
    assert 1.0 < total["ribosome"] / total["apo-ferritin"] / (3300 / 480) < 1.7  # RNA scatters more
    assert [round(bodies[n].radius / 15) for n in ("apo-ferritin", "ribosome")] == [4, 11]
    radius = np.linalg.norm(np.indices((31, 31, 31)) - 15, axis=0) * 10
    for name, inside in (("apo-ferritin", 20), ("virus-like-particle", 30)):
        values = np.zeros((31, 31, 31))
        start, box = bodies[name].sample(np.eye(3), np.zeros(3), Grid((31, 31, 31), 10.0, (-150.0,) * 3))
        start, box = np.maximum(start, 0), box[tuple(slice(max(0, -a), max(0, -a) + 31) for a in start)]
        values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
        assert values[radius < inside].mean() < 0.1 * values.max()  # hollow


def test_rotation_acts_on_xyz_column_vectors():
    arms = np.array([[-10.0, 0, 0], [90.0, 0, 0]])  # a marker far out on +x of its own frame
    blobs = BlobDensity("arrow", arms, np.array([9e4, 1e4]), sigma=12.0)
    values = np.zeros((51, 51, 51))
    own = Grid(values.shape, 6.0, (-150.0,) * 3)
    start, box = blobs.sample(np.eye(3), np.zeros(3), own)
    values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
    rotation = Rotation.from_euler("xyz", [20, 50, 110], degrees=True).as_matrix()
    for density in (blobs, MapDensity("arrow", values, 6.0, mass=33.0)):
        centre = np.array([317.0, 322.0, 311.0])
        start, box = density.sample(rotation, centre, GRID)
        marker = centre + (rotation @ [90.0, 0, 0])[::-1]
        distance = np.linalg.norm(np.moveaxis(np.indices(box.shape), 0, -1) + start - GRID.indices(marker), axis=-1)
        near = np.where(distance < 3.5, box, 0)
        assert np.abs(centre_of_mass(start, near) - GRID.indices(marker)).max() < 0.1
        assert np.abs(centre_of_mass(start, box) - GRID.indices(centre)).max() < 0.05


def test_a_map_weighs_its_mass_and_must_be_positive():
    values = np.exp(-0.5 * ((np.indices((13, 13, 13)) - 6.2) ** 2).sum(axis=0) / 1.8**2)
    values[0, 0, 0] = -5
    _, box = MapDensity("ball", values, 12.0, mass=100.0).sample(np.eye(3), np.full(3, 300.0), GRID)
    assert box.sum() * 1000 == pytest.approx(100 * 1212 * 2.5, rel=0.05)
    with pytest.raises(TomopickError, match="'flat' needs three axes and positive density"):
        MapDensity("flat", -np.abs(values), 12.0, mass=100.0)


def test_densities_of_other_objects():
    ball = density_of(PickableObject("my protein", 50.0))
    assert 38 < ball.radius < 60 and len(distractor(3).weights) > 20
    with pytest.raises(TomopickError, match="'thing' has no radius"):
        density_of(PickableObject("thing", None))


def test_wavelength_and_interaction():
    assert electron_wavelength(300) == pytest.approx(0.0197, abs=2e-5)
    assert electron_wavelength(200) == pytest.approx(0.02508, abs=1e-5)
    assert interaction(300) == pytest.approx(6.526e-4, rel=1e-3)
    assert interaction(200) == pytest.approx(7.288e-4, rel=1e-3)


def test_contrast_transfer_zeros():
    optics = ContrastTransfer(defocus=30_000.0, spherical_aberration=0.0, amplitude_contrast=0.1)
    for order in (1, 2, 3):
        zero = np.sqrt((order * np.pi - np.arcsin(0.1)) / (np.pi * electron_wavelength(300) * 30_000))
        assert abs(optics(np.array(zero))) < 1e-9
    assert optics(np.array(0.0)) == pytest.approx(-0.1)  # what scatters is dark
    corrected = ContrastTransfer(defocus=30_000.0, spherical_aberration=2.7, amplitude_contrast=0.1)
    assert corrected(np.array(0.1)) != pytest.approx(float(optics(np.array(0.1))), abs=1e-2)


@pytest.mark.parametrize("angle", [-60.0, 0.0, 33.0])
def test_projection_of_a_blob(angle):
    nz, nx, ny = 40, 64, 12
    at = np.array([24.3, 40.6, 5.0])  # z, x, y
    volume = np.zeros((nz, nx, ny), dtype=np.float32)
    offsets = np.indices(volume.shape) - at[:, None, None, None]
    volume[:] = np.exp(-0.5 * (offsets**2).sum(axis=0) / 2.0**2)
    image = project(volume, np.array([angle]))[0]
    theta, width = np.radians(angle), image_width(nz, nx)
    expected = (at[1] - (nx - 1) / 2) * np.cos(theta) + (at[0] - (nz - 1) / 2) * np.sin(theta) + (width - 1) / 2
    near = slice(max(0, round(expected) - 12), round(expected) + 13)  # its periodic copies are elsewhere
    row = image[near].sum(axis=1)
    assert (row * np.arange(width)[near]).sum() / row.sum() == pytest.approx(expected, abs=0.02)
    assert image[near].sum() == pytest.approx(volume.sum(), rel=1e-3)


def test_projection_of_an_endless_layer():
    volume = np.zeros((40, 64, 2), dtype=np.float32)
    volume[10:30] = 1.0
    for angle, image in zip((0.0, 60.0), project(volume, np.array([0.0, 60.0]))):
        inner = image[5:-5]
        assert np.allclose(inner, 20 / np.cos(np.radians(angle)), rtol=0.06)
        assert inner.mean() == pytest.approx(20 / np.cos(np.radians(angle)), rel=0.01)


def test_back_projection_of_a_point_peaks_where_it_is():
    nz, nx, ny = 48, 64, 20
    at, width = np.array([27.3, 38.4, 9.7]), image_width(48, 64)  # z, x, y
    theta = np.radians(ANGLES)
    place = (at[1] - (nx - 1) / 2) * np.cos(theta) + (at[0] - (nz - 1) / 2) * np.sin(theta) + (width - 1) / 2
    across = np.exp(-0.5 * ((np.arange(width) - place[:, None]) / 1.5) ** 2)
    images = across[:, :, None] * np.exp(-0.5 * ((np.arange(ny) - at[2]) / 1.5) ** 2)
    volume = reconstruct(images.astype(np.float32), ANGLES, nz, nx)
    peak = np.array(np.unravel_index(np.argmax(volume), volume.shape))
    found = []
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        a, b, c = (np.log(volume[tuple(peak + k * step)]) for k in (-1, 0, 1))  # a parabola through the logarithms
        found.append(peak[axis] + 0.5 * (a - c) / (a - 2 * b + c))
    assert np.abs(np.array(found) - at).max() < 0.05
    assert volume.max() == pytest.approx(2 / 3 / (1.5 * np.sqrt(2 * np.pi)), rel=0.15)  # its own value, less the wedge


def test_missing_wedge_is_empty():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((len(ANGLES), image_width(64, 64), 32), dtype=np.float32)
    volume = reconstruct(images, ANGLES, 64, 64)
    taper = np.hanning(64)[:, None, None] * np.hanning(64)[:, None]
    power = np.abs(np.fft.fftn(volume * taper, axes=(0, 1))) ** 2
    kz, kx = np.abs(np.fft.fftfreq(64))[:, None], np.abs(np.fft.fftfreq(64))[None]
    radius, angle = np.hypot(kz, kx), np.degrees(np.arctan2(kz, kx))
    ring = (radius > 0.1) & (radius < 0.4)
    mean = power.mean(axis=2)
    assert mean[ring & (angle > 70)].mean() < 0.01 * mean[ring & (angle < 50)].mean()


def test_shrinking_keeps_signal_and_drops_noise():
    volume = np.random.default_rng(0).normal(0, 1, (24, 40, 40)).astype(np.float32)
    volume[8:16, 8:20, 8:20] += 30 * np.indices((8, 12, 12)).sum(axis=0) % 60
    out = shrink(volume, 1.5, 5, 0.1)
    assert out[:, 28:, 28:].std() < 0.25 * volume[:, 28:, 28:].std()
    assert out[10:14, 11:17, 11:17].std() > 0.9 * volume[10:14, 11:17, 11:17].std()


def flat_specimen(grid, thickness, seed=0):
    rng = np.random.default_rng(seed)
    return Specimen(grid, slab(thickness, 0.0, grid, rng), rng)


@pytest.mark.parametrize("clustering", [0.0, 1.0])
def test_particles_do_not_overlap_and_stay_in_the_ice(clustering):
    grid = Grid((48, 80, 80), 10.0)
    specimen, density = flat_specimen(grid, 300.0), density_of(OBJECTS["apo-ferritin"])
    placed = specimen.add(density, 60, Habits(clustering=clustering, adsorption=0.3))
    picks = specimen.picks("a")
    assert placed == len(picks) > 30
    wrapped = picks.positions + 5  # the border's outer face, where the period begins
    tree = cKDTree(wrapped, boxsize=[1e5, 800, 800])
    assert tree.query(wrapped, k=2)[0][:, 1].min() > 100  # diameter of the mask: about 120 Å
    assert np.ptp(picks.positions[:, 0]) < 300 - 90
    assert specimen.potential.max() < 3.5  # [V]: nothing was added twice
    mass = 480 * 1212 * 2.5
    assert specimen.potential.sum() * 1000 == pytest.approx(placed * mass, rel=0.01)


def test_more_particles_than_fit_are_told(caplog):
    specimen = flat_specimen(Grid((40, 48, 48), 10.0), 360.0)
    with caplog.at_level(logging.INFO):
        placed = specimen.add(density_of(OBJECTS["ribosome"]), 50, Habits())
    assert 0 < placed < 10
    assert f"only {placed} of 50 particles of 'ribosome' fitted" in caplog.text


def test_runs_are_determined_by_seed_and_name():
    spec = SimulationSpec((40, 64, 64), tomo_types=("wbp", "denoised"))
    things = [OBJECTS["apo-ferritin"], OBJECTS["thyroglobulin"]]
    first, picks = simulate_run(spec, things, run="a", seed=3)
    other, _ = simulate_run(spec, things, run="b", seed=3)
    again, same = simulate_run(spec, things, run="a", seed=3)
    assert list(first) == ["wbp", "denoised"]
    for kind, tomogram in first.items():
        assert tomogram.values.dtype == np.float32 and tomogram.values.shape == spec.shape
        assert tomogram.tomo_type == kind and tomogram.grid == Grid(spec.shape, spec.voxel_spacing)
        assert np.isfinite(tomogram.values).all() and tomogram.values.std() > 0
        assert np.array_equal(tomogram.values, again[kind].values)
        assert not np.array_equal(tomogram.values, other[kind].values)
    assert np.array_equal(picks.positions, same.positions) and np.array_equal(picks.rotations, same.rotations)


def test_all_picks_lie_in_the_volume_with_true_rotations():
    spec = czii_spec((48, 96, 96))
    spec = replace(spec, specimen=replace(spec.specimen, crowding=(20, 20)))
    tomograms, picks = simulate_run(spec, CZII_OBJECTS, run="a", seed=0)
    assert set(picks.names) == set(OBJECTS)
    assert tomograms["denoised"].grid.contains(picks.positions).all()
    assert np.allclose(picks.rotations @ picks.rotations.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(picks.rotations), 1)


def test_particles_are_dark_and_where_the_truth_says():
    """Also with a wrong magnification: positions are in believed Å."""
    ball = PickableObject("ball", 50.0)
    exact = {"alignment_error": (0, 0), "tilt_error": (0, 0), "tilt_loss": (0, 0), "defocus_error": (0, 0)}
    spec = SimulationSpec(
        (48, 128, 128),
        specimen=only("ball", 1500, thickness=(400, 400)),
        microscope=MicroscopeSpec(dose=(4000, 4000), magnification=(1.06, 1.06), defocus=(3e4, 3e4), **exact),
        restoration=RestorationSpec(strength=(0, 0), residue=(0, 0), log_snr=(2, 2), tilt_weight=(0, 0)),
    )
    tomograms, picks = simulate_run(spec, [ball], run="a", seed=1)
    values = tomograms["denoised"].values
    average, used = np.zeros((11, 11, 11)), 0
    offsets = np.indices(average.shape) - 5
    for index in tomograms["denoised"].grid.indices(picks.positions):
        if (index < 6).any() or (index > np.array(values.shape) - 7).any():
            continue
        box = map_coordinates(values, offsets + index[:, None, None, None], order=3)
        assert box[4:7, 4:7, 4:7].mean() < values.mean() - values.std()
        average, used = average + box, used + 1
    assert used > 10
    dark = np.where(np.linalg.norm(offsets, axis=0) < 4.5, np.clip(-average, 0, None), 0)
    assert np.abs(centre_of_mass(-5, dark)).max() < 0.08


def test_a_dominant_object_fills_a_thin_layer():
    spec = SimulationSpec((64, 128, 128), specimen=SpecimenSpec(dominance=1.0, dominant_fill=(0.15, 0.15)))
    grid, thing = Grid(spec.shape, 10.0), OBJECTS["apo-ferritin"]
    specimen = spec.specimen(grid, [thing], {thing.name: density_of(thing)}, np.random.default_rng(0))
    assert len(specimen.picks("a")) > 30 and specimen.thickness < 4 * 130


def test_bad_input_is_one_clear_line():
    with pytest.raises(TomopickError, match=r"'ribosome' is \d+ Å across and does not fit into \(24, 96, 96\)"):
        simulate_run(SimulationSpec((24, 96, 96)), [OBJECTS["ribosome"]], run="a", seed=0)
    with pytest.raises(TomopickError, match="tilts must go up"):
        MicroscopeSpec(tilts=(60.0, -60.0))
    with pytest.raises(TomopickError, match="tilts must go up"):
        MicroscopeSpec(tilt_step=0.0)
    with pytest.raises(TomopickError, match="can be simulated; choose from wbp"):
        SimulationSpec((32, 64, 64), tomo_types=("raw",))


def test_nothing_to_pick():
    tomograms, picks = simulate_run(
        SimulationSpec((32, 48, 48)), [PickableObject("membrane", None, is_particle=False)], run="a", seed=0
    )
    assert len(picks) == 0 and np.isfinite(tomograms["denoised"].values).all()
