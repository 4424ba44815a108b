"""Projection of a volume at every tilt, and weighted back-projection.

The tilt axis is y. Around one axis both are one sparse matrix for an xz plane, times all y at once; hence the volumes
here are (z, x, y) and the images (tilt, width, y). An image is centred on the axis and wider than the volume, so that
nothing of the volume falls beyond it at any tilt. At tilt t, voxel (z, x) falls on x cos t + z sin t.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft, sparse

from .arrays import Arrays, HostArrays

_PLANES = 16  # back-projected at a time: bounds the memory
_HOST = HostArrays()


def image_width(depth: int, width: int) -> int:
    """Pixels across the tilt axis for a volume of depth x width [voxels]: its diagonal and a margin."""
    return int(fft.next_fast_len(int(np.ceil(np.hypot(depth, width))) + 16, real=True))


def frequency_grid(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [cycles/pixel] of `rfft2` of an image, across the axis (width, 1) and along it (1, y // 2 + 1)."""
    return np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]


def from_axis(count: int) -> np.ndarray:
    """Distances of `count` voxels or pixels from the tilt axis in their middle [voxels]."""
    return np.arange(count) - (count - 1) / 2


def _coordinate(depths: np.ndarray, columns: np.ndarray, angle: float, pixels: int) -> np.ndarray:
    """Where voxels at (z, x) from the axis fall on an image of `pixels` [pixels]."""
    theta = np.radians(angle)
    return np.sin(theta) * depths[:, None] + np.cos(theta) * columns[None] + (pixels - 1) / 2


def project(
    volume: np.ndarray, angles: np.ndarray, shape: tuple[int, int] | None = None, arrays: Arrays = _HOST
) -> np.ndarray:
    """Line integrals through a layer.

    At tilt a detector sees more of the layer than at 0 degrees. `volume` may be wider than the tomogram and have more
    planes, on either side as many; where that is not enough, it repeats itself along x.

    Args:
        volume: (z, x, y) float32; the tilt axis runs through its middle.
        angles: (tilt,) [degrees].
        shape: (z, x) of the tomogram [voxels]; None for that of `volume`.
        arrays: where to compute.

    Returns:
        (tilt, pixel, y) float32, `image_width` pixels for the tomogram: sums over voxels [value x voxel].
    """
    nz, nx, ny = volume.shape
    pixels = image_width(*(shape or (nz, nx)))
    used = np.flatnonzero(volume.any(axis=(1, 2)))
    if not len(used):
        return np.zeros((len(angles), pixels, ny), dtype=np.float32)
    rows = slice(used[0], used[-1] + 1)
    flat = arrays.put(volume[rows].reshape(-1, ny))
    images = np.empty((len(angles), pixels, ny), dtype=np.float32)
    depths = from_axis(nz)[rows]

    def one(i: int) -> None:
        images[i] = arrays.multiply(_projector(depths, nx, angles[i], pixels), flat)

    for _ in arrays.each(one, range(len(angles))):
        pass
    return images


def _projector(depths: np.ndarray, nx: int, angle: float, pixels: int) -> sparse.csr_matrix:
    """(pixel, voxel of an xz plane): each voxel is shared linearly by the two pixels next to where it falls."""
    theta = np.radians(angle)
    reach = (pixels / 2 + np.abs(depths).max() * abs(np.sin(theta))) / np.cos(theta)
    repeats = int(np.ceil((reach - nx / 2) / nx)) if reach > nx / 2 else 0
    columns = np.arange(-repeats * nx, (repeats + 1) * nx)
    columns = columns[np.abs(columns - (nx - 1) / 2) <= reach + 1]
    place = _coordinate(depths, columns - (nx - 1) / 2, angle, pixels)
    inside = (place >= 0) & (place < pixels - 1)
    left = np.floor(place[inside]).astype(np.int32)
    share = (place[inside] - left).astype(np.float32)
    voxel = np.broadcast_to((np.arange(len(depths)) * nx)[:, None] + columns % nx, place.shape)[inside]
    entries = np.concatenate([1 - share, share])
    where = np.concatenate([left, left + 1]), np.concatenate([voxel, voxel])
    return sparse.csr_matrix((entries, where), shape=(pixels, len(depths) * nx))


def back_project(images: np.ndarray, angles: np.ndarray, depth: int, width: int, arrays: Arrays = _HOST) -> np.ndarray:
    """Sum of the images (tilt, pixel, y) along their rays: (z, x, y) float32 of depth x width voxels in a plane."""
    count, pixels, ny = images.shape
    flat = arrays.put(images.reshape(count * pixels, ny))
    volume = np.empty((depth, width, ny), dtype=np.float32)

    def one(first: int) -> None:
        depths = from_axis(depth)[first : first + _PLANES]
        matrix = _back_projector(depths, width, angles, pixels)
        volume[first : first + len(depths)] = arrays.multiply(matrix, flat).reshape(len(depths), width, ny)

    for _ in arrays.each(one, range(0, depth, _PLANES)):
        pass
    return volume


def _back_projector(depths: np.ndarray, width: int, angles: np.ndarray, pixels: int) -> sparse.csr_matrix:
    """(voxel of an xz plane, pixel of all tilts): linear interpolation in every image."""
    count = len(angles)
    place = np.stack([_coordinate(depths, from_axis(width), angle, pixels).ravel() for angle in angles], axis=1)
    left = np.clip(np.floor(place), 0, pixels - 2).astype(np.int32)
    share = np.clip(place - left, 0, 1).astype(np.float32)
    index = left + (np.arange(count, dtype=np.int32) * pixels)
    entries = np.stack([1 - share, share], axis=2).ravel()
    indices = np.stack([index, index + 1], axis=2).ravel()
    starts = np.arange(0, len(indices) + 1, 2 * count, dtype=np.int32)
    return sparse.csr_matrix((entries, indices, starts), shape=(len(place), count * pixels))


def reconstruct(
    images: np.ndarray,
    angles: np.ndarray,
    depth: int,
    width: int,
    gain: Callable[[np.ndarray, int], np.ndarray | float] = lambda frequency, tilt: 1.0,
    arrays: Arrays = _HOST,
) -> np.ndarray:
    """Weighted back-projection: a ramp across the axis, weighted by the angle that each image stands for.

    Source: Radermacher 1992, in Electron Tomography (ed. Frank), for single-axis geometry.

    Args:
        images: (tilt, pixel, y), centred on the axis.
        angles: (tilt,), ascending [degrees].
        depth: of the volume [voxels].
        width: of the volume along x [voxels].
        gain: a filter of spatial frequency [cycles/voxel] and the number of the tilt. One that is the same for all
            tilts filters the volume.
        arrays: where to compute.

    Returns:
        (z, x, y) float32; what was projected at all tilts comes back with its own values.
    """
    across, along = frequency_grid(images.shape[1:])
    ramp, frequency = np.abs(across), np.hypot(across, along)
    steps = np.gradient(np.radians(angles)) if len(angles) > 1 else np.ones(1)
    filtered = np.empty_like(images)

    def one(i: int) -> None:
        (filtered[i],) = arrays.filtered(images[i], [steps[i] * ramp * gain(frequency, i)])

    for _ in arrays.each(one, range(len(images))):
        pass
    return back_project(filtered, angles, depth, width, arrays)
