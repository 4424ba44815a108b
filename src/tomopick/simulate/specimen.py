"""The specimen itself: a layer of ice into which particles, membranes and gold are placed without overlap.

The layer goes on beyond the volume, periodically along y and x, so that a section has no artificial border: what
leaves on one side comes in on the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import binary_fill_holes
from scipy.spatial.transform import Rotation

from ..types import Grid, Picks
from .bodies import globule
from .density import BlobDensity, Density, box_around

log = logging.getLogger(__name__)

Range = tuple[float, float]  # from, to: drawn uniformly

GOLD_CONTRAST = 22.0  # [V] above ice: the mean inner potential of gold is about 27 V
LIPID_CONTRAST = 1.6  # [V] head groups above ice; the tails are about as dense as it
_DALTONS_PER_MG_ML = 6.022e-7  # [kDa/Å^3] in 1 mg/ml
_TRIES = 48  # places tried for a particle before it is left out
_GIVE_UP = 12  # particles left out in a row before the rest is
_PROBES = 24  # points of a particle that are looked at first


@dataclass(frozen=True)
class Habits:
    """How the particles of a run lie.

    Attributes:
        clustering: part of them placed against one of their kind.
        adsorption: part of them at a surface of the ice.
        contrast: factor on their potential.
    """

    clustering: float = 0.0
    adsorption: float = 0.0
    contrast: float = 1.0


class Specimen:
    """A volume of ice that fills up.

    Attributes:
        grid: where the voxels lie.
        thickness: of the ice [Å].
        potential: (z, y, x) above that of ice [V]; a view of a (z, x, y) array, which is how it is projected.
    """

    def __init__(self, grid: Grid, surfaces: Callable, rng: np.random.Generator) -> None:
        nz, ny, nx = grid.shape
        self.grid = grid
        self.potential = np.zeros((nz, nx, ny), dtype=np.float32).transpose(0, 2, 1)
        self._occupied = np.zeros(grid.shape, dtype=bool)
        self._surfaces, self._rng = surfaces, rng
        low, high = surfaces(np.zeros((1, 2)))
        self.thickness = float(high[0] - low[0]) * grid.voxel_spacing
        self._placed: list[tuple[str, np.ndarray, np.ndarray]] = []

    def picks(self, run: str) -> Picks:
        """Where the labelled particles are: centres of mass and rotations."""
        if not self._placed:
            return Picks.empty(run)
        names, centres, rotations = zip(*self._placed)
        return Picks(run, np.stack(centres), np.array(names), np.ones(len(names)), np.stack(rotations))

    def holds(self, density: Density) -> bool:
        """Whether the volume is large enough for it."""
        return 2 * density.radius + 4 * self.grid.voxel_spacing < min(self.grid.shape) * self.grid.voxel_spacing

    def add(self, density: Density, count: int, habits: Habits, *, labelled: bool = True) -> int:
        """Places `count` particles at random, without overlap; tells (and logs) how many fitted."""
        if not self.holds(density):
            return 0
        extent = _extent(density, self.grid.voxel_spacing)
        centres: list[np.ndarray] = []
        missed = 0
        for rotation in Rotation.random(count, self._rng).as_matrix() if count else ():
            offsets = (extent @ rotation.T)[:, ::-1] / self.grid.voxel_spacing
            centre = self._free_place(offsets, centres, habits)
            if centre is None:
                missed += 1
                if missed >= _GIVE_UP:
                    break
                continue
            missed = 0
            self._occupied[self._wrapped(centre + offsets)] = True
            position = self.grid.positions(centre)
            start, box = density.sample(rotation, position, self.grid)
            self.deposit(start, box * np.float32(habits.contrast))
            centres.append(centre)
            if labelled:
                self._placed.append((density.name, position, rotation))
        if labelled and len(centres) < count:
            log.info("only %d of %d particles of '%s' fitted into the ice", len(centres), count, density.name)
        return len(centres)

    def deposit(self, start: np.ndarray, box: np.ndarray) -> None:
        """Adds a box [V]; it wraps around along y and x, and is cut off along z."""
        nz, ny, nx = self.grid.shape
        low, high = max(0, -start[0]), min(box.shape[0], nz - start[0])
        if high <= low:
            return
        z = slice(start[0] + low, start[0] + high)
        y, x = start[1] + np.arange(box.shape[1]), start[2] + np.arange(box.shape[2])
        if y[0] >= 0 and x[0] >= 0 and y[-1] < ny and x[-1] < nx:
            self.potential[z, y[0] : y[-1] + 1, x[0] : x[-1] + 1] += box[low:high]
        else:
            self.potential[np.ix_(np.arange(z.start, z.stop), y % ny, x % nx)] += box[low:high]

    def add_gold(self, radius: float) -> None:
        """A gold bead [Å] at a surface of the ice; it may overlap nothing that comes after it."""
        yx = self._anywhere(1)
        low, high = self._surfaces(yx)
        z = self._rng.choice([low[0], high[0]])
        start, distance = self._distances(np.array([z, *yx[0]]), radius + self.grid.voxel_spacing)
        box = np.clip((radius - distance) / self.grid.voxel_spacing + 0.5, 0, 1)
        self._reserve(start, box > 0)
        self.deposit(start, (GOLD_CONTRAST * box).astype(np.float32))

    def add_membrane(self) -> None:
        """A vesicle or a piece of one: two leaflets 36 Å apart, cut off by the surfaces of the ice."""
        side = min(self.grid.shape[1:]) * self.grid.voxel_spacing
        radius = min(float(np.exp(self._rng.uniform(np.log(150), np.log(700)))), 0.45 * side - 60)
        if radius < 120:  # no room for one
            return
        yx = self._anywhere(1)
        low, high = self._surfaces(yx)
        centre = np.array([self._rng.uniform(low[0], high[0]), *yx[0]])
        start, distance, direction = self._directions(centre, radius + 50)
        leaflets = sum(np.exp(-0.5 * ((distance - radius - side) / 8) ** 2) for side in (-18, 18))
        pole = Rotation.random(None, self._rng).apply([0, 0, 1])
        opening = self._rng.uniform(-1.6, 0.6)  # below -1: a closed vesicle
        leaflets = leaflets * np.clip(((direction @ pole) - opening) * radius / 30, 0, 1)
        z = start[0] + np.arange(distance.shape[0])
        leaflets *= ((z > low[0]) & (z < high[0]))[:, None, None]
        self._reserve(start, leaflets > 0.05)
        self.deposit(start, (LIPID_CONTRAST * leaflets).astype(np.float32))

    def add_background(self, concentration: float, contrast: float) -> None:
        """Small proteins of 12..22 Å radius wherever nothing else is, `concentration` [mg/ml]."""
        pool = [_small(index) for index in range(8)]
        mass = np.mean([density.mass for density in pool])
        volume = np.prod(self.grid.shape) * self.grid.voxel_spacing**3
        count = self._rng.poisson(concentration * _DALTONS_PER_MG_ML * volume / mass)
        yx = self._anywhere(count)
        z = self._rng.uniform(-0.5, self.grid.shape[0] - 0.5, count)
        low, high = self._surfaces(yx)
        centres = np.column_stack([z, yx])[(z > low) & (z < high)]
        centres = centres[~self._occupied[self._wrapped(centres)]]
        which = self._rng.integers(0, len(pool), len(centres))
        for index, centre in zip(which, centres):
            start, box = pool[index].sample(np.eye(3), self.grid.positions(centre), self.grid)
            self.deposit(start, box * np.float32(contrast))

    def _free_place(self, offsets: np.ndarray, friends: list[np.ndarray], habits: Habits) -> np.ndarray | None:
        """A centre [voxels] at which the particle of `offsets` [voxels] touches nothing."""
        centres = self._candidates(offsets, friends, habits)
        probes = offsets[:: max(1, len(offsets) // _PROBES)]
        free = ~self._occupied[self._wrapped(centres[:, None] + probes)].any(axis=1)
        for centre in centres[free]:
            if not self._occupied[self._wrapped(centre + offsets)].any():
                return centre
        return None

    def _candidates(self, offsets: np.ndarray, friends: list[np.ndarray], habits: Habits) -> np.ndarray:
        """(n, 3) centres [voxels] where the particle lies within the ice; n <= _TRIES."""
        rng, reach = self._rng, np.abs(offsets).max()
        yx, share = self._anywhere(_TRIES), rng.random(_TRIES)
        near = np.full(_TRIES, np.nan)
        if friends and rng.random() < habits.clustering:
            chosen = np.stack([friends[i] for i in rng.integers(0, len(friends), _TRIES)])
            steps = rng.normal(size=(_TRIES, 3))
            steps *= (reach * rng.uniform(1.5, 2.4, _TRIES) / np.linalg.norm(steps, axis=1))[:, None]
            near, yx = chosen[:, 0] + steps[:, 0], (chosen + steps)[:, 1:]
            yx = (yx + 0.5) % np.array(self.grid.shape[1:]) - 0.5
        low, high = self._surfaces(yx)
        bottom = np.maximum(low, -0.5) - offsets[:, 0].min()
        top = np.minimum(high, self.grid.shape[0] - 0.5) - offsets[:, 0].max()
        if rng.random() < habits.adsorption:
            depth = share * np.minimum(reach / 2, top - bottom)
            z = bottom + depth if rng.random() < 0.5 else top - depth
        else:
            z = bottom + share * (top - bottom)
        z = np.where(np.isnan(near), z, near)
        return np.column_stack([z, yx])[(z >= bottom) & (z <= top)]

    def _anywhere(self, count: int) -> np.ndarray:
        return self._rng.uniform(-0.5, np.array(self.grid.shape[1:]) - 0.5, (count, 2))

    def _wrapped(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Nearest voxels of (..., 3) points [voxels], periodic in y and x, as an index."""
        nz, ny, nx = self.grid.shape
        z, y, x = np.moveaxis(np.rint(points).astype(np.intp), -1, 0)
        return np.clip(z, 0, nz - 1), y % ny, x % nx

    def _distances(self, centre: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        start, axes = box_around(self.grid.positions(centre), reach, self.grid)
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        return start, np.sqrt(z**2 + y**2 + x**2)

    def _directions(self, centre: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start, axes = box_around(self.grid.positions(centre), reach, self.grid)
        offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        distance = np.linalg.norm(offsets, axis=-1)
        return start, distance, offsets / np.maximum(distance, 1e-6)[..., None]

    def _reserve(self, start: np.ndarray, mask: np.ndarray) -> None:
        where = np.argwhere(mask) + start
        inside = (where[:, 0] >= 0) & (where[:, 0] < self.grid.shape[0])
        self._occupied[self._wrapped(where[inside])] = True


def slab(thickness: float, undulation: float, grid: Grid, rng: np.random.Generator) -> Callable:
    """(n, 2) yx voxels -> the first and the last voxel of ice along z, as two (n,) arrays; periodic in y and x."""
    nz, ny, nx = grid.shape
    half = thickness / grid.voxel_spacing / 2
    room = max(0.0, nz / 2 - half)
    swing = min(undulation / grid.voxel_spacing, room) / 2
    middle = (nz - 1) / 2 + rng.uniform(-1, 1) * (room - 2 * swing) * 0.5
    phase = rng.uniform(0, 2 * np.pi, 2)

    def surfaces(yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        waves = np.sin(2 * np.pi * yx[:, 0] / ny + phase[0]) + np.sin(2 * np.pi * yx[:, 1] / nx + phase[1])
        return middle + swing * waves - half, middle + swing * waves + half

    return surfaces


@lru_cache(maxsize=256)
def _extent(density: Density, spacing: float) -> np.ndarray:
    """(n, 3) xyz [Å]: lattice points within the density, cavities included, finer than the voxels."""
    step = 0.6 * spacing
    reach = int(np.ceil(density.radius / step)) + 1
    side = 2 * reach + 1
    lattice = Grid((side, side, side), step, (-reach * step,) * 3)
    start, box = density.sample(np.eye(3), np.zeros(3), lattice)
    solid = binary_fill_holes(box > 0.15 * box.max())
    return ((np.argwhere(solid) + start - reach) * step)[:, ::-1]


@lru_cache(maxsize=16)
def _small(index: int) -> BlobDensity:
    return globule(f"background {index}", 14.0 + 1.5 * index, np.random.default_rng((20_242, index)))
