"""Thresholds measured on a user's own runs and written into a model folder, and how far its scores can be believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from .detector import Detector, read_json
from .errors import ModelError, SelectionError
from .io import Project, atomic_write
from .io.select import near_miss
from .labels import picks_where_any
from .metrics import precision_recall
from .pick import Picker, PickOptions
from .thresholds import DEFAULT_THRESHOLDS, Calibration, calibrate
from .types import Grid, PickableObject, Picks, Tomogram

HISTORY = "calibration.json"  # beside detector.json, which holds only what picking needs
VIEWS = ("none", "flips", "all")
TOLERANCE = 0.002  # of the best F within which a threshold is as good as another


# ---------------------------------------------------------------------------------------------- calibrated scores
@dataclass(frozen=True)
class Reliability:
    """How often picks of a score are right.

    Attributes:
        score: (k,) mean score of each bin.
        fraction: (k,) of the bin's picks that are hits.
        n: (k,) picks in the bin.
        expected_error: mean of |fraction - score| over the picks (ECE); nan without picks.
    """

    score: np.ndarray
    fraction: np.ndarray
    n: np.ndarray
    expected_error: float


def reliability(scores: np.ndarray, hits: np.ndarray, bins: int = 10) -> Reliability:
    """Bins of equal width over 0..1 (scores beyond are counted at the ends); empty ones are left out.

    Args:
        scores: (n,).
        hits: (n,) bool, whether the pick is right.
        bins: how many.

    Source: Naeini et al. 2015 and Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    scores, hits = np.asarray(scores, dtype=np.float64), np.asarray(hits, dtype=bool)
    which = np.clip((scores * bins).astype(int), 0, bins - 1)
    n = np.bincount(which, minlength=bins)
    kept = n > 0
    mean = np.bincount(which, scores, bins)[kept] / n[kept]
    fraction = np.bincount(which, hits, bins)[kept] / n[kept]
    error = float(np.sum(n[kept] * np.abs(fraction - mean)) / len(scores)) if len(scores) else float("nan")
    return Reliability(mean, fraction, n[kept], error)


@dataclass(frozen=True)
class IsotonicMap:
    """Score -> fraction of picks of that score that are right; linear between the knots, never falling.

    Attributes:
        scores: (k,) knots, ascending.
        fractions: (k,) 0..1.
    """

    scores: tuple[float, ...]
    fractions: tuple[float, ...]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """(n,) scores -> (n,) calibrated ones."""
        return np.interp(scores, self.scores, self.fractions)

    @classmethod
    def fit(cls, scores: np.ndarray, hits: np.ndarray) -> IsotonicMap:
        """The map that fits the hits best among those that never fall.

        Raises:
            SelectionError: there are no picks.

        Source: Zadrozny & Elkan 2002; pool adjacent violators as in `scipy.optimize.isotonic_regression`.
        """
        if not len(scores):
            raise SelectionError("no picks, so their scores cannot be calibrated; pick with a lower threshold")
        knots, which = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
        n = np.bincount(which).astype(np.float64)
        level = isotonic_regression(np.bincount(which, hits) / n, weights=n).x
        # Only the ends of each step matter.
        ends = np.concatenate([[True], np.diff(level) != 0]) | np.concatenate([np.diff(level) != 0, [True]])
        return cls(tuple(knots[ends].tolist()), tuple(level[ends].tolist()))


def hits_of(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject, radius: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) scores of all picks of an object in the runs of the truth, and (n,) whether each is right, one-to-one."""
    from .matching import matchings

    scores, hits = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for run, (_, m) in zip(truth, matchings(candidates, truth, obj, radius)):
        mine = candidates.get(run, Picks.empty(run)).of(obj.name).scores
        right = np.zeros(len(mine), dtype=bool)
        right[m.candidates] = True
        scores.append(mine)
        hits.append(right)
    return np.concatenate(scores), np.concatenate(hits)


# -------------------------------------------------------------------------------------------------------- choosing
def choose_thresholds(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], objects: Sequence[PickableObject], metric: str
) -> dict[str, Calibration]:
    """The threshold of each object for `czii`, `f1` or `precision=P`.

    `precision=P` is the lowest threshold from which on the picks are right at least P of the time, which is the one
    with the most recall; its `value` is the recall. Where no threshold is that precise it is not calibrated.

    Raises:
        SelectionError: another metric, or P not between 0 and 1.
        TomopickError: no truth, names not among `objects`, values that are not finite.
    """
    if metric in DEFAULT_THRESHOLDS:
        return calibrate(candidates, truth, objects, metric, tolerance=TOLERANCE)
    wanted = wanted_precision(metric)
    result = {}
    for name, curve in precision_recall(candidates, truth, objects).items():
        good = np.flatnonzero((curve.precision >= wanted) & (curve.tp > 0))
        n = int(curve.n[-1]) if len(curve.n) else 0
        if not len(good):
            result[name] = Calibration(DEFAULT_THRESHOLDS["f1"], 0.0, curve.n_truth, n, False)
            continue
        last = int(good[-1])
        result[name] = Calibration(float(curve.thresholds[last]), float(curve.recall[last]), curve.n_truth, n, True)
    return result


def wanted_precision(metric: str) -> float:
    """P of `precision=P`."""
    name, _, number = metric.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if name != "precision" or not 0 < value <= 1:
        raise SelectionError(f"--metric '{metric}' is none of czii, f1 and precision=P with 0 < P <= 1")
    return value


# --------------------------------------------------------------------------------------------------------- picking
def candidates_of(picker: Picker, tomogram: Tomogram, views: str = "none") -> Iterator[tuple[str, Picks]]:
    """All picks down to a low score, of the volume and, where `views` asks, of its flips and quarter turns.

    Each view is picked as a volume of its own; its picks come back in the volume's own frame. Views that a network
    tells apart give slightly different scores, which smooths what is measured on all of them.

    Yields:
        (name of the view, picks).
    """
    for name, turned, back in _views(tomogram, views):
        picks, _ = picker.pick(turned)
        yield name, replace(picks, positions=tomogram.grid.positions(back(turned.grid.indices(picks.positions))))


def _views(tomogram: Tomogram, views: str) -> Iterator[tuple[str, Tomogram, Callable[[np.ndarray], np.ndarray]]]:
    """Name, volume, and what takes its indices back to the original's; the missing wedge allows no other turns."""
    if views not in VIEWS:
        raise SelectionError(f"--smooth '{views}' is none of {', '.join(VIEWS)}")
    yield "as is", tomogram, lambda indices: indices
    flips = {"flip z": (0,), "flip y": (1,), "flip x": (2,), "turn 180": (1, 2)} if views != "none" else {}
    for name, axes in flips.items():
        yield name, _turned(tomogram, np.flip(tomogram.values, axes)), _Flip(axes, tomogram.grid)
    for name, k in {"turn 90": 1, "turn 270": 3}.items() if views == "all" else ():
        yield name, _turned(tomogram, np.rot90(tomogram.values, k, (1, 2))), _Turn(k, tomogram.grid)


def _turned(tomogram: Tomogram, values: np.ndarray) -> Tomogram:
    grid = Grid(values.shape, tomogram.grid.voxel_spacing)
    return Tomogram(tomogram.run, np.ascontiguousarray(values), grid, tomogram.tomo_type)


@dataclass(frozen=True)
class _Flip:
    axes: tuple[int, ...]
    grid: Grid

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        result = indices.copy()
        for axis in self.axes:
            result[:, axis] = self.grid.shape[axis] - 1 - indices[:, axis]
        return result


@dataclass(frozen=True)
class _Turn:
    """`np.rot90` by k quarter turns in the plane of y and x, backwards."""

    k: int
    grid: Grid

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        z, y, x = indices.T
        _, height, width = self.grid.shape
        # rot90: new[i, j] = old[j, width - 1 - i]; thrice: new[i, j] = old[height - 1 - j, i].
        return np.stack([z, x, width - 1 - y] if self.k == 1 else [z, height - 1 - x, y], axis=1)


def out_of_fold(models: Sequence[Detector], project: Project, run: str) -> Detector:
    """The model among `models` (of a cross-validation) that has not learned from this run.

    Raises:
        SelectionError: all have.
    """
    for model in models:
        if run not in trained_on(model, project):
            return model
    raise SelectionError(
        f"run {run}: every model given has learned from it; thresholds measured on it would be too good, so leave "
        "it out of --runs, or give the model of another fold"
    )


def trained_on(model: Detector, project: Project) -> set[str]:
    """The runs of this project that the model's record says it learned from (by name, in whatever project)."""
    parts = model.facts.provenance.get("runs", [])
    return {run for part in parts for run in part.get("train", [])} & set(project.runs())


@dataclass(frozen=True)
class CalibrationOptions:
    """What is measured and how.

    Attributes:
        metric: `czii`, `f1` or `precision=P`.
        runs: to measure on; None: all with truth.
        truth: `object:user/session` of the true picks.
        tomo_type: `TYPE[@spacing]`.
        smooth: views of each volume that are picked besides it: `none`, `flips`, `all`.
        device: where to run.
        say: told what was found, one line at a time.
    """

    metric: str = "f1"
    runs: Sequence[str] | None = None
    truth: str | None = None
    tomo_type: str | None = None
    smooth: str = "none"
    device: str = "auto"
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Calibrated:
    """What was measured.

    Attributes:
        thresholds: by object.
        expected_errors: ECE by object.
        runs: it was measured on.
        before: the thresholds that the model had for the same purpose.
    """

    thresholds: Mapping[str, Calibration]
    expected_errors: Mapping[str, float]
    runs: tuple[str, ...]
    before: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Every figure."""
        objects = {
            name: {**vars(c), "before": self.before.get(name), "expected_calibration_error": _number(error)}
            for (name, c), error in zip(self.thresholds.items(), self.expected_errors.values())
        }
        return {"objects": objects, "runs": list(self.runs)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def measure(
    models: Sequence[Detector], project: Project, options: CalibrationOptions, target: Detector | None = None
) -> Calibrated:
    """Picks the runs down to a low score and finds the best threshold of each object.

    Args:
        models: one, or those of a cross-validation: each run is picked by one that has not learned from it.
        project: with tomograms and truth.
        options: how.
        target: whose thresholds are measured, and whose objects; the first of `models` where None.

    Raises:
        SelectionError: no truth, unknown runs or metric, or a run that every fold has learned from.
    """
    if options.metric not in DEFAULT_THRESHOLDS:
        wanted_precision(options.metric)
    target = target or models[0]
    objects = target.objects
    truth = _truth(project, options, [o.name for o in objects])
    pickers: dict[int, Picker] = {}
    found, wanted = {}, {}
    for run, references in truth.items():
        model = models[0] if len(models) == 1 else out_of_fold(models, project, run)
        if len(models) == 1 and run in trained_on(model, project):
            options.say(f"run {run}: warning: the model has learned from it; thresholds will be too good for others")
        if id(model) not in pickers:
            pickers[id(model)] = Picker([model], PickOptions(keep_below=True, device=options.device))
        for view, picks in candidates_of(pickers[id(model)], project.tomogram(run, options.tomo_type), options.smooth):
            key = f"{run} ({view})"
            found[key], wanted[key] = replace(picks, run=key), replace(references, run=key)
        options.say(f"run {run}: {len(picks)} candidates, {len(references)} true particles")
    best = choose_thresholds(found, wanted, objects, options.metric)
    errors = {o.name: reliability(*hits_of(found, wanted, o)).expected_error for o in objects if o.name in best}
    return Calibrated(best, errors, tuple(truth), dict(target.thresholds[slot(options.metric)]))


def _truth(project: Project, options: CalibrationOptions, names: Sequence[str]) -> dict[str, Picks]:
    known = project.runs()
    for run in options.runs or ():
        if run not in known:
            raise SelectionError(f"{project.uri}: no run '{run}'; {near_miss(run, known)}")
    truth = picks_where_any(project, options.runs or known, options.truth)
    for run in options.runs or ():
        if run not in truth:
            raise SelectionError(f"{project.uri}: run '{run}' has no picks to measure on; leave it out of --runs")
    kept = {run: p.select(np.isin(p.names, list(names))) for run, p in truth.items()}
    if not any(len(p) for p in kept.values()):
        raise SelectionError(
            f"{project.uri}: no true picks of {', '.join(names)}; name them with --truth OBJECT:USER/SESSION"
        )
    return kept


# --------------------------------------------------------------------------------------------------------- writing
def slot(metric: str) -> str:
    """Where a metric's thresholds are kept: `precision=P` takes the place of `f1`, which picking uses by default."""
    return metric if metric in DEFAULT_THRESHOLDS else "f1"


def write_thresholds(folder: Path, result: Calibrated, options: CalibrationOptions) -> None:
    """Puts the calibrated thresholds into the folder's detector.json and the ones before into its history.

    Objects that could not be calibrated keep theirs. Weights, recipe and checksum stay as they are.

    Raises:
        ModelError: no model folder.
    """
    about = _about(folder)
    history = _history(folder)
    before = {k: dict(v) for k, v in about["thresholds"].items()}
    name = slot(options.metric)
    about["thresholds"][name] |= {k: c.threshold for k, c in result.thresholds.items() if c.calibrated}
    entry = {"metric": options.metric, "smooth": options.smooth, "before": before, **result.to_json()}
    # The history first: if the second write fails, undoing puts back what is there anyway.
    _write(folder / HISTORY, {"format_version": 1, "history": [*history, entry]})
    _write(folder / "detector.json", about)


def undo(folder: Path) -> dict[str, dict[str, float]]:
    """Puts back the thresholds from before the last calibration and returns them.

    Raises:
        ModelError: there was none.
    """
    history = _history(folder)
    if not history:
        raise ModelError(f"{folder}: no calibration to undo; its thresholds are those that training measured")
    about = _about(folder)
    about["thresholds"] = history[-1]["before"]
    _write(folder / "detector.json", about)
    _write(folder / HISTORY, {"format_version": 1, "history": history[:-1]})
    return about["thresholds"]


def _about(folder: Path) -> dict[str, Any]:
    if not (folder / "detector.json").is_file():
        raise ModelError(f"{folder}: no model folder: detector.json is missing; copy a shipped model to calibrate it")
    return read_json(folder / "detector.json")


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / HISTORY
    return list(read_json(path).get("history", [])) if path.is_file() else []


def _write(path: Path, data: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(data, indent=1))
