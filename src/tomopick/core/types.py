"""The words of tomopick and the one place for geometry.

Axes are z, y, x and lengths are in Å everywhere above `io`. Index i of an axis is *centred* at
`origin + i * voxel_spacing`; nothing is ever floored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .arrays import Array
from .errors import TomopickError
from .void import find_void

THRESHOLD = "threshold"  # the column that tells what a pick's score had to reach, where lower ones are kept too
DISTANCE = "distance_"  # begins the columns that tell how far picks lie from a mask's surface [Å], negative inside
MIN_DISTANCE = 1.2  # between two picks of an object, in its radii, where a method says nothing else
_ROUNDING = 1e-6  # of scores in files
_SKEWED = 0.05  # of a rotation's products of rows; matrices in files may be rounded to two digits

Shape = tuple[int, int, int]
Vector = tuple[float, float, float]
SPACINGS = (0.01, 1e5)  # [Å] smallest and largest edge of a voxel: from atoms to cells, and far beyond both
FARTHEST = 1e9  # [Å] of a position from the origin: a decimetre


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    Attributes:
        shape: (z, y, x) [voxels].
        voxel_spacing: edge of a voxel [Å].
        origin: centre of voxel (0, 0, 0), zyx [Å].
    """

    shape: Shape
    voxel_spacing: float
    origin: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise TomopickError(f"a grid needs three positive sizes (z, y, x), not {tuple(self.shape)}")
        if not SPACINGS[0] <= self.voxel_spacing <= SPACINGS[1]:  # NaN is not
            raise TomopickError(
                f"a grid needs a positive voxel spacing in Å, of {SPACINGS[0]:g} to {SPACINGS[1]:g}, not "
                f"{self.voxel_spacing:g}"
            )
        if not all(abs(v) <= FARTHEST for v in self.origin):
            raise TomopickError(f"a grid begins within {FARTHEST:g} Å of the origin, not at {tuple(self.origin)}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "voxel_spacing", float(self.voxel_spacing))
        object.__setattr__(self, "origin", tuple(float(v) for v in self.origin))

    def positions(self, indices: np.ndarray) -> np.ndarray:
        """(n, 3) fractional voxel indices, zyx -> (n, 3) positions [Å]."""
        return np.asarray(indices, dtype=np.float64) * self.voxel_spacing + np.asarray(self.origin)

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n, 3) fractional voxel indices."""
        return (np.asarray(positions, dtype=np.float64) - np.asarray(self.origin)) / self.voxel_spacing

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """The grid of the box that begins at voxel `start`; it may reach beyond this one (padding)."""
        origin = self.positions(np.asarray(start, dtype=np.float64))
        return Grid(_shape(shape), self.voxel_spacing, _vector(origin))

    def downsample(self, factor: int) -> Grid:
        """The grid whose cells are blocks of factor^3 voxels; what does not fill a block is left out.

        A cell is centred in the middle of its block, so the origin moves by (factor - 1) / 2 fine voxels.
        """
        shift = (factor - 1) / 2 * self.voxel_spacing
        shape = tuple(max(1, n // factor) for n in self.shape)
        return Grid(_shape(shape), self.voxel_spacing * factor, _vector(np.asarray(self.origin) + shift))

    @property
    def box(self) -> np.ndarray:
        """(2, 3) zyx [Å]: the corners of the box between the outer faces of the border voxels."""
        return self.positions(np.array([[-0.5] * 3, np.asarray(self.shape) - 0.5]))

    def contains(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n,) bool: inside the outer faces of the border voxels."""
        indices = self.indices(np.reshape(positions, (-1, 3)))
        return np.all((indices >= -0.5) & (indices <= np.asarray(self.shape) - 0.5), axis=1)


def _shape(values: Iterable[int]) -> Shape:
    z, y, x = values
    return int(z), int(y), int(x)


def _vector(values: Iterable[float]) -> Vector:
    z, y, x = values
    return float(z), float(y), float(x)


def _voxels(grid: Grid) -> str:
    z, y, x = grid.shape
    return f"{z} x {y} x {x} voxels (z, y, x) of {grid.voxel_spacing:g} Å"


@dataclass(frozen=True)
class PickableObject:
    """A kind of particle; copick's word.

    Attributes:
        name: copick's rules (no `_`, space or `<>:"/\\|?*`).
        radius: [Å]; None where nobody has said it yet (it is asked for where it is needed).
        label: positive integer, unique in its project.
        color: RGBA, 0..255.
        score_weight: weight of the object in the CZII score.
        is_particle: False for membranes and other things that are segmented, not picked.
    """

    name: str
    radius: float | None
    label: int = 1
    color: tuple[int, int, int, int] = (230, 159, 0, 255)
    score_weight: float = 1.0
    is_particle: bool = True

    @property
    def radius_angstrom(self) -> float:
        """The radius [Å]; raises `TomopickError` where there is none."""
        if self.radius is None or not self.radius > 0:
            raise TomopickError(
                f"object '{self.name}' has no radius; give it in the project's pickable objects, "
                f"or as `objects={self.name}:RADIUS` (in Å)"
            )
        return float(self.radius)


def holds(grid: Grid, void: np.ndarray | None, positions: np.ndarray) -> np.ndarray:
    """(n, 3) positions, zyx [Å] -> (n,) bool: inside the grid and not in the void of its volume."""
    inside = grid.contains(positions)
    if void is not None:
        nearest = np.rint(grid.indices(np.reshape(positions, (-1, 3)))).astype(int)
        inside &= ~void[tuple(np.clip(nearest, 0, np.array(grid.shape) - 1).T)]
    return inside


@dataclass(frozen=True)
class Tomogram:
    """A volume with its grid.

    Attributes:
        run: name of the run.
        values: (z, y, x) float32; while it is picked on a device, a tensor there.
        grid: where the voxels lie.
        tomo_type: for example `denoised`, `wbp`; empty where unknown.
    """

    run: str
    values: Array
    grid: Grid
    tomo_type: str = ""

    def __post_init__(self) -> None:
        if tuple(self.values.shape) != self.grid.shape:
            raise TomopickError(f"run {self.run}: volume {self.values.shape} does not fit its grid {self.grid.shape}")

    def crop(self, start: Sequence[int], shape: Sequence[int], run: str | None = None) -> Tomogram:
        """The box that begins at voxel `start`, inside the volume (a view, not a copy)."""
        stop = [a + n for a, n in zip(start, shape)]
        if min(start) < 0 or any(b > n for b, n in zip(stop, self.grid.shape)):
            raise TomopickError(f"run {self.run}: box {tuple(start)} + {tuple(shape)} leaves {self.grid.shape}")
        box = tuple(slice(a, b) for a, b in zip(start, stop))
        part = replace(self, run=run or self.run)
        return part.changed(
            self.values[box], self.grid.crop(start, shape), None if self.void is None else self.void[box]
        )

    @cached_property
    def void(self) -> np.ndarray | None:
        """(z, y, x) bool, True where there is no specimen but what the volume was filled up with; None: nowhere.

        Found once, when it is first asked for.
        """
        return find_void(self.values)

    def __repr__(self) -> str:
        kind = f", {self.tomo_type}" if self.tomo_type else ""
        return f"<Tomogram '{self.run}': {_voxels(self.grid)}{kind}>"

    @property
    def specimen(self) -> np.ndarray:
        """(n,) the grey values of the voxels that hold specimen."""
        return self.values.ravel() if self.void is None else self.values[~self.void]

    def changed(self, values: Array, grid: Grid, void: np.ndarray | None) -> Tomogram:
        """With other grey values, of which is known where they hold no specimen."""
        new = replace(self, values=values, grid=grid)
        vars(new)["void"] = void
        return new

    def holds(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n,) bool: inside the volume and in its specimen."""
        return holds(self.grid, self.void, positions)

    def inverted(self) -> Tomogram:
        """Light where it was dark."""
        return self.changed(-self.values, self.grid, self.void)


def is_inverted(invert: bool | Sequence[str], run: str) -> bool:
    """Whether a run's tomogram is light on dark, where all (True), none or some are named."""
    return invert if isinstance(invert, bool) else run in invert


@dataclass(frozen=True)
class Picks:
    """Particle centres of one run, of any number of objects.

    Attributes (all numbers are finite and rotations rotate, which is checked):
        run: name of the run.
        positions: (n, 3) zyx [Å], within `FARTHEST`.
        names: (n,) the object of each pick.
        scores: (n,) 0..1; 1 where the source had none.
        rotations: (n, 3, 3) matrices that take the particle's own frame to the tomogram's, on xyz column
            vectors (copick's transformation); None where there are none.
        columns: by name, (n,) further numbers of each pick, nan where one is not known (`THRESHOLD`, `DISTANCE`).
    """

    run: str
    positions: np.ndarray
    names: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.ones(0))
    rotations: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        names, counts = np.unique(self.names, return_counts=True)
        held = ", ".join(f"{n} {name}" for name, n in zip(names.tolist(), counts.tolist())) or "none"
        return f"<Picks of '{self.run}': {held}{'' if self.rotations is None else '; turned'}>"

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions, dtype=np.float64).reshape(-1, 3)
        n = len(positions)
        names = np.asarray(self.names, dtype=np.str_).reshape(-1)
        scores = np.asarray(self.scores if self.scores is not None else [], dtype=np.float64).reshape(-1)
        if not len(scores):
            scores = np.ones(n)
        if len(names) != n or len(scores) != n or (self.rotations is not None and len(self.rotations) != n):
            raise TomopickError(
                f"run {self.run}: {n} positions with {len(names)} names and {len(scores)} scores do not belong together"
            )
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "scores", scores)
        columns = {name: np.asarray(v, dtype=np.float64).reshape(-1) for name, v in self.columns.items()}
        object.__setattr__(self, "columns", columns)
        for name, column in columns.items():
            if len(column) != n:
                raise TomopickError(
                    f"run {self.run}: {n} positions with {len(column)} of '{name}' do not belong together"
                )
        if self.rotations is not None:
            object.__setattr__(self, "rotations", np.asarray(self.rotations, dtype=np.float64).reshape(-1, 3, 3))
        for what, numbers in (("position", positions), ("score", scores), ("rotation", self.rotations)):
            if numbers is not None and not np.isfinite(numbers).all():
                bad = int(np.flatnonzero(~np.isfinite(numbers).reshape(n, -1).all(axis=1))[0]) + 1
                raise TomopickError(
                    f"run {self.run}: pick {bad} of {n} has a {what} that is no finite number; mend its source"
                )
        if self.rotations is not None:
            self._check_rotations(self.rotations)
        far = np.flatnonzero(np.abs(positions).max(axis=1, initial=0.0) > FARTHEST)
        if len(far):
            raise TomopickError(
                f"run {self.run}: pick {int(far[0]) + 1} of {n} lies {np.abs(positions[far[0]]).max():.3g} Å away, "
                "where no tomogram reaches; expected Å, so mend its source"
            )

    def _check_rotations(self, turns: np.ndarray) -> None:
        """Raises where a matrix turns nothing: angles of one that stretches, mirrors or is zero mean nothing."""
        odd = np.abs(turns @ np.swapaxes(turns, 1, 2) - np.eye(3)).max(axis=(1, 2), initial=0.0) > _SKEWED
        odd |= np.linalg.det(turns) <= 0
        if odd.any():
            first = int(np.flatnonzero(odd)[0]) + 1
            raise TomopickError(
                f"run {self.run}: pick {first} of {len(turns)} has a matrix that is no rotation; mend its source, or "
                "leave the matrices out"
            )

    @classmethod
    def empty(cls, run: str) -> Picks:
        """No picks at all."""
        return cls(run, np.zeros((0, 3)), np.zeros(0, dtype=np.str_), np.zeros(0))

    @classmethod
    def join(cls, run: str, parts: Iterable[Picks]) -> Picks:
        """All the picks of `parts`, in their order; rotations survive only where every part has them.

        A column that a part has not is nan there.
        """
        parts = [p for p in parts if len(p)]
        if not parts:
            return cls.empty(run)
        stacks = [p.rotations for p in parts]
        rotations = None if any(r is None for r in stacks) else np.concatenate([r for r in stacks if r is not None])
        titles = dict.fromkeys(name for p in parts for name in p.columns)
        columns = {t: np.concatenate([p.columns.get(t, np.full(len(p), np.nan)) for p in parts]) for t in titles}
        return cls(
            run,
            np.concatenate([p.positions for p in parts]),
            np.concatenate([p.names for p in parts]),
            np.concatenate([p.scores for p in parts]),
            rotations,
            columns,
        )

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, keep: np.ndarray) -> Picks:
        """The picks at `keep`, a mask or indices."""
        rotations = None if self.rotations is None else self.rotations[keep]
        columns = {name: column[keep] for name, column in self.columns.items()}
        return Picks(self.run, self.positions[keep], self.names[keep], self.scores[keep], rotations, columns)

    def with_column(self, name: str, values: np.ndarray) -> Picks:
        """With further numbers of each pick, (n,)."""
        return replace(self, columns={**self.columns, name: values})

    @property
    def is_kept(self) -> np.ndarray:
        """(n,) bool: whether the score reaches the threshold that the pick was found with; True where none is told."""
        cuts = self.columns.get(THRESHOLD)
        return np.ones(len(self), dtype=bool) if cuts is None else ~(self.scores < cuts - _ROUNDING)

    def of(self, name: str) -> Picks:
        """The picks of one object."""
        return self.select(self.names == name)

    def among(self, names: Collection[str]) -> Picks:
        """The picks of several objects, in the order they are in."""
        return self.select(np.isin(self.names, list(names)))

    def above(self, thresholds: Mapping[str, float]) -> Picks:
        """The picks whose score reaches their object's threshold; an object without one keeps all."""
        cuts = np.array([thresholds.get(name, -np.inf) for name in self.names.tolist()])
        return self.select(self.scores >= cuts)

    def shifted(self, shift: Sequence[float] | np.ndarray) -> Picks:
        """All positions moved by `shift`, zyx [Å]."""
        return replace(self, positions=self.positions + np.asarray(shift, dtype=np.float64))


@dataclass(frozen=True)
class Heatmap:
    """One map per object, 0..1 (a regression may overshoot a little), whose local maxima are picks.

    Attributes:
        run: name of the run.
        values: (object, z, y, x) float32; while it is picked on a device, a tensor there.
        grid: where the cells lie (coarser than the tomogram's for a network of stride > 1).
        objects: names, in channel order.
        core: rows of y for which this strip answers; the others are a halo that neighbouring strips answer for.
    """

    run: str
    values: Array
    grid: Grid
    objects: tuple[str, ...]
    core: slice | None = None

    def __repr__(self) -> str:
        return f"<Heatmap of '{self.run}': {', '.join(self.objects)}; {_voxels(self.grid)}>"

    def __post_init__(self) -> None:
        if tuple(self.values.shape) != (len(self.objects), *self.grid.shape):
            raise TomopickError(
                f"run {self.run}: heatmap {self.values.shape} does not fit {len(self.objects)} objects "
                f"on {self.grid.shape}"
            )
