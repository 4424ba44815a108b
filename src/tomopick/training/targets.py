"""Encode: picks -> target heatmap. The inverse is `peaks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..core.errors import RecipeError
from ..core.types import Grid, Heatmap, PickableObject, Picks


class Target(Protocol):
    """What a network learns to draw."""

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`, 0..1; picks outside may reach in."""


@dataclass(frozen=True)
class GaussianTarget:
    """One Gaussian of height 1 per particle, drawn at its exact (sub-voxel) centre; overlaps keep the larger value.

    Attributes:
        sigma_factor: standard deviation as a fraction of the object's radius.
        sigmas: standard deviation by object name [Å], in place of the factor.
        truncate: how far a Gaussian is drawn [standard deviations]; at least one and a half cells.

    Source: BPD and the 4th place of the CZII challenge train on such heatmaps (arXiv:2502.13484, section 2.3).
    """

    sigma_factor: float = 1 / 3
    sigmas: Mapping[str, float] = field(default_factory=dict)
    truncate: float = 4.0

    def sigma(self, obj: PickableObject) -> float:
        """Standard deviation for one object [Å]."""
        return float(self.sigmas.get(obj.name, 0.0)) or self.sigma_factor * obj.radius_angstrom

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`; picks outside reach in as far as their Gaussian does."""
        values = np.zeros((len(objects), *grid.shape), dtype=np.float32)
        indices = grid.indices(picks.positions)
        for channel, obj in enumerate(objects):
            sigma_voxels = self.sigma(obj) / grid.voxel_spacing
            # However narrow, the three cells around a centre are drawn: refining a peak needs them.
            reach = max(self.truncate * sigma_voxels, 1.5)
            own = indices[picks.names == obj.name]
            near = ((own > -reach) & (own < np.asarray(grid.shape) - 1 + reach)).all(axis=1)
            for index in own[near]:
                _stamp(values[channel], index, sigma_voxels, reach)
        return Heatmap(picks.run, values, grid, tuple(o.name for o in objects))


def _stamp(values: np.ndarray, index: np.ndarray, sigma_voxels: float, reach: float) -> None:
    """Draw one Gaussian into (z, y, x) `values` around the fractional `index`, in place."""
    box, factors = [], []
    for centre, n in zip(index, values.shape):
        start, stop = max(0, int(np.ceil(centre - reach))), min(n, int(np.floor(centre + reach)) + 1)
        if start >= stop:
            return
        offsets = np.arange(start, stop) - centre
        box.append(slice(start, stop))
        factors.append(np.exp(-0.5 * (offsets / sigma_voxels) ** 2).astype(np.float32))
    target = values[tuple(box)]
    np.maximum(target, np.einsum("i,j,k->ijk", *factors), out=target)


@dataclass(frozen=True)
class FixedGaussianTarget:
    """As `GaussianTarget`, but one standard deviation for all objects, whatever their size.

    Attributes:
        sigma: standard deviation [Å].
        truncate: how far a Gaussian is drawn [standard deviations].

    Source: CZII challenge, 4th place (yu4u), six voxels of 10 Å; arXiv:2502.13484, section 2.3.
    """

    sigma: float = 60.0
    truncate: float = 4.0

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise RecipeError(f"target.sigma is {self.sigma:g}; it must be a positive number")

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`; picks outside reach in as far as their Gaussian does."""
        sigmas = {o.name: self.sigma for o in objects}
        return GaussianTarget(sigmas=sigmas, truncate=self.truncate)(picks, grid, objects)


@dataclass(frozen=True)
class BallTarget:
    """One ball of ones per particle; at least the cell that holds its centre.

    Attributes:
        radius_factor: radius as a fraction of the object's.
        radii: radius by object name [Å], in place of the factor.
        fixed: radius of all other objects' balls [Å], in place of the factor; 0: none.
        exclusive: cells that balls of several particles claim are left to none.

    Source: sphere masks of the CZII challenge's 8th (Soup) and 2nd place; exclusive and fixed at two voxels as in the
    TopCUP package.
    """

    radius_factor: float = 0.5
    radii: Mapping[str, float] = field(default_factory=dict)
    fixed: float = 0.0
    exclusive: bool = False

    def __post_init__(self) -> None:
        if self.fixed < 0:
            raise RecipeError(f"target.fixed is {self.fixed:g}; it must be at least 0")
        if not self.radius_factor > 0:
            raise RecipeError(f"target.radius_factor is {self.radius_factor:g}; it must be a positive number")

    def radius(self, obj: PickableObject) -> float:
        """Radius of one object's balls [Å]."""
        return float(self.radii.get(obj.name, 0.0)) or self.fixed or self.radius_factor * obj.radius_angstrom

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`; balls of picks outside reach in."""
        claims = np.zeros((len(objects), *grid.shape), dtype=np.uint8)
        indices = grid.indices(picks.positions)
        for channel, obj in enumerate(objects):
            radius = self.radius(obj) / grid.voxel_spacing
            for index in indices[picks.names == obj.name]:
                _claim(claims[channel], index, radius)
        values = (claims > 0).astype(np.float32)
        if self.exclusive:
            values *= claims.sum(axis=0, dtype=np.uint16) < 2
        return Heatmap(picks.run, values, grid, tuple(o.name for o in objects))


@dataclass(frozen=True)
class VoxelTarget:
    """One cell of 1 per particle: the one that holds its centre. Those outside leave no trace.

    Source: TopCUP (CZII challenge, 1st place).
    """

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`."""
        values = np.zeros((len(objects), *grid.shape), dtype=np.float32)
        cells = np.floor(grid.indices(picks.positions) + 0.5).astype(int)
        inside = ((cells >= 0) & (cells < np.asarray(grid.shape))).all(axis=1)
        for channel, obj in enumerate(objects):
            own = cells[inside & (picks.names == obj.name)]
            values[channel][tuple(own.T)] = 1.0
        return Heatmap(picks.run, values, grid, tuple(o.name for o in objects))


def _claim(claims: np.ndarray, index: np.ndarray, radius: float) -> None:
    """Count one ball into (z, y, x) `claims` around the fractional `index`, in place; nothing counts beyond 255."""
    nearest = np.floor(index + 0.5).astype(int)
    box, squares, middle = [], [], []
    for centre, cell, n in zip(index, nearest, claims.shape):
        reach = max(radius, 0.5)
        start, stop = max(0, int(np.ceil(centre - reach))), min(n, int(np.floor(centre + reach)) + 1)
        if start >= stop:
            return
        offsets = np.arange(start, stop)
        box.append(slice(start, stop))
        squares.append((offsets - centre) ** 2)
        middle.append(offsets == cell)
    z, y, x = squares
    inside = z[:, None, None] + y[:, None] + x <= radius**2
    # However small the ball, the cell of its centre lies in it.
    inside |= middle[0][:, None, None] & middle[1][:, None] & middle[2]
    part = claims[tuple(box)]
    part[inside & (part < 255)] += 1
