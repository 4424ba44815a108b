"""The layer of ice: its two surfaces, and where in it particles are scarce."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from ..core.types import Grid, Picks


@dataclass(frozen=True)
class Layer:
    """Ice between two surfaces; lengths in Å, zyx, in the frame of the volume.

    Attributes:
        middle: z of its middle at `centre`.
        thickness: at `centre`.
        centre: (y, x) of the volume's middle.
        slope: how much the middle rises along y and x, a tangent each.
        wedge: how much of `thickness` is added per Å along y and x.
        swing: of the waves that the layer lies in.
        period: (y, x) of these waves.
        phase: (y, x) of these waves [rad].
        thinnest: what a wedge leaves at least.
    """

    middle: float
    thickness: float
    centre: tuple[float, float]
    slope: tuple[float, float] = (0.0, 0.0)
    wedge: tuple[float, float] = (0.0, 0.0)
    swing: float = 0.0
    period: tuple[float, float] = (1.0, 1.0)
    phase: tuple[float, float] = (0.0, 0.0)
    thinnest: float = 0.0

    def __call__(self, yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z of the lower and of the upper surface, (n,) each, at (n, 2) positions yx."""
        steps = yx - np.array(self.centre)
        waves = np.sin(2 * np.pi * yx / np.array(self.period) + np.array(self.phase)).sum(axis=1)
        middle = self.middle + steps @ np.array(self.slope) + self.swing * waves
        thickness = np.maximum(self.thickness * (1 + steps @ np.array(self.wedge)), self.thinnest)
        return middle - thickness / 2, middle + thickness / 2


def slab(
    thickness: float,
    undulation: float,
    grid: Grid,
    rng: np.random.Generator,
    *,
    slope: float = 0.0,
    wedge: float = 0.0,
    thinnest: float = 0.0,
) -> Layer:
    """A layer somewhere in the volume of `grid`.

    Args:
        thickness: [Å].
        undulation: how far its middle goes up and down [Å].
        grid: of the volume.
        rng: draws place and directions.
        slope: angle to the volume's planes, in any direction [degrees].
        wedge: how much thicker it is at one side than at the other, part of `thickness`.
        thinnest: what a wedge leaves at least [Å].
    """
    depth, *sides = np.array(grid.shape) * grid.voxel_spacing
    middle = np.array(grid.origin) + (np.array(grid.shape) - 1) / 2 * grid.voxel_spacing
    room = max(0.0, (depth - thickness) / 2)
    swing = min(undulation, room) / 2
    place = middle[0] + rng.uniform(-1, 1) * (room - 2 * swing) * 0.5
    phase = rng.uniform(0, 2 * np.pi, 2)
    rise, growth = (rng.uniform(0, 2 * np.pi) for _ in range(2))
    lean = np.tan(np.radians(slope)) * np.array([np.sin(rise), np.cos(rise)])
    grow = wedge / max(sides) * np.array([np.sin(growth), np.cos(growth)])
    return Layer(
        float(place), thickness, (float(middle[1]), float(middle[2])), (float(lean[0]), float(lean[1])),
        (float(grow[0]), float(grow[1])), swing, (float(sides[0]), float(sides[1])),
        (float(phase[0]), float(phase[1])), thinnest,
    )  # fmt: skip


def layer_around(picks: Picks, reach: np.ndarray, grid: Grid) -> Layer:
    """The thinnest evenly thick layer along the plane through `picks` that holds them.

    Args:
        picks: at least one.
        reach: (n,) radius of each [Å].
        grid: of the volume.
    """
    middle = np.array(grid.origin) + (np.array(grid.shape) - 1) / 2 * grid.voxel_spacing
    steps = picks.positions - middle
    slope: np.ndarray = np.zeros(2)
    if len(picks) >= 10:  # fewer say little about a plane
        design = np.column_stack([np.ones(len(steps)), steps[:, 1:]])
        slope = np.linalg.lstsq(design, steps[:, 0], rcond=None)[0][1:]
    rest = steps[:, 0] - steps[:, 1:] @ slope
    low, high = (rest - reach).min(), (rest + reach).max()
    return Layer(
        float(middle[0] + (low + high) / 2), float(high - low), (float(middle[1]), float(middle[2])),
        (float(slope[0]), float(slope[1])),
    )  # fmt: skip


class Barren:
    """Where particles are missing: a random pattern over y and x.

    Attributes:
        share: of the area in which there are none.
    """

    def __init__(self, share: float, length: float, grid: Grid, rng: np.random.Generator) -> None:
        """See the class; `length` is about the size of a region [Å]."""
        self.share = share
        self._step = length / 4
        shape = np.ceil(np.array(grid.shape[1:]) * grid.voxel_spacing / self._step).astype(int) + 2
        self._origin = np.array(grid.origin[1:])
        noise = gaussian_filter(rng.standard_normal(shape), 2.0, mode="wrap")
        self._level = float(np.quantile(noise, share)) if share > 0 else -np.inf
        self._pattern = noise

    def __call__(self, yx: np.ndarray) -> np.ndarray:
        """(n, 2) positions yx [Å] -> (n,) bool: no particle may lie here."""
        if self.share <= 0:
            return np.zeros(len(yx), dtype=bool)
        place = (yx - self._origin).T / self._step
        return map_coordinates(self._pattern, place, order=1, mode="nearest") < self._level
