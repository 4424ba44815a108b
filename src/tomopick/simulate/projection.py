"""Projection of a volume at every tilt, and weighted back-projection.

The tilt axis is y. Around one axis both are one sparse matrix for an xz plane, times all y at once; hence the volumes
here are (z, x, y) and the images (tilt, width, y). An image is centred on the axis and wider than the volume, so that
nothing of the volume falls beyond it at any tilt.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft, sparse

_PLANES = 16  # back-projected at a time: bounds the memory


def image_width(depth: int, width: int) -> int:
    """Pixels across the tilt axis for a volume of depth x width [voxels]: its diagonal and a margin."""
    return int(fft.next_fast_len(int(np.ceil(np.hypot(depth, width))) + 16, real=True))


def frequency_grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [cycles/pixel] of `rfft2` of an image, across the axis (width, 1) and along it (1, y // 2 + 1)."""
    return np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]


def _coordinate(planes: np.ndarray, columns: np.ndarray, angle: float, shape: tuple[int, int]) -> np.ndarray:
    """Where voxels (z, x) of a (depth, width) plane fall on the image [pixels]."""
    theta = np.radians(angle)
    middle = (image_width(*shape) - 1) / 2
    along, up = np.cos(theta) * (columns - (shape[1] - 1) / 2), np.sin(theta) * (planes - (shape[0] - 1) / 2)
    return up[:, None] + along[None] + middle


def project(volume: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Line integrals through a layer that repeats itself along x.

    Args:
        volume: (z, x, y) float32.
        angles: (tilt,) [degrees].

    Returns:
        (tilt, width, y) float32: sums over voxels [value x voxel].
    """
    nz, nx, ny = volume.shape
    width = image_width(nz, nx)
    used = np.flatnonzero(volume.any(axis=(1, 2)))
    if not len(used):
        return np.zeros((len(angles), width, ny), dtype=np.float32)
    rows = slice(used[0], used[-1] + 1)
    planes, flat = np.arange(nz)[rows], volume[rows].reshape(-1, ny)
    images = np.empty((len(angles), width, ny), dtype=np.float32)
    for i, angle in enumerate(angles):
        reach = (width + nz * abs(np.sin(np.radians(angle)))) / 2 / np.cos(np.radians(angle))
        repeats = int(np.ceil((reach - nx / 2) / nx)) if reach > nx / 2 else 0
        columns = np.arange(-repeats * nx, (repeats + 1) * nx)
        place = _coordinate(planes, columns, angle, (nz, nx))
        inside = (place >= 0) & (place < width - 1)
        left = np.floor(place[inside]).astype(np.int32)
        share = (place[inside] - left).astype(np.float32)
        voxel = np.broadcast_to((np.arange(len(planes)) * nx)[:, None] + columns % nx, place.shape)[inside]
        entries = np.concatenate([1 - share, share])
        where = np.concatenate([left, left + 1]), np.concatenate([voxel, voxel])
        images[i] = sparse.csr_matrix((entries, where), shape=(width, len(flat))) @ flat
    return images


def back_project(images: np.ndarray, angles: np.ndarray, depth: int, width: int) -> np.ndarray:
    """Sum of the images (tilt, width, y) along their rays: (z, x, y) float32 of depth x width voxels in a plane."""
    count, pixels, ny = images.shape
    flat = images.reshape(count * pixels, ny)
    volume = np.empty((depth, width, ny), dtype=np.float32)
    for first in range(0, depth, _PLANES):
        planes = np.arange(first, min(first + _PLANES, depth))
        places = [_coordinate(planes, np.arange(width), angle, (depth, width)).ravel() for angle in angles]
        place = np.stack(places, axis=1)
        left = np.clip(np.floor(place), 0, pixels - 2).astype(np.int32)
        share = np.clip(place - left, 0, 1).astype(np.float32)
        index = left + (np.arange(count, dtype=np.int32) * pixels)
        entries = np.stack([1 - share, share], axis=2).ravel()
        indices = np.stack([index, index + 1], axis=2).ravel()
        starts = np.arange(0, len(indices) + 1, 2 * count, dtype=np.int32)
        matrix = sparse.csr_matrix((entries, indices, starts), shape=(len(place), len(flat)))
        volume[planes[0] : planes[-1] + 1] = (matrix @ flat).reshape(len(planes), width, ny)
    return volume


def reconstruct(
    images: np.ndarray,
    angles: np.ndarray,
    depth: int,
    width: int,
    gain: Callable[[np.ndarray, int], np.ndarray | float] = lambda frequency, tilt: 1.0,
) -> np.ndarray:
    """Weighted back-projection.

    Args:
        images: (tilt, width, y), centred on the axis.
        angles: (tilt,), ascending [degrees].
        depth: of the volume [voxels].
        width: of the volume along x [voxels].
        gain: a filter of spatial frequency [cycles/voxel] and the number of the tilt. One that is the same for all
            tilts filters the volume.

    Returns:
        (z, x, y) float32; what was projected at all tilts comes back with its own values.
    """
    across, along = frequency_grid(images.shape[1:])
    ramp, frequency = np.abs(across), np.hypot(across, along)
    steps = np.gradient(np.radians(angles)) if len(angles) > 1 else np.ones(1)
    filtered = np.empty_like(images)
    for i, image in enumerate(images):
        filtered[i] = fft.irfft2(
            fft.rfft2(image) * (steps[i] * ramp * gain(frequency, i)).astype(np.float32), s=image.shape
        )
    return back_project(filtered, angles, depth, width)
