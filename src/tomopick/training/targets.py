"""Encode: picks -> target heatmap. The inverse is `peaks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from ..core.errors import RecipeError
from ..core.types import Grid, Heatmap, PickableObject, Picks
from .layers import Particles, flat_cells, over_axes

LEAST_REACH = 1.5  # of a Gaussian [cells]


class Target(Protocol):
    """What a network learns to draw: patch by patch on the host, or the particles of a batch together on a device."""

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`, 0..1; picks outside may reach in."""

    def particles(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> np.ndarray:
        """Picks of one run -> (n, 5) of those that reach into `grid`: channel, z, y, x and size, in cells."""

    def drawn(self, particles: Particles, shape: Sequence[int]) -> torch.Tensor:
        """The heatmaps of a batch, to rounding those of the call.

        Args:
            particles: of all its patches.
            shape: (b, object, z, y, x) of the heatmaps.
        """


def _near(picks: Picks, grid: Grid, sizes: Sequence[tuple[str, float, float]]) -> np.ndarray:
    """(n, 5) channel, z, y, x and size of the picks that reach into a grid [cells].

    Args:
        picks: of any objects.
        grid: of the heatmap.
        sizes: name, size and reach of the object of each channel [cells].
    """
    indices = grid.indices(picks.positions)
    rows = [np.zeros((0, 5))]
    for channel, (name, size, reach) in enumerate(sizes):
        own = indices[picks.names == name]
        own = own[((own > -reach) & (own < np.asarray(grid.shape) - 1 + reach)).all(axis=1)]
        rows.append(np.column_stack([np.full(len(own), channel), own, np.full(len(own), size)]))
    return np.concatenate(rows)


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

    def _reach(self, sigma_voxels: float) -> float:
        """How far a Gaussian is drawn [cells]; however narrow, to the three cells around a centre, which refining a
        peak needs."""
        return max(self.truncate * sigma_voxels, LEAST_REACH)

    def particles(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> np.ndarray:
        """With the standard deviation as size."""
        sigmas = [self.sigma(obj) / grid.voxel_spacing for obj in objects]
        return _near(picks, grid, [(o.name, sigma, self._reach(sigma)) for o, sigma in zip(objects, sigmas)])

    def drawn(self, particles: Particles, shape: Sequence[int]) -> torch.Tensor:
        """See `Target`."""
        values = torch.zeros(tuple(shape), device=particles.table.device)
        heatmaps, sigma = values.view(-1, *shape[2:]), particles.sizes
        reach = (self.truncate * sigma).clamp(min=LEAST_REACH)
        factors = [
            torch.where(offset.abs() <= reach, (-0.5 * (offset / sigma).square()).exp(), 0.0).float()
            for offset in particles.offsets(shape)
        ]
        for which, own in particles.layers(shape, *factors):
            z, y, x = over_axes(*own)
            heatmaps.index_copy_(0, which, torch.maximum(heatmaps.index_select(0, which), z * y * x))
        return values

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`; picks outside reach in as far as their Gaussian does."""
        values = np.zeros((len(objects), *grid.shape), dtype=np.float32)
        indices = grid.indices(picks.positions)
        for channel, obj in enumerate(objects):
            sigma_voxels = self.sigma(obj) / grid.voxel_spacing
            reach = self._reach(sigma_voxels)
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
        return self._gaussian(objects)(picks, grid, objects)

    def _gaussian(self, objects: Sequence[PickableObject]) -> GaussianTarget:
        return GaussianTarget(sigmas={o.name: self.sigma for o in objects}, truncate=self.truncate)

    def particles(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> np.ndarray:
        """With the standard deviation as size."""
        return self._gaussian(objects).particles(picks, grid, objects)

    def drawn(self, particles: Particles, shape: Sequence[int]) -> torch.Tensor:
        """See `Target`."""
        return self._gaussian(()).drawn(particles, shape)


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

    def particles(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> np.ndarray:
        """With the radius as size."""
        radii = [self.radius(obj) / grid.voxel_spacing for obj in objects]
        return _near(picks, grid, [(o.name, radius, max(radius, 0.5) + 1) for o, radius in zip(objects, radii)])

    def drawn(self, particles: Particles, shape: Sequence[int]) -> torch.Tensor:
        """See `Target`."""
        claims = torch.zeros(tuple(shape), device=particles.table.device)
        heatmaps, radius = claims.view(-1, *shape[2:]), particles.sizes
        offsets = particles.offsets(shape)
        reach = radius.clamp(min=0.5)
        squares = [torch.where(offset.abs() <= reach, offset.square(), float("inf")) for offset in offsets]
        nearest = [(offset > -0.5) & (offset <= 0.5) for offset in offsets]
        for which, own in particles.layers(shape, *squares, *nearest, radius.square()):
            (z, y, x), middle = over_axes(*own[:3]), over_axes(*own[3:6])
            ball = (z + y + x <= own[6][:, :, None, None]) | (middle[0] & middle[1] & middle[2])
            heatmaps.index_add_(0, which, ball.float())
        values = (claims > 0).float()
        return values * (claims.sum(dim=1, keepdim=True) < 2) if self.exclusive else values

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

    def particles(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> np.ndarray:
        """Without a size."""
        return _near(picks, grid, [(obj.name, 0.0, 1.0) for obj in objects])

    def drawn(self, particles: Particles, shape: Sequence[int]) -> torch.Tensor:
        """See `Target`."""
        values = torch.zeros(tuple(shape), device=particles.table.device)
        patch, channel, *places = (particles.table[:, :5] + 0.5).floor().long().T
        inside = torch.stack([(at >= 0) & (at < n) for at, n in zip(places, shape[2:])]).all(dim=0)
        at = flat_cells(patch, channel, places, shape)
        # What lies outside draws nothing, on the first cell.
        values.view(-1).scatter_reduce_(0, torch.where(inside, at, 0), inside.float(), "amax")
        return values

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
