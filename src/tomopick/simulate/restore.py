"""From a tilt series to tomograms: weighted back-projection, CTF deconvolution, denoising."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from .microscope import TiltSeries, dose_damping
from .projection import reconstruct
from .specimen import Range

_NOISE_ROWS = 24  # along y: enough to know the noise to a few per cent


@dataclass(frozen=True)
class Deconvolution:
    """A Wiener filter for phase contrast, weighted by how good each image is.

    Attributes:
        series: whose optics, tilts and doses count.
        snr: signal to noise at frequency 0.
        falloff: frequency at which it is e times smaller [1/Å].
        low_pass: frequency at which the filter is down to a half [1/Å].
        high_pass: frequency below which the filter falls to 0 [1/Å].
        tilt_weight: power of the cosine of the tilt by which an image counts.
        dose_weight: 1 damps an image as the radiation did before it, 0 does not.
    """

    series: TiltSeries
    snr: float
    falloff: float
    low_pass: float
    high_pass: float
    tilt_weight: float = 0.0
    dose_weight: float = 0.0

    def __call__(self, frequency: np.ndarray, tilt: int) -> np.ndarray:
        """Gain of an image at `frequency` [cycles/voxel]; positive at low ones: dark stays dark."""
        k = frequency / self.series.voxel_spacing
        transfer = self.series.optics(k)
        wiener = -transfer / (transfer**2 + np.exp(k / self.falloff) / self.snr)
        low = 1 / (1 + (k / self.low_pass) ** 8)
        high = 1 - np.exp(-0.5 * (k / self.high_pass) ** 2)
        weight = np.cos(np.radians(self.series.angles[tilt])) ** self.tilt_weight
        return wiener * low * high * weight * dose_damping(k, self.series.dose[tilt]) ** self.dose_weight


@dataclass(frozen=True)
class RestorationSpec:
    """How tomograms are made of a tilt series. A range is drawn from uniformly, once per run.

    Attributes:
        log_snr: log10 of the signal to noise that the deconvolution believes in at frequency 0.
        falloff: frequency at which it is e times smaller [1/Å].
        low_pass: length at which the denoiser's low pass is down to a half [Å].
        high_pass: length above which the deconvolution lets less and less pass [Å].
        tilt_weight: power of the cosine of the tilt by which an image counts.
        dose_weight: how much of the radiation damage is weighted down again: 0 nothing, 1 as the damage is.
        strength: of the denoiser, in units of the noise's variance; 0 is none.
        window: edge of the box in which the denoiser compares signal and noise [Å].
        residue: part of the noise that it leaves everywhere.
    """

    log_snr: Range = (0.0, 3.0)
    falloff: Range = (0.007, 0.04)
    low_pass: Range = (19.0, 34.0)
    high_pass: Range = (500.0, 5_000.0)
    tilt_weight: Range = (0.0, 8.0)
    dose_weight: Range = (0.0, 1.5)
    strength: Range = (0.2, 2.0)
    window: Range = (50.0, 110.0)
    residue: Range = (0.0, 0.35)

    def __call__(
        self, series: TiltSeries, depth: int, width: int, tomo_types: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The tomograms of `tomo_types`, each (z, y, x) float32 of `depth` planes and `width` columns."""
        spacing = series.voxel_spacing
        filtered = Deconvolution(
            series, 10 ** rng.uniform(*self.log_snr), rng.uniform(*self.falloff), 1 / rng.uniform(*self.low_pass),
            1 / np.exp(rng.uniform(*np.log(self.high_pass))), rng.uniform(*self.tilt_weight),
            rng.uniform(*self.dose_weight),
        )  # fmt: skip
        strength, window, residue = (rng.uniform(*r) for r in (self.strength, self.window, self.residue))
        made: dict[str, np.ndarray] = {}
        if "wbp" in tomo_types:
            made["wbp"] = reconstruct(series.images, series.angles, depth, width)
        if {"ctfdeconvolved", "denoised"} & set(tomo_types):
            volume = reconstruct(series.images, series.angles, depth, width, filtered)
            if "ctfdeconvolved" in tomo_types:
                made["ctfdeconvolved"] = volume.copy()
            if "denoised" in tomo_types:
                level = noise_variance(series, depth, width, filtered, rng)
                made["denoised"] = shrink(volume, level * strength, max(3, round(window / spacing)), residue)
        return {kind: np.ascontiguousarray(made[kind].transpose(0, 2, 1)) for kind in tomo_types}


def noise_variance(
    series: TiltSeries, depth: int, width: int, gain: Deconvolution, rng: np.random.Generator
) -> np.ndarray:
    """(z, x, 1) variance of the noise in the tomogram, measured on a series of nothing but noise."""
    shape = (*series.images.shape[:2], _NOISE_ROWS)
    images = rng.standard_normal(shape, dtype=np.float32) * series.noise.astype(np.float32)[:, None, None]
    volume = reconstruct(images, series.angles, depth, width, gain)
    return gaussian_filter(volume.var(axis=2), 4.0)[:, :, None]


def shrink(volume: np.ndarray, noise: np.ndarray | float, window: int, residue: float) -> np.ndarray:
    """Locally adaptive Wiener filter: what varies no more than the noise does goes, what varies more stays.

    Source: the idea of Lee 1980, IEEE PAMI 2, 165, with the noise known instead of estimated.

    Args:
        volume: (z, x, y) float32.
        noise: its variance, broadcast against `volume`.
        window: edge of the box in which the variance is taken [voxels].
        residue: smallest gain.
    """
    mean = uniform_filter(volume, window)
    power = uniform_filter(volume * volume, window) - mean**2
    gain = np.clip(1 - noise / np.maximum(power, 1e-20), residue, 1).astype(np.float32)
    return mean * residue + (volume - mean * residue) * uniform_filter(gain, max(3, window // 2))
