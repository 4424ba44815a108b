"""One density, one name: where picks of different objects lie on one particle, the surest of them keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..core.types import PickableObject, Picks
from ..scoring.metrics import SHARED

_SURE = 1e-6  # scores are taken no nearer to 0 and 1 than this
_NARROW = 0.1  # log-odds between an object's thresholds for F1 and F4, at least


@dataclass(frozen=True)
class Exclusion:
    """Which picks compete, and who wins.

    Objects' scores are not alike: what is compared is how far a pick lies above its own object's threshold for F1, in
    log-odds, as a multiple of the way from the threshold for F4 to it.

    Attributes:
        radii: by object that competes [Å].
        best, low: by object, thresholds for F1 and F4.
        part: of the smaller radius, within which two picks are of one density; 0: nothing competes.
        doubtful: a pick that does not reach its threshold for F1 can lose too; else only those that do compete.
    """

    radii: Mapping[str, float]
    best: Mapping[str, float]
    low: Mapping[str, float]
    part: float
    doubtful: bool = False

    @classmethod
    def of(
        cls,
        objects: Sequence[PickableObject],
        thresholds: Mapping[str, Mapping[str, float]],
        used: Mapping[str, float],
        stated: float,
        wanted: bool | None,
    ) -> Exclusion:
        """Of a model.

        Args:
            objects: that it finds.
            thresholds: by metric and object.
            used: the thresholds in use; of an object whose one is lower than F1 wants every particle is asked for, and
                then two names for one are better than the wrong one: unless it is wanted, such objects do not compete.
            stated: the method's `exclusion`.
            wanted: whether picks compete; None: as stated.
        """
        best, low = thresholds["f1"], thresholds["czii"]
        names = [name for name in best if name in low and (wanted or used.get(name, 1.0) >= best[name] * (1 - 1e-9))]
        part = (stated or SHARED) if wanted or (wanted is None and stated) else 0.0
        return cls(
            {o.name: o.radius_angstrom for o in objects if part and o.name in names}, best, low, part, bool(wanted)
        )

    def __call__(self, picks: Picks) -> Picks:
        """The picks of one run that keep their density, in the order they are in."""
        if len(picks) < 2 or len(self.radii) < 2:
            return picks
        names = picks.names.tolist()
        reach = np.array([self.radii.get(name, 0.0) for name in names])
        lead = np.array([self._lead(name, score) for name, score in zip(names, picks.scores.tolist())])
        pairs = cKDTree(picks.positions).query_pairs(self.part * float(reach.max()), output_type="ndarray")
        near = np.linalg.norm(picks.positions[pairs[:, 0]] - picks.positions[pairs[:, 1]], axis=1)
        rivals = (near < self.part * reach[pairs].min(axis=1)) & (picks.names[pairs[:, 0]] != picks.names[pairs[:, 1]])
        beside: dict[int, list[int]] = {}
        for i, j in pairs[rivals].tolist():
            beside.setdefault(i, []).append(j)
            beside.setdefault(j, []).append(i)
        keep = np.ones(len(picks), dtype=bool)
        for i in sorted(beside, key=lambda i: (-lead[i], i)):
            if keep[i] and lead[i] >= 0:
                lose = [j for j in beside[i] if (-lead[j], j) > (-lead[i], i) and (self.doubtful or lead[j] >= 0)]
                keep[lose] = False
        return picks.select(keep)

    def _lead(self, name: str, score: float) -> float:
        if name not in self.radii:
            return -np.inf
        best, low = _log_odds(self.best[name]), _log_odds(self.low[name])
        return (_log_odds(score) - best) / max(best - low, _NARROW)


def _log_odds(score: float) -> float:
    p = min(max(score, _SURE), 1 - _SURE)
    return float(np.log(p / (1 - p)))
