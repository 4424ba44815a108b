"""Decode: heatmap -> picks. Local maxima with sub-voxel refinement; the inverse of `heatmap`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..core.arrays import Array, is_tensor
from ..core.errors import RecipeError, SelectionError
from ..core.types import MIN_DISTANCE, Grid, Heatmap, PickableObject, Picks
from .tensor_peaks import FoundMaxima, maxima_of

# The logarithm of a Gaussian narrower than a third of a cell curves more than this; beyond it what looks like a peak is
# noise beside a voxel near 0, whose logarithm would lift the peak without bound.
MAX_CURVATURE = 9.0
# The most that refining lifts a voxel's value: a vertex half a cell away along each axis, at that curvature.
MAX_LIFT = float(np.exp(3 * MAX_CURVATURE / 8))

VOXELS_AT_ONCE = 2**20  # voxels that are looked at together
AS_A_WHOLE = 8  # comparisons a voxel of the volume that cost as much as a running maximum over all of it
THREADS = 4  # beyond these the memory is no faster

LOWEST_SCORE = 0.02  # of picks that are ever written, or that thresholds are calibrated on


def window_maximum(values: np.ndarray, radius: int) -> np.ndarray:
    """Maximum over the cube of edge 2 * radius + 1 around every voxel; beyond the border counts as absent.

    Running maxima by doubling shifts along one axis after the other: log2(window) passes an axis instead of
    window^3 comparisons a voxel, 13 times faster than max pooling for a 7^3 window.

    Args:
        values: (z, y, x).
        radius: half width of the window [voxels].
    """
    out = values
    for axis in range(values.ndim):
        out = _running_maximum(out, radius, axis)
    return out


def _running_maximum(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    n = values.shape[axis]
    moved = np.moveaxis(values, axis, 0)  # (n, the other two)
    lowest = -np.inf if np.issubdtype(values.dtype, np.floating) else np.iinfo(values.dtype).min
    padded = np.full((n + 2 * radius, *moved.shape[1:]), lowest, dtype=values.dtype)
    padded[radius : radius + n] = moved
    # After a pass, padded[i] is the maximum of `width` entries from i on.
    width, window = 1, 2 * radius + 1
    while width < window:
        shift = min(width, window - width)
        np.maximum(padded[:-shift], padded[shift:], out=padded[:-shift])
        width += shift
    return np.moveaxis(padded[:n], 0, axis)


def refine(values: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sub-voxel position and height of local maxima.

    Along each axis the vertex of a parabola through the peak and its two neighbours: on the logarithm where all
    three are positive (exact for a Gaussian of at least a third of a cell), on the values otherwise.

    Args:
        values: (z, y, x).
        peaks: (n, 3) integer voxel indices of maxima.

    Returns:
        (n, 3) fractional indices, within half a voxel of `peaks`, and (n,) heights there.
    """
    shifts = np.zeros(peaks.shape, dtype=np.float64)
    centre = values[tuple(peaks.T)].astype(np.float64)  # (n,)
    factor, term = np.ones(len(peaks)), np.zeros(len(peaks))
    for axis in range(3):
        inside = (peaks[:, axis] > 0) & (peaks[:, axis] < values.shape[axis] - 1)
        step = np.zeros(3, dtype=int)
        step[axis] = 1
        below = values[tuple((peaks[inside] - step).T)].astype(np.float64)  # (m,) of those that have both neighbours
        above = values[tuple((peaks[inside] + step).T)].astype(np.float64)
        middle = centre[inside]
        positive = (below > 0) & (above > 0) & (middle > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            positive &= np.log(below) - 2 * np.log(middle) + np.log(above) >= -MAX_CURVATURE
            a, b, c = (np.where(positive, np.log(v), v) for v in (below, middle, above))
            curvature = a - 2 * b + c
            shift = np.where(curvature < 0, 0.5 * (a - c) / curvature, 0.0)
        shift = np.clip(np.nan_to_num(shift), -0.5, 0.5)
        shifts[inside, axis] = shift
        # Height of the vertex above the middle sample: a factor on the logarithm, a term otherwise.
        rise = np.maximum(0.25 * (c - a) * shift, 0)
        factor[inside] *= np.exp(np.where(positive, rise, 0.0))
        term[inside] += np.where(positive, 0.0, rise)
    return peaks + shifts, centre * factor + term


def maxima(
    values: np.ndarray, radius: int, lowest: float, rows: slice = slice(None), reach: float = -np.inf
) -> np.ndarray:
    """(n, 3) voxels above `lowest` in the given rows of y that no voxel of the cube around them exceeds.

    Blocks of voxels are compared before voxels: a cube of radius r reaches over the whole of the blocks of edge
    (r + 1) / 2 beside its own, so a block that a neighbour exceeds holds no maximum, and one pass over the volume
    leaves few voxels to look at.

    Args:
        values: (z, y, x).
        radius: half width of the cube [voxels].
        lowest: what a maximum exceeds.
        rows: of y where maxima are wanted; their cubes still see all rows.
        reach: maxima whose refined height stays below may be left out, unless they touch a voxel of the same height.
    """
    start, stop, _ = rows.indices(values.shape[1])
    step = max(radius + 1, VOXELS_AT_ONCE // (values.shape[0] * values.shape[2]))  # rows that fit its cache
    found: list[np.ndarray] = [np.zeros((0, 3), dtype=np.intp)]
    for first in range(start, stop, step):
        last, low = min(first + step, stop), max(0, first - radius)
        part = values[:, low : last + radius]
        voxels = _leaders(part, (radius + 1) // 2, lowest)
        voxels = voxels[(voxels[:, 1] >= first - low) & (voxels[:, 1] < last - low)]
        voxels, lone = _unexceeded(part, voxels, range(1, 2))
        # Noise has many maxima that will not count, and a large cube is looked through for none of them.
        voxels = voxels[~lone | (refine(part, voxels)[1] >= reach)]
        found.append(_unexceeded(part, voxels, range(2, radius + 1))[0] + (0, low, 0))
    voxels = np.concatenate(found)
    return voxels[np.lexsort(voxels.T[::-1])]


def _leaders(values: np.ndarray, edge: int, lowest: float) -> np.ndarray:
    """(n, 3) voxels above `lowest` that equal the largest of their block of `edge`^3 and of the 26 blocks around."""
    coarse = values
    for axis in range(3):
        parts = [coarse[(slice(None),) * axis + (slice(i, None, edge),)] for i in range(edge)]
        coarse = parts[0]
        for i, part in enumerate(parts[1:]):
            # The first makes an array of its own; the last block may lack voxels.
            longer = coarse if i else coarse.copy()
            shared = tuple(slice(n) for n in part.shape)
            np.maximum(longer[shared], part, out=longer[shared])
            coarse = longer
    above = coarse > lowest  # (z/edge, y/edge, x/edge)
    n = np.count_nonzero(above)
    if n > coarse.size // 32:  # else each is compared with its own neighbours faster
        above &= coarse == window_maximum(coarse, 1)
    blocks = np.argwhere(above)  # (n, 3)
    largest = coarse[tuple(blocks.T)]  # (n,)
    if edge == 1:
        return blocks
    within = np.indices((edge,) * 3).reshape(3, -1).T  # (edge^3, 3)
    found = []
    for voxel in within:
        at = blocks * edge + voxel
        inside = (at < values.shape).all(axis=1)
        at = at[inside]
        found.append(at[values[tuple(at.T)] == largest[inside]])
    return np.concatenate(found)


def _unexceeded(values: np.ndarray, voxels: np.ndarray, shells: range) -> tuple[np.ndarray, np.ndarray]:
    """Those of the (n, 3) voxels that no voxel of the shells of the cube around them exceeds.

    Args:
        values: (z, y, x).
        voxels: to look at.
        shells: distances along the farthest axis [voxels].

    Returns:
        (m, 3) voxels, and (m,) whether nothing in the last shell equals them, where that is a single one.
    """
    lone, looked_at = np.ones(len(voxels), dtype=bool), 0
    for shell in shells:  # most that fall, fall to a near one
        axis = np.arange(-shell, shell + 1)
        around = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)  # (cube, 3)
        around = around[np.abs(around).max(axis=1) == shell]  # (around, 3)
        looked_at += len(voxels) * len(around)
        if len(shells) > 1 and looked_at > AS_A_WHOLE * values.size:
            # Many that do not fall, such as where much is of one height: from here a pass over all is quicker.
            largest = window_maximum(values, shells.stop - 1)[tuple(voxels.T)]
            return voxels[largest <= values[tuple(voxels.T)]], lone[:0]
        kept, alone = [], []
        for part in np.array_split(voxels, 1 + len(voxels) * len(around) // VOXELS_AT_ONCE):
            # What lies beyond the border is moved onto it, and so stays in the cube.
            # Three of (n, around).
            at = [np.clip(part[:, k, None] + around[:, k], 0, n - 1) for k, n in enumerate(values.shape)]
            own, largest = values[tuple(part.T)], values[tuple(at)].max(axis=1, initial=-np.inf)  # (n,) each
            kept.append(part[largest <= own])
            alone.append(largest[largest <= own] < own[largest <= own])
        voxels, lone = np.concatenate(kept), np.concatenate(alone)
    return voxels, lone


def merge_plateaus(voxels: np.ndarray) -> np.ndarray:
    """(n, 3) maxima -> (n,) the number of the plateau (touching maxima, all of one height) that each belongs to."""
    pairs = cKDTree(voxels).query_pairs(1, p=np.inf, output_type="ndarray") if len(voxels) else np.zeros((0, 2), int)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(voxels), len(voxels)))
    return connected_components(graph, directed=False)[1]


class PeakFinder(Protocol):
    """How picks are found in a heatmap."""

    @property
    def positions_depend_on_threshold(self) -> bool:
        """Whether another threshold gives other positions, and not only more or fewer of them."""
        return False

    def halo(self, objects: Sequence[PickableObject], grid: Grid) -> int:
        """Rows that a strip needs on either side of its core [cells]."""

    def gather(
        self, strips: Iterable[Heatmap], objects: Sequence[PickableObject], thresholds: Mapping[str, float], run: str
    ) -> Picks:
        """All picks, best first, of a heatmap that comes in strips with their halos."""

    def __call__(self, heatmap: Heatmap, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> Picks:
        """All picks of a whole heatmap."""


def distances_of(peaks: PeakFinder, objects: Sequence[PickableObject]) -> dict[str, float]:
    """By object, the smallest distance that picks keep [Å]; none where the way of finding them knows no such thing."""
    if not isinstance(peaks, LocalMaxima):
        return {}
    return {o.name: peaks.distance(o) for o in objects if o.radius or o.name in peaks.min_distances}


def with_distances(peaks: PeakFinder, distances: Mapping[str, float]) -> PeakFinder:
    """The same way of finding picks with other smallest distances, by object [Å].

    Raises:
        SelectionError: it knows no such thing, or a distance that is not positive.
    """
    for name, distance in distances.items():
        if not 0 < distance < float("inf"):
            raise SelectionError(f"`min_distances={name}={distance:g}`: expected a positive number of Å")
    if not distances:
        return peaks
    if not isinstance(peaks, LocalMaxima):
        raise SelectionError(f"`min_distances`: {type(peaks).__name__} keeps no distance between picks; leave it out")
    return replace(peaks, min_distances={**peaks.min_distances, **distances})


@dataclass(frozen=True)
class LocalMaxima(PeakFinder):
    """Local maxima of each object's heatmap become its picks.

    A voxel is a peak where no voxel of a cube around it is larger and its height reaches the threshold; touching
    voxels of one height (where a heatmap ends at 1) are one peak in their middle. Peaks of one object closer than
    its minimum distance lose to the higher one. Objects do not suppress each other: a few per cent of true particles
    coincide with one of another kind.

    Attributes:
        window: half width of the cube, as a fraction of the object's radius; at least one cell.
        half_width: the same for all objects [Å], in place of the fraction where it is not 0.
        min_distance: smallest distance between two picks of an object, as a fraction of its radius.
        min_distances: the same by object name [Å], in place of the fraction.

    Source: max-pool peak finding of the CZII winners; the distances after the nearest neighbours of the true picks.
    """

    window: float = 0.5
    half_width: float = 0.0
    min_distance: float = MIN_DISTANCE
    min_distances: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.half_width < np.inf:
            raise RecipeError(f"peaks.half_width is {self.half_width:g}; it must be 0 (for `window`) or more [Å]")
        if not 0 < self.window < np.inf:
            raise RecipeError(f"peaks.window is {self.window:g}; it must be a positive fraction of the radius")
        if not 0 <= self.min_distance < np.inf:
            raise RecipeError(f"peaks.min_distance is {self.min_distance:g}; it must be 0 or more (of the radius)")

    def distance(self, obj: PickableObject) -> float:
        """Smallest distance between two picks of `obj` [Å]."""
        return float(self.min_distances.get(obj.name, 0.0)) or self.min_distance * obj.radius_angstrom

    def radius_cells(self, obj: PickableObject, grid: Grid) -> int:
        """Half width of the window [cells of the heatmap]."""
        if self.half_width:  # to the nearest: spacings are seldom quite what they are called
            return max(1, int(self.half_width / grid.voxel_spacing + 0.5))
        return max(1, int(self.window * obj.radius_angstrom / grid.voxel_spacing))

    def halo(self, objects: Sequence[PickableObject], grid: Grid) -> int:
        """Rows that a strip needs on either side so that its core has the same peaks as the whole [cells]."""
        # A window, and the plateau that it may end on.
        return 2 * max(self.radius_cells(obj, grid) for obj in objects) + 1

    def candidates(self, strip: Heatmap, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> Picks:
        """Refined maxima that reach their object's threshold in the core of a strip, not yet thinned by distance."""
        core = strip.core or slice(0, strip.grid.shape[1])

        def of(obj: PickableObject) -> Picks:
            values, threshold = strip.values[strip.objects.index(obj.name)], thresholds[obj.name]
            radius = self.radius_cells(obj, strip.grid)
            # The refined height decides, not the voxel's, which for a narrow peak may be far lower.
            rows = slice(max(0, core.start - radius - 1), core.stop + radius + 1)
            found = refined_maxima(values, radius, max(threshold, 0.0) / MAX_LIFT, rows, threshold)
            indices, heights = _plateaus(found, core)
            keep = heights >= threshold
            positions = strip.grid.positions(indices[keep])
            return Picks(strip.run, positions, np.full(len(positions), obj.name), heights[keep])

        if is_tensor(strip.values):
            return Picks.join(strip.run, map(of, objects))
        # NumPy lets go of the interpreter over large arrays, so that objects are looked through side by side.
        with ThreadPoolExecutor(min(len(objects), os.cpu_count() or 1, THREADS)) as pool:
            return Picks.join(strip.run, pool.map(of, objects))

    def gather(
        self, strips: Iterable[Heatmap], objects: Sequence[PickableObject], thresholds: Mapping[str, float], run: str
    ) -> Picks:
        """All picks, best first, of a heatmap that comes in strips with their halos."""
        # Other than a comprehension, `map` lets go of a strip before it asks for the next.
        found = map(partial(self.candidates, objects=objects, thresholds=thresholds), strips)
        return self.thin(Picks.join(run, found), objects)

    def thin(self, picks: Picks, objects: Sequence[PickableObject]) -> Picks:
        """Picks in descending score, without those too close to a higher one of the same object."""
        kept = Picks.join(picks.run, [_thin(picks.of(obj.name), self.distance(obj)) for obj in objects])
        kept = kept.select(np.argsort(-kept.scores, kind="stable"))
        # Not before: of two peaks beyond 1 the higher one has to win.
        return replace(kept, scores=np.clip(kept.scores, 0, 1))

    def __call__(self, heatmap: Heatmap, objects: Sequence[PickableObject], thresholds: Mapping[str, float]) -> Picks:
        """All picks of a whole heatmap."""
        return self.thin(self.candidates(heatmap, objects, thresholds), objects)


def _thin(picks: Picks, distance: float) -> Picks:
    # Ties are ordered by position, so that the result does not depend on how the volume was cut into strips.
    order = np.lexsort((*np.round(picks.positions.T, 3), -picks.scores))
    picks = picks.select(order)
    keep = np.ones(len(picks), dtype=bool)
    if len(picks):
        # Just under the distance: two picks exactly that far apart both stay.
        pairs = cKDTree(picks.positions).query_pairs(np.nextafter(distance, 0), output_type="ndarray")
        better, worse = np.sort(pairs, axis=1).T
        for i, j in sorted(zip(better.tolist(), worse.tolist())):
            if keep[i]:
                keep[j] = False
    return picks.select(keep)


def refined_maxima(values: Array, radius: int, lowest: float, rows: slice, reach: float = -np.inf) -> FoundMaxima:
    """What `maxima` finds, wherever the values lie, with the positions and heights that `refine` gives."""
    if is_tensor(values):
        return maxima_of(values, radius, lowest, rows, reach, MAX_CURVATURE)
    voxels = maxima(values, radius, lowest, rows, reach)
    return FoundMaxima(voxels, *refine(values, voxels), values[tuple(voxels.T)])


def _plateaus(found: FoundMaxima, core: slice) -> tuple[np.ndarray, np.ndarray]:
    """Position and height of each plateau of maxima whose first row of y lies in the core."""
    plateau = merge_plateaus(found.voxels)
    n = int(plateau.max()) + 1 if len(plateau) else 0
    first = np.full(n, np.iinfo(np.intp).max)
    np.minimum.at(first, plateau, found.voxels[:, 1])
    size = np.bincount(plateau, minlength=n)
    middles = [np.bincount(plateau, weights=axis, minlength=n) / size for axis in found.indices.T]
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, plateau, found.heights)
    keep = (first >= core.start) & (first < core.stop)
    return np.stack(middles, axis=1)[keep], highest[keep]
