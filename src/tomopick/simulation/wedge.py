"""Fills a part of the missing wedge, as IsoNet's networks do, by constrained iterations instead of a network.

What was measured is kept; what was not is taken from an estimate that knows two things of a specimen: matter is dark,
and ice is empty. Source: iterations between constraints, Gerchberg 1974, Optica Acta 21, 709; for the missing cone of
electron microscopy, Agard & Stroud 1982, Biophys J 37, 589.
"""

from __future__ import annotations

import numpy as np

from .arrays import Arrays

_EDGE = 2.0  # [degrees] over which the known part fades
_ROWS = 48  # along y at a time: bounds the memory


def known_part(shape: tuple[int, int], angles: np.ndarray) -> np.ndarray:
    """(z, x // 2 + 1) 0..1: which frequencies of `rfft2` of a (z, x) plane lie between the first and the last tilt."""
    kz, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    angle = np.degrees(np.arctan2(kz, kx))
    inside = np.minimum(angle - angles.min(), angles.max() - angle) / _EDGE
    low = np.hypot(kz * shape[0], kx * shape[0]) < 1  # no tilt is further away from these than a voxel of frequency
    return np.where(low, 1.0, np.clip(inside + 0.5, 0, 1))


def fill_wedge(
    volume: np.ndarray, angles: np.ndarray, fill: float, threshold: float, iterations: int, arrays: Arrays
) -> None:
    """Adds an estimate of what the missing wedge holds, in place.

    Args:
        volume: (z, x, y) float32, matter dark, denoised.
        angles: (tilt,) [degrees]; the tilt axis is y.
        fill: part of the estimate that is added.
        threshold: what is not darker than the ice by so many standard deviations is taken for ice.
        iterations: between the estimate's two conditions.
        arrays: where to compute.
    """
    ice = np.median(volume[:, ::4, ::4])
    level = threshold * 1.4826 * np.median(np.abs(volume[:, ::4, ::4] - ice))
    known = known_part(volume.shape[:2], angles)[:, :, None].astype(np.float32)

    def one(first: int) -> None:
        measured = np.ascontiguousarray(volume[:, :, first : first + _ROWS])
        estimate = measured
        for _ in range(iterations):
            matter = np.minimum(estimate + np.float32(level - ice), 0)
            (difference,) = arrays.filtered(measured - matter, [known])
            estimate = matter + difference
        volume[:, :, first : first + _ROWS] += np.float32(fill) * (estimate - measured)

    for _ in arrays.each(one, range(0, volume.shape[2], _ROWS)):
        pass
