"""What a score alone does not say: curves, confusion and duplicates.

Picks and truth are mappings from the name of a run to its `Picks`, as in `evaluate`; only runs of the truth count.
Everything rests on k-d trees and sparse pairs, so that a million picks take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..core.types import PickableObject, Picks
from .matching import REACH, Counts, at_every_cut, neighbours, scorable, scored_picks

_ByRun = Mapping[str, Picks]


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of one object as its threshold falls.

    Attributes:
        thresholds: (k,) the distinct scores, descending; a point counts the picks with that score or a higher one.
        tp: (k,) hits there.
        n: (k,) picks there.
        n_truth: true particles.
    """

    thresholds: np.ndarray
    tp: np.ndarray
    n: np.ndarray
    n_truth: int

    @property
    def precision(self) -> np.ndarray:
        """(k,) hits per pick."""
        return self.tp / self.n

    @property
    def recall(self) -> np.ndarray:
        """(k,) hits per true particle; 0 where there is none."""
        return self.tp / max(self.n_truth, 1)

    @property
    def average_precision(self) -> float:
        """Mean precision over the recall gained, step by step and not interpolated; nan without truth."""
        if not self.n_truth:
            return float("nan")
        return float(np.sum(np.diff(self.tp, prepend=0) / self.n_truth * self.precision))

    def at(self, threshold: float) -> Counts:
        """Hits, false picks and misses of the picks with `score >= threshold`."""
        k = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        tp, n = (int(self.tp[k - 1]), int(self.n[k - 1])) if k else (0, 0)
        return Counts(tp, n - tp, self.n_truth - tp)


def precision_recall(
    candidates: _ByRun, truth: _ByRun, objects: Sequence[PickableObject], *, radius: float = REACH
) -> dict[str, PrecisionRecall]:
    """The curve of each object over all its scores, all runs together, one-to-one and greedy by score.

    Because that matching is nested in the threshold, each point is what `matched_scores` finds at it.

    Args:
        candidates: run -> picks, with scores.
        truth: run -> true particles.
        objects: what is scored.
        radius: within which a pick hits, in radii of the object.

    Raises:
        TomopickError: no truth, names not among `objects`, values that are not finite.

    Source: average precision as in scikit-learn's `average_precision_score`: sum of (R_k - R_{k-1}) P_k.
    """
    curves = {}
    for o in scorable(candidates, truth, objects):
        scores, right, n_truth = scored_picks(candidates, truth, o, radius)
        curves[o.name] = PrecisionRecall(*at_every_cut(scores, scores[right]), n_truth)
    return curves


@dataclass(frozen=True)
class Confusion:
    """Which object was picked where which one is.

    Attributes:
        names: the objects.
        counts: (truth, pick); the last row is picks where nothing is, the last column particles nobody picked.
    """

    names: tuple[str, ...]
    counts: np.ndarray


def confusion(
    candidates: _ByRun, truth: _ByRun, objects: Sequence[PickableObject], *, radius: float = REACH
) -> Confusion:
    """Picks against true particles of any object: one-to-one, greedy by score, within `radius` radii of the *true* one.

    Raises:
        TomopickError: as `precision_recall`, or an object without radius.
    """
    particles = scorable(candidates, truth, objects)
    names = tuple(o.name for o in particles)
    index = {name: i for i, name in enumerate(names)}
    reach = np.array([o.radius_angstrom * radius for o in particles])
    counts = np.zeros((len(names) + 1, len(names) + 1), dtype=np.int64)
    for run, references in truth.items():
        found = candidates.get(run, Picks.empty(run))
        found = found.select(np.argsort(-found.scores, kind="stable"))
        picked = np.array([index[n] for n in found.names.tolist()], dtype=int)
        wanted = np.array([index[n] for n in references.names.tolist()], dtype=int)
        free_pick, free_truth = np.ones(len(found), dtype=bool), np.ones(len(references), dtype=bool)
        farthest = float(reach[wanted].max()) if len(wanted) else 0.0
        for i, j, d in neighbours(found.positions, references.positions, farthest):
            near = d <= reach[wanted[j]]
            for a, b in zip(i[near].tolist(), j[near].tolist()):
                if free_pick[a] and free_truth[b]:
                    free_pick[a] = free_truth[b] = False
                    counts[wanted[b], picked[a]] += 1
        counts[:-1, -1] += np.bincount(wanted[free_truth], minlength=len(names))
        counts[-1, :-1] += np.bincount(picked[free_pick], minlength=len(names))
    return Confusion(names, counts)


def duplicates(runs: _ByRun, objects: Sequence[PickableObject], *, radius: float = REACH) -> dict[str, int]:
    """Picks of each object that lie within `radius` radii of a better one of it (equal scores: of an earlier one).

    Given true particles, which have no scores, it counts those that were written down twice.
    """
    total = {}
    for o in objects:
        total[o.name] = 0
        for picks in runs.values():
            mine = picks.of(o.name)
            order = np.argsort(-mine.scores, kind="stable")
            if len(mine) > 1:
                pairs = cKDTree(mine.positions[order]).query_pairs(o.radius_angstrom * radius, output_type="ndarray")
                total[o.name] += len(np.unique(pairs[:, 1]))  # query_pairs gives i < j
    return total
