"""What every volume must be, whatever its format: more than one section, thin along z, voxels of a known size."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import numpy as np

from ...core.errors import ReadError

log = logging.getLogger("tomopick")

ANISOTROPY_SAID, ANISOTROPY_REFUSED = 0.01, 0.05  # of the mean edge


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning, but not again where the same file is read again."""
    log.warning("%s", message)


def require_volume(shape: Sequence[int], where: str) -> None:
    """Refuses what is no tomogram by its shape (z, y, x).

    Raises:
        ReadError: a single image, or thin along another axis than z.
    """
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
    mean = float(np.mean(sizes))
    spread = float(np.ptp(sizes)) / mean
    if spread > ANISOTROPY_REFUSED:
        raise ReadError(f"{where}: voxels of {found} Å (z, y, x) are not cubes; make them cubes, or {remedy}")
    if spread > ANISOTROPY_SAID:
        warn_once(f"{where}: voxels of {found} Å (z, y, x) are not cubes; taken as {mean:.4g} Å")
    return mean
