"""The specimen itself: a layer of ice into which particles are placed without overlap.

The specimen goes on beyond the volume by a margin along y and x (and along z, where the ice does), so that particles
are cut by the volume's border and its sections have no artificial one. Beyond the margin it repeats itself along y
and x: the rays of tilted images come from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes
from scipy.spatial.transform import Rotation

from ..core.types import Grid, Picks
from .density import Density, has_room
from .layer import Barren, Layer

_KINDS = ("gold", "carbon", "membrane", "frost")  # of what is marked besides particles
_HIDDEN = "hidden membrane"  # whose signal lies in the missing wedge
_SAMPLE = "sample"
_TRIES = (48, 192, 768)  # places tried for a particle, at once, before it is left out
_GIVE_UP = 12  # particles left out in a row before the rest is
_SURFACE = 0.4
_PROBES = 24  # points of a particle that are looked at first
_SHARED = 0.2  # part of a particle that may lie within others where its place is given: labels err by as much
_TURNS = 12  # rotations tried for a particle whose place is given


@dataclass(frozen=True)
class Habits:
    """How the particles of a run lie.

    Attributes:
        clustering: part of them placed against one of their kind.
        adsorption: part of them at a surface of the ice.
        protrusion: part of its radius by which such a particle may stick out of the ice, where it is cut off.
        contrast: factor on their potential.
    """

    clustering: float = 0.0
    adsorption: float = 0.0
    protrusion: float = 0.0
    contrast: float = 1.0


class Specimen:
    """A volume of ice that fills up.

    Attributes:
        grid: where the voxels of the volume lie.
        field: where those of the specimen lie: the volume's and the margin's.
        layer: the ice.
        thickness: of the ice in the volume's middle [Å].
        margin: (y, x) voxels that `potential` goes on beyond the volume, on either side. It may have more planes as
            well, on either side as many, where the ice leaves the volume.
        warnings: what did not fit, a line each.
        potential: (z, y, x) above that of ice [V]; a view of a (z, x, y) array, which is how it is projected.
    """

    def __init__(
        self, grid: Grid, layer: Layer, rng: np.random.Generator, *, margin: float = 0.0, barren: Barren | None = None
    ) -> None:
        """An empty layer.

        Args:
            grid: of the volume.
            layer: the ice.
            rng: draws places and rotations.
            margin: how far the specimen goes on beyond the volume [Å].
            barren: where particles are missing.
        """
        rim = int(np.ceil(margin / grid.voxel_spacing))
        sides = (rim if rim and _leaves(layer, grid, margin) else 0, rim, rim)
        self.grid, self.margin = grid, (rim, rim)
        self.field = grid.crop([-n for n in sides], [n + 2 * m for n, m in zip(grid.shape, sides)])
        nz, ny, nx = self.field.shape
        self.potential = np.zeros((nz, nx, ny), dtype=np.float32).transpose(0, 2, 1)
        self.layer, self.thickness, self.rng = layer, layer.thickness, rng
        self._barren, self.warnings = barren, list[str]()
        self._occupied = np.zeros(self.field.shape, dtype=bool)
        self._placed: list[tuple[str, np.ndarray, np.ndarray]] = []
        self._marked: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]] = {}

    def picks(self, run: str) -> Picks:
        """Where the labelled particles in the volume are: centres of mass and rotations."""
        if not self._placed:
            return Picks.empty(run)
        names, centres, rotations = zip(*self._placed)
        picks = Picks(run, np.stack(centres), np.array(names), np.ones(len(names)), np.stack(rotations))
        return picks.select(self.grid.contains(picks.positions))

    def holds(self, density: Density) -> bool:
        """Whether the volume is large enough for it."""
        return has_room(density, self.grid)

    def add(self, density: Density, count: int, habits: Habits, *, labelled: bool = True) -> int:
        """Places `count` particles at random, without overlap; tells how many fitted."""
        if not self.holds(density):
            return 0
        extent = _extent(density, self.grid.voxel_spacing)
        centres: list[np.ndarray] = []
        missed = 0
        for rotation in Rotation.random(count, self.rng).as_matrix() if count else ():
            offsets = (extent @ rotation.T)[:, ::-1] / self.grid.voxel_spacing
            centre = self._free_place(offsets, centres, habits)
            if centre is None:
                missed += 1
                if missed >= _GIVE_UP:
                    break
                continue
            missed = 0
            self._put(density, centre, rotation, offsets, habits, labelled)
            centres.append(centre)
        return len(centres)

    def place(
        self, density: Density, positions: np.ndarray, rotations: Sequence[np.ndarray] | None, habits: Habits
    ) -> int:
        """Places a labelled particle at each of (n, 3) positions zyx [Å] that is not within another; tells how many.

        Where `rotations` is None they are drawn, and of several the one that touches least is taken.
        """
        extent = _extent(density, self.grid.voxel_spacing)
        done = 0
        for i, position in enumerate(positions):
            turns = Rotation.random(_TURNS, self.rng).as_matrix() if rotations is None else rotations[i : i + 1]
            centre = self.field.indices(position)
            shared, best = np.inf, (turns[0], extent)
            for rotation in turns:
                offsets = (extent @ np.asarray(rotation).T)[:, ::-1] / self.grid.voxel_spacing
                part = self._occupied[self._wrapped(centre + offsets)].mean()
                if part < shared:
                    shared, best = part, (rotation, offsets)
                if part == 0:
                    break
            if shared <= _SHARED:
                self._put(density, centre, best[0], best[1], habits, True)
                done += 1
        return done

    def _put(
        self, density: Density, centre: np.ndarray, rotation: np.ndarray, offsets: np.ndarray, habits: Habits,
        labelled: bool,
    ) -> None:  # fmt: skip
        self._occupied[self._wrapped(centre + offsets)] = True
        position = self.field.positions(centre)
        start, box = density.sample(rotation, position, self.field)
        if habits.protrusion > 0:
            box = box * self.ice_mask(start, box.shape)
        self.deposit(start, box * np.float32(habits.contrast))
        if labelled:
            self._placed.append((density.name, position, rotation))

    def deposit(self, start: np.ndarray, box: np.ndarray) -> None:
        """Adds a box [V] whose first voxel is `start` of `field`; it wraps around along y and x, is cut off along z."""
        nz, ny, nx = self.field.shape
        low, high = max(0, -start[0]), min(box.shape[0], nz - start[0])
        if high <= low:
            return
        z = slice(start[0] + low, start[0] + high)
        y, x = start[1] + np.arange(box.shape[1]), start[2] + np.arange(box.shape[2])
        if y[0] >= 0 and x[0] >= 0 and y[-1] < ny and x[-1] < nx:
            self.potential[z, y[0] : y[-1] + 1, x[0] : x[-1] + 1] += box[low:high]
        elif len(y) <= ny and len(x) <= nx:
            self.potential[np.ix_(np.arange(z.start, z.stop), y % ny, x % nx)] += box[low:high]
        else:  # larger than the specimen: what lies beyond it is cut off
            y, x = y[(y >= 0) & (y < ny)], x[(x >= 0) & (x < nx)]
            part = box[low:high, y[0] - start[1] : y[-1] + 1 - start[1], x[0] - start[2] : x[-1] + 1 - start[2]]
            self.potential[z, y[0] : y[-1] + 1, x[0] : x[-1] + 1] += part

    def reserve(self, start: np.ndarray, mask: np.ndarray) -> bool:
        """Whether the voxels of `mask`, whose first is `start` of `field`, were free; now they no longer are."""
        where = np.argwhere(mask) + start
        inside = (where[:, 0] >= 0) & (where[:, 0] < self.field.shape[0])
        voxels = self._wrapped(where[inside])
        if self._occupied[voxels].any():
            return False
        self._occupied[voxels] = True
        return True

    def mark(self, kind: str, start: np.ndarray, mask: np.ndarray, edge_on: np.ndarray | None = None) -> None:
        """Notes what the voxels of `mask`, whose first is `start` of `field`, are of, besides particles.

        `edge_on`, of the shape of `mask`, is the tilt at which a sheet is seen from its edge [degrees].
        """
        self._marked.setdefault(kind, []).append((start, mask, edge_on))

    def surroundings(self, tilts: tuple[float, float] = (-90.0, 90.0)) -> dict[str, np.ndarray]:
        """By kind, (z, y, x) bool of `grid`: `_KINDS`, and the sample, which is the ice without gold and carbon.

        A flat piece of a membrane gives signal along its normal alone, so that only images in which it is seen from
        its edge show it. Where the first and last of `tilts` [degrees] leave it out it is no membrane but `_HIDDEN`.
        """
        found = {kind: np.zeros(self.grid.shape, dtype=bool) for kind in (*_KINDS, _HIDDEN)}
        for kind, marks in self._marked.items():
            for start, mask, edge_on in marks:
                if edge_on is None:
                    self._lay(found[kind], start, mask)
                    continue
                shown = (edge_on >= tilts[0]) & (edge_on <= tilts[1])
                self._lay(found[kind], start, mask & shown)
                self._lay(found[_HIDDEN], start, mask & ~shown)
        first = np.rint(self.field.indices(np.array(self.grid.origin))).astype(int)
        ice = self.ice_mask(first, self.grid.shape) > 0.5
        return {_SAMPLE: ice & ~found["gold"] & ~found["carbon"], **found}

    def _lay(self, into: np.ndarray, start: np.ndarray, mask: np.ndarray) -> None:
        """Marks the voxels of `grid` where `mask` lies; the field repeats itself along y and x."""
        first, shape = np.rint(self.field.indices(np.array(self.grid.origin))).astype(int), np.array(self.grid.shape)
        for turn in product((-1, 0, 1), repeat=2):
            at = start - first + np.array([0, *turn]) * np.array(self.field.shape)
            low, high = np.maximum(at, 0), np.minimum(at + mask.shape, shape)
            if (low < high).all():
                there = tuple(slice(a, b) for a, b in zip(low, high))
                into[there] |= mask[tuple(slice(a, b) for a, b in zip(low - at, high - at))]

    def is_free(self, centres: np.ndarray) -> np.ndarray:
        """(n, 3) voxels of `field` -> (n,) bool: nothing is there."""
        return ~self._occupied[self._wrapped(centres)]

    def anywhere(self, count: int) -> np.ndarray:
        """(count, 2) random yx [voxels of `field`]."""
        return self.rng.uniform(-0.5, np.array(self.field.shape[1:]) - 0.5, (count, 2))

    def surfaces(self, yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last voxel of ice along z at (n, 2) voxels yx of `field`."""
        spacing, origin = self.field.voxel_spacing, np.array(self.field.origin)
        low, high = self.layer(yx * spacing + origin[1:])
        return (low - origin[0]) / spacing, (high - origin[0]) / spacing

    def ice_mask(self, start: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """(z, y, x) 0..1: how much of each voxel of the box at voxel `start` of `field` is ice."""
        y, x = (a + np.arange(n) for a, n in zip(start[1:], shape[1:]))
        columns = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        low, high = (edge.reshape(len(y), len(x)) for edge in self.surfaces(columns))
        z = (start[0] + np.arange(shape[0]))[:, None, None]
        return (np.clip(z - low + 0.5, 0, 1) * np.clip(high - z + 0.5, 0, 1)).astype(np.float32)

    def _free_place(self, offsets: np.ndarray, friends: list[np.ndarray], habits: Habits) -> np.ndarray | None:
        """A centre [voxels] at which the particle of `offsets` [voxels] touches nothing."""
        probes = offsets[:: max(1, len(offsets) // _PROBES)]
        for tries in _TRIES:
            centres = self._candidates(offsets, friends, habits, tries)
            free = ~self._occupied[self._wrapped(centres[:, None] + probes)].any(axis=1)
            for centre in centres[free]:
                if not self._occupied[self._wrapped(centre + offsets)].any():
                    return centre
        return None

    def _candidates(self, offsets: np.ndarray, friends: list[np.ndarray], habits: Habits, tries: int) -> np.ndarray:
        """(n, 3) centres [voxels] where the particle lies within the ice; n <= tries."""
        rng, reach = self.rng, np.abs(offsets).max()
        yx, share = self.anywhere(tries), rng.random(tries)
        near = np.full(tries, np.nan)
        if friends and rng.random() < habits.clustering:
            chosen = np.stack([friends[i] for i in rng.integers(0, len(friends), tries)])
            steps = rng.normal(size=(tries, 3))
            steps *= (reach * rng.uniform(1.5, 2.4, tries) / np.linalg.norm(steps, axis=1))[:, None]
            near, yx = chosen[:, 0] + steps[:, 0], (chosen + steps)[:, 1:]
            yx = (yx + 0.5) % np.array(self.field.shape[1:]) - 0.5
        low, high = self.surfaces(yx)
        adsorbed = rng.random() < habits.adsorption
        out = habits.protrusion * reach * rng.random(tries) if adsorbed else 0.0
        bottom = np.maximum(low - offsets[:, 0].min() - out, -0.5)
        top = np.minimum(high - offsets[:, 0].max() + out, self.field.shape[0] - 0.5)
        if adsorbed:
            depth = share * np.minimum(reach / 2, top - bottom)
            z = bottom + depth if rng.random() < 0.5 else top - depth
        else:
            z = bottom + share * (top - bottom)
        z = np.where(np.isnan(near), z, near)
        allowed = (z >= bottom) & (z <= top)
        if self._barren is not None:
            allowed &= ~self._barren(yx * self.field.voxel_spacing + np.array(self.field.origin[1:]))
        return np.column_stack([z, yx])[allowed]

    def _wrapped(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Nearest voxels of (..., 3) points [voxels], periodic in y and x, as an index."""
        nz, ny, nx = self.field.shape
        z, y, x = np.moveaxis(np.rint(points).astype(np.intp), -1, 0)
        return np.clip(z, 0, nz - 1), y % ny, x % nx


def _leaves(layer: Layer, grid: Grid, margin: float) -> bool:
    """Whether the ice over the volume and its margin reaches beyond the volume's first or last plane."""
    ends = grid.box
    y, x = (np.linspace(a - margin, b + margin, 33) for a, b in ends.T[1:])
    low, high = layer(np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2))
    return bool(low.min() < ends[0, 0] - 1e-3 or high.max() > ends[1, 0] + 1e-3)


@lru_cache(maxsize=256)
def _extent(density: Density, spacing: float) -> np.ndarray:
    """(n, 3) xyz [Å]: lattice points within the density, cavities included, finer than the voxels.

    The surface is where the density falls to `_SURFACE` of its mean (each voxel counted by its mass), less a point, for
    two particles count as touching when points of theirs are in one voxel. So particles of apo-ferritin come as near as
    118 Å to each other; half of those in a real layer of it have a neighbour within 121 Å.
    """
    step = 0.6 * spacing
    reach = int(np.ceil(density.radius / step)) + 1
    side = 2 * reach + 1
    lattice = Grid((side, side, side), step, (-reach * step,) * 3)
    start, box = density.sample(np.eye(3), np.zeros(3), lattice)
    solid = binary_fill_holes(box > _SURFACE * np.square(box).sum() / box.sum())
    solid = binary_erosion(solid) if binary_erosion(solid).any() else solid
    return ((np.argwhere(solid) + start - reach) * step)[:, ::-1]
