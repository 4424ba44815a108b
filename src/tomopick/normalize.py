"""Grey values: the one normalisation of training and picking, and statistics that tell volumes apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import ReadError
from .types import Grid, Tomogram

SPECTRUM_BINS = 16


@dataclass(frozen=True)
class RobustNormalization:
    """Zero mean and unit deviation of the part of the volume that has structure.

    Mean and deviation are taken over small blocks, and then the median of those blocks whose deviation lies
    between two quantiles. Empty ice and constant padding fall below the band; gold and carbon fall above it, so
    neither decides the scale. (A z-score over the whole volume is ruled by the empty ice above and below a thin
    specimen.) Non-finite voxels are left out and become 0.

    Attributes:
        block: edge of a block [Å].
        low, high: quantiles of the blocks' deviations that bound the band.
        clip: largest absolute value of the result.
    """

    block: float = 160.0
    low: float = 0.65
    high: float = 0.95
    clip: float = 10.0

    def statistics(self, tomogram: Tomogram) -> tuple[float, float]:
        """Mean and deviation, in the volume's own grey values.

        Raises:
            ReadError: the volume is constant, or nothing in it is finite.
        """
        edge = max(4, round(self.block / tomogram.grid.voxel_spacing))
        means, deviations = _block_statistics(tomogram.values, edge)
        valid = np.isfinite(deviations) & (deviations > 0)
        if not valid.any():
            raise ReadError(
                f"run {tomogram.run}: every voxel has the same value or is not finite; expected a tomogram: "
                "check the file or make it again"
            )
        means, deviations = means[valid], deviations[valid]
        low, high = np.quantile(deviations, [self.low, self.high])
        band = (deviations >= low) & (deviations <= high)
        return float(np.median(means[band])), float(np.median(deviations[band]))

    def __call__(self, tomogram: Tomogram) -> np.ndarray:
        """(z, y, x) float32, a new array."""
        mean, deviation = self.statistics(tomogram)
        # One copy of the volume and no temporaries beside it: volumes are the largest thing in memory.
        values = np.subtract(tomogram.values, np.float32(mean), dtype=np.float32)
        values /= np.float32(deviation)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=self.clip, neginf=-self.clip)
        return np.clip(values, -self.clip, self.clip, out=values)


def _block_statistics(values: np.ndarray, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the blocks of a (z, y, x) volume, each flattened; blocks without a finite voxel: NaN."""
    edges = [min(edge, n) for n in values.shape]
    counts = [n // e for n, e in zip(values.shape, edges)]
    means, deviations = [], []
    for i in range(counts[0]):  # one layer of blocks at a time keeps the temporaries small
        layer = values[i * edges[0] : (i + 1) * edges[0], : counts[1] * edges[1], : counts[2] * edges[2]]
        blocks = layer.reshape(edges[0], counts[1], edges[1], counts[2], edges[2])
        blocks = blocks.transpose(1, 3, 0, 2, 4).reshape(counts[1] * counts[2], -1).astype(np.float64)
        finite = np.isfinite(blocks)
        n = finite.sum(axis=1)
        blocks = np.where(finite, blocks, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = blocks.sum(axis=1) / n
            variance = np.where(finite, (blocks - mean[:, None]) ** 2, 0.0).sum(axis=1) / n
        # Rounding leaves a little variance in a constant block of large values.
        constant = np.ptp(np.where(finite, blocks, mean[:, None]), axis=1) == 0
        means.append(mean)
        deviations.append(np.where(constant, 0.0, np.sqrt(variance)))
    return np.concatenate(means), np.concatenate(deviations)


def radial_spectrum(values: np.ndarray, bins: int = SPECTRUM_BINS) -> np.ndarray:
    """log10 of the power in rings of the xy plane, from low frequency to Nyquist, mean over central sections.

    Args:
        values: (z, y, x), normalised.
        bins: number of rings.
    """
    n = min(256, *values.shape[1:])
    z, y, x = (s // 2 for s in values.shape)
    low_y, low_x = y - n // 2, x - n // 2
    depth = min(16, values.shape[0])
    box = values[z - depth // 2 : z - depth // 2 + depth, low_y : low_y + n, low_x : low_x + n].astype(np.float64)
    taper = np.hanning(n)
    power = (np.abs(np.fft.fft2((box - box.mean()) * taper[:, None] * taper[None, :])) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None, :])
    ring = np.minimum((frequency / 0.5 * bins).astype(int), bins)  # the corners beyond Nyquist: an extra ring
    total = np.bincount(ring.ravel(), weights=power.ravel(), minlength=bins + 1)
    count = np.bincount(ring.ravel(), minlength=bins + 1)
    return np.log10(total[:bins] / np.maximum(count[:bins], 1) / n**2 + 1e-12)


def skewness(values: np.ndarray) -> float:
    """Third standardised moment of a normalised volume; negative where particles are dark on light."""
    sample = values[
        :: max(1, values.shape[0] // 64), :: max(1, values.shape[1] // 128), :: max(1, values.shape[2] // 128)
    ]
    sample = sample.astype(np.float64).ravel()
    deviation = sample.std()
    return float((((sample - sample.mean()) / deviation) ** 3).mean()) if deviation > 0 else 0.0


def contrast_at(values: np.ndarray, grid: Grid, positions: np.ndarray, radius: float) -> float:
    """Mean inside particles minus mean in a shell around them; negative where particles are dark.

    Args:
        values: (z, y, x), normalised.
        grid: of `values`.
        positions: (n, 3) zyx [Å].
        radius: of the particles [Å].
    """
    reach = int(np.ceil(2 * radius / grid.voxel_spacing))
    axis = np.arange(-reach, reach + 1)
    distance = np.sqrt(sum(np.square(a) for a in np.meshgrid(axis, axis, axis, indexing="ij"))) * grid.voxel_spacing
    inner, shell = distance <= radius, (distance > 1.3 * radius) & (distance <= 2 * radius)
    differences = []
    for index in np.rint(grid.indices(positions)).astype(int):
        if (index < reach).any() or (index + reach >= values.shape).any():
            continue
        box = values[tuple(slice(i - reach, i + reach + 1) for i in index)]
        differences.append(box[inner].mean() - box[shell].mean())
    return float(np.mean(differences)) if differences else 0.0
