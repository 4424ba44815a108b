"""At which score to cut: one pass over the matched scores gives F at every threshold, so the optimum is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import TomopickError
from .matching import matchings, neighbours, scorable
from .types import PickableObject, Picks, Vector

# A peak's score where nothing could be measured: F1 wants picks that are about as likely right as wrong, F-beta 4 gains
# from any pick that is right once in twenty times (it must be more often than F / 17, methods.md section 2.1).
DEFAULT_THRESHOLDS = {"f1": 0.3, "czii": 0.05}


@dataclass(frozen=True)
class Calibration:
    """Where to cut the scores of one object; picks with `score >= threshold` are kept.

    Attributes:
        threshold: the cut.
        value: F there, F1 or F-beta 4; 0 where it could not be measured.
        n_truth: true particles that it was measured on.
        n_candidates: picks that it was measured on, kept or not.
        calibrated: False where there was nothing to measure and the threshold is `DEFAULT_THRESHOLDS`'.
    """

    threshold: float
    value: float
    n_truth: int
    n_candidates: int
    calibrated: bool


def calibrate(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    metric: str,
    *,
    distance_multiplier: float = 0.5,
    tolerance: float = 0.0,
) -> dict[str, Calibration]:
    """The best threshold of each object over all its scores, all runs together.

    The candidates must be positions that do not depend on the threshold (local maxima), picked with a low one. The
    threshold lies halfway to the next lower score, so that it does not hang on one pick.

    Args:
        candidates: run -> picks, with scores.
        truth: run -> true particles.
        objects: what is calibrated.
        metric: `f1` after one-to-one matching, or `czii`: F-beta 4 with the challenge's rule of hits.
        distance_multiplier: radii within which a pick hits a reference.
        tolerance: of the cuts whose F is less than this fraction below the best, the median one is taken; 0.002
            gives thresholds that vary less from one set of runs to another.

    Raises:
        TomopickError: unknown metric; no truth, names not among `objects`, values that are not finite.

    Source: methods.md section 2.1 for F4 = 17 TP / (16 N + M).
    """
    if metric not in DEFAULT_THRESHOLDS:
        raise TomopickError(
            f"unknown metric '{metric}' to calibrate for; expected one of {', '.join(DEFAULT_THRESHOLDS)}"
        )
    result = {}
    for o in scorable(candidates, truth, objects):
        scores, hits, n_truth = (_f1_hits if metric == "f1" else _czii_hits)(candidates, truth, o, distance_multiplier)
        if not len(hits):
            result[o.name] = Calibration(DEFAULT_THRESHOLDS[metric], 0.0, n_truth, len(scores), False)
            continue
        square = 1.0 if metric == "f1" else 16.0
        cuts = np.unique(scores)[::-1]
        kept = len(scores) - np.searchsorted(np.sort(scores), cuts)
        tp = len(hits) - np.searchsorted(np.sort(hits), cuts)
        values = (1 + square) * tp / (square * n_truth + kept)
        good = np.flatnonzero(values >= values.max() * (1 - tolerance))
        best = int(good[(len(good) - 1) // 2] if tolerance > 0 else good[0])
        threshold = _halfway(cuts, best)
        result[o.name] = Calibration(threshold, float(values[best]), n_truth, len(scores), True)
    return result


def displacement(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    thresholds: Mapping[str, float],
    *,
    distance_multiplier: float = 0.5,
) -> tuple[Vector, int]:
    """Where picks lie relative to the truth, all objects and runs together.

    Args:
        candidates: run -> picks.
        truth: run -> true particles.
        objects: what is compared.
        thresholds: name -> the score from which picks count; objects without one count in full.
        distance_multiplier: radii within which a pick may belong to a reference.

    Returns:
        Median of pick minus truth, zyx [Å], and the number of pairs; zeros where there is none.

    Raises:
        TomopickError: no truth, names not among `objects`, values that are not finite.
    """
    parts = [np.zeros((0, 3))]
    for o in scorable(candidates, truth, objects):
        kept = {run: p.select(p.scores >= thresholds.get(o.name, -np.inf)) for run, p in candidates.items()}
        parts += [moved for moved, _ in matchings(kept, truth, o, distance_multiplier)]
    moved = np.concatenate(parts)
    if not len(moved):
        return (0.0, 0.0, 0.0), 0
    z, y, x = np.median(moved, axis=0).tolist()
    return (z, y, x), len(moved)


def _f1_hits(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject, radius: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of all candidates, scores at which a hit appears, number of references: one-to-one."""
    scores = [candidates.get(run, Picks.empty(run)).of(obj.name).scores for run in truth]
    found = [m for _, m in matchings(candidates, truth, obj, radius)]
    hits = [s[m.candidates] for s, m in zip(scores, found)]
    return np.concatenate(scores), np.concatenate(hits), sum(m.n_truths for m in found)


def _czii_hits(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject, radius: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """As `_f1_hits`, but a reference is hit from the best score around it downwards, whatever else that pick hits."""
    scores, hits, n_truth = [], [], 0
    for run, references in truth.items():
        found, wanted = candidates.get(run, Picks.empty(run)).of(obj.name), references.of(obj.name)
        best = np.full(len(wanted), -np.inf)
        reach = radius * obj.radius_angstrom if len(found) and len(wanted) else 0.0
        for i, j, _ in neighbours(found.positions, wanted.positions, reach):
            np.maximum.at(best, j, found.scores[i])
        scores.append(found.scores)
        hits.append(best[np.isfinite(best)])
        n_truth += len(wanted)
    return np.concatenate(scores), np.concatenate(hits), n_truth


def _halfway(cuts: np.ndarray, best: int) -> float:
    """Between the cut and the next lower one; the cut itself where there is none lower or no number between them."""
    if best + 1 == len(cuts):
        return float(cuts[best])
    middle = float((cuts[best] + cuts[best + 1]) / 2)
    return middle if middle > cuts[best + 1] else float(cuts[best])
