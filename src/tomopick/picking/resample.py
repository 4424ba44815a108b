"""Volumes and heatmaps on other grids, by separable interpolation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..core.errors import ModelError
from ..core.types import Grid, Tomogram


def onto(values: np.ndarray, source: Grid, target: Grid, smooth: bool = False) -> np.ndarray:
    """Values of `source` at the voxels of `target`; beyond the border the border's value.

    Args:
        values: (..., z, y, x) on `source`.
        source: grid of `values`.
        target: grid of the result.
        smooth: six neighbours along an axis instead of two. Linear interpolation has its maxima at the source's
            voxels, so that peaks of a heatmap would lose their fraction of a cell.

    Returns:
        (..., z, y, x) on `target`, float32.
    """
    for axis in range(3):
        steps = np.arange(target.shape[axis]) * target.voxel_spacing + target.origin[axis]
        index = (steps - source.origin[axis]) / source.voxel_spacing
        index = np.clip(index, 0, source.shape[axis] - 1)
        if len(index) == source.shape[axis] and np.allclose(index, np.arange(len(index)), rtol=0, atol=1e-6):
            continue
        below = np.minimum(index.astype(int), max(0, source.shape[axis] - 2))
        share = index - below
        weights = _lagrange_weights(share) if smooth else np.stack([1 - share, share])
        first = below - (len(weights) // 2 - 1)
        total = 0.0
        for k, weight in enumerate(weights.astype(np.float32)):
            neighbour = np.take(values, np.clip(first + k, 0, source.shape[axis] - 1), axis=axis - 3)
            total = total + neighbour * weight.reshape(-1, *[1] * (2 - axis))
        values = np.asarray(total)
    return np.asarray(values, dtype=np.float32)


def _lagrange_weights(share: np.ndarray) -> np.ndarray:
    """(n,) fractions of the way from the third to the fourth of six samples -> (6, n) weights.

    They are those of the polynomial of degree 5 through the six samples.
    """
    nodes = np.arange(-2, 4)
    factors = [[(share - b) / (a - b) for b in nodes if b != a] for a in nodes]
    return np.stack([np.prod(f, axis=0) for f in factors])


RESAMPLE_BEYOND = 1.02  # factor between voxel spacings that a network tolerates
REFUSE_BEYOND = 4.0  # factor at which little of the particles is left


def spacings_differ(one: float, other: float) -> bool:
    """Whether two voxel spacings differ by more than a network tolerates."""
    return max(one / other, other / one) > RESAMPLE_BEYOND


def matched(tomogram: Tomogram, voxel_spacing: float, whose: str) -> Tomogram:
    """The tomogram itself where its voxel spacing is near enough, else resampled.

    Args:
        tomogram: at its own voxel spacing.
        voxel_spacing: that is wanted [Å].
        whose: it is, for the message.

    Raises:
        ModelError: the two are a factor of 4 or more apart.
    """
    found = tomogram.grid.voxel_spacing
    if max(voxel_spacing / found, found / voxel_spacing) > REFUSE_BEYOND:
        raise ModelError(
            f"run {tomogram.run}: voxel spacing {found:g} Å, but {whose} at {voxel_spacing:g} Å; "
            "check the spacing (--voxel-spacing) or use tomograms or a model nearer to each other"
        )
    return resample(tomogram, voxel_spacing) if spacings_differ(found, voxel_spacing) else tomogram


def resample(tomogram: Tomogram, voxel_spacing: float) -> Tomogram:
    """The tomogram at another voxel spacing; corners stay where they are.

    Finer volumes are smoothed first, so that what the coarser grid cannot carry does not fold back as noise.
    """
    grid = tomogram.grid
    factor = voxel_spacing / grid.voxel_spacing
    values = tomogram.values
    if factor > 1:
        values = ndimage.gaussian_filter(values, 0.4 * np.sqrt(factor**2 - 1), mode="nearest", truncate=3.0)
    shape = tuple(max(1, round(n / factor)) for n in grid.shape)
    shift = (voxel_spacing - grid.voxel_spacing) / 2
    z, y, x = grid.origin
    target = Grid((shape[0], shape[1], shape[2]), voxel_spacing, (z + shift, y + shift, x + shift))
    return replace(tomogram, values=onto(values, grid, target), grid=target)
