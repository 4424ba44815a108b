"""Groups of cells parted where they are narrow: a watershed of how deep inside its group each cell lies."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from .peaks import maxima, merge_plateaus, window_maximum

_PLACE = 40  # bits of a cell's number; above them is the square of its depth


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
    inside = np.zeros(high - low, dtype=bool)  # (z, y, x) of the group's box
    at = tuple((cells - low).T)  # three of (n,)
    inside[at] = True
    if inside.all():
        return np.zeros(len(cells), dtype=int)
    depth = ndimage.distance_transform_edt(inside)
    summits = maxima(depth, radius, 0.0, slice(0, depth.shape[1]))  # (m, 3)
    plateau = merge_plateaus(summits)  # (m,) from 0
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
        depth: (z, y, x) distances to the nearest cell outside, above 0 inside.
        seeds: (z, y, x), the number of a seed, or 0.
    """
    cells, seed = np.flatnonzero(depth), seeds.ravel()  # (n,) places of those inside; (z y x,)
    sown = cells[seed[cells] > 0]  # (m,) places of those with a seed
    leads = _bottoms(depth, cells, sown, seed)
    bottoms = cells[leads[cells] == cells]  # (basin,) places
    number = np.full(depth.size, -1)  # (z y x,) of the basin whose bottom a cell is
    number[bottoms] = np.arange(len(bottoms))
    basin = np.full(depth.size, -1)  # (z y x,) of the basin that a cell is in
    basin[cells] = number[leads[cells]]
    owner = np.zeros(len(bottoms), dtype=int)  # (basin,) its seed, or 0
    owner[basin[sown]] = seed[sown]
    if not owner.all():
        owner = _overflowed(owner, *_passes(basin.reshape(depth.shape), depth, owner == 0))
    found = np.zeros(depth.size, dtype=int)
    found[cells] = owner[basin[cells]]
    return found.reshape(depth.shape)[1:-1, 1:-1, 1:-1]  # (z, y, x) without the border


def _bottoms(depth: np.ndarray, cells: np.ndarray, sown: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """(z y x,) the place of the bottom that each cell leads to, by way of its deepest neighbours.

    Args:
        depth: (z, y, x).
        cells: (n,) places of those inside.
        sown: (m,) places of those with a seed.
        seed: (z y x,) the number of a seed, or 0.
    """
    # Depth first, then place: of equally deep neighbours the last one leads, so that the way never turns back. The
    # square of a distance on a lattice is a whole number.
    key = (np.rint(depth**2).astype(np.int64) << _PLACE) | np.arange(depth.size).reshape(depth.shape)  # (z, y, x)
    leads = window_maximum(key, 1).ravel() & ((1 << _PLACE) - 1)  # (z y x,) places
    # A seed is a bottom, even where a cell as deep as it leads elsewhere.
    _, first, which = np.unique(seed[sown], return_index=True, return_inverse=True)
    leads[sown] = sown[first][which]
    while True:
        further = leads[leads]
        if (further[cells] == leads[cells]).all():
            return leads
        leads = further


def _passes(basin: np.ndarray, depth: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where basins meet, one of which at least is free: (m, 2) their numbers and (m,) how deep the way is.

    Args:
        basin: (z, y, x) numbers from 0, or -1 outside.
        depth: (z, y, x).
        free: (n,) by number of the basin.
    """
    # The last entry is for -1.
    open_ = np.append(free, False)[basin]  # (z, y, x)
    edges, heights = [np.zeros((0, 2), dtype=int)], [np.zeros(0)]
    for offset in (o for o in product((-1, 0, 1), repeat=3) if o > (0, 0, 0)):
        here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(offset, basin.shape))
        there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(offset, basin.shape))
        crossing = (basin[here] != basin[there]) & (basin[here] >= 0) & (basin[there] >= 0)
        crossing &= open_[here] | open_[there]
        edges.append(np.stack([basin[here][crossing], basin[there][crossing]], axis=1))  # (crossings, 2)
        heights.append(np.minimum(depth[here][crossing], depth[there][crossing]))
    return np.concatenate(edges), np.concatenate(heights)


def _overflowed(owner: np.ndarray, edges: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """(n,) owners of basins, those of 0 joined along the deepest of (m, 2) edges to one that has an owner."""
    n = len(owner)
    edges = edges[np.argsort(-heights, kind="stable")]
    # Of the ways between two basins the deepest counts.
    _, rank = np.unique(edges.min(axis=1) * n + edges.max(axis=1), return_index=True)
    owned = np.flatnonzero(owner)  # (k,) numbers of basins
    # A tree that spans all by their deepest ways, in which those with an owner are joined beforehand, at node n: then
    # no way joins two of them.
    rows, columns = np.concatenate([edges[rank, 0], owned]), np.concatenate([edges[rank, 1], np.full(len(owned), n)])
    weights = np.concatenate([rank + 1.0, np.full(len(owned), 0.5)])
    tree = minimum_spanning_tree(coo_array((weights, (rows, columns)), shape=(n + 1, n + 1)).tocsr()).tocoo()
    apart = (tree.row < n) & (tree.col < n)
    links = coo_array((tree.data[apart], (tree.row[apart], tree.col[apart])), shape=(n, n))
    count, group = connected_components(links, directed=False)  # group: (n,) by basin
    found = np.zeros(count, dtype=int)
    np.maximum.at(found, group, owner)
    return found[group]
