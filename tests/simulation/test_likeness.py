"""What tomograms are like as a whole: known answers, and simulated runs that are made alike."""

import numpy as np
import pytest

from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.statistics import radial_spectrum
from tomopick.data import MemoryProject
from tomopick.data.runs import Runs
from tomopick.recipes.looks import Looks
from tomopick.simulation import simulate
from tomopick.simulation.likeness import clearness, no_clearer, section_spread, tilts_of, with_spectrum
from tomopick.simulation.projects import spec_of


def noise(shape=(64, 64, 64), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("low", "high"), [(-60, 60), (-42, 42), (-55, 40)])
@pytest.mark.parametrize("axis", ["y", "x"])
def test_tilts_are_seen_in_the_missing_wedge(low, high, axis):
    volume = noise()
    kz, kx = np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None]
    angle = np.degrees(np.arctan2(kz, kx))
    known = np.where((angle > low) & (angle < high), 1.0, 0.03)[:, None]
    volume = np.fft.irfft2(np.fft.rfft2(volume, axes=(0, 2)) * known, (64, 64), axes=(0, 2))
    found = tilts_of(volume if axis == "y" else volume.transpose(0, 2, 1))
    assert found == pytest.approx((low, high), abs=6)


def test_where_no_wedge_shows_nothing_is_said():
    assert tilts_of(noise()) is None


def test_a_spectrum_is_given_to_another_volume():
    smooth = with_spectrum(noise(seed=1), tuple(np.linspace(1.0, -1.0, 16)))
    wanted = radial_spectrum(smooth / smooth.std())
    assert wanted[2] - wanted[-2] == pytest.approx(2 * 11 / 15, abs=0.15)
    given = with_spectrum(noise(), tuple(wanted))
    found = radial_spectrum(given / given.std())
    np.testing.assert_allclose(found - found.mean(), wanted - wanted.mean(), atol=0.1)


def test_noise_is_added_until_a_specimen_is_no_clearer():
    volume = noise((60, 48, 48))
    volume[20:40] *= 3.0
    rng = np.random.default_rng(0)
    assert clearness(section_spread(volume)) == pytest.approx(3.0, rel=0.05)
    assert clearness(section_spread(no_clearer(volume, 1.5, rng, ()))) == pytest.approx(1.5, rel=0.05)
    assert no_clearer(volume, 4.0, rng, ()) is volume  # it is not made clearer than it is


@pytest.mark.slow
def test_runs_are_simulated_like_simulated_runs_of_known_parameters():
    spec = spec_of("varied", (64, 96, 96), ("denoised",)).override(
        [
            "microscope.tilts=-42,42",
            "microscope.tilt_loss=0,0",
            "restoration.tilt_weight=0,2",
            "specimen.thickness=350,350",
        ]
    )
    project = MemoryProject()
    for run in ("A", "B"):
        project.write_tomogram(simulate(spec, CZII_OBJECTS, run=run, seed=3).tomograms["denoised"])
    looks = Looks.of(Runs(project))
    assert looks.tilts == pytest.approx((-42, 42), abs=7)
    again = spec_of("varied", (64, 96, 96), ("denoised",)).override(looks.settings())
    made = MemoryProject()
    for run in ("C", "D"):
        made.write_tomogram(simulate(again, CZII_OBJECTS, run=run, seed=4).tomograms["denoised"])
    found = Looks.of(Runs(made))
    own, theirs = (np.asarray(x.spectrum) - np.mean(x.spectrum) for x in (found, looks))
    np.testing.assert_allclose(own, theirs, atol=0.25)
    assert found.tilts == pytest.approx(looks.tilts, abs=9)
