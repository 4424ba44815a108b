"""The simulator: known answers for densities, geometry and optics, and what a whole run promises."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from tomopick.core.errors import TomopickError
from tomopick.core.presets import CZII_OBJECTS, known_types, with_halves
from tomopick.core.types import Grid, PickableObject
from tomopick.simulation import (
    ContrastTransfer,
    MicroscopeSpec,
    RestorationSpec,
    SimulationSpec,
    SpecimenSpec,
    arrays_of,
    czii_spec,
    simulate,
)
from tomopick.simulation.arrays import HostArrays, TorchArrays
from tomopick.simulation.layer import slab
from tomopick.simulation.microscope import dose_symmetric, phase_contrast, within_field
from tomopick.simulation.optics import Camera, dose_damping, electron_wavelength, interaction, slowness, transmission
from tomopick.simulation.projection import frequency_grid, from_axis, image_width, project, reconstruct
from tomopick.simulation.restore import Deconvolution, shrink
from tomopick.simulation.specimen import Specimen
from tomopick.simulation.wedge import fill_wedge, known_part

GRID = Grid((64, 64, 64), 10.0)
ANGLES = np.arange(-60.0, 61.0, 3.0)
OBJECTS = {thing.name: thing for thing in CZII_OBJECTS}


def centre_of_mass(start, box):
    return (np.indices(box.shape).reshape(3, -1) * box.ravel()).sum(axis=1) / box.sum() + start


def only(name, count, **others):
    """A specimen of `count` particles per reference volume of one object, and nothing else."""
    nothing = (0.0, 0.0)
    settings = {
        **dict.fromkeys(("distractors", "background", "membranes", "gold", "frost", "barren"), nothing),
        "dominance": 0.0, "carbon": 0.0,
    }  # fmt: skip
    return SpecimenSpec(copies=((name, (count, count)),), crowding=(1, 1), contrast=(1, 1), **(settings | others))


def test_wavelength_and_interaction():
    assert electron_wavelength(300) == pytest.approx(0.0196875, abs=1e-7)
    assert electron_wavelength(200) == pytest.approx(0.0250793, abs=1e-7)
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


def test_damage_and_loss_of_electrons():
    # Grant & Grigorieff 2015: N(k) = 0.24499 k^-1.6649 + 2.8141 is 38.7 e/Å^2 at 20 Å; twice as much leaves 1 / e.
    assert dose_damping(np.array(0.05), 2 * 38.72) == pytest.approx(np.exp(-1), rel=1e-3)
    assert slowness(300) == 1 and slowness(200) == pytest.approx(0.80, abs=0.01)  # their factor for 200 kV
    assert dose_damping(np.array(0.05), 40.0, 200.0) == pytest.approx(dose_damping(np.array(0.05), 50.0), rel=0.01)
    passed = transmission(3950.0, np.array([0.0, 60.0]), 300.0)
    assert passed == pytest.approx(np.exp([-1.0, -2.0]))


def test_detector():
    detector = Camera(efficiency=0.8, nyquist_transfer=0.5, pixel=1.5)
    assert detector(np.array([0.0, 1 / 3.0])) == pytest.approx([1.0, 0.5])
    assert detector(np.array(0.05)) > 0.98  # at a tomogram's resolution little is lost


def test_order_of_the_tilts():
    angles = np.arange(-12.0, 13.0, 3.0)
    order = angles[np.argsort(dose_symmetric(angles))]
    assert order.tolist() == [0, 3, -3, -6, 6, 9, -9, -12, 12]
    lost = np.arange(-12.0, 7.0, 3.0)
    assert lost[np.argsort(dose_symmetric(lost))].tolist() == [0, 3, -3, -6, 6, -9, -12]
    assert dose_symmetric(np.array([7.0])).tolist() == [0]


def test_defocus_follows_the_tilted_layer():
    spacing, tilt, optics = 10.0, 50.0, ContrastTransfer(defocus=40_000.0)
    image = np.random.default_rng(0).standard_normal((400, 64), dtype=np.float32)
    seen = phase_contrast(image, spacing, tilt, optics, 1.0, HostArrays())
    k = np.hypot(*frequency_grid(image.shape)) / spacing
    for column in (40, 200, 360):
        height = -from_axis(400)[column] * spacing * np.tan(np.radians(tilt))
        (exact,) = HostArrays().filtered(image, [replace(optics, defocus=40_000.0 + height)(k)])
        (flat,) = HostArrays().filtered(image, [optics(k)])
        assert np.abs(seen[column] - exact[column]).std() < 0.01 * exact.std()
        assert column == 200 or np.abs(seen[column] - flat[column]).std() > 0.1 * exact.std()
    assert np.allclose(phase_contrast(image, spacing, 0.0, optics, 1.0, HostArrays()), flat, atol=1e-5)


def test_beyond_the_field_is_neither_noise_nor_a_step():
    image = np.random.default_rng(0).standard_normal((100, 50), dtype=np.float32) + 5
    seen = within_field(image, 60)
    assert np.array_equal(seen[20:80], image[20:80])
    assert seen[19].mean() == pytest.approx(5, abs=0.3) and abs(seen[0]).max() < 1e-6 and abs(seen[-1]).max() < 1e-6
    assert seen[:20].std(axis=1).max() < 0.5


def test_shot_noise_is_that_of_the_dose():
    """Of an empty layer there is nothing else to see."""
    nothing = dict.fromkeys(("tilt_loss", "alignment_error", "tilt_error"), (0.0, 0.0))
    exact = MicroscopeSpec(
        tilt_step=(3.0, 3.0), dose=(123.0, 123.0), detective_efficiency=(0.5, 0.5), magnification=(1.0, 1.0), **nothing
    )
    grid, rng = Grid((32, 96, 96), 10.0), np.random.default_rng(0)
    series = exact(Specimen(grid, slab(790.0, 0.0, grid, rng), rng), rng)
    assert len(series.angles) == 41 and series.facts["tilts_in_order"][:3] == [0, 3, -3]
    electrons = 123 / 41 * 100 * 0.5 * np.exp(-790 / 3950 / np.cos(np.radians(series.angles)))
    field = series.images[:, (series.images.shape[1] - 96) // 2 :][:, :96]
    assert field.std(axis=(1, 2)) == pytest.approx(electrons**-0.5, rel=0.03)
    assert series.noise == pytest.approx(electrons**-0.5, rel=1e-6)
    assert series.dose[20] == pytest.approx(1.5) and series.dose.max() == pytest.approx(123 - 1.5)


def test_what_lies_beyond_the_volume_comes_into_tilted_images():
    wide = np.zeros((24, 200, 4), dtype=np.float32)
    wide[12, 140] = 1.0  # 40 voxels from the axis
    images = project(wide, np.array([0.0, 60.0]), (24, 60))
    field = slice((images.shape[1] - 60) // 2, (images.shape[1] + 60) // 2)
    assert images[0, field].sum() == 0 and images[1, field].sum() == pytest.approx(4.0)
    inner = np.zeros((24, 60, 4), dtype=np.float32)
    inner[12, 30] = 1.0
    wider = np.pad(inner, ((3, 3), (20, 20), (0, 0)))  # the same layer with a margin, and more planes
    near = slice(
        images.shape[1] // 2 - 15, images.shape[1] // 2 + 15
    )  # nearer than where the narrow one repeats itself
    small, large = project(inner, ANGLES[::8])[:, near], project(wider, ANGLES[::8], (24, 60))[:, near]
    assert np.allclose(large, small, atol=1e-6) and small.sum() > 20


@pytest.mark.parametrize("arrays", [TorchArrays("cpu"), HostArrays(3)], ids=["torch", "threads"])
def test_where_it_is_computed_changes_nothing(arrays):
    spec = czii_spec((32, 72, 64), tomo_types=known_types())
    spec = replace(spec, specimen=replace(spec.specimen, thickness=(200.0, 250.0), crowding=(20.0, 20.0)))
    there, here = (simulate(spec, CZII_OBJECTS[:1], run="a", seed=0, arrays=a) for a in (arrays, HostArrays()))
    assert np.array_equal(there.picks.positions, here.picks.positions) and there.facts == here.facts
    for kind in known_types():
        close, exact = there.tomograms[kind].values, here.tomograms[kind].values
        assert np.abs(close - exact).max() < (1e-3 * exact.std() if isinstance(arrays, TorchArrays) else 1e-30)


def test_devices():
    assert isinstance(arrays_of("cpu"), HostArrays) and arrays_of("cpu", workers=10_000).threads == 1
    for name in ("gpu", "cuda:x", "cuda:"):
        with pytest.raises(TomopickError, match=f"no device '{name}' to simulate on; expected cpu, cuda or cuda:N"):
            arrays_of(name)
    with pytest.raises(TomopickError, match="device 'cuda:99' is not there"):
        arrays_of("cuda:99")


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


def test_deconvolution_filters_the_volume():
    """With all images weighted alike: a Wiener filter of the back-projection, whatever the direction."""
    rng = np.random.default_rng(0)
    spec = MicroscopeSpec(tilt_loss=(0.0, 0.0), tilt_step=(3.0, 3.0))
    grid = Grid((32, 48, 48), 10.0)
    series = spec(Specimen(grid, slab(200.0, 0.0, grid, rng), rng), rng)
    gain = Deconvolution(series, 100.0, 0.02, 1 / 25.0, 1 / 1000.0)
    plain = reconstruct(series.images, series.angles, 64, 64)
    filtered = reconstruct(series.images, series.angles, 64, 64, gain)
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in plain.shape), indexing="ij")))
    expected = np.fft.ifftn(np.fft.fftn(plain) * gain(k, 0)).real
    middle = (slice(16, 48), slice(16, 48), slice(None))
    assert np.corrcoef(filtered[middle].ravel(), expected[middle].ravel())[0, 1] > 0.95
    assert (gain(np.linspace(0.001, 0.01, 20), 0) > 0).all()  # dark stays dark


def balls(shape, count=14, radius=4.0, seed=0):
    """Dark balls that do not touch the border, (z, x, y)."""
    rng, volume = np.random.default_rng(seed), np.zeros(shape, dtype=np.float32)
    axes = np.indices(shape)
    for _ in range(count):
        at = [rng.uniform(radius + 2, n - radius - 3) for n in shape]
        volume -= np.clip(radius - np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, at))) + 0.5, 0, 1)
    return np.maximum(volume, -1)


def test_the_wedge_is_partly_filled_with_what_is_true():
    truth = balls((48, 64, 24))
    wedged = reconstruct(project(truth, ANGLES), ANGLES, 48, 64)
    wedged += np.random.default_rng(1).normal(0, 0.05, wedged.shape).astype(np.float32)
    filled = wedged.copy()
    fill_wedge(filled, ANGLES, 1.0, 1.0, 4, HostArrays())
    known = known_part((48, 64), ANGLES)
    assert (
        known.mean() == pytest.approx(1 - 1 / np.tan(np.radians(60)) / 2, abs=0.03)
        and known[24, 0] == 0
        and known[0].min() == 1
    )
    before, after, true = (np.fft.rfft2(v, axes=(0, 1)) for v in (wedged, filled, truth))
    inside, missing = known > 0.999, known < 1e-3
    assert np.abs(after - before)[inside].max() < 1e-3 * np.abs(before).max()  # what was measured is kept

    def agreement(spectrum, part):
        a, b = spectrum[part].ravel(), true[part].ravel()
        return (a * b.conj()).real.sum() / np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum())

    assert agreement(after, missing) > 0.5 > 0.2 > agreement(before, missing)
    assert np.corrcoef(filled.ravel(), truth.ravel())[0, 1] > np.corrcoef(wedged.ravel(), truth.ravel())[0, 1] + 0.02
    half = wedged.copy()
    fill_wedge(half, ANGLES, 0.5, 1.0, 4, HostArrays())
    assert np.allclose(half, (wedged + filled) / 2, atol=1e-5)


def test_types_do_not_change_one_another():
    spec, kinds = SimulationSpec((32, 64, 64)), known_types()
    things = [OBJECTS["apo-ferritin"]]
    everything = simulate(replace(spec, tomo_types=kinds), things, run="a", seed=3)
    assert list(everything.tomograms) == list(kinds)
    for kind in kinds:
        alone = simulate(replace(spec, tomo_types=(kind,)), things, run="a", seed=3)
        assert np.array_equal(alone.tomograms[kind].values, everything.tomograms[kind].values)


def test_halves_share_the_signal_and_not_the_noise():
    assert with_halves(("wbp", "denoised")) == ("wbp", "denoised", "wbp-even", "wbp-odd")
    assert with_halves(("wbp", "wbp-even")) == ("wbp", "wbp-even", "wbp-odd")
    assert with_halves(("denoised",)) == ("denoised", "wbp-even", "wbp-odd")
    assert len(with_halves(("wbp", "ctfdeconvolved"))) == 6
    spec = SimulationSpec(
        (32, 96, 96), tomo_types=with_halves(("wbp",)), specimen=only("ball", 4000, thickness=(250, 250))
    )
    correlation = {}
    for dose in (0.5, 150.0):
        dosed = replace(spec, microscope=replace(spec.microscope, dose=(dose, dose), defocus=(3e4, 3e4)))
        made = simulate(dosed, [PickableObject("ball", 60.0)], run="a", seed=1).tomograms
        whole, even, odd = (gaussian_filter(made[kind].values, 1.5)[12:20].ravel() for kind in spec.tomo_types)
        correlation[dose] = np.corrcoef(even, odd)[0, 1]
        assert np.corrcoef((even + odd) / 2, whole)[0, 1] > 0.95
    assert abs(correlation[0.5]) < 0.1 and correlation[150.0] > 0.5


def test_facts_of_a_run():
    spec = czii_spec((48, 96, 96), tomo_types=("wbp",)).override(
        ["microscope.defocus=31000", "microscope.dose=100", "voxel_spacing=8", "specimen.copies.apo-ferritin=900"]
    )
    made = simulate(spec, CZII_OBJECTS, run="a", seed=5)
    facts = made.facts
    assert facts["tilt_axis"] == "y" and facts["run"] == "a" and facts["seed"] == 5
    assert facts["defocus"] == 31000 and facts["dose"] == 100 and facts["voxel_spacing"] == 8
    tilts = sorted(facts["tilts_in_order"])
    assert np.allclose(np.diff(tilts), 3) and -60 <= tilts[0] <= -54 and 54 <= tilts[-1] <= 60
    assert sum(facts["picks"].values()) == len(made.picks) and facts["picks"]["apo-ferritin"] >= 1
    assert made.tomograms["wbp"].grid.voxel_spacing == 8


def test_how_much_runs_vary():
    spec = SimulationSpec((32, 64, 64))
    assert spec.varied(1.0) == spec
    middle = spec.varied(0.0)
    assert middle.microscope.defocus == (40_000.0, 40_000.0) and middle.microscope.tilts == (-60.0, 60.0)
    assert middle.restoration.high_pass == pytest.approx((np.sqrt(500 * 5000),) * 2)
    assert spec.varied(0.5).microscope.dose == (95.0, 125.0)
    with pytest.raises(TomopickError, match=r"how much runs vary is 1.5; expected 0 \(not at all\) to 1"):
        spec.varied(1.5)


def test_runs_are_determined_by_seed_and_name():
    spec = SimulationSpec((40, 64, 64), tomo_types=("wbp", "denoised"))
    things = [OBJECTS["apo-ferritin"], OBJECTS["thyroglobulin"]]
    runs = [simulate(spec, things, run=name, seed=3) for name in "aba"]
    first, other, again = (made.tomograms for made in runs)
    picks, same = runs[0].picks, runs[2].picks
    assert list(first) == ["wbp", "denoised"]
    for kind, tomogram in first.items():
        assert tomogram.values.dtype == np.float32 and tomogram.values.shape == spec.shape
        assert tomogram.tomo_type == kind and tomogram.grid == Grid(spec.shape, spec.voxel_spacing[0])
        assert np.isfinite(tomogram.values).all() and tomogram.values.std() > 0
        assert np.array_equal(tomogram.values, again[kind].values)
        assert not np.array_equal(tomogram.values, other[kind].values)
    assert np.array_equal(picks.positions, same.positions) and np.array_equal(picks.rotations, same.rotations)


def test_all_picks_lie_in_the_volume_with_true_rotations():
    spec = czii_spec((48, 96, 96))
    spec = replace(spec, specimen=replace(spec.specimen, crowding=(20, 20)))
    made = simulate(spec, CZII_OBJECTS, run="a", seed=0)
    tomograms, picks = made.tomograms, made.picks
    assert set(picks.names) == set(OBJECTS)
    assert tomograms["denoised"].grid.contains(picks.positions).all()
    assert np.allclose(picks.rotations @ picks.rotations.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(picks.rotations), 1)


def test_particles_are_dark_and_where_the_truth_says():
    """Also with a wrong magnification: positions are in believed Å."""
    ball = PickableObject("ball", 50.0)
    exact = {
        "alignment_error": (0, 0),
        "axis_error": (0, 0),
        "tilt_error": (0, 0),
        "tilt_loss": (0, 0),
        "defocus_error": (0, 0),
    }
    spec = SimulationSpec(
        (48, 128, 128),
        specimen=only("ball", 1500, thickness=(400, 400)),
        microscope=MicroscopeSpec(dose=(4000, 4000), magnification=(1.06, 1.06), defocus=(3e4, 3e4), **exact),
        restoration=RestorationSpec(strength=(0, 0), residue=(0, 0), log_snr=(2, 2), tilt_weight=(0, 0)),
    )
    made = simulate(spec, [ball], run="a", seed=1)
    tomograms, picks = made.tomograms, made.picks
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


def test_bad_input_is_one_clear_line():
    with pytest.raises(TomopickError, match=r"'ribosome' is \d+ Å across and does not fit into \(24, 96, 96\)"):
        simulate(SimulationSpec((24, 96, 96)), [OBJECTS["ribosome"]], run="a", seed=0)
    with pytest.raises(TomopickError, match="can be simulated; choose from wbp"):
        SimulationSpec((32, 64, 64), tomo_types=("raw",))
    with pytest.raises(TomopickError, match="one is named twice"):
        SimulationSpec((32, 64, 64), tomo_types=("wbp", "wbp"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("microscope.tilts=60,-60", "microscope.tilts must go up, within -80..80 degrees: not 60..-60"),
        ("microscope.tilts=-90,60", "microscope.tilts must go up, within -80..80 degrees: not -90..60"),
        ("microscope.tilt_step=0", "microscope.tilt_step is 0,0; expected low,high within 0.1..120"),
        ("microscope.tilt_step=200", "microscope.tilt_step is 200,200; expected low,high within 0.1..120"),
        ("microscope.dose=0", "microscope.dose is 0,0; expected low,high within 0.1..100000"),
        ("microscope.dose=nan", "microscope.dose is nan,nan; expected low,high"),
        ("microscope.defocus=5e4,2e4", "microscope.defocus is 50000,20000; expected low,high"),
        ("microscope.voltage=3", "microscope.voltage is 3; expected a number within 60..1000"),
        ("microscope.defocs=3", "MicroscopeSpec has no field 'defocs'; did you mean 'defocus'?"),
        ("restoration.residue=2", "restoration.residue is 2,2; expected low,high within 0..1"),
        ("restoration.wedge_iterations=0", "restoration.wedge_iterations is 0; expected a number within 1..100"),
        ("voxel_spacing=6.9", "voxel_spacing is 6.9,6.9; expected low,high within 7..14"),
        ("voxel_spacing=8,15", "voxel_spacing is 8,15; expected low,high within 7..14"),
        ("shape=0,64,64", "a grid needs three positive sizes"),
        ("tomo_types=raw", "no tomogram type 'raw' can be simulated; choose from wbp"),
    ],
)
def test_settings_that_cannot_be(text, line):
    with pytest.raises(TomopickError) as found:
        czii_spec((32, 64, 64)).override([text])
    assert str(found.value).startswith(line) and "\n" not in str(found.value)


@pytest.mark.parametrize("spacing", [7.0, 14.0])
def test_other_voxel_spacings(spacing):
    """A particle is as large in Å as ever."""
    ball = PickableObject("ball", 60.0)
    exact = dict.fromkeys(("tilt_loss", "alignment_error", "axis_error", "tilt_error", "defocus_error"), (0.0, 0.0))
    spec = SimulationSpec(
        (40, 96, 96), voxel_spacing=(spacing, spacing), tomo_types=("ctfdeconvolved",),
        specimen=only("ball", 3000, thickness=(250, 250), margin=0.0),
        microscope=MicroscopeSpec(dose=(3000, 3000), magnification=(1, 1), defocus=(3e4, 3e4), **exact),
        restoration=RestorationSpec(log_snr=(2, 2), tilt_weight=(0, 0), high_pass=(5000, 5000)),
    )  # fmt: skip
    made = simulate(spec, [ball], run="a", seed=1)
    tomograms, picks = made.tomograms, made.picks
    values, reach = tomograms["ctfdeconvolved"].values, int(120 / spacing)
    profile = []
    for z, y, x in np.rint(picks.positions / spacing).astype(int):
        if reach <= x < 96 - reach and reach <= y < 96 - reach:
            profile.append(values[z, y, x - reach : x + reach + 1])
    dark = np.mean(profile, axis=0) - np.median(values)
    distance = np.abs(np.arange(-reach, reach + 1) * spacing)
    assert dark[distance < 35].max() < 0 and dark[distance > 85].mean() > 0.2 * dark[distance < 35].mean()


def test_nothing_to_pick():
    membrane = PickableObject("membrane", None, is_particle=False)
    made = simulate(SimulationSpec((32, 48, 48)), [membrane], run="a", seed=0)
    assert len(made.picks) == 0 and np.isfinite(made.tomograms["denoised"].values).all()


@pytest.mark.parametrize("lost", [0.0, 12.0])
def test_a_wrong_axis_makes_crescents_where_the_points_are(lost):
    """In xz a point bends; the picks stay in its middle."""
    ball = PickableObject("ball", 50.0)
    exact = dict.fromkeys(("alignment_error", "tilt_error", "defocus_error"), (0.0, 0.0))
    averages = []
    for axis_error in (0.0, 100.0):
        microscope = MicroscopeSpec(
            tilts=(-60.0, 60.0 - lost), tilt_loss=(0, 0), tilt_step=(3, 3), axis_error=(axis_error, axis_error),
            dose=(2000, 2000), magnification=(1, 1), defocus=(3e4, 3e4), b_factor=(300, 300), **exact,
        )  # fmt: skip
        spec = SimulationSpec(
            (48, 128, 128),
            tomo_types=("wbp",),
            specimen=only("ball", 1500, thickness=(300, 300)),
            microscope=microscope,
        )
        made = simulate(spec, [ball], run="a", seed=1)
        assert abs(made.facts["axis_error"]) == axis_error
        offsets, boxes = np.indices((9, 9, 13)) - np.array([4, 4, 6])[:, None, None, None], []
        for index in made.tomograms["wbp"].grid.indices(made.picks.positions):
            if (index > 8).all() and (index < np.array(spec.shape) - 9).all():
                at = offsets + index[:, None, None, None]
                boxes.append(map_coordinates(made.tomograms["wbp"].values, at, order=1))
        averages.append(np.mean(boxes, axis=0))
    centres = [np.clip(-average, 0, None) for average in averages]
    where = [(np.arange(13) - 6) @ dark.sum(axis=(0, 1)) / dark.sum() * 10 for dark in centres]
    assert abs(where[0] - where[1]) < 8  # [Å]
    assert np.abs(averages[0] - averages[1]).max() > 0.1 * np.abs(averages[0]).max()
