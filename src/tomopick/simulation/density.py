"""What a particle looks like: its electrostatic potential above that of the ice around it.

A density is anything with a name, an extent and a `sample`: a sum of Gaussian blobs, evaluated at the voxels themselves
so that any position and rotation is exact, or a map.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from ..core.errors import ReadError, TomopickError
from ..core.types import Grid

# Mean inner potential of vitreous ice. Source: Vulović et al. 2013, J Struct Biol 183, 19; free atoms give the same:
# 0.94 g/cm^3 of water, of which a molecule scatters as 3.04 Å (`atoms.SCATTERING_VOLTS`), make 4.57 V.
ICE_POTENTIAL = 4.53  # [V]
# Potential of protein (about 7 V) above that of ice. Source: as above.
PROTEIN_CONTRAST = 2.5  # [V]
# Partial specific volume of 0.73 cm^3/g. Source: Harpaz et al. 1994, Structure 2, 641.
PROTEIN_VOLUME = 1212.0  # [Å^3/kDa]
BLOB_SIGMA = 7.0  # [Å]; about a resolution of 16 Å, the finest that a tomogram of 10 Å voxels shows

# Of a density that is read. Source: PBCV-1, of the largest particles with a map (Zhang et al. 2011, PNAS 108, 14837).
_LARGEST = 2_000.0  # [Å] along an axis
_RIM = 3  # voxels of nothing around a map

Sampled = tuple[np.ndarray, np.ndarray]


class Density(Protocol):
    """A particle's density, however it is made."""

    @property
    def name(self) -> str:
        """Of the object."""
        ...

    @property
    def radius(self) -> float:
        """Of the sphere around the centre of mass that holds everything [Å]."""
        ...

    def __hash__(self) -> int: ...

    def sample(self, rotation: np.ndarray, centre: np.ndarray, grid: Grid) -> Sampled:
        """The rotated density with its centre of mass at `centre`, on the voxels of `grid`.

        Args:
            rotation: (3, 3), from the particle's own frame to the grid's, on xyz column vectors.
            centre: (3,) zyx [Å].
            grid: its shape is not looked at: the box may reach beyond it.

        Returns:
            start: (3,) index of the box's first voxel; box: (z, y, x) potential above ice [V].
        """
        ...


def has_room(density: Density, grid: Grid) -> bool:
    """Whether a volume is large enough for a density, with two voxels to either side."""
    return 2 * density.radius + 4 * grid.voxel_spacing < min(grid.shape) * grid.voxel_spacing


def require_extent(extent: np.ndarray, what: str, remedy: str) -> None:
    """Refuses what is larger than any particle, before room is made for it.

    Args:
        extent: (3,) zyx [Å].
        what: file and what of it extends, for the message.
        remedy: what to look at.

    Raises:
        ReadError: too large along an axis.
    """
    if not np.max(extent) <= _LARGEST:
        size = " x ".join(f"{n:,.0f}" for n in extent[::-1])
        raise ReadError(
            f"{what} over {size} Å (x, y, z); expected a particle of {_LARGEST:,.0f} Å at most: check {remedy}"
        )


def box_around(centre: np.ndarray, reach: float, grid: Grid) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """First voxel of the box of half-width `reach` [Å] around `centre`; its voxels' offsets from it, by axis [Å]."""
    middle = grid.indices(centre)
    half = reach / grid.voxel_spacing
    start, stop = np.ceil(middle - half).astype(int), np.floor(middle + half).astype(int) + 1
    return start, tuple((np.arange(a, b) - m) * grid.voxel_spacing for a, b, m in zip(start, stop, middle))


@dataclass(frozen=True, eq=False)
class BlobDensity:
    """A sum of Gaussian blobs of one width.

    Attributes:
        name: of the object.
        positions: (n, 3) xyz [Å], their weighted mean is 0.
        weights: (n,) integral of each blob [V Å^3].
        sigma: width of the blobs [Å].
    """

    name: str
    positions: np.ndarray
    weights: np.ndarray
    sigma: float = BLOB_SIGMA
    radius: float = field(init=False)

    def __post_init__(self) -> None:
        middle = np.average(self.positions, axis=0, weights=self.weights)
        object.__setattr__(self, "positions", self.positions - middle)
        reach = np.linalg.norm(self.positions, axis=1).max()
        object.__setattr__(self, "radius", float(reach + 1.5 * self.sigma))

    @property
    def mass(self) -> float:
        """Of protein that scatters as much [kDa]."""
        return float(self.weights.sum() / (PROTEIN_VOLUME * PROTEIN_CONTRAST))

    def sample(self, rotation: np.ndarray, centre: np.ndarray, grid: Grid) -> Sampled:
        """See `Density.sample`. A voxel holds the mean over its cube (a variance of spacing^2 / 12 more)."""
        sigma = float(np.hypot(self.sigma, grid.voxel_spacing / np.sqrt(12)))
        start, axes = box_around(centre, self.radius + 1.5 * sigma, grid)
        placed = (self.positions @ np.asarray(rotation).T)[:, ::-1]
        z, y, x = (
            np.exp(-0.5 * ((axis - placed[:, i, None]) / sigma) ** 2).astype(np.float32) for i, axis in enumerate(axes)
        )
        z *= (self.weights / (np.sqrt(2 * np.pi) * sigma) ** 3).astype(np.float32)[:, None]
        plane = (y[:, :, None] * x[:, None, :]).reshape(len(y), -1)
        return start, (z.T @ plane).reshape(z.shape[1], y.shape[1], x.shape[1])


@dataclass(frozen=True, eq=False)
class MapDensity:
    """A density map, rotated by cubic splines.

    Attributes:
        name: of the object.
        values: (z, y, x); what is below 0 counts as 0. Scaled to `mass`.
        spacing: of the map's voxels [Å].
        mass: of protein that scatters as much [kDa].
    """

    name: str
    values: np.ndarray
    spacing: float
    mass: float
    radius: float = field(init=False)
    centre: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.clip(np.nan_to_num(np.asarray(self.values, dtype=np.float64)), 0, None)
        if values.ndim != 3 or not values.sum() > 0:
            raise TomopickError(f"the map of '{self.name}' needs three axes and positive density, not {values.shape}")
        if not (self.mass > 0 and self.spacing > 0):
            raise TomopickError(
                f"the map of '{self.name}' needs a positive mass and voxel size, not {self.mass:g} kDa "
                f"and {self.spacing:g} Å"
            )
        values = np.pad(values, _RIM)  # room for splines and blurring
        values *= self.mass * PROTEIN_VOLUME * PROTEIN_CONTRAST / (values.sum() * self.spacing**3)
        where = np.argwhere(values > 0.05 * values.max())
        sums = [values.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        centre = np.array([(s * np.arange(len(s))).sum() / s.sum() for s in sums])
        object.__setattr__(self, "values", values.astype(np.float32))
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "radius", float(np.linalg.norm(where - centre, axis=1).max() * self.spacing))

    def reach_of(self, share: float) -> float:
        """Radius of the sphere around the centre of mass that holds `share` of the mass [Å]."""
        axes = (np.arange(n) - c for n, c in zip(self.values.shape, self.centre))
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        distance = np.sqrt(z**2 + y**2 + x**2).ravel()
        order = np.argsort(distance)
        inside = np.cumsum(self.values.ravel()[order], dtype=np.float64)
        return float(distance[order][np.searchsorted(inside, share * inside[-1])] * self.spacing)

    def sample(self, rotation: np.ndarray, centre: np.ndarray, grid: Grid) -> Sampled:
        """See `Density.sample`. A voxel holds the mean over its cube, up to what the map's own voxels have done."""
        start, axes = box_around(centre, self.radius + grid.voxel_spacing, grid)
        turn = np.asarray(rotation)[::-1, ::-1] / self.spacing  # zyx rows; R^T on column vectors is `offsets @ R`
        z, y, x = (axis[:, None] * row for axis, row in zip(axes, turn))
        own = z[:, None, None] + y[None, :, None] + x[None, None] + self.centre
        spline = _spline(self, round(grid.voxel_spacing, 6))
        box = map_coordinates(spline, np.moveaxis(own, -1, 0), order=3, prefilter=False, output=np.float32)
        return start, np.clip(box, 0, None)


@lru_cache(maxsize=96)
def _spline(density: MapDensity, voxel_spacing: float) -> np.ndarray:
    """The map's spline coefficients, blurred as the mean over voxels that are larger than its own blurs."""
    sigma = np.sqrt(max(0.0, voxel_spacing**2 - density.spacing**2) / 12) / density.spacing
    values = gaussian_filter(density.values, sigma) if sigma > 0 else density.values
    return spline_filter(values, order=3).astype(np.float32)
