"""OME-Zarr volumes: the pyramid's grids from the metadata, and the voxels of one level as float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.types import Grid
from .checks import checked_spacing, require_volume

ANGSTROM = {None: 1.0, "angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4, "picometer": 0.01}


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        path: of its array inside the store.
        grid: where its voxels lie, in the coordinates of the finest level.
    """

    path: str
    grid: Grid


def read_levels(store: Any, where: str, voxel_spacing: float | None = None) -> tuple[Level, ...]:
    """The levels, finest first; no voxels are read.

    Coarser levels are local means (copick's, the portal's), which their metadata does not tell: a level of factor f
    begins (f - 1) / 2 fine voxels further in, unless it states a translation itself.

    Args:
        store: a path, or a Zarr store as copick gives it.
        where: how messages call it.
        voxel_spacing: of the finest level [Å]; instead of the metadata's.

    Raises:
        ReadError: no OME-Zarr volume with axes z, y, x, a unit that is no length, a single image, thin along another
            axis than z, or voxels of no known size.
    """
    group = _group(store, where)
    multiscale = _multiscale(group, where)
    unit = _unit(multiscale, where)
    shared = _scale(multiscale.get("coordinateTransformations"), where)
    # Only stores that lie in a folder take a spacing from the command line.
    remedy = "say it with --voxel-spacing" if isinstance(store, (str, Path)) else "correct its metadata"
    if voxel_spacing is None and not _has_scale(multiscale):
        raise ReadError(f"{where}: no voxel size in its metadata; expected a scale, so {remedy}")
    found = []
    for dataset in multiscale["datasets"]:
        transforms = dataset.get("coordinateTransformations")
        sizes = _scale(transforms, where) * shared * unit
        found.append((str(dataset["path"]), sizes, _translation(transforms) * shared * unit))
    found.sort(key=lambda item: float(np.mean(item[1])))
    _, finest, start = found[0]
    fine = float(np.mean(finest)) if voxel_spacing is not None else checked_spacing(finest, where, remedy)
    factor_of_override = 1.0 if voxel_spacing is None else voxel_spacing / fine
    levels = []
    for path, sizes, shift in found:
        ratio = float(np.mean(sizes)) / float(np.mean(finest))
        spacing = fine * ratio * factor_of_override
        corner = np.full(3, (ratio - 1) / 2 * fine) if np.allclose(shift, start) else shift - start
        z, y, x = (float(v) * factor_of_override for v in corner)
        levels.append(Level(path, Grid(_shape(group, path, where), spacing, (z, y, x))))
    require_volume(levels[0].grid.shape, where)
    return tuple(levels)


def read_level(store: Any, level: Level, where: str) -> np.ndarray:
    """The voxels of one level, (z, y, x) float32, C-contiguous; only its chunks are touched.

    Raises:
        ReadError: a chunk cannot be read.
    """
    try:
        return np.ascontiguousarray(_group(store, where)[level.path][...], dtype=np.float32)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ReadError(f"{where}: level {level.path} cannot be read ({error}); copy the volume again") from None


def open_level(store: Any, level: Level, where: str) -> Any:
    """The Zarr array of one level; no voxels are read."""
    return _group(store, where)[level.path]


def _group(store: Any, where: str) -> Any:
    import zarr

    if isinstance(store, (str, Path)):
        if (Path(store) / "zarr.json").exists():
            raise ReadError(f"{where}: Zarr 3; expected Zarr 2 (OME-NGFF 0.4), so convert it")
        store = str(store)
    try:
        return zarr.open_group(store, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(f"{where}: cannot be read as Zarr ({_line(error)}); expected OME-Zarr 0.4") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _multiscale(group: Any, where: str) -> Mapping[str, Any]:
    try:
        attributes = group.attrs.asdict()
        multiscale = attributes.get("ome", attributes)["multiscales"][0]
        multiscale["datasets"][0]["path"]
    except (KeyError, IndexError, TypeError, ValueError):
        raise ReadError(f"{where}: no multiscales in its metadata; expected OME-Zarr with axes z, y, x") from None
    return multiscale


def _unit(multiscale: Mapping[str, Any], where: str) -> float:
    axes = multiscale.get("axes") or ["z", "y", "x"]
    names = [axis if isinstance(axis, str) else axis.get("name") for axis in axes]
    if names != ["z", "y", "x"]:
        raise ReadError(f"{where}: axes {names}; expected z, y, x")
    units = {axis.get("unit") for axis in axes if not isinstance(axis, str)} or {None}
    if len(units) > 1 or not units <= set(ANGSTROM):
        raise ReadError(f"{where}: units {sorted(map(str, units))}; expected angstrom or nanometer on all axes")
    return ANGSTROM[units.pop()]


def _scale(transforms: Sequence[Mapping[str, Any]] | None, where: str) -> np.ndarray:
    sizes = np.ones(3)
    for transform in transforms or ():
        if transform.get("type") == "scale":
            sizes = sizes * np.asarray(transform.get("scale"), dtype=np.float64)
    if sizes.shape != (3,) or not np.all(np.isfinite(sizes)) or np.any(sizes <= 0):
        raise ReadError(f"{where}: scale {sizes.tolist()}; expected three positive numbers")
    return sizes


def _has_scale(multiscale: Mapping[str, Any]) -> bool:
    places = (multiscale, multiscale["datasets"][0])
    return any(t.get("type") == "scale" for place in places for t in place.get("coordinateTransformations") or ())


def _translation(transforms: Sequence[Mapping[str, Any]] | None) -> np.ndarray:
    shift = np.zeros(3)
    for transform in transforms or ():
        if transform.get("type") == "translation":
            shift = shift + np.asarray(transform.get("translation"), dtype=np.float64)
    return shift


def _shape(group: Any, path: str, where: str) -> tuple[int, int, int]:
    try:
        shape = tuple(group[path].shape)
    except (KeyError, OSError, ValueError):
        raise ReadError(f"{where}: level '{path}' of its metadata is not there; expected a whole OME-Zarr") from None
    if len(shape) != 3:
        raise ReadError(f"{where}: level '{path}' is {shape}; expected a volume (z, y, x)")
    return shape
