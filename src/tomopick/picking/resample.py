"""Volumes and heatmaps on other grids, by separable interpolation."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from ..core.arrays import Array, alike, is_tensor, taken
from ..core.errors import ModelError
from ..core.types import Grid, Tomogram
from . import tensors


def onto(values: Array, source: Grid, target: Grid, smooth: bool = False) -> Array:
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
        total: Array = 0.0
        for k, weight in enumerate(weights.astype(np.float32)):
            neighbour = taken(values, np.clip(first + k, 0, source.shape[axis] - 1), axis - 3)
            total = total + neighbour * alike(weight.reshape(-1, *[1] * (2 - axis)), values)
        values = total
    return values.float() if is_tensor(values) else np.asarray(values, dtype=np.float32)


def _lagrange_weights(share: np.ndarray) -> np.ndarray:
    """(n,) fractions of the way from the third to the fourth of six samples -> (6, n) weights.

    They are those of the polynomial of degree 5 through the six samples.
    """
    nodes = np.arange(-2, 4)
    factors = [[(share - b) / (a - b) for b in nodes if b != a] for a in nodes]
    return np.stack([np.prod(f, axis=0) for f in factors])


RESAMPLE_BEYOND = 1.02  # factor between voxel spacings that a network tolerates
SECTIONS = 8  # of a result that are made at a time
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
            "check the spacing (`voxel_spacing`) or use tomograms or a model nearer to each other"
        )
    return resample(tomogram, voxel_spacing) if spacings_differ(found, voxel_spacing) else tomogram


def resample(tomogram: Tomogram, voxel_spacing: float) -> Tomogram:
    """The tomogram at another voxel spacing; corners stay where they are.

    Finer volumes are smoothed first, so that what the coarser grid cannot carry does not fold back as noise. Voxels
    without specimen count as the mean of the others. Nothing as large as the volume is held beside it and the result.
    """
    grid = tomogram.grid
    factor = voxel_spacing / grid.voxel_spacing
    shape = tuple(max(1, round(n / factor)) for n in grid.shape)
    shift = (voxel_spacing - grid.voxel_spacing) / 2
    z, y, x = grid.origin
    target = Grid((shape[0], shape[1], shape[2]), voxel_spacing, (z + shift, y + shift, x + shift))
    sigma = 0.4 * np.sqrt(factor**2 - 1) if factor > 1 else 0.0
    void = None if tomogram.void is None else void_of_shape(tomogram, shape)
    if is_tensor(tomogram.values):
        blank = 0.0 if tomogram.void is None else tensors.specimen_mean(tomogram)
        whole = tensors.filled(tomogram, blank)
        return tomogram.changed(onto(tensors.smoothed(whole, sigma) if sigma else whole, grid, target), target, void)
    sections = _Sections(tomogram, target, sigma)
    values = np.empty(shape, dtype=np.float32)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for first in range(0, shape[0], SECTIONS):
            sections.fill(values, slice(first, min(first + SECTIONS, shape[0])), pool)
    return tomogram.changed(values, target, void)


def void_of_shape(tomogram: Tomogram, shape: Sequence[int]) -> np.ndarray | None:
    """`Tomogram.void` of the tomogram as it is resampled to `shape`."""
    if tomogram.void is None or tuple(shape) == tomogram.void.shape:
        return tomogram.void
    nearest = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1) for n, m in zip(shape, tomogram.grid.shape)
    ]
    return tomogram.void[np.ix_(*nearest)]


class _Sections:
    """Sections of a volume on another grid along y and x, each made once, and their sums along z.

    Args:
        tomogram: to be resampled.
        target: its grid afterwards.
        sigma: of the Gaussian that it is smoothed with [voxels].
    """

    def __init__(self, tomogram: Tomogram, target: Grid, sigma: float):
        self.tomogram, self.target, self.sigma = tomogram, target, sigma
        self.blank = float(tomogram.specimen.mean(dtype=np.float64)) if tomogram.void is not None else 0.0
        self.made: dict[int, np.ndarray] = {}
        reach = int(3.0 * sigma + 0.5)
        steps = np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (steps / sigma) ** 2) if reach else np.ones(1)
        self.kernel = dict(zip(steps.tolist(), (kernel / kernel.sum()).tolist()))

    def fill(self, values: np.ndarray, sections: slice, pool: Executor) -> None:
        """Writes some sections of the result, later ones with every call."""
        shares = [self._shares(z) for z in range(sections.start, sections.stop)]
        wanted = sorted({z for share in shares for z in share})
        self.made = {z: plane for z, plane in self.made.items() if z >= wanted[0]}
        missing = [z for z in wanted if z not in self.made]
        self.made.update(zip(missing, pool.map(self._across, missing)))

        def add(z: int, share: dict[int, float]) -> None:
            out = values[z]
            out[:] = 0
            for k, weight in share.items():
                out += np.float32(weight) * self.made[k]

        deque(pool.map(add, range(sections.start, sections.stop), shares), maxlen=0)

    def _shares(self, z: int) -> dict[int, float]:
        """Which sections of the volume make section z of the result, and the weight of each."""
        source, last = self.tomogram.grid, self.tomogram.grid.shape[0] - 1
        step = z * self.target.voxel_spacing + self.target.origin[0] - source.origin[0]
        index = float(np.clip(step / source.voxel_spacing, 0, last))
        below = min(int(index), max(0, last - 1))
        found: dict[int, float] = {}
        for k, part in ((below, 1 - (index - below)), (min(below + 1, last), index - below)):
            for offset, weight in self.kernel.items():
                at = min(max(k + offset, 0), last)
                found[at] = found.get(at, 0.0) + part * weight
        return {k: weight for k, weight in found.items() if weight}

    def _across(self, z: int) -> np.ndarray:
        """Section z of the volume, on the other grid along y and x."""
        plane = self.tomogram.values[z]
        if self.tomogram.void is not None:
            plane = np.where(self.tomogram.void[z], np.float32(self.blank), plane)
        if self.sigma:
            plane = ndimage.gaussian_filter(plane, self.sigma, mode="nearest", truncate=3.0)
        (_, y, x), (_, to_y, to_x) = self.tomogram.grid.shape, self.target.shape
        source = self.tomogram.grid.crop((z, 0, 0), (1, y, x))
        target = Grid((1, to_y, to_x), self.target.voxel_spacing, (source.origin[0], *self.target.origin[1:]))
        return onto(plane[None], source, target)[0]
