"""How published methods cut a volume and blend their tiles.

Starts need not be multiples of the network's stride: as in the published codes, an output cell then lies where its
tile's start, rounded down, puts it, up to half a cell from where it should. They serve outputs of stride 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.errors import RecipeError
from ..core.types import Shape
from .tiling import Starts, Tiling, Window


@dataclass(frozen=True)
class FlatWindow:
    """The same weight everywhere: a plain mean."""

    def __call__(self, n: int) -> np.ndarray:
        """(n,) ones."""
        return np.ones(n, dtype=np.float32)


def _check_shape(shape: Shape) -> None:
    if min(shape) < 1:
        raise RecipeError(f"tiling.shape is {shape}; its edges must be positive")


def _even(n: int) -> int:
    """A volume of odd edge ends in half a cell of an output of stride 2, which is to be covered too."""
    return n + n % 2


def _edges(volume: Shape, shape: Shape, multiple: int) -> Shape:
    """Edges of the tiles, no larger than a smaller volume needs."""
    z, y, x = (min(edge, -(-n // multiple) * multiple) for n, edge in zip(volume, shape))
    return z, y, x


@dataclass(frozen=True)
class ScanTiles(Tiling):
    """Tiles a fixed fraction of their edge apart, the last one moved back to the volume's end.

    Attributes:
        shape: (z, y, x) of a tile [voxels].
        fraction: that neighbouring tiles share.
        window: weight along an axis.
        of_logits: logits are averaged, over views too, and become a heatmap afterwards; else heatmaps are.

    Source: MONAI's sliding window, as in the topcup package (96^3, 0.21, plain mean of logits) and in the Ensemble 3D
    U-Net Soup (160 x 384 x 384, 0.25, Gaussian weights).
    """

    shape: Shape = (96, 96, 96)
    fraction: float = 0.25
    window: Window = field(default_factory=FlatWindow)
    of_logits: bool = True

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        if not 0 <= self.fraction < 1:
            raise RecipeError(f"tiling.fraction is {self.fraction:g}; it must be from 0 to just below 1")

    def plan(self, volume: Shape, multiple: int) -> tuple[Shape, Starts]:
        """Shape of the tiles and their first voxels along each axis."""
        edges = _edges(volume, self.shape, multiple)
        z, y, x = (self._starts(n, edge) for n, edge in zip(volume, edges))
        return edges, (z, y, x)

    def _starts(self, n: int, edge: int) -> list[int]:
        step, last = max(1, int(edge * (1 - self.fraction))), max(0, _even(n) - edge)
        return [*range(0, last, step), last]


@dataclass(frozen=True)
class StepTiles(Tiling):
    """Tiles a fixed number of voxels apart, the last ones reaching beyond the volume's end.

    Their weight is the smaller one of two linear falls from the middle to the border, along y and along x, times one
    along z.

    Attributes:
        shape: (z, y, x) of a tile [voxels].
        step: from tile to tile along z, y, x [voxels].
        flat: the weight is the same everywhere; a plain mean.

    Source: CZII challenge, 4th place (arXiv:2502.13484): 16 x 128 x 128 in steps of 8, 48, 48, or 32 x 128 x 128 in
    steps of 16, 48, 48; 22 (11) x 12 x 12 tiles of 184 x 630 x 630.
    """

    shape: Shape = (16, 128, 128)
    step: Shape = (8, 48, 48)
    flat: bool = False
    of_logits: bool = False

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        if not all(0 < a <= b for a, b in zip(self.step, self.shape)):
            raise RecipeError(f"tiling.step is {self.step}; expected positive steps of at most a tile, {self.shape}")

    def plan(self, volume: Shape, multiple: int) -> tuple[Shape, Starts]:
        """Shape of the tiles and their first voxels along each axis."""
        edges = _edges(volume, self.shape, multiple)
        z, y, x = (
            [i * step for i in range(1 - (-max(0, n - edge) // step))]
            for n, edge, step in zip(volume, edges, self.step)
        )
        return edges, (z, y, x)

    def weights(self, cells: Shape) -> np.ndarray:
        """(z, y, x) weights of a tile's cells: next to nothing at its border, or 1."""
        if self.flat:
            return np.ones(cells, dtype=np.float32)
        z, y, x = (np.minimum(t, 1 - t) for t in (np.linspace(0, 1, n) for n in cells))
        return np.maximum(z[:, None, None] * np.minimum(y[:, None], x) * 4, 1e-6).astype(np.float32)


@dataclass(frozen=True)
class EvenTiles(Tiling):
    """As few tiles as cover an axis (one more where it is long), evenly spread from its start to its end.

    Attributes:
        shape: (z, y, x) of a tile [voxels].
        long: from how many voxels on an axis gets one more.
        border: cells at each face of a tile that count less.
        outer, inner: weights of a cell there and elsewhere.

    Source: BPD as released (CZII challenge, 5th place), y284/biological-particle-detector.
    """

    shape: Shape = (96, 96, 96)
    long: int = 300
    border: int = 8
    outer: float = 0.1
    inner: float = 1.1
    of_logits: bool = False

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        if self.border < 0 or min(self.outer, self.inner) <= 0:
            raise RecipeError("tiling.border must be at least 0, tiling.outer and tiling.inner above 0")

    def plan(self, volume: Shape, multiple: int) -> tuple[Shape, Starts]:
        """Shape of the tiles and their first voxels along each axis."""
        edges = _edges(volume, self.shape, multiple)
        z, y, x = (self._starts(n, edge) for n, edge in zip(volume, edges))
        return edges, (z, y, x)

    def _starts(self, n: int, edge: int) -> list[int]:
        if n <= edge:
            return [0]
        count, last = -(-n // edge) + int(n > self.long), _even(n) - edge
        return [i * last // (count - 1) for i in range(count)]

    def weights(self, cells: Shape) -> np.ndarray:
        """(z, y, x) weights of a tile's cells."""
        found = np.full(cells, self.outer, dtype=np.float32)
        if min(cells) > 2 * self.border:
            found[tuple(slice(self.border, n - self.border) for n in cells)] = self.inner
        return found
