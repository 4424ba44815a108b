"""Whether true particles lie closer together than picks may: then no threshold finds them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree

from ..core.types import PickableObject, Picks
from .metrics import SHARED

LOST = 0.05  # of an object's particles; fewer than that coincide in any tomogram


def crowded(truth: Mapping[str, Picks], objects: Sequence[PickableObject], distances: Mapping[str, float]) -> list[str]:
    """A line for each object of whose true particles many cannot be found, because picks keep a distance.

    Args:
        truth: by run.
        objects: to look at.
        distances: by object, smallest between two picks [Å]; an object without one is left out.
    """
    lines = []
    for o in (o for o in objects if o.name in distances):
        runs = [picks.of(o.name).positions for picks in truth.values()]
        total, most = sum(map(len, runs)), sum(_apart(positions, distances[o.name]) for positions in runs)
        if total - most > max(1, LOST * total):
            nearest = np.concatenate([cKDTree(p).query(p, 2)[0][:, 1] for p in runs if len(p) > 1])
            lines.append(_line(o, distances[o.name], nearest, total, most))
    return lines


def sharing(picks: Mapping[str, Picks], objects: Sequence[PickableObject], fraction: float = SHARED) -> int:
    """How many picks lie nearer to another object's than `fraction` of the smaller radius: one density, two names."""
    radii, n = {o.name: o.radius for o in objects if o.radius}, 0
    for found in (p.among(radii) for p in picks.values()):
        reach = np.array([radii[name] for name in found.names.tolist()])
        if len(found) < 2:
            continue
        pairs = cKDTree(found.positions).query_pairs(fraction * float(reach.max()), output_type="ndarray")
        near = np.linalg.norm(found.positions[pairs[:, 0]] - found.positions[pairs[:, 1]], axis=1)
        shared = (near < fraction * reach[pairs].min(axis=1)) & (found.names[pairs[:, 0]] != found.names[pairs[:, 1]])
        n += len(np.unique(pairs[shared]))
    return n


def _line(o: PickableObject, distance: float, nearest: np.ndarray, total: int, most: int) -> str:
    close = np.count_nonzero(nearest < distance)
    # Picks lie a little off; what was written down twice is nobody's distance.
    apart = nearest[nearest > 0.25 * distance]
    enough = 0.8 * float(np.quantile(apart, 0.1)) if len(apart) else 0.0
    found = f"{close} of {total} true {o.name} lie closer than {distance:.4g} Å to another"
    remedy = ""
    if 0 < enough < distance:
        radii = f", train peaks.min_distance={enough / o.radius:.2g}" if o.radius else ""
        remedy = f": pick `min_distances={o.name}={enough:.0f}`{radii}"
    return f"{found}; picks that keep this distance find at most about {most}{remedy}"


def _apart(positions: np.ndarray, distance: float) -> int:
    """How many of (n, 3) positions stay where each keeps the distance to those before it."""
    keep = np.ones(len(positions), dtype=bool)
    if len(positions) > 1:
        pairs = cKDTree(positions).query_pairs(distance * (1 - 1e-9), output_type="ndarray")
        for i, j in sorted(np.sort(pairs, axis=1).tolist()):
            if keep[i]:
                keep[j] = False
    return int(keep.sum())
