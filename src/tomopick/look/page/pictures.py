"""Tomograms as stacks of small pictures, from which the page cuts all sections, and average subtomograms."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ...core.types import Grid, PickableObject, Picks, Tomogram

_MOST_SLABS, _WIDEST = 96, 640  # what a page shows of a volume: slabs, and pixels along an edge
_QUALITIES = (75, 65, 55, 45, 35, 25)
_MOST_PICKS = 400  # of a run and object, that are averaged
_BOX = 1.6  # half width of a subtomogram, in radii


def stack(tomogram: Tomogram, budget: float) -> dict[str, Any]:
    """A volume as JPEG slabs along z, 8 bits, in `budget` bytes of base64: the best quality, then size, that fits.

    Each slab is the mean of its voxels; values are clipped at the 0.5 and 99.5 % quantiles.
    """
    values = tomogram.values
    thick = max(1, math.ceil(values.shape[0] / _MOST_SLABS))
    shrink = max(1, math.ceil(max(values.shape[1:]) / _WIDEST))
    low, high = _contrast(values)
    while True:
        n = math.ceil(values.shape[0] / thick)
        sample = [_slab(values, k, thick, shrink, low, high) for k in range(n // 10, n, max(1, n // 5))]
        for quality in _QUALITIES:
            size = 4 / 3 * n * np.mean([len(_jpeg(s, quality)) for s in sample]) * 1.05
            if size <= budget:
                break
        if size <= budget or min(values.shape[1:]) // shrink < 64:
            break
        shrink += 1
    slabs = [_text(_jpeg(_slab(values, k, thick, shrink, low, high), quality)) for k in range(n)]
    grid = tomogram.grid
    inner = Grid(grid.shape, grid.voxel_spacing, grid.origin)
    first = inner.positions(np.array([[(thick - 1) / 2, (shrink - 1) / 2, (shrink - 1) / 2]]))[0]
    step = [grid.voxel_spacing * k for k in (thick, shrink, shrink)]
    shape = [n, values.shape[1] // shrink, values.shape[2] // shrink]
    return {"shape": shape, "step": step, "origin": first.tolist(), "slabs": slabs, "quality": quality}


def _contrast(values: np.ndarray) -> tuple[float, float]:
    sample = values[:: max(1, values.shape[0] // 24), ::2, ::2]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.5)).tolist() if len(sample) else (0.0, 1.0)
    return low, high if high > low else low + 1.0


def _slab(values: np.ndarray, k: int, thick: int, shrink: int, low: float, high: float) -> np.ndarray:
    """(y, x) uint8; what does not fill a block of `shrink` is left out, a last slab may be thinner."""
    height, width = (n // shrink for n in values.shape[1:])
    block = np.nan_to_num(values[k * thick : (k + 1) * thick].mean(axis=0), nan=low, posinf=high, neginf=low)
    block = block[: height * shrink, : width * shrink].reshape(height, shrink, width, shrink).mean(axis=(1, 3))
    return np.clip((block - low) * (255 / (high - low)), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Averages:
    """The mean subtomogram of each object, of the picks that are kept and of the true particles.

    Boxes are not turned: without orientations, what has none shows its true profile and the others a round one.
    """

    def __init__(self, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> None:
        self._objects, self._thresholds = objects, thresholds
        self._sums: dict[tuple[str, str], tuple[np.ndarray, int, float]] = {}

    def add(self, tomogram: Tomogram, picks: Picks, truth: Picks | None) -> None:
        """Takes in the particles of one run; the best scores where they are very many."""
        for o in self._objects:
            mine = picks.above(self._thresholds).of(o.name)
            mine = mine.select(np.argsort(-mine.scores, kind="stable")[:_MOST_PICKS])
            self._take(o, "picks", tomogram, mine.positions)
            if truth is not None:
                self._take(o, "truth", tomogram, truth.of(o.name).positions[:_MOST_PICKS])

    def _take(self, o: PickableObject, side: str, tomogram: Tomogram, positions: np.ndarray) -> None:
        spacing = tomogram.grid.voxel_spacing
        half = max(2, round(o.radius_angstrom * _BOX / spacing))
        total, n, step = self._sums.get((o.name, side), (np.zeros((2 * half + 1,) * 3), 0, spacing))
        if total.shape[0] != 2 * half + 1:  # a run of another voxel spacing cannot be added to this one
            return
        for box in boxes(tomogram, positions, half):
            total, n = total + box, n + 1
        self._sums[o.name, side] = (total, n, step)

    def to_json(self) -> dict[str, Any]:
        """Object -> side -> number, half width [Å] and three central sections as PNG."""
        found: dict[str, Any] = {}
        for (name, side), (total, n, step) in self._sums.items():
            if n:
                mean = total / n
                half = mean.shape[0] // 2
                low, high = np.percentile(mean, (0.5, 99.5))
                grey = np.clip((mean - low) / max(float(high - low), 1e-12) * 255, 0, 255).astype(np.uint8)
                sections = {"xy": grey[half], "xz": grey[:, half], "yz": grey[:, :, half].T}
                pictures = {k: _text(_png(np.ascontiguousarray(v))) for k, v in sections.items()}
                found.setdefault(name, {})[side] = {"n": n, "half": (half + 0.5) * step, "sections": pictures}
        return found


def boxes(tomogram: Tomogram, positions: np.ndarray, half: int) -> Iterator[np.ndarray]:
    """(2 half + 1)^3 voxels around each position, to the nearest voxel; those that leave the volume are left out."""
    values = tomogram.values
    centres = np.rint(tomogram.grid.indices(positions)).astype(int)
    inside = np.all((centres >= half) & (centres < np.array(values.shape) - half), axis=1)
    for z, y, x in centres[inside].tolist():
        box = values[z - half : z + half + 1, y - half : y + half + 1, x - half : x + half + 1]
        if np.isfinite(box).all():
            yield box
