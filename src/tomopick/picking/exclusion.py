"""One density, one name: where picks of different objects lie on one particle, the surest of them keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree

from ..core.types import PickableObject, Picks

SHARED = 0.5  # of the smaller radius: nearer picks are of one density, where a method says nothing
_SURE = 1e-6  # scores are taken no nearer to 0 and 1 than this


def part_of(wanted: bool | None, stated: float) -> float:
    """Of the smaller radius, how near picks compete: as wanted (None: as the method states); 0: they do not."""
    return (stated or SHARED) if wanted or (wanted is None and stated) else 0.0


def without_rivals(
    picks: Picks, objects: Sequence[PickableObject], cuts: Mapping[str, float], fraction: float
) -> Picks:
    """The picks that keep their density, in the order they are in.

    Objects' scores are not alike, so what is compared is how far, in log-odds, a pick lies above its own object's
    `cuts`. Only a pick that reaches its cut takes a density from others: low thresholds are for those who want every
    particle, and doubtful picks say little against one another.

    Args:
        picks: of one run, whatever their scores.
        objects: with radii.
        cuts: by object, from which on a pick is more likely right than wrong; objects without one do not compete.
        fraction: of the smaller radius, within which two picks are of one density.
    """
    radii = {o.name: o.radius_angstrom for o in objects if o.name in cuts}
    if len(picks) < 2 or len(radii) < 2 or not fraction > 0:
        return picks
    reach = np.array([radii.get(name, 0.0) for name in picks.names.tolist()])
    lead = _log_odds(picks.scores) - _log_odds(np.array([cuts.get(name, 1.0) for name in picks.names.tolist()]))
    pairs = cKDTree(picks.positions).query_pairs(fraction * float(reach.max()), output_type="ndarray")
    near = np.linalg.norm(picks.positions[pairs[:, 0]] - picks.positions[pairs[:, 1]], axis=1)
    rivals = (near < fraction * reach[pairs].min(axis=1)) & (picks.names[pairs[:, 0]] != picks.names[pairs[:, 1]])
    beside: dict[int, list[int]] = {}
    for i, j in pairs[rivals].tolist():
        beside.setdefault(i, []).append(j)
        beside.setdefault(j, []).append(i)
    keep = np.ones(len(picks), dtype=bool)
    for i in sorted(beside, key=lambda i: (-lead[i], i)):
        if keep[i] and lead[i] >= 0:
            keep[[j for j in beside[i] if (-lead[j], j) > (-lead[i], i)]] = False
    return picks.select(keep)


def _log_odds(scores: np.ndarray) -> np.ndarray:
    p = np.clip(scores, _SURE, 1 - _SURE)
    return np.log(p / (1 - p))
