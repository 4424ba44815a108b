"""What tomograms are like as a whole, measured on some and given to simulated ones: spectrum, contrast, tilts."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..core.statistics import SPECTRUM_BINS, radial_spectrum

_SMOOTH = 2.0  # sections over which their spread is smoothed
_MOST_GAIN = 6.0  # by which a frequency is raised or lowered at most
_PASSES = 2  # for a section's spectrum holds frequencies along z, too
_RING = (0.08, 0.3)  # [cycles/voxel] in which the missing wedge is looked for
_FLAT = 30.0  # [degrees] up to which every tilt series reaches
_STEEP = 75.0  # [degrees] beyond which hardly one does
_DROP = 0.3  # log10 of the power between the two, at least, to tell where it falls
_STEP = 3.0  # [degrees]
_WIDEST, _NARROWEST = 70.0, 35.0  # [degrees] of what is believed


def section_spread(values: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """(z,) standard deviation of each section of (z, y, x) values, smoothed; of what is not void."""
    kept = np.ones(values.shape, dtype=bool) if void is None else ~void
    spread = np.array([v[k].std() if k.any() else 0.0 for v, k in zip(values, kept)])
    return np.asarray(gaussian_filter1d(spread, _SMOOTH))


def clearness(spread: np.ndarray) -> float:
    """How much more sections with specimen vary than those of ice alone; near 1 where there are none of one kind."""
    low, high = np.quantile(spread, (0.05, 0.95))
    return float(high / low) if low > 0 else 1.0


def tilts_of(values: np.ndarray, void: np.ndarray | None = None) -> tuple[float, float] | None:
    """From where to where a tomogram's tilts go [degrees]; None where its missing wedge does not show.

    Power is taken in planes across the tilt axis, which is y or x, whichever shows the wedge more plainly: along a
    direction that was never looked at it falls. Where high tilts counted little it falls before them.

    Args:
        values: (z, y, x), normalised.
        void: (z, y, x) bool, where there is no specimen.
    """
    kept = values if void is None else np.where(void, np.float32(0), values)
    middle = tuple(
        slice((n - min(n, most)) // 2, (n + min(n, most)) // 2) for n, most in zip(kept.shape, (192, 256, 256))
    )
    box = kept[middle]
    found = [_wedge(box), _wedge(box.transpose(0, 2, 1))]
    drop, low, high = max(found)
    if drop < _DROP:
        return None
    return float(np.clip(low, -_WIDEST, -_NARROWEST)), float(np.clip(high, _NARROWEST, _WIDEST))


def _wedge(box: np.ndarray) -> tuple[float, float, float]:
    """By how much the power of a (z, y, x) box falls [log10], and beyond which angles [degrees] in zx it has fallen."""
    taper = np.hanning(box.shape[0])[:, None, None] * np.hanning(box.shape[2])
    power = np.zeros((box.shape[0], box.shape[2] // 2 + 1))
    for first in range(0, box.shape[1], 32):
        part = box[:, first : first + 32].astype(np.float32)
        power += (np.abs(np.fft.rfft2((part - part.mean()) * taper, axes=(0, 2))) ** 2).sum(axis=1)
    kz, kx = np.fft.fftfreq(box.shape[0])[:, None], np.fft.rfftfreq(box.shape[2])[None]
    away, angle = np.hypot(kz, kx), np.degrees(np.arctan2(kz, kx))
    ring = np.minimum((away * SPECTRUM_BINS * 4).astype(int), SPECTRUM_BINS * 4)
    flat = np.abs(angle) < _FLAT
    usual = np.bincount(ring[flat], power[flat], 8 * SPECTRUM_BINS) / np.maximum(
        np.bincount(ring[flat], minlength=8 * SPECTRUM_BINS), 1
    )
    seen = (away >= _RING[0]) & (away <= _RING[1]) & (usual[ring] > 0)
    n = round(180 / _STEP)
    bins = np.minimum(((angle[seen] + 90) / _STEP).astype(int), n - 1)
    count, total = np.bincount(bins, minlength=n), np.bincount(bins, power[seen] / usual[ring[seen]], n)
    held = count > 0
    angles = ((np.arange(n) + 0.5) * _STEP - 90)[held]
    profile = np.log10(total[held] / count[held] + 1e-9)
    level = float(np.median(profile[np.abs(angles) < _FLAT]))
    floor = float(profile[np.abs(angles) > _STEEP].mean())
    half = (level + floor) / 2
    # The box is small and tapered: what was seen reaches so far into what was not.
    blur = float(np.degrees((1 / box.shape[0] + 1 / box.shape[2]) / 2 / np.mean(_RING)))

    def edge(side: int) -> float:
        along = np.flatnonzero(side * angles > _FLAT)[::side]
        beyond = next((i for i in along if profile[i] < half), along[-1])
        before = beyond - side
        share = (profile[before] - half) / max(profile[before] - profile[beyond], 1e-9)
        return float(angles[before] + (angles[beyond] - angles[before]) * np.clip(share, 0, 1)) - side * blur

    return level - floor, edge(-1), edge(1)


def with_spectrum(values: np.ndarray, spectrum: tuple[float, ...]) -> np.ndarray:
    """(z, y, x) values filtered so that their sections have a spectrum of that shape.

    Args:
        values: (z, y, x) float32.
        spectrum: log10 of the power in rings up to Nyquist, see `radial_spectrum`; its level does not count.
    """
    wanted = np.asarray(spectrum) - np.mean(spectrum)
    axes = np.meshgrid(*(np.fft.fftfreq(n) for n in values.shape[:2]), np.fft.rfftfreq(values.shape[2]), indexing="ij",
                       sparse=True)  # fmt: skip
    away = np.sqrt(sum(a**2 for a in axes))
    rings = (np.arange(len(wanted)) + 0.5) * 0.5 / len(wanted)
    for _ in range(_PASSES):
        own = radial_spectrum(values / max(float(values.std()), 1e-12), bins=len(wanted))
        gain = 10 ** ((wanted - (own - own.mean())) / 2)
        gain = np.clip(gain / np.exp(np.log(gain).mean()), 1 / _MOST_GAIN, _MOST_GAIN)
        changed = np.fft.rfftn(values) * np.interp(away, rings, gain)
        values = np.fft.irfftn(changed, values.shape, axes=(0, 1, 2)).astype(np.float32)
    return values


def no_clearer(values: np.ndarray, limit: float, rng: np.random.Generator, spectrum: tuple[float, ...]) -> np.ndarray:
    """(z, y, x) values with as much noise as lets sections with specimen stand out from ice no more than so much.

    Args:
        values: (z, y, x) float32.
        limit: see `clearness`.
        rng: draws the noise.
        spectrum: of the noise; empty: white.
    """
    low, high = np.quantile(section_spread(values), (0.05, 0.95))
    missing = (high**2 - limit**2 * low**2) / (limit**2 - 1) if limit > 1 else 0.0
    if missing <= 0:
        return values
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    noise = with_spectrum(noise, spectrum) if spectrum else noise
    return values + noise * np.float32(np.sqrt(missing) / noise.std())
