"""Masks: volumes that say of each place whether it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import ReadError
from ..core.types import Grid
from .names import RunNames
from .volumes.checks import warn_once
from .volumes.volumes import is_volume_name, read_volume, volume_grids, volume_run


@dataclass(frozen=True)
class Mask:
    """Where something is, of a voxel size of its own.

    Attributes:
        values: (z, y, x) bool.
        grid: where its voxels lie.
    """

    values: np.ndarray
    grid: Grid

    def contains(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n,) bool: in a voxel that is marked."""
        nearest = np.rint(self.grid.indices(np.reshape(positions, (-1, 3)))).astype(int)
        kept = np.clip(nearest, 0, np.asarray(self.grid.shape) - 1)
        inside = self.grid.contains(positions)
        return inside & self.values[tuple(kept.T)]

    def on(self, grid: Grid) -> np.ndarray:
        """(z, y, x) bool on another grid: the voxels whose centre lies in one that is marked."""
        if grid == self.grid:
            return self.values
        axes, inside = [], []
        for axis in range(3):
            steps = grid.origin[axis] + np.arange(grid.shape[axis]) * grid.voxel_spacing
            nearest = np.rint((steps - self.grid.origin[axis]) / self.grid.voxel_spacing).astype(int)
            inside.append((nearest >= 0) & (nearest < self.grid.shape[axis]))
            axes.append(np.clip(nearest, 0, self.grid.shape[axis] - 1))
        return self.values[np.ix_(*axes)] & inside[0][:, None, None] & inside[1][:, None] & inside[2]


def read_mask(place: Path, run: str, runs: Sequence[str], grid: Grid) -> Mask | None:
    """The mask of a run from a volume, or from a folder of `RUN.mrc` or `RUN.zarr`; None where it is of other runs.

    Args:
        place: the volume or the folder.
        run: its name.
        runs: of the project; a volume of another name is meant for the only one.
        grid: of the run's tomogram; a mask of as many voxels lies on it, whatever its header says.

    Raises:
        ReadError: a volume that cannot be read.
    """
    path = mask_file(place, run, runs)
    if path is None:
        return None
    same = volume_grids(path, grid.voxel_spacing)[0].shape == grid.shape
    mask = fitted_mask(*read_volume(path, 0, grid.voxel_spacing if same else None, uniform=True), grid)
    if not mask.values.any():
        warn_once(f"{path}: marks nothing, for none of its voxels is above 0")
    return mask


def fitted_mask(values: np.ndarray, own: Grid, grid: Grid) -> Mask:
    """What is above 0 of a volume; of as many voxels as the tomogram, it lies on the tomogram's grid."""
    return Mask(values > 0, grid if own.shape == grid.shape else own)


def mask_file(place: Path, run: str, runs: Sequence[str]) -> Path | None:
    """The volume with the mask of a run, as for `read_mask`; None where it is of other runs.

    Raises:
        ReadError: neither a volume by its name nor a folder.
    """
    names = RunNames(runs)
    if is_volume_name(place):
        mine = names.find(volume_run(place) or place.stem)
        return place if mine == run or (mine is None and len(runs) == 1) else None
    if not place.is_dir():
        raise ReadError(
            f"{place}: is no volume by its name, and no folder; expected a mask (.mrc, .rec, .map or .zarr)"
        )
    volumes = {name: path for path in sorted(place.iterdir()) if (name := volume_run(path)) is not None}
    return volumes.get(run) or next((path for name, path in volumes.items() if names.find(name) == run), None)
