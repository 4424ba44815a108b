"""The places of one run: which of its picks are kept, and which of its tiles are worth it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from ..core.types import DISTANCE, Grid, Picks
from ..data import Project
from ..data.masks import MESH_SUFFIXES, Mask
from ..data.regions import Span
from ..data.surfaces import Surface, VoxelSurface, turned_to
from .given import box_of, objection, require_closed, surface_of
from .places import Places

log = logging.getLogger("tomopick")

_COARSE = 40.0  # [Å] of the cells in which it is decided whether a tile is worth it
_SAMPLED = 2_000_000  # cells of which a mesh's distance is measured at most


@dataclass(frozen=True)
class RunPlaces:
    """The places of one run.

    Attributes:
        places: what was asked for.
        grid: of the tomogram.
        surfaces: by what the user calls them; None: it is of other runs, and nothing here is in it.
        facing: what rotations are taken from.
        margin: around a place that its picks depend on [Å].
        clean: names of surfaces; picks lie inside of the first, as far as its voxels tell, and outside of the others.
    """

    places: Places
    grid: Grid
    surfaces: dict[str, Surface | None]
    facing: Surface | None = None
    margin: float = 0.0
    clean: tuple[str, ...] = ()
    _cells: list[tuple[np.ndarray, Grid]] = field(default_factory=list, repr=False)

    def keep(self, picks: Picks) -> Picks:
        """The picks that lie where they may, with their distances from the masks as columns, and rotations."""
        kept = self._box(picks.positions)
        if self.places.inside:
            kept &= np.any([self._away(w, picks) <= self.places.within for w in self.places.inside], axis=0)
        for where in self.places.outside:
            away = self._away(where, picks)
            kept &= (away >= self.places.beyond) & (away > 0 if self.places.beyond >= 0 else True)
        for i, name in enumerate(self.clean):
            kept &= self._away(name, picks) <= _doubt(self.surfaces[name]) if i == 0 else self._away(name, picks) > 0
        found = picks.select(kept)
        for where, label in labels_of(self.surfaces).items():
            away = self._away(where, found)
            found = found.with_column(f"{DISTANCE}{label}", np.where(np.isfinite(away), away, np.nan))
        if self.facing is not None:
            found = replace(found, rotations=turned_to(self.facing.normals(found.positions)))
        return found

    def wanted(self, first: Iterable[float], last: Iterable[float]) -> bool:
        """Whether picks may lie in a box, from one corner to the other [Å], or depend on what is in it."""
        if not self._cells:
            self._cells.append(self._allowed())
        allowed, grid = self._cells[0]
        corners = np.array([list(first), list(last)]) + np.array([[-self.margin], [self.margin]])
        low, high = (np.rint(grid.indices(corners)).astype(int) + np.array([[0], [1]])).clip(0, grid.shape)
        return bool(allowed[tuple(slice(a, b) for a, b in zip(low, high))].any())

    def _away(self, where: str, picks: Picks) -> np.ndarray:
        surface = self.surfaces[where]
        return np.full(len(picks), np.inf) if surface is None else surface.distances(picks.positions)

    def _box(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n,) bool: away from the faces and in the range of z."""
        ends = self.grid.box
        kept = ((positions >= ends[0] + self.places.border) & (positions <= ends[1] - self.places.border)).all(axis=1)
        if self.places.z_range:
            low, high = Span.parse(self.places.z_range).bounds(self.grid, 0)
            kept &= (positions[:, 0] >= low) & (positions[:, 0] < high)
        return np.asarray(kept)

    def _allowed(self) -> tuple[np.ndarray, Grid]:
        """(z, y, x) bool on coarse cells: what may hold a pick, rather too much than too little; and their grid."""
        factor = max(1, round(_COARSE / self.grid.voxel_spacing))
        shape = [-(-n // factor) for n in self.grid.shape]
        grid = self.grid.crop((0, 0, 0), [n * factor for n in shape]).downsample(factor)
        half = 0.5 * grid.voxel_spacing
        axes = [grid.origin[a] + grid.voxel_spacing * np.arange(n) for a, n in enumerate(grid.shape)]
        allowed = np.ones(grid.shape, dtype=bool)
        low, high = box_of(self.places, self.grid)
        for axis, steps in enumerate(axes):
            there = (steps + half >= low[axis]) & (steps - half <= high[axis])
            allowed &= np.expand_dims(there, [a for a in range(3) if a != axis])
        if self.places.inside:
            near = [self._near(self.surfaces[w], grid, self.places.within) for w in self.places.inside]
            allowed &= np.any(near, axis=0)
        for where in self.places.outside:
            allowed &= ~self._within(self.surfaces[where], grid, self.places.beyond)
        for i, name in enumerate(self.clean):
            surface = self.surfaces[name]
            allowed &= self._near(surface, grid, _doubt(surface)) if i == 0 else ~self._within(surface, grid, 0.0)
        return allowed, grid

    def _near(self, surface: Surface | None, grid: Grid, within: float) -> np.ndarray:
        """(z, y, x) bool: cells that come so near to a mask, or may."""
        if surface is None:
            return np.zeros(grid.shape, dtype=bool)
        reach = max(within, 0.0) + np.sqrt(3) * grid.voxel_spacing
        if isinstance(surface, VoxelSurface):
            reach += np.sqrt(3) * surface.mask.grid.voxel_spacing
            marked = _pooled(surface.mask, grid, np.any)
            if not marked.any():
                return marked
            return np.asarray(distance_transform_edt(~marked) * grid.voxel_spacing <= reach)
        return self._measured(surface, grid) <= reach

    def _within(self, surface: Surface | None, grid: Grid, beyond: float) -> np.ndarray:
        """(z, y, x) bool: cells that lie in a mask with all that is in them, and deep in it where that is allowed."""
        if surface is None:
            return np.zeros(grid.shape, dtype=bool)
        rim = max(0.0, -beyond) + np.sqrt(3) * grid.voxel_spacing
        if isinstance(surface, VoxelSurface):
            marked = _pooled(surface.mask, grid, np.all) & self._covered(surface.mask.grid, grid)
            if marked.all() or not marked.any():
                return marked
            away = distance_transform_edt(marked) * grid.voxel_spacing
            # Less what a cell and a voxel measure: voxels lie across the faces between two cells.
            return np.asarray(away > rim + np.sqrt(3) * surface.mask.grid.voxel_spacing)
        return self._measured(surface, grid) < -rim

    def _covered(self, own: Grid, grid: Grid) -> np.ndarray:
        """(z, y, x) bool: cells that lie in a mask's box with all that the tomogram has of them."""
        found = np.ones(grid.shape, dtype=bool)
        for axis in range(3):
            (low, high), (first, last) = own.box[:, axis], self.grid.box[:, axis]
            middles = grid.origin[axis] + grid.voxel_spacing * np.arange(grid.shape[axis])
            start = np.maximum(middles - grid.voxel_spacing / 2, first)
            stop = np.minimum(middles + grid.voxel_spacing / 2, last)
            there = (start >= low - 1e-3) & (stop <= high + 1e-3)
            found &= np.expand_dims(there, [a for a in range(3) if a != axis])
        return found

    def _measured(self, surface: Surface, grid: Grid) -> np.ndarray:
        """(z, y, x) distances of the cells' centres; of too many none is measured, and all may be near."""
        if np.prod(grid.shape) > _SAMPLED:
            return np.zeros(grid.shape)
        at = grid.positions(np.indices(grid.shape).reshape(3, -1).T)
        return surface.distances(at).reshape(grid.shape)


def _doubt(surface: Surface | None) -> float:
    """By how much the surface of what a model marked may be wrong [Å]: half a voxel of its grid."""
    return surface.mask.grid.voxel_spacing / 2 if isinstance(surface, VoxelSurface) else 0.0


def label_of(where: str, parts: int = 1) -> str:
    """What a mask is called in the columns of picks: its file or segmentation, in small letters.

    Args:
        where: as a user calls it.
        parts: of a path's end; of a segmentation, more than one are all.
    """
    name, _, rest = where.partition(":")
    path = Path(name)
    last = path.name.partition("@")[0]
    for ending in (".gz", ".mrc", ".rec", ".map", ".zarr", *MESH_SUFFIXES):
        last = last.removesuffix(ending)
    name = "-".join([*path.parts[:-1][len(path.parts) - parts :], last, *([rest] if parts > 1 else [])])
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "mask"


def labels_of(wheres: Iterable[str]) -> dict[str, str]:
    """By mask, what it is called in the columns, each another: by more of its path where two would be called alike."""
    found: dict[str, str] = {}
    wheres = list(wheres)
    for where in wheres:
        others = [w for w in wheres if w != where]
        lengths = range(1, len(Path(where).parts) + 2)
        own = (label_of(where, n) for n in lengths if label_of(where, n) not in {label_of(w, n) for w in others})
        label = next(own, label_of(where))
        again = (f"{label}-{k}" for k in range(2, len(wheres) + 2))
        found[where] = label if label not in found.values() else next(a for a in again if a not in found.values())
    return found


def places_of_run(
    places: Places, project: Project, run: str, grid: Grid, margin: float, clean: Mapping[str, Mask] | None = None
) -> RunPlaces:
    """The places of one run.

    Args:
        places: that were asked for.
        project: whose masks are meant.
        run: its name.
        grid: of its tomogram.
        margin: around a place that its picks depend on [Å].
        clean: what a model marked: of the first picks lie inside, of the others outside.

    Raises:
        SelectionError: a mask that is not there.
        ReadError: one that cannot be read.
    """
    names = dict.fromkeys([*places.inside, *places.outside])
    surfaces = {where: surface_of(project, run, where, grid) for where in names}
    require_closed(places, surfaces)
    for where in (where for where, surface in surfaces.items() if surface is None):
        log.warning(f"run {run}: {where} has no mask of it; that counts as one that marks nothing")
    marked = {name if name not in surfaces else f"{name} of {places.clean}": m for name, m in (clean or {}).items()}
    surfaces |= {name: VoxelSurface(mask) for name, mask in marked.items()}
    facing = surfaces.get(places.orient_to)
    if places.orient_to and facing is None:
        facing = surface_of(project, run, places.orient_to, grid, "orient_to")
    found = RunPlaces(places, grid, surfaces, facing, margin, tuple(marked))
    if why := objection(places, grid):
        log.warning(f"run {run}: {why}: nothing can be picked")
    return found


def _pooled(mask: Mask, grid: Grid, how: Any) -> np.ndarray:
    """(z, y, x) bool on coarse cells: whether any or all of a mask's voxels in a cell are marked; none there: no."""
    if mask.grid.voxel_spacing >= grid.voxel_spacing:
        return mask.on(grid)
    found: np.ndarray = mask.values
    for axis in range(3):
        faces = grid.origin[axis] + grid.voxel_spacing * (np.arange(grid.shape[axis] + 1) - 0.5)
        first = np.rint((faces - mask.grid.origin[axis]) / mask.grid.voxel_spacing + 0.5).astype(int)
        first = first.clip(0, mask.grid.shape[axis])
        empty = np.zeros_like(found.take([0], axis=axis))
        parts = [
            how(found.take(range(a, b), axis=axis), axis=axis, keepdims=True) if a < b else empty
            for a, b in pairwise(first.tolist())
        ]
        found = np.concatenate(parts, axis=axis)
    return found
