"""From a tilt series to tomograms: weighted back-projection, CTF deconvolution, denoising, filling the wedge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from ..core.presets import HALVES
from ..core.specs import LogRange, Range, require_ranges
from .arrays import Arrays, HostArrays
from .likeness import no_clearer, with_spectrum
from .microscope import TiltSeries
from .optics import dose_damping
from .projection import reconstruct
from .wedge import fill_wedge

_NOISE_ROWS = 24  # along y: enough to know the noise to a few per cent


@dataclass(frozen=True)
class Deconvolution:
    """A Wiener filter for phase contrast, weighted by how good each image is.

    With all images weighted alike it filters the volume as what Warp and IsoNet call deconvolution: everywhere with the
    optics of the tilt axis. Source: Tegunov & Cramer 2019, Nat Methods 16, 1146 (the form of the filter).

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
        optics, k = self.series.optics, frequency / self.series.voxel_spacing
        transfer = optics(k)
        wiener = -transfer / (transfer**2 + np.exp(k / self.falloff) / self.snr)
        low = 1 / (1 + (k / self.low_pass) ** 8)
        high = 1 - np.exp(-0.5 * (k / self.high_pass) ** 2)
        weight = np.cos(np.radians(self.series.angles[tilt])) ** self.tilt_weight
        damage = dose_damping(k, self.series.dose[tilt], optics.voltage)
        return wiener * low * high * weight * damage**self.dose_weight


@dataclass(frozen=True)
class RestorationSpec:
    """How tomograms are made of a tilt series. A range is drawn from uniformly, once per run.

    Attributes:
        log_snr: log10 of the signal to noise that the deconvolution believes in at frequency 0.
        falloff: frequency at which it is e times smaller [1/Å].
        low_pass: length at which the low pass of the deconvolution is down to a half [Å].
        high_pass: length above which the deconvolution lets less and less pass [Å].
        tilt_weight: power of the cosine of the tilt by which an image counts.
        dose_weight: how much of the radiation damage is weighted down again: 0 nothing, 1 as the damage is.
        strength: of the denoiser, in units of the noise's variance; 0 is none.
        window: edge of the box in which the denoiser compares signal and noise [Å].
        residue: part of the noise that it leaves everywhere.
        wedge_fill: how much of the missing wedge's estimate `isonetcorrected` takes in.
        wedge_threshold: what that estimate takes for signal, in standard deviations of the denoised volume.
        wedge_iterations: of the estimate.
        spectrum: log10 of the power in rings up to Nyquist that sections of every tomogram are brought to, of which the
            level does not count; empty: as it comes.
        clearest: how many times as much sections with specimen may vary as those of ice; what is clearer gets noise.
            0: as it comes.
    """

    log_snr: Range = (0.0, 3.0)
    falloff: Range = (0.007, 0.04)
    low_pass: Range = (19.0, 34.0)
    high_pass: LogRange = (500.0, 5_000.0)
    tilt_weight: Range = (0.0, 16.0)
    dose_weight: Range = (0.0, 1.5)
    strength: Range = (0.2, 2.0)
    window: Range = (50.0, 110.0)
    residue: Range = (0.0, 0.35)
    wedge_fill: Range = (0.5, 1.0)
    wedge_threshold: Range = (0.5, 1.5)
    wedge_iterations: int = 4
    spectrum: tuple[float, ...] = ()
    clearest: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        bounds = {
            "log_snr": (-5, 10), "falloff": (1e-4, 10), "low_pass": (1, 1000), "high_pass": (10, 1e6),
            "tilt_weight": (0, 100), "dose_weight": (0, 10), "strength": (0, 100), "window": (10, 1000),
            "residue": (0, 1), "clearest": (0, 1000), "wedge_fill": (0, 1), "wedge_threshold": (0, 10),
            "wedge_iterations": (1, 100),
        }  # fmt: skip
        require_ranges(self, "restoration", bounds)

    def __call__(
        self,
        series: TiltSeries,
        shape: tuple[int, int, int],
        tomo_types: Sequence[str],
        rng: np.random.Generator,
        arrays: Arrays | None = None,
        stage: Callable[[str], None] = lambda name: None,
    ) -> dict[str, np.ndarray]:
        """The tomograms of `tomo_types`, each (z, y, x) float32 of `shape`, in their order.

        Args:
            series: of which they are made.
            shape: of a tomogram (z, y, x).
            tomo_types: of `known_types()`.
            rng: draws the settings.
            arrays: where to compute; by default on the CPU.
            stage: is told what is made next.
        """
        restoring = _Restoring(self, series, shape, rng, arrays or HostArrays(), stage)
        made = dict(restoring.whole(set(tomo_types)))
        for kind in tomo_types:
            name, _, half = kind.partition("-")
            if half:
                stage(kind)
                made[kind] = _upright(restoring.volume(name, series.every_other(HALVES.index(half))))
        if not self.spectrum and not self.clearest[1]:
            return {kind: made[kind] for kind in tomo_types}
        limit = rng.uniform(*self.clearest)
        return {kind: self._likened(made[kind], limit, rng) for kind in tomo_types}

    def _likened(self, volume: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
        """A tomogram with the spectrum that was asked for, and no clearer than that."""
        if limit:
            volume = no_clearer(volume, limit, rng, self.spectrum)
        return with_spectrum(volume, self.spectrum) if self.spectrum else volume


class _Restoring:
    """One run's settings, drawn in one order whatever types are wanted, and what they do."""

    def __init__(
        self, spec: RestorationSpec, series: TiltSeries, shape: tuple[int, int, int], rng: np.random.Generator,
        arrays: Arrays, stage: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.spec, self.series, self.shape, self.arrays, self.stage = spec, series, shape, arrays, stage
        self.filter = (
            10 ** rng.uniform(*spec.log_snr), rng.uniform(*spec.falloff), 1 / rng.uniform(*spec.low_pass),
            1 / np.exp(rng.uniform(*np.log(spec.high_pass))), rng.uniform(*spec.tilt_weight),
            rng.uniform(*spec.dose_weight),
        )  # fmt: skip
        self.strength, self.window, self.residue = (rng.uniform(*r) for r in (spec.strength, spec.window, spec.residue))
        self.fill, self.threshold = rng.uniform(*spec.wedge_fill), rng.uniform(*spec.wedge_threshold)
        self.noise_rng = rng

    def volume(self, kind: str, series: TiltSeries) -> np.ndarray:
        """(z, x, y): `wbp` or `ctfdeconvolved` of a series."""
        depth, _, width = self.shape
        if kind == "wbp":
            return reconstruct(series.images, series.angles, depth, width, arrays=self.arrays)
        gain = Deconvolution(series, *self.filter)
        return reconstruct(series.images, series.angles, depth, width, gain, self.arrays)

    def whole(self, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
        """The types that are made of all tilts; one volume at a time is more than the results."""
        if "wbp" in wanted:
            self.stage("wbp")
            yield "wbp", _upright(self.volume("wbp", self.series))
        if not wanted & {"ctfdeconvolved", "denoised", "isonetcorrected"}:
            return
        self.stage("ctfdeconvolved")
        volume = self.volume("ctfdeconvolved", self.series)
        if "ctfdeconvolved" in wanted:
            yield "ctfdeconvolved", _upright(volume)
        if not wanted & {"denoised", "isonetcorrected"}:
            return
        self.stage("denoised")
        level = self.noise_variance() * self.strength
        window = max(3, round(self.window / self.series.voxel_spacing))
        volume = shrink(volume, level, window, self.residue)
        if "denoised" in wanted:
            yield "denoised", _upright(volume)
        if "isonetcorrected" in wanted:
            self.stage("isonetcorrected")
            spec, angles = self.spec, self.series.angles
            fill_wedge(volume, angles, self.fill, self.threshold, spec.wedge_iterations, self.arrays)
            yield "isonetcorrected", _upright(volume)

    def noise_variance(self) -> np.ndarray:
        """(z, x, 1) variance of the noise in the deconvolved tomogram, from a series of nothing but noise."""
        series, (depth, _, width) = self.series, self.shape
        shape = (*series.images.shape[:2], _NOISE_ROWS)
        images = self.noise_rng.standard_normal(shape, dtype=np.float32)
        images *= series.noise.astype(np.float32)[:, None, None]
        gain = Deconvolution(series, *self.filter)
        volume = reconstruct(images, series.angles, depth, width, gain, self.arrays)
        return gaussian_filter(volume.var(axis=2), 4.0)[:, :, None]


def _upright(volume: np.ndarray) -> np.ndarray:
    """(z, x, y) -> (z, y, x), a copy."""
    return np.ascontiguousarray(volume.transpose(0, 2, 1))


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
    power = uniform_filter(volume * volume, window)
    power -= mean**2
    gain = np.clip(1 - noise / np.maximum(power, 1e-20), residue, 1).astype(np.float32)
    del power
    mean *= np.float32(residue)
    return mean + (volume - mean) * uniform_filter(gain, max(3, window // 2))
