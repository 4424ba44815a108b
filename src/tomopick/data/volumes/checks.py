"""What every volume must be, whatever its format: more than one section, thin along z, voxels of a known size."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence

import numpy as np

from ...core.errors import ReadError
from ...core.types import SPACINGS

log = logging.getLogger("tomopick")

ANISOTROPY_SAID, ANISOTROPY_REFUSED = 0.01, 0.05  # of the mean edge
MOST_VOXELS = 2**40  # of a volume; four terabytes


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning, but not again where the same file is read again."""
    log.warning("%s", message)


def require_volume(shape: Sequence[int], where: str) -> None:
    """Refuses what is no tomogram by its shape (z, y, x).

    Raises:
        ReadError: a single image, or thin along another axis than z.
    """
    require_room(shape, where)
    nz, ny, nx = shape
    if min(shape) == 1:
        raise ReadError(
            f"{where}: (z, y, x) = {tuple(shape)} is a single image; expected a volume with more than one section"
        )
    if nz > 2 * ny and nx > 1.5 * ny:
        raise ReadError(
            f"{where}: (z, y, x) = {tuple(shape)} is thin along y, not z: an IMOD reconstruction that was not rotated; "
            "turn it with `clip rotx` or `trimvol -rx`"
        )
    if nz > 2 * nx and ny > 1.5 * nx:
        raise ReadError(
            f"{where}: (z, y, x) = {tuple(shape)} is thin along x, not z: its axes were exchanged; save it with z as "
            "the first axis"
        )


def require_room(shape: Sequence[int], where: str) -> None:
    """Refuses a shape that no tomogram has, before anything is computed with it.

    Raises:
        ReadError: a size below 1, or more voxels than any program has written.
    """
    if min(shape) < 1 or math.prod(map(int, shape)) > MOST_VOXELS:
        raise ReadError(
            f"{where}: (z, y, x) = {tuple(map(int, shape))} voxels in its header; expected those of a tomogram, so "
            "save it anew"
        )


def empty_volume(shape: Sequence[int], where: str) -> np.ndarray:
    """Room for a volume, (z, y, x) float32.

    Raises:
        ReadError: there is not as much memory.
    """
    try:
        return np.empty(tuple(shape), dtype=np.float32)
    except MemoryError:
        size = 4 * math.prod(map(int, shape)) / 1e9
        raise ReadError(
            f"{where}: its {tuple(map(int, shape))} voxels take {size:.3g} GB, for which there is no memory; bin it, "
            "or use a machine that has more"
        ) from None


def checked_spacing(sizes: np.ndarray, where: str, remedy: str) -> float:
    """The edge of a voxel [Å] from those along z, y, x that a file states.

    Args:
        sizes: zyx [Å].
        where: how messages call it.
        remedy: what to do about a size that is not set, or not that of a cube.

    Raises:
        ReadError: not set (0, not finite, or exactly 1 Å), or edges that differ by more than 5 %.
    """
    found = " x ".join(f"{s:.4g}" for s in sizes)
    if not np.all(np.isfinite(sizes)) or np.any(sizes <= 0) or np.allclose(sizes, 1.0, atol=1e-6, rtol=0):
        raise ReadError(
            f"{where}: voxel size {found} Å in the header, which stands for 'not set'; "
            f"expected the true one, so {remedy}"
        )
    if sizes.min() < SPACINGS[0] or sizes.max() > SPACINGS[1]:
        raise ReadError(
            f"{where}: voxel size {found} Å in the header; expected one of {SPACINGS[0]:g} to {SPACINGS[1]:g} Å, so "
            f"{remedy}"
        )
    mean = float(np.mean(sizes))
    spread = float(np.ptp(sizes)) / mean
    if spread > ANISOTROPY_REFUSED:
        raise ReadError(f"{where}: voxels of {found} Å (z, y, x) are not cubes; make them cubes, or {remedy}")
    if spread > ANISOTROPY_SAID:
        warn_once(f"{where}: voxels of {found} Å (z, y, x) are not cubes; taken as {mean:.4g} Å")
    return mean
