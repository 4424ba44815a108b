"""Whether picks sit in the middle of their particles: the average subtomogram against its mirror image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from ..core.types import Grid, Vector

_MOST = 400  # subtomograms that are averaged; more move the result by less than its error


@dataclass(frozen=True)
class Displacement:
    """How far the particles' middles lie from the picks.

    Attributes:
        voxels: middle minus pick, zyx [voxels].
        error: how much two halves of the picks differ, zyx [voxels].
        n: subtomograms that were averaged.
    """

    voxels: Vector
    error: Vector
    n: int

    @property
    def significant(self) -> bool:
        """Whether some axis is off by more than a third of a voxel and by three times its error."""
        return any(abs(v) > 1 / 3 and abs(v) > 3 * e for v, e in zip(self.voxels, self.error))


def displacement(values: np.ndarray, grid: Grid, positions: np.ndarray, radius: float) -> Displacement | None:
    """The displacement of picks of one object; None for fewer than ten inside the volume.

    An average over many orientations is its own mirror image about its middle; at a middle d off, the two fit best
    when they are shifted by 2 d. A missing wedge, being symmetric, changes nothing in that.

    Args:
        values: (z, y, x), normalised.
        grid: of `values`.
        positions: (n, 3) zyx [Å].
        radius: of the object [Å].
    """
    reach = int(np.ceil(1.6 * radius / grid.voxel_spacing)) + 2
    indices = grid.indices(positions)
    inside = np.all((indices >= reach) & (indices <= np.asarray(values.shape) - 1 - reach), axis=1)
    chosen = indices[inside]
    chosen = chosen[:: max(1, len(chosen) // _MOST)]
    if len(chosen) < 10:
        return None
    halves = [_centre(values, part, reach, radius / grid.voxel_spacing) for part in (chosen[::2], chosen[1::2])]
    mean, error = (halves[0] + halves[1]) / 2, np.abs(halves[0] - halves[1]) / 2
    return Displacement(_vector(mean), _vector(error), len(chosen))


def _vector(values: np.ndarray) -> Vector:
    z, y, x = values.tolist()
    return z, y, x


def _centre(values: np.ndarray, indices: np.ndarray, reach: int, radius: float) -> np.ndarray:
    """(3,) middle minus pick [voxels]; measured twice, the second time about the first result."""
    found = np.zeros(3)
    for _ in range(2):
        step = _mirror_shift(_average(values, indices + found, reach), radius) / 2
        found = np.clip(found + step, -reach / 2, reach / 2)
    return found


def _average(values: np.ndarray, indices: np.ndarray, reach: int) -> np.ndarray:
    axis = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    total = np.zeros(steps.shape[1])
    for index in indices:
        total += map_coordinates(values, index[:, None] + steps, order=1, mode="nearest", output=np.float64)
    return (total / len(indices)).reshape((len(axis),) * 3)


def _mirror_shift(box: np.ndarray, radius: float) -> np.ndarray:
    """(3,) by how much the box must be moved to lie on its mirror image about its middle voxel [voxels]."""
    reach = box.shape[0] // 2
    axis = np.arange(-reach, reach + 1)
    distance = np.sqrt(sum(np.square(a) for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    shell = (distance > 1.3 * radius) & (distance <= 1.6 * radius + 1)
    fade = np.clip((1.5 * radius + 1 - distance) / max(2.0, 0.3 * radius), 0, 1)  # a hard edge would hold the peak back
    box = (box - box[shell].mean()) * fade
    size = [2 * n for n in box.shape]
    product = fft.rfftn(box, size) * np.conj(fft.rfftn(box[::-1, ::-1, ::-1], size))
    correlation = np.roll(fft.irfftn(product, size), reach * 2, axis=(0, 1, 2))
    most = min(reach, max(2, int(radius)))
    middle = 2 * reach
    near = correlation[(slice(middle - most, middle + most + 1),) * 3]
    peak = np.array(np.unravel_index(int(np.argmax(near)), near.shape)) + middle - most
    return np.array([_parabola(correlation, peak, k) for k in range(3)]) - middle


def _parabola(values: np.ndarray, peak: np.ndarray, axis: int) -> float:
    step = np.eye(3, dtype=int)[axis]
    low, here, high = (float(values[tuple(peak + k * step)]) for k in (-1, 0, 1))
    bend = low - 2 * here + high
    return float(peak[axis]) + (0.5 * (low - high) / bend if bend < 0 else 0.0)
