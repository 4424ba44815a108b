"""What a model found in one tomogram, and the ways to hand it one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import ReadError, SelectionError
from ..core.types import Grid, Heatmap, Picks, Tomogram

Volume = Tomogram | np.ndarray | str | Path


@dataclass(frozen=True)
class Found:
    """Picks of one tomogram, what is unlike the model's training, and the heatmap on demand.

    Attributes:
        picks: above the thresholds, best first.
        warnings: what of the tomogram is unlike the training, one line each.
    """

    picks: Picks
    warnings: tuple[str, ...] = ()
    _heatmap: Callable[[], Heatmap] = field(repr=False, compare=False, kw_only=True)

    def heatmap(self) -> Heatmap:
        """(object, z, y, x) 0 to 1, the whole in memory; the network runs once more for it."""
        return self._heatmap()

    def __len__(self) -> int:
        return len(self.picks)

    def __repr__(self) -> str:
        names, counts = np.unique(self.picks.names, return_counts=True)
        found = ", ".join(f"{n} {name}" for name, n in zip(names.tolist(), counts.tolist())) or "no picks"
        return f"Found({found}{f'; {len(self.warnings)} warnings' if self.warnings else ''})"


def as_tomogram(volume: Volume, voxel_spacing: float | None = None) -> Tomogram:
    """A tomogram as it is, the (z, y, x) array with its voxel spacing, or the volume that lies at a path.

    Args:
        volume: one of these.
        voxel_spacing: of an array [Å]; of a file, in place of its header's.

    Raises:
        SelectionError: an array without voxel spacing, or not of three axes; a tomogram with another one.
        ReadError: a volume that cannot be read, is constant or not finite.
    """
    from ..data.volumes.volumes import checked, read_volume, volume_run

    if voxel_spacing is not None and not 0 < voxel_spacing < float("inf"):
        raise SelectionError(f"`voxel_spacing={voxel_spacing}`: expected a positive number in Å")
    if isinstance(volume, Tomogram):
        if voxel_spacing is not None and voxel_spacing != volume.grid.voxel_spacing:
            raise SelectionError(
                f"the tomogram has a voxel spacing of {volume.grid.voxel_spacing:g} Å; leave `voxel_spacing` out"
            )
        return volume
    if isinstance(volume, (str, Path)):
        path = Path(volume)
        if path.is_dir() and path.suffix.lower() != ".zarr":
            raise ReadError(f"{path}: a folder, and not one volume; open it with open_project, and pick its runs")
        values, grid = read_volume(path, voxel_spacing=voxel_spacing)
        return Tomogram(volume_run(path) or path.stem, values, grid)
    values = np.asarray(volume)
    if values.ndim != 3 or not values.size or values.dtype.kind not in "fiub":
        raise SelectionError(
            f"found {type(volume).__name__} of shape {values.shape} and type {values.dtype}; expected a volume: "
            "a (z, y, x) array of numbers, a Tomogram or a path"
        )
    if voxel_spacing is None:
        raise SelectionError("an array has no voxel spacing of its own; give it, in Å: voxel_spacing=10.0")
    values = checked(np.ascontiguousarray(values, dtype=np.float32), "the array")
    return Tomogram("", values, Grid(values.shape, float(voxel_spacing)))
