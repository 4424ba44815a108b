"""Volume files, MRC or OME-Zarr: their grids without reading voxels, and one level as a checked float32 array."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.reading import require_file
from ...core.types import Grid, Vector
from .mrc import STACK_SUFFIXES, mrc_start, read_map, read_map_grid, read_mrc, read_mrc_grid
from .omezarr import first_voxel, read_level, read_levels

log = logging.getLogger("tomopick")

MRC_SUFFIXES = (".mrc", ".rec", ".map")
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "memory"}  # protocols of what lists its objects in a few requests
_REWRITTEN = ("ETag", "etag", "LastModified", "updated", "mtime", "created")  # of these an object has one
VOLUME_SUFFIXES = (*MRC_SUFFIXES, *(s + ".gz" for s in MRC_SUFFIXES), ".zarr")


def volume_run(path: Path) -> str | None:
    """The run that a tomogram's file name stands for; None where it is not one (a tilt series, a hidden file)."""
    lower = path.name.lower()
    for suffix in ("_ome.zarr", ".ome.zarr", *sorted(VOLUME_SUFFIXES, key=len, reverse=True)):
        if lower.endswith(suffix) and len(lower) > len(suffix) and not lower.startswith("."):
            return path.name[: -len(suffix)]
    return None


def is_volume_name(path: Path) -> bool:
    """Whether the name is a volume's or a stack's: reading then says what is wrong with it."""
    return volume_run(path) is not None or path.name.lower().removesuffix(".gz").endswith(STACK_SUFFIXES)


def volume_grids(path: Path, voxel_spacing: float | None = None) -> tuple[Grid, ...]:
    """The grid of each pyramid level, finest first (an MRC file has one); no voxels are read.

    Args:
        path: of the file, or of the folder of an OME-Zarr.
        voxel_spacing: of the finest level [Å]; instead of the file's.

    Raises:
        ReadError: missing, not a volume, or without a voxel size.
    """
    _require(path)
    if path.suffix.lower() == ".zarr":
        return tuple(level.grid for level in read_levels(path, str(path), voxel_spacing))
    return (read_mrc_grid(path, voxel_spacing),)


def read_volume(path: Path, level: int = 0, voxel_spacing: float | None = None) -> tuple[np.ndarray, Grid]:
    """The voxels of one level, (z, y, x) float32 C-contiguous, and their grid.

    Raises:
        ReadError: as `volume_grids`; or truncated, constant, or without one finite voxel.
    """
    _require(path)
    if path.suffix.lower() == ".zarr":
        return read_zarr(path, str(path), level, voxel_spacing)
    values, grid = read_mrc(path, voxel_spacing)
    return checked(values, str(path)), grid


def read_zarr(
    store: Any, where: str, level: int = 0, voxel_spacing: float | None = None, mask: bool = False
) -> tuple[np.ndarray, Grid]:
    """`read_volume` for an OME-Zarr in a path or store; of a mask as `read_mask_volume`."""
    chosen = read_levels(store, where, voxel_spacing)[level]
    return checked(read_level(store, chosen, where), where, mask), chosen.grid


def mask_grid(path: Path, voxel_spacing: float | None = None) -> Grid:
    """The grid of a mask, which may be of any shape, its origin by what the file says of its first voxel.

    Raises:
        ReadError: missing, not a volume, or without a voxel size.
    """
    _require(path)
    if path.suffix.lower() == ".zarr":
        grid = read_levels(path, str(path), voxel_spacing)[0].grid
    else:
        grid = read_map_grid(path, voxel_spacing, "write it there")
    return replace(grid, origin=volume_start(path, grid.voxel_spacing))


def volume_start(path: Path, voxel_spacing: float) -> Vector:
    """Where a volume's file says that its first voxel lies, zyx [Å]; in which frame only others know."""
    if path.suffix.lower() == ".zarr":
        return first_voxel(path, str(path))
    return mrc_start(path, voxel_spacing)


def read_mask_volume(path: Path, voxel_spacing: float | None = None) -> np.ndarray:
    """The voxels of a mask, (z, y, x) float32; they may all be alike, and those that are no number are 0.

    Raises:
        ReadError: as `mask_grid`; or truncated, or without one finite voxel.
    """
    if path.suffix.lower() == ".zarr":
        return read_zarr(path, str(path), 0, voxel_spacing, mask=True)[0]
    return checked(read_map(path, voxel_spacing, "write it there")[0], str(path), mask=True)


def contents_mark(store: Any) -> str:
    """Changes when a volume is replaced, without reading its voxels.

    Args:
        store: a file, or an OME-Zarr as a folder (sizes and times of all its files, for voxels are rewritten in place),
            or as a Zarr store (its metadata; of a bucket also its objects, as the server lists them).
    """
    digest = hashlib.sha256()
    if isinstance(store, Path):
        for path in [store] if store.is_file() else sorted(_files(store)):
            found = os.stat(path)
            digest.update(f"{os.path.basename(path)} {found.st_size} {found.st_mtime_ns}\n".encode())
    else:
        digest.update(bytes(store.get(".zattrs") or b""))
        for line in _listed(store):
            digest.update(line.encode())
    return digest.hexdigest()[:16]


def _listed(store: Any) -> Iterator[str]:
    """Of each object of a bucket what changes when it is rewritten; nothing of servers that do not list."""
    system = getattr(store, "fs", None)
    if _BUCKETS & set(np.atleast_1d(getattr(system, "protocol", ())).tolist()):
        for path, about in sorted(system.find(store.path, detail=True).items()):  # type: ignore[union-attr]
            yield f"{path} {about.get('size')} {next((about[k] for k in _REWRITTEN if about.get(k)), '')}\n"


def _files(folder: Path) -> Iterator[str]:
    """All files below a folder; one of chunks has many, and `os.walk` is quick."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(place, name)


def checked(values: np.ndarray, where: str, mask: bool = False) -> np.ndarray:
    """The volume itself; what is not finite in it is set to its mean in place, in a mask to 0, and that is logged.

    Raises:
        ReadError: constant, which a mask may be, or without one finite voxel.
    """
    low, high = float(values.min()), float(values.max())  # NaN where any voxel is
    if not (np.isfinite(low) and np.isfinite(high)):
        sums = [(int(f.sum()), float(s[f].sum(dtype=np.float64))) for s, f in ((s, np.isfinite(s)) for s in values)]
        n = sum(count for count, _ in sums)
        if not n:
            raise ReadError(
                f"{where}: no voxel is a finite number; expected a tomogram, so reconstruct or copy it again"
            )
        filled = 0.0 if mask else sum(total for _, total in sums) / n
        told = "they count as not marked" if mask else "they are set to the mean"
        log.warning("%s: %d voxels are not finite; %s", where, values.size - n, told)
        for section in values:
            section[~np.isfinite(section)] = filled
        low, high = float(values.min()), float(values.max())
    if low == high and not mask:
        raise ReadError(f"{where}: all voxels are {low:g}; expected a tomogram, so reconstruct or copy it again")
    return values


def _require(path: Path) -> None:
    if not path.exists():
        raise ReadError(f"{path}: there is no such file; expected a tomogram (.mrc, .rec or .zarr)")
    require_file(path)
