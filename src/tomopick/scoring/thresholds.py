"""At which score to cut: one pass over the matched scores gives F at every threshold, so the optimum is exact.

Where positions depend on the threshold (components, watershed), picks are found anew at each value of a grid instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import TomopickError
from ..core.types import PickableObject, Picks
from .matching import REACH, at_every_cut, fbeta, neighbours, scorable, scored_picks
from .metrics import DEFAULT_THRESHOLDS, POSITIVES, metric_name, wanted_precision
from .scores import CZII_BETA

TOLERANCE = 0.002  # of the best F within which a threshold is as good as another

# Where picks are found anew at each threshold; denser where F-beta 4 has its optimum.
GRID: tuple[float, ...] = (0.02, 0.03, 0.05, 0.07, *(round(0.1 + 0.05 * k, 2) for k in range(18)), 0.98)

Candidates = Mapping[float, Mapping[str, Picks]]  # lowest height -> run -> picks found with it


@dataclass(frozen=True)
class Calibration:
    """Where to cut the scores of one object; picks with `score >= threshold` are kept.

    Attributes:
        threshold: the cut.
        value: F1 or F-beta 4 there, for `precision=P` the recall; 0 where it could not be measured.
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
    tolerance: float = 0.0,
) -> dict[str, Calibration]:
    """The best threshold of each object over all its scores, all runs together.

    The candidates must be positions that do not depend on the threshold (local maxima), picked with a low one. The
    threshold lies halfway to the next lower score, so that it does not hang on one pick; for `precision=P`, where
    halfway may fall short of P, it is the score itself.

    Args:
        candidates: run -> picks, with scores.
        truth: run -> true particles.
        objects: what is calibrated.
        metric: `f1` after one-to-one matching, `czii`: F-beta 4 with the challenge's rule of hits, or `precision=P`:
            the lowest threshold, which is the one with the most recall, at which picks are right P of the time after
            one-to-one matching; or `positives`: recall times precision, which is best where recall^2 a pick is, however
            many particles were left out of the truth.
        tolerance: of the cuts whose F is less than this fraction below the best, the median one is taken; 0.002
            gives thresholds that vary less from one set of runs to another.

    Raises:
        TomopickError: unknown metric; no truth, names not among `objects`, values that are not finite.

    Source: docs/conventions.md section 3 for F4 = 17 TP / (16 N + M); `positives` of Lee & Liu 2003 (ICML), who
    choose by recall^2 / P(picked) where there are no negatives.
    """
    metric = metric_name(metric)
    result = {}
    for o in scorable(candidates, truth, objects):
        scores, hits, n_truth = _hits(metric)(candidates, truth, o)
        cuts, tp, kept = at_every_cut(scores, hits)
        best, value = _best(metric, tp, kept, n_truth, tolerance)
        if best is None:
            result[o.name] = _kept_default(metric, n_truth, len(scores))
            continue
        threshold = float(cuts[best]) if metric.startswith("precision") else _halfway(cuts, best)
        result[o.name] = Calibration(threshold, value, n_truth, len(scores), True)
    return result


def calibrate_grid(
    candidates: Candidates,
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    metric: str,
    tolerance: float = 0.0,
) -> dict[str, Calibration]:
    """As `calibrate`, of picks whose positions depend on the threshold: the best of those they were found at.

    Args:
        candidates: threshold -> run -> the picks found with it.
        truth, objects, metric, tolerance: see `calibrate`.

    Raises:
        TomopickError: as `calibrate`, or there is no threshold.
    """
    metric = metric_name(metric)
    if not candidates:
        raise TomopickError("no thresholds to choose from; expected picks at one or more")
    cuts = sorted(candidates, reverse=True)
    for cut in cuts:
        particles = scorable(candidates[cut], truth, objects)
    result = {}
    for o in particles:
        counted = [_hits(metric)(candidates[cut], truth, o) for cut in cuts]
        kept, tp = np.array([len(s) for s, _, _ in counted]), np.array([len(h) for _, h, _ in counted])
        n_truth = counted[0][2]
        best, value = _best(metric, tp, kept, n_truth, tolerance)
        if best is None:
            result[o.name] = _kept_default(metric, n_truth, int(kept.max()))
        else:
            result[o.name] = Calibration(float(cuts[best]), value, n_truth, int(kept[best]), True)
    return result


def choose_thresholds(
    found: Candidates,
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    metric: str,
    tolerance: float = TOLERANCE,
) -> dict[str, Calibration]:
    """The threshold of each object for `czii`, `f1` or `precision=P`: of all there are, or of those picked at.

    `calibrate` of picks found once with a low threshold, `calibrate_grid` of picks found with several. Where no
    threshold reaches P, or nothing is right, the object is not calibrated.

    Raises:
        SelectionError: another metric, or P not between 0 and 1.
        TomopickError: no truth, names not among `objects`, values that are not finite.
    """
    if len(found) > 1:
        return calibrate_grid(found, truth, objects, metric, tolerance)
    (only,) = found.values()
    return calibrate(only, truth, objects, metric, tolerance)


def found_uphill(
    pick_at: Callable[[Mapping[str, float]], Mapping[str, Picks]],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    metrics: Sequence[str],
    lowest: Mapping[str, float],
) -> Candidates:
    """Picks whose positions depend on the threshold, found at few of those in `GRID`: around the best of them.

    Each object is picked at every third threshold, from the best of these on at its neighbours, until none is better.

    Args:
        pick_at: thresholds of some objects -> run -> picks found with them.
        truth, objects: see `calibrate`.
        metrics: that a threshold is wanted for, one after the other.
        lowest: by object, below which none is tried (but the highest of all is).
    """
    found: dict[float, dict[str, list[Picks]]] = {}
    values: dict[str, dict[int, list[float]]] = {o.name: {} for o in objects}
    first = {name: sum(cut < lowest[name] for cut in GRID[:-1]) for name in values}
    while cuts := {name: GRID[i] for name in values if (i := _next(values[name], first[name])) is not None}:
        picks = pick_at(cuts)
        for o in objects:
            if o.name in cuts:
                mine = {run: picks[run].of(o.name) for run in truth}
                values[o.name][GRID.index(cuts[o.name])] = [value_at(metric, mine, truth, o) for metric in metrics]
                for run, part in mine.items():
                    found.setdefault(cuts[o.name], {r: [] for r in truth})[run].append(part)
    return {cut: {run: Picks.join(run, parts) for run, parts in runs.items()} for cut, runs in found.items()}


def _next(values: Mapping[int, Sequence[float]], first: int) -> int | None:
    """Where in `GRID`, from `first` on, an object is to be picked next; None: it is at a summit for every metric."""
    for i in range(len(GRID) - 1, first - 1, -3):
        if i not in values:
            return i
    for k in range(len(next(iter(values.values())))):
        best = max(v[k] for v in values.values())
        # Of several that are as good, one may stand beside a better one.
        for top in (i for i in sorted(values, reverse=True) if values[i][k] == best):
            for i in (top + 1, top - 1):
                if i not in values and first <= i < len(GRID):
                    return i
    return None


def value_at(
    metric: str, picks: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject, threshold: float = 0.0
) -> float:
    """The metric of one object's picks, of those at least as high as a threshold."""
    scores, hits, n_truth = _hits(metric)(picks, truth, obj)
    kept, tp = (np.array([np.count_nonzero(heights >= threshold)]) for heights in (scores, hits))
    return float(_values(metric, tp, kept, n_truth)[0])


def picks_for(found: Candidates, thresholds: Mapping[str, float]) -> dict[str, Picks]:
    """All picks found once, or of those found with several thresholds each object's with the one nearest to its own."""
    runs = next(iter(found.values()))
    if len(found) == 1:
        return dict(runs)
    nearest = {name: min(found, key=lambda cut: abs(cut - t)) for name, t in thresholds.items()}
    return {run: Picks.join(run, [found[cut][run].of(name) for name, cut in nearest.items()]) for run in runs}


def _kept_default(metric: str, n_truth: int, n_candidates: int) -> Calibration:
    """Where nothing could be measured."""
    default = DEFAULT_THRESHOLDS.get(metric, DEFAULT_THRESHOLDS["f1"])
    return Calibration(default, 0.0, n_truth, n_candidates, False)


def _best(metric: str, tp: np.ndarray, kept: np.ndarray, n_truth: int, tolerance: float) -> tuple[int | None, float]:
    """Of cuts by falling threshold the best one, and the metric there (recall for a precision); None: no hit."""
    if not tp.size or not tp.max():
        return None, 0.0
    if metric.startswith("precision"):
        good = np.flatnonzero((tp / np.maximum(kept, 1) >= wanted_precision(metric)) & (tp > 0))
        return (int(good[-1]), float(tp[good[-1]] / n_truth)) if len(good) else (None, 0.0)
    values = _values(metric, tp, kept, n_truth)
    good = np.flatnonzero(values >= values.max() * (1 - tolerance))
    best = int(good[(len(good) - 1) // 2] if tolerance > 0 else good[0])
    return best, float(values[best])


def _values(metric: str, tp: np.ndarray, kept: np.ndarray, n_truth: int) -> np.ndarray:
    """A metric at several cuts."""
    if metric == POSITIVES:
        return np.asarray(tp.astype(float) ** 2 / (np.maximum(kept, 1) * max(n_truth, 1)))
    return fbeta(tp, kept, n_truth, 1.0 if metric == "f1" else CZII_BETA)


def _hits(metric: str) -> Callable[..., tuple[np.ndarray, np.ndarray, int]]:
    return _czii_hits if metric == "czii" else _f1_hits


def _f1_hits(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject
) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of all candidates, scores at which a hit appears, number of references: one-to-one."""
    scores, right, n_truth = scored_picks(candidates, truth, obj)
    return scores, scores[right], n_truth


def _czii_hits(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject
) -> tuple[np.ndarray, np.ndarray, int]:
    """As `_f1_hits`, but a reference is hit from the best score around it downwards, whatever else that pick hits."""
    scores, hits, n_truth = [], [], 0
    for run, references in truth.items():
        found, wanted = candidates.get(run, Picks.empty(run)).of(obj.name), references.of(obj.name)
        best = np.full(len(wanted), -np.inf)
        reach = REACH * obj.radius_angstrom if len(found) and len(wanted) else 0.0
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
