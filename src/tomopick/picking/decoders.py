"""Heatmap -> picks as published methods do it: connected components, watershed, maxima of the up-sampled map.

All share the surface of `peaks.LocalMaxima`: `halo`, `gather`, `candidates`, `thin` and a call on a whole heatmap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..core.arrays import Array, concatenated, functions_of, is_tensor, to_host, zeros
from ..core.errors import RecipeError
from ..core.types import Grid, Heatmap, PickableObject, Picks
from .peaks import LocalMaxima, merge_plateaus, refined_maxima
from .tensor_peaks import FoundMaxima, doubled, near_threshold
from .watershed import parted

# How many of its three indices may differ for a neighbour to touch a cell, by the number of neighbours that then do.
CONNECTIVITIES = {6: 1, 18: 2, 26: 3}
SMALLEST = 1e-12  # probability whose logarithm is still taken
CELLS_AT_ONCE = 2**17  # cells that are up-sampled together


def _require_cells(least: float) -> None:
    if not 0 <= least < np.inf:
        raise RecipeError(f"peaks.min_cells is {least:g}; it must be a number of cells, 0 or more")


class _Groups:
    """What decoders of connected groups share: parts of a group that strips cut are joined.

    A subclass says what is collected of the groups (`groups`) and how they become picks (`regions`).
    """

    positions_depend_on_threshold: ClassVar[bool] = True

    def groups(self) -> Groups:
        """Where an object's groups are collected."""
        raise NotImplementedError

    def regions(self, groups: Groups, obj: PickableObject, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) centres [cells] and (n,) heights of an object's picks."""
        raise NotImplementedError

    def halo(self, objects: Sequence[PickableObject], grid: Grid) -> int:
        """None: what strips cut is joined by `gather`."""
        return 0

    def gather(
        self, strips: Iterable[Heatmap], objects: Sequence[PickableObject], thresholds: Mapping[str, float], run: str
    ) -> Picks:
        """All picks, best first, of a heatmap that comes in strips, whose cores go on from one another."""
        groups: dict[str, Groups] = {}
        first: Grid | None = None
        for strip in strips:
            core = strip.core or slice(0, strip.grid.shape[1])
            z, _, x = strip.grid.shape
            first = first or strip.grid.crop((0, core.start, 0), (z, 1, x))
            for obj in objects:
                values = to_host(strip.values[strip.objects.index(obj.name), :, core])
                own = groups.setdefault(obj.name, self.groups())
                own.add(values, thresholds[obj.name])
        found = []
        for obj in objects if first else ():
            assert first is not None
            centres, heights = self.regions(groups[obj.name], obj, first.voxel_spacing)
            found.append(Picks(run, first.positions(centres), np.full(len(centres), obj.name), heights))
        return self.thin(Picks.join(run, found), objects)

    def candidates(self, strip: Heatmap, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> Picks:
        """Picks of the core of one strip, as if there were no others."""
        return self.gather([strip], objects, thresholds, strip.run)

    def thin(self, picks: Picks, objects: Sequence[PickableObject]) -> Picks:
        """Picks in descending score, from 0 to 1."""
        order = np.lexsort((*np.round(picks.positions.T, 3), -picks.scores))
        picks = picks.select(order)
        return Picks(picks.run, picks.positions, picks.names, np.clip(picks.scores, 0, 1))

    def __call__(self, heatmap: Heatmap, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> Picks:
        """All picks of a whole heatmap."""
        return self.candidates(heatmap, objects, thresholds)


@dataclass(frozen=True)
class Components(_Groups):
    """Every connected group of cells above the threshold is a pick: at its centre, scored by its highest cell.

    Positions depend on the threshold, so thresholds have to be tried one after the other.

    Attributes:
        connectivity: how many neighbours a cell has: 6, 18 or 26.
        min_cells: groups of so many cells or fewer are left out.
        min_cells_of: the same by object name, in place of `min_cells`.

    Source: BPD (CZII challenge, 5th place), 18 neighbours; the challenge's 2nd place, 26.
    """

    connectivity: int = 26
    min_cells: float = 1.0
    min_cells_of: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.connectivity not in CONNECTIVITIES:
            raise RecipeError(f"peaks.connectivity is {self.connectivity}; it can be 6, 18 or 26")
        _require_cells(self.min_cells)

    def groups(self) -> Groups:
        """Sums over the groups."""
        return Groups(self.connectivity, keeps_cells=False)

    def regions(self, groups: Groups, obj: PickableObject, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) centres [cells] and (n,) heights of the groups that are large enough."""
        sizes, sums, heights = groups.totals()
        large = sizes > self.min_cells_of.get(obj.name, self.min_cells)
        return sums[large] / sizes[large, None], heights[large]


@dataclass(frozen=True)
class Watershed(_Groups):
    """Groups of cells above the threshold, parted where they are narrow: each part is a pick, at its centre.

    How far a cell lies inside its group is a landscape; its summits, no other of which is higher within `separation`,
    are flooded from above, and where floods meet the group is parted. A pick is scored by its part's highest cell.
    Positions depend on the threshold. The cells above it are held until the last strip (20 bytes each).

    Attributes:
        separation: how far apart summits lie at least along some axis, as a fraction of the object's radius.
        min_cells: parts of fewer cells are left out.
        min_cells_of: the same by object name, in place of `min_cells`.

    Source: Ensemble 3D U-Net Soup (CZII challenge, 8th place).
    """

    separation: float = 1.0
    min_cells: float = 2.0
    min_cells_of: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.separation < np.inf:
            raise RecipeError(f"peaks.separation is {self.separation:g}; it must be a positive fraction of the radius")
        _require_cells(self.min_cells)

    def groups(self) -> Groups:
        """Their cells too."""
        return Groups(26, keeps_cells=True)

    def regions(self, groups: Groups, obj: PickableObject, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) centres [cells] and (n,) heights of the parts that are large enough."""
        least = self.min_cells_of.get(obj.name, self.min_cells)
        radius = max(1, round(self.separation * obj.radius_angstrom / spacing))
        centres, heights = [np.zeros((0, 3))], [np.zeros(0)]
        for cells, values in groups.each(least):
            part = parted(cells, groups.shape, radius)  # (m,) by cell
            sizes = np.bincount(part)  # (part,), as `highest` is
            sums = np.stack([np.bincount(part, axis) for axis in cells.T], axis=1)  # (part, 3)
            highest = np.full(len(sizes), -np.inf)
            np.maximum.at(highest, part, values)
            large = (sizes >= least) & (sizes > 0)
            centres.append(sums[large] / sizes[large, None])
            heights.append(highest[large])
        return np.concatenate(centres), np.concatenate(heights)


@dataclass
class Groups:
    """The connected groups of one object's heatmap, taken in row by row of y.

    Attributes:
        connectivity: a key of `CONNECTIVITIES`.
        keeps_cells: whether cells are kept beside the sums over them.
    """

    connectivity: int
    keeps_cells: bool
    _rows: int = 0
    _count: int = 0  # of pieces: what a strip sees of a group
    _last: np.ndarray | None = None  # pieces of the last plane, from 1; 0 is background
    _pairs: list[np.ndarray] = field(default_factory=list)
    _sums: list[np.ndarray] = field(default_factory=list)  # (piece, 4): cells, and the sums of their indices
    _heights: list[np.ndarray] = field(default_factory=list)
    _cells: list[np.ndarray] = field(default_factory=list)
    _values: list[np.ndarray] = field(default_factory=list)
    _owners: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray, threshold: float) -> None:
        """The next rows, (z, y, x)."""
        structure = ndimage.generate_binary_structure(3, CONNECTIVITIES[self.connectivity])
        labels, n = ndimage.label(values > threshold, structure)  # (z, y, x) numbers of pieces from 1, and how many
        at = np.argwhere(labels)  # (cell, 3)
        piece, heights = labels[tuple(at.T)] - 1, values[tuple(at.T)]  # (cell,) each
        at[:, 1] += self._rows
        ones_and_indices = (None, *at.T)
        self._sums.append(np.stack([np.bincount(piece, w, minlength=n) for w in ones_and_indices], axis=1))
        highest = np.full(n, -np.inf)  # (piece,)
        np.maximum.at(highest, piece, heights)
        self._heights.append(highest)
        if self.keeps_cells:
            self._cells.append(at.astype(np.int32))
            self._values.append(heights)
            self._owners.append(piece + self._count)
        numbers = np.where(labels > 0, labels + self._count, 0)
        if self._last is not None:
            self._touch(self._last, numbers[:, 0], structure[:, 0])
        self._last, self._count = numbers[:, -1], self._count + n
        self._rows += values.shape[1]

    def _touch(self, before: np.ndarray, after: np.ndarray, structure: np.ndarray) -> None:
        """Notes which pieces of two neighbouring planes, (z, x), touch one another; `structure` (3, 3) says how."""
        padded = np.pad(before, 1)
        for z, x in np.argwhere(structure):
            moved = padded[z : z + before.shape[0], x : x + before.shape[1]]
            both = (moved > 0) & (after > 0)
            self._pairs.append(np.unique(np.stack([moved[both], after[both]], axis=1), axis=0) - 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the heatmap so far."""
        z, x = self._last.shape if self._last is not None else (0, 0)
        return z, self._rows, x

    def _whole(self) -> tuple[np.ndarray, int]:
        """The group of each piece, and how many groups there are."""
        pairs = np.concatenate([np.zeros((0, 2), dtype=int), *self._pairs])  # (n, 2) pieces that touch
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(self._count, self._count))
        n, group = connected_components(graph, directed=False) if self._count else (0, np.zeros(0, dtype=int))
        return group, int(n)

    def totals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n,) cells, (n, 3) sums of their indices and (n,) largest values of the groups."""
        group, n = self._whole()  # (piece,)
        sums = np.concatenate([np.zeros((0, 4)), *self._sums])  # (piece, 4)
        joined = np.stack([np.bincount(group, column, minlength=n) for column in sums.T], axis=1)  # (group, 4)
        heights = np.full(n, -np.inf)
        np.maximum.at(heights, group, np.concatenate([np.zeros(0), *self._heights]))
        return joined[:, 0], joined[:, 1:], heights

    def each(self, least: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(m, 3) cells and (m,) values of one group after the other, of those that have as many cells as `least`."""
        group, n = self._whole()
        if not n:
            return
        owners = group[np.concatenate(self._owners)]  # (cell,) its group
        sizes = np.bincount(owners, minlength=n)  # (group,)
        large = np.flatnonzero(sizes[owners] >= least)  # places in `owners` of the cells of large groups
        order = large[np.argsort(owners[large], kind="stable")]
        cells, values = np.concatenate(self._cells)[order], np.concatenate(self._values)[order]
        ends = np.cumsum(sizes[sizes >= least]).tolist()
        for start, end in zip([0, *ends[:-1]], ends):
            yield cells[start:end], values[start:end]


@dataclass(frozen=True)
class UpsampledMaxima(LocalMaxima):
    """Local maxima after the logits of a softmax network of stride 2 were interpolated to voxels.

    Only where an object's probability may reach its threshold is anything interpolated: between cells it is at most
    what its largest odds against the background there give.

    Attributes:
        window, min_distance, min_distances: as in `LocalMaxima`; the window is rounded down to voxels.
        refined: positions between voxels; else whole voxels.

    Source: the topcup package 1.2.2 (CZII challenge, 1st place): trilinear interpolation, softmax, maxima of a cube of
    half a radius.
    """

    min_distance: float = 0.0
    refined: bool = True

    def radius_cells(self, obj: PickableObject, grid: Grid) -> int:
        """Half width of the window [voxels, two a cell]."""
        return max(1, int(2 * self.window * obj.radius_angstrom / grid.voxel_spacing + 0.01))

    def halo(self, objects: Sequence[PickableObject], grid: Grid) -> int:
        """Rows that a strip needs on either side [cells]."""
        return max(self.radius_cells(obj, grid) for obj in objects) + 3

    def candidates(self, strip: Heatmap, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> Picks:
        """Maxima that reach their object's threshold in the core of a strip."""
        core = strip.core or slice(0, strip.grid.shape[1])
        channels = [strip.objects.index(obj.name) for obj in objects]
        at, heights = _upsampled(strip.values, channels, [thresholds[obj.name] for obj in objects])
        spacing = strip.grid.voxel_spacing / 2
        shape = (2 * strip.grid.shape[0], 2 * strip.grid.shape[1], 2 * strip.grid.shape[2])
        grid = Grid(shape, spacing, tuple(o - spacing / 2 for o in strip.grid.origin))  # type: ignore[arg-type]
        found = []
        for obj, own in zip(objects, heights):
            fine = zeros(shape, strip.values)  # (2 z, 2 y, 2 x)
            fine[tuple(at.T)] = own
            threshold, radius = thresholds[obj.name], self.radius_cells(obj, strip.grid)
            rows = slice(max(0, 2 * core.start - 3), 2 * core.stop + 3)
            highest = refined_maxima(fine, radius, threshold, rows)
            indices, scores = self._peaks(highest, slice(2 * core.start, 2 * core.stop))
            found.append(Picks(strip.run, grid.positions(indices), np.full(len(indices), obj.name), scores))
        return Picks.join(strip.run, found)

    def _peaks(self, found: FoundMaxima, core: slice) -> tuple[np.ndarray, np.ndarray]:
        """Positions [voxels] and heights of the plateaus whose first row lies in the core."""
        plateau = merge_plateaus(found.voxels)  # (n,) by voxel
        _, leader = np.unique(plateau, return_index=True)
        first = np.full(len(leader), np.iinfo(np.intp).max)
        np.minimum.at(first, plateau, found.voxels[:, 1])
        indices = found.indices if self.refined else found.voxels.astype(float)  # (n, 3)
        sums = np.stack([np.bincount(plateau, axis) for axis in indices.T], axis=1)  # (plateau, 3)
        middle = sums / np.maximum(np.bincount(plateau), 1)[:, None]
        keep = (first >= core.start) & (first < core.stop)
        return middle[keep], found.values[leader][keep].astype(float)


def _upsampled(heat: Array, channels: Sequence[int], thresholds: Sequence[float]) -> tuple[Array, list[Array]]:
    """The voxels, two a cell, where an object may reach its threshold, (n, 3), and each object's (n,) share there.

    Args:
        heat: (object, z, y, x).
        channels: of the objects that are wanted.
        thresholds: of each of them.
    """
    nothing = (1 - heat.sum(0)).clip(SMALLEST)  # (z, y, x)
    odds = [(channel, t / max(1 - t, SMALLEST)) for channel, t in zip(channels, thresholds)]
    logits = functions_of(heat).log(concatenated([heat, nothing[None]], 0).clip(SMALLEST))  # (object + 1, z, y, x)
    if is_tensor(heat):
        return doubled(logits, near_threshold(heat, nothing, odds), channels)
    near = np.zeros(nothing.shape, dtype=bool)
    for channel, least in odds:
        near |= heat[channel] >= least * nothing
    cells = np.argwhere(ndimage.binary_dilation(near, np.ones((3, 3, 3), dtype=bool)))  # (n, 3)
    return _doubled(logits, cells, channels)


def _doubled(logits: np.ndarray, cells: np.ndarray, channels: Sequence[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The eight voxels of each cell, (8 n, 3), and the softmax of the interpolated logits there, (8 n,) a channel.

    Args:
        logits: (channel, z, y, x).
        cells: (n, 3).
        channels: that are wanted.
    """
    last = np.array(logits.shape[1:]) - 1
    at: list[np.ndarray] = [np.zeros((0, 3), dtype=np.intp)]
    heights = [[np.zeros(0, dtype=np.float32)] for _ in channels]
    for part in np.array_split(cells, 1 + len(cells) // CELLS_AT_ONCE):
        for child in product((0, 1), repeat=3):
            # A voxel lies a quarter of a cell from its own cell's middle, towards the neighbour on its side.
            step = 2 * np.array(child) - 1
            total = np.zeros((logits.shape[0], len(part)), dtype=np.float32)  # (channel, n): logits, then softmax
            for corner in product((0, 1), repeat=3):
                weight = np.float32(np.prod([0.25 if c else 0.75 for c in corner]))
                neighbour = np.clip(part + np.array(corner) * step, 0, last)  # (n, 3)
                total += weight * logits[(slice(None), *neighbour.T)]
            total -= total.max(axis=0, initial=-np.inf)
            np.exp(total, out=total)
            total /= total.sum(axis=0)
            at.append(2 * part + np.array(child))
            for found, channel in zip(heights, channels):
                found.append(total[channel])
    return np.concatenate(at), [np.concatenate(found) for found in heights]
