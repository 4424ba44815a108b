"""How a volume is cut into overlapping tiles and how their predictions are blended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .errors import RecipeError
from .types import Shape


class Window(Protocol):
    """Blending weight along one axis of a tile."""

    def __call__(self, n: int) -> np.ndarray:
        """(n,) positive weights, largest in the middle."""


@dataclass(frozen=True)
class LinearWindow:
    """Weight that falls linearly from the centre to the border (CZII 4th place: worth 0.007 of score)."""

    floor: float = 0.01

    def __call__(self, n: int) -> np.ndarray:
        """(n,) weights."""
        position = (np.arange(n) + 0.5) / n
        return np.maximum(2 * np.minimum(position, 1 - position), self.floor).astype(np.float32)


@dataclass(frozen=True)
class GaussianWindow:
    """Weight that falls as a Gaussian from the centre of the tile; `sigma` is a fraction of the tile's edge."""

    sigma: float = 0.125
    floor: float = 1e-3

    def __call__(self, n: int) -> np.ndarray:
        """(n,) weights."""
        offset = (np.arange(n) + 0.5) / n - 0.5
        return np.maximum(np.exp(-0.5 * (offset / self.sigma) ** 2), self.floor).astype(np.float32)


@dataclass(frozen=True)
class TilingSpec:
    """Tiles of a volume.

    Attributes:
        shape: (z, y, x) of the largest tile [voxels]; a smaller volume gives smaller tiles.
        overlap: how many voxels neighbouring tiles share at least; never more than half a tile.
        window: weight along an axis where tiles overlap.
    """

    shape: Shape = (128, 128, 128)
    overlap: int = 32
    window: Window = field(default_factory=LinearWindow)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.overlap < 0:
            raise RecipeError(
                f"tiling needs positive edges and an overlap of at least 0, not {self.shape} and {self.overlap}"
            )

    def plan(self, volume: Shape, multiple: int) -> tuple[Shape, tuple[list[int], list[int], list[int]]]:
        """Shape of the tiles and their first voxels along each axis, for a network of a given multiple.

        Args:
            volume: (z, y, x) [voxels].
            multiple: what the tile's edges and starts must be divisible by.
        """
        edges, starts = [], []
        for n, tile in zip(volume, self.shape):
            edge = min(-(-n // multiple), max(1, tile // multiple)) * multiple
            edges.append(edge)
            starts.append(_starts(n, edge, min(self.overlap, edge // 2), multiple))
        return (edges[0], edges[1], edges[2]), (starts[0], starts[1], starts[2])


def _starts(n: int, edge: int, overlap: int, multiple: int) -> list[int]:
    if n <= edge:
        return [0]
    # In units of `multiple`, and the step rounded down, so that rounding never eats into the overlap.
    last = -(-(n - edge) // multiple)
    gaps = -(-last // max(1, (edge - overlap) // multiple))
    return [i * last // gaps * multiple for i in range(gaps + 1)]


def cut(values: np.ndarray, start: tuple[int, int, int], shape: Shape) -> np.ndarray:
    """A box of a (z, y, x) volume; what lies outside is 0, the mean of a normalised volume, as in training."""
    out = np.zeros(shape, dtype=np.float32)
    source, target = [], []
    for a, edge, n in zip(start, shape, values.shape):
        low, high = max(0, a), min(n, a + edge)
        if low >= high:
            return out
        source.append(slice(low, high))
        target.append(slice(low - a, high - a))
    out[tuple(target)] = values[tuple(source)]
    return out
