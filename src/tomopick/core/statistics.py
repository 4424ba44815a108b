"""Statistics that tell normalised volumes apart: spectrum, skewness, contrast of particles."""

from __future__ import annotations

import numpy as np

from .arrays import Array, alike, functions_of, is_tensor, to_host
from .types import Grid
from .void import beside

SPECTRUM_BINS = 16
LIGHT = 0.1  # mean at particles minus mean around them [deviations] from which they are light, or dark


def radial_spectrum(values: Array, void: np.ndarray | None = None, bins: int = SPECTRUM_BINS) -> np.ndarray:
    """log10 of the power in rings of the xy plane, from low frequency to Nyquist, mean over central sections.

    Args:
        values: (z, y, x), normalised.
        void: (z, y, x) bool, where there is no specimen.
        bins: number of rings.
    """
    n = min(256, *values.shape[1:])
    depth = min(16, values.shape[0])
    z, y, x = _middle(values.shape, void, (depth, n, n))
    here = np.s_[z : z + depth, y : y + n, x : x + n]
    box, taper = _double(values[here]), np.hanning(n)
    taper = taper[:, None] * taper[None, :]
    if void is None or not void[here].any() or void[here].all():
        seen, share = (box - box.mean()) * alike(taper, box), 1.0
    else:
        counted = ~beside(void[here])
        seen = (box - box[alike(counted, box)].mean()) * alike(taper * counted, box)
        share = float((counted * taper**2).mean() / (taper**2).mean())
    functions = functions_of(seen)
    power = to_host((functions.abs(functions.fft.fft2(seen)) ** 2).mean(0)) / share
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None, :])
    ring = np.minimum((frequency / 0.5 * bins).astype(int), bins)  # the corners beyond Nyquist: an extra ring
    total = np.bincount(ring.ravel(), weights=power.ravel(), minlength=bins + 1)
    count = np.bincount(ring.ravel(), minlength=bins + 1)
    return np.log10(total[:bins] / np.maximum(count[:bins], 1) / n**2 + 1e-12)


def _middle(shape: tuple[int, ...], void: np.ndarray | None, box: tuple[int, ...]) -> list[int]:
    """Where a box in the middle of the specimen begins."""
    middles = [n // 2 for n in shape]
    if void is not None:
        # Half of the specimen lies on either side.
        held = ~void
        for axis in range(3):
            along = np.cumsum(held.sum(axis=tuple(a for a in range(3) if a != axis)))
            middles[axis] = int(np.searchsorted(along, along[-1] / 2))
    return [max(0, min(m - b // 2, n - b)) for m, b, n in zip(middles, box, shape)]


def _double(values: Array) -> Array:
    return values.double() if is_tensor(values) else values.astype(np.float64)


def skewness(values: Array, void: np.ndarray | None = None) -> float:
    """Third standardised moment of a normalised volume; negative where particles are dark on light.

    Args:
        values: (z, y, x), normalised.
        void: (z, y, x) bool, where there is no specimen.
    """
    every = tuple(slice(None, None, max(1, n // most)) for n, most in zip(values.shape, (64, 128, 128)))
    sample = _double(values[every])
    sample = sample.ravel() if void is None else sample[alike(~void[every], sample)]
    if not len(sample):
        return 0.0
    off = sample - sample.mean()
    deviation = float((off * off).mean()) ** 0.5 if is_tensor(sample) else sample.std()
    if not deviation > 0:
        return 0.0
    off = off / deviation
    return float((off * off * off).mean())  # a power would take twenty times as long


def contrast_at(
    values: np.ndarray, grid: Grid, positions: np.ndarray, radius: float, void: np.ndarray | None = None
) -> float:
    """Mean inside particles minus mean in a shell around them; negative where particles are dark.

    Args:
        values: (z, y, x), normalised.
        grid: of `values`.
        positions: (n, 3) zyx [Å].
        radius: of the particles [Å].
        void: (z, y, x) bool, where there is no specimen; particles that reach into it are left out.
    """
    reach = int(np.ceil(2 * radius / grid.voxel_spacing))
    axis = np.arange(-reach, reach + 1)
    distance = np.sqrt(sum(np.square(a) for a in np.meshgrid(axis, axis, axis, indexing="ij"))) * grid.voxel_spacing
    inner, shell = distance <= radius, (distance > 1.3 * radius) & (distance <= 2 * radius)
    differences = []
    for index in np.rint(grid.indices(positions)).astype(int):
        if (index < reach).any() or (index + reach >= values.shape).any():
            continue
        here = tuple(slice(i - reach, i + reach + 1) for i in index)
        if void is not None and void[here][inner | shell].any():
            continue
        box = values[here]
        differences.append(box[inner].mean() - box[shell].mean())
    return float(np.mean(differences)) if differences else 0.0
