"""Volumes and heatmaps on other grids, by separable linear interpolation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from .types import Grid, Tomogram


def onto(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Values of `source` at the voxels of `target`; beyond the border the border's value.

    Args:
        values: (..., z, y, x) on `source`.
        source: grid of `values`.
        target: grid of the result.

    Returns:
        (..., z, y, x) on `target`, float32.
    """
    for axis in range(3):
        steps = np.arange(target.shape[axis]) * target.voxel_spacing + target.origin[axis]
        index = (steps - source.origin[axis]) / source.voxel_spacing
        index = np.clip(index, 0, source.shape[axis] - 1)
        below = np.minimum(index.astype(int), max(0, source.shape[axis] - 2))
        share = (index - below).astype(np.float32)
        if not share.any() and np.array_equal(below, np.arange(values.shape[axis - 3])):
            continue
        shape = [1] * values.ndim
        shape[axis - 3] = len(index)
        share = share.reshape(shape)
        above = np.minimum(below + 1, source.shape[axis] - 1)
        low = np.take(values, below, axis=axis - 3)
        values = low + share * (np.take(values, above, axis=axis - 3) - low)
    return np.asarray(values, dtype=np.float32)


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
