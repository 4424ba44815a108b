"""Groups of cells parted where they are narrow: a watershed of how deep inside its group each cell lies."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from .peaks import maxima, merge_plateaus


def parted(cells: np.ndarray, shape: tuple[int, int, int], radius: int) -> np.ndarray:
    """(n,) the part that each cell of one group belongs to.

    Args:
        cells: (n, 3) all cells of a group, no two groups of which touch.
        shape: of the heatmap, beyond which a group is thought to go on.
        radius: how far around a summit no other is higher [cells, along each axis].
    """
    if (np.ptp(cells, axis=0) <= radius).all():  # too small for two
        return np.zeros(len(cells), dtype=int)
    # A cell of background all around, where there is one: the distance to others' cells never is the smallest.
    low = np.maximum(cells.min(axis=0) - 1, 0)
    high = np.minimum(cells.max(axis=0) + 2, shape)
    inside = np.zeros(high - low, dtype=bool)
    at = tuple((cells - low).T)
    inside[at] = True
    if inside.all():
        return np.zeros(len(cells), dtype=int)
    depth = ndimage.distance_transform_edt(inside)
    summits = maxima(depth, radius, 0.0, slice(0, depth.shape[1]))
    plateau = merge_plateaus(summits)
    if plateau.max() == 0:
        return np.zeros(len(cells), dtype=int)
    seeds = np.zeros(depth.shape, dtype=int)
    seeds[tuple(summits.T)] = plateau + 1
    return _flooded(np.pad(depth, 1), np.pad(seeds, 1))[at] - 1


def _flooded(depth: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The seed that floods each cell, without the border of one cell that both arrays have.

    Every cell leads to its deepest neighbour, and so to a bottom; bottoms without a seed then flow over into another
    where the way between them is deepest.

    Args:
        depth: (z, y, x), above 0 inside.
        seeds: (z, y, x), the number of a seed, or 0.
    """
    strides = np.array(depth.strides) // depth.itemsize
    steps = [int(np.dot(offset, strides)) for offset in product((-1, 0, 1), repeat=3) if any(offset)]
    height, seed = depth.ravel(), seeds.ravel()
    cells = np.flatnonzero(height > 0)
    best, deepest = cells.copy(), height[cells].copy()
    for step in steps:
        there = height[cells + step]
        # Of equally deep ones the last: so that the way never turns back.
        better = (there > deepest) | ((there == deepest) & (cells + step > best))
        best, deepest = np.where(better, cells + step, best), np.where(better, there, deepest)
    place = np.full(height.size, -1)
    place[cells] = np.arange(len(cells))
    leads = place[best]
    # A seed is a bottom, even where a cell as deep as it leads elsewhere.
    sown = np.flatnonzero(seed[cells])
    _, first, which = np.unique(seed[cells[sown]], return_index=True, return_inverse=True)
    leads[sown] = sown[first][which]
    while (leads[leads] != leads).any():
        leads = leads[leads]
    bottoms, bottom = np.unique(leads, return_inverse=True)
    owner = np.zeros(len(bottoms), dtype=int)
    owner[bottom[sown]] = seed[cells[sown]]
    edges, heights = [np.zeros((0, 2), dtype=int)], [np.zeros(0)]
    for step in (s for s in steps if s > 0):
        other = place[cells + step]
        both = np.flatnonzero(other >= 0)
        pairs = np.stack([bottom[both], bottom[other[both]]], axis=1)
        crossing = pairs[:, 0] != pairs[:, 1]
        edges.append(pairs[crossing])
        heights.append(np.minimum(height[cells[both]], height[cells[both] + step])[crossing])
    found = np.zeros(height.size, dtype=int)
    found[cells] = _overflowed(owner, np.concatenate(edges), np.concatenate(heights))[bottom]
    return found.reshape(depth.shape)[1:-1, 1:-1, 1:-1]


def _overflowed(owner: np.ndarray, edges: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """(n,) owners of basins, those of 0 joined along the deepest of (m, 2) edges to one that has an owner."""
    parent = list(range(len(owner)))
    owners = owner.tolist()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in edges[np.argsort(-heights, kind="stable")].tolist():
        a, b = root(a), root(b)
        if a != b and not (owners[a] and owners[b]):
            parent[a] = b
            owners[b] = owners[a] or owners[b]
    return np.array([owners[root(i)] for i in range(len(owner))])
