"""Thresholds measured on a user's own runs and written into a model folder, and scores that say how likely they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError, SelectionError
from ..core.messages import counted
from ..core.reading import typed
from ..core.types import Grid, Heatmap, Picks, Tomogram
from ..data import Project, atomic_write
from ..data.runs import Runs
from ..picking.familiar import trained_on, warn_of_familiar
from ..picking.folder import model_file, read_record
from ..picking.options import PickOptions
from ..picking.peaks import LOWEST_SCORE, distances_of
from ..picking.picker import Model, Picker
from ..picking.predict import View
from ..scoring.crowding import crowded
from ..scoring.fitted_maps import fit_maps, held_out_scores
from ..scoring.matching import scored_picks
from ..scoring.metrics import metric_name
from ..scoring.radii import radius_doubts
from ..scoring.score_maps import Believed, ScoreMap, ScoreMaps, reliability, rescaled
from ..scoring.thresholds import GRID, Calibration, choose_thresholds, picks_for

log = logging.getLogger("tomopick")

HISTORY = "calibration.json"  # beside detector.json, which holds only what picking needs
# Names of the views that are picked beside a volume as it is; the missing wedge allows no others.
_FLIPS = {"flip z": View((0,)), "flip y": View((1,)), "flip x": View((2,)), "turn 180": View((1, 2))}
_TURNS = {"turn 90": View((1,), swapped=True), "turn 270": View((2,), swapped=True)}
SMOOTHING_VIEWS: dict[str, dict[str, View]] = {"none": {}, "flips": _FLIPS, "all": _FLIPS | _TURNS}
_GROUPS = 10  # of runs, at most, that maps of scores are tried on one after the other


# --------------------------------------------------------------------------------------------------------- picking
def candidates_of(picker: Picker, tomogram: Tomogram, views: str = "none") -> Iterator[tuple[str, dict[float, Picks]]]:
    """All picks down to a low height, of the volume and, where `views` asks, of its flips and quarter turns.

    Each view is picked as a volume of its own; its picks come back in the volume's own frame. Views that a network
    tells apart give slightly different scores, which smooths what is measured on all of them. Where positions depend
    on the threshold, each view's heatmap is decoded at every value of `GRID`.

    Yields:
        (name of the view, lowest height -> picks with heights as scores).
    """
    cuts = GRID if picker.positions_depend_on_threshold else (LOWEST_SCORE,)
    if views not in SMOOTHING_VIEWS:
        raise SelectionError(f"`smooth={views}` is none of {', '.join(SMOOTHING_VIEWS)}")
    for name, view in {"as is": View(), **SMOOTHING_VIEWS[views]}.items():
        turned = _seen(tomogram, view)
        rows, unlike = picker.rows(turned)
        for line in unlike if name == "as is" else ():
            log.warning(f"run {tomogram.run}: {line}")
        strips: Iterable[Heatmap] = rows if len(cuts) == 1 else list(rows)
        found = {}
        for cut in cuts:
            picks = picker.picks_at(strips, turned, {o.name: cut for o in picker.objects})
            indices = view.indices_back(turned.grid.indices(picks.positions), tomogram.grid.shape)
            found[cut] = replace(picks, positions=tomogram.grid.positions(indices))
        yield name, found


def _seen(tomogram: Tomogram, view: View) -> Tomogram:
    values = np.ascontiguousarray(view.of(tomogram.values))
    void = None if tomogram.void is None else view.of(tomogram.void)
    return tomogram.changed(values, Grid(values.shape, tomogram.grid.voxel_spacing), void)


def out_of_fold(models: Sequence[Model], project: Project, run: str) -> Model:
    """The model among `models` (of a cross-validation) that has not learned from this run.

    Raises:
        SelectionError: all have.
    """
    for model in models:
        if run not in trained_on(model, project):
            return model
    raise SelectionError(
        f"run {run}: every model given has learned from it; thresholds measured on it would be too good, so leave "
        "it out of `Runs.names`, or give the model of another fold"
    )


@dataclass(frozen=True)
class CalibrationOptions:
    """What is measured and how.

    Attributes:
        metric: `czii`, `f1` or `precision=P`.
        smooth: views of each volume that are picked besides it: `none`, `flips`, `all`.
        views: whose heatmaps are averaged in each pick (see `PickOptions`).
        map_scores: make scores tell how often picks are right.
        device: where to run.
    """

    metric: str = "f1"
    smooth: str = "none"
    views: str | None = None
    map_scores: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Calibrated:
    """What was measured.

    Attributes:
        thresholds: by object; scores as the model gives them from now on.
        believed: by object.
        runs: it was measured on.
        before: the thresholds that the model had for the same metric, in the same scores; empty where it had none.
        score_maps: of the model from now on.
    """

    thresholds: Mapping[str, Calibration]
    believed: Mapping[str, Believed]
    runs: tuple[str, ...]
    before: Mapping[str, float]
    score_maps: ScoreMaps = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every figure."""
        objects = {}
        for name, c in self.thresholds.items():
            errors = self.believed[name].now.expected_error, self.believed[name].held_out.expected_error
            objects[name] = {
                **vars(c),
                "before": self.before.get(name),
                "mapped": name in self.score_maps,
                "expected_calibration_error": _number(errors[0]),
                "expected_calibration_error_held_out": _number(errors[1]),
            }
        return {"objects": objects, "runs": list(self.runs)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def measure(
    models: Sequence[Model], runs: Runs | Project, options: CalibrationOptions, target: Model | None = None
) -> Calibrated:
    """Picks the runs down to a low score and finds the best threshold of each object.

    Args:
        models: one, or those of a cross-validation: each run is picked by one that has not learned from it.
        runs: with tomograms and truth; those without such picks are left out, unless they are named.
        options: how.
        target: whose thresholds are measured, and whose objects; the first of `models` where None.

    Raises:
        SelectionError: no truth, unknown runs or metric, or a run that every fold has learned from.
    """
    metric, target, runs = metric_name(options.metric), target or models[0], Runs.of(runs)
    objects = target.objects
    truth = _truth(runs, [o.name for o in objects])
    found, wanted, groups = _pool(models, runs, truth, [o.name for o in objects], options)
    for line in crowded(truth, objects, distances_of(target.peaks, objects)):
        log.warning(line)
    best = choose_thresholds(found, wanted, objects, metric)  # heights, by object
    judged = picks_for(found, {k: c.threshold for k, c in best.items()})  # by run and view, scored by height
    maps, held_out = target.score_maps, {}
    if options.map_scores:
        measured = [o for o in objects if o.name in best]
        maps, refused = fit_maps(judged, wanted, measured)
        for name, reason in refused.items():
            log.info(f"{name}: its scores stay as they are: {reason}")
        held_out = {o.name: held_out_scores(judged, wanted, groups, o) for o in measured if o.name in maps}
    believed = {}
    for o in objects:
        if o.name in best:
            heights, hits, _ = scored_picks(judged, wanted, o)  # (pick,) each
            now = target.score_maps[o.name](heights) if o.name in target.score_maps else heights
            later = held_out.get(o.name, (np.zeros(0), np.zeros(0, dtype=bool)))
            believed[o.name] = Believed(reliability(now, hits), reliability(*later))
    # Thresholds are scores, so they move with the maps: from heights, and from what the maps were before.
    moved = rescaled({k: c.threshold for k, c in best.items()}, {}, maps)
    thresholds = {k: replace(c, threshold=moved[k]) for k, c in best.items()}
    before = rescaled(target.thresholds.get(metric, {}), target.score_maps, maps)
    return Calibrated(thresholds, believed, tuple(truth), before, maps)


def _pool(
    models: Sequence[Model],
    runs: Runs,
    truth: Mapping[str, Picks],
    names: Sequence[str],
    options: CalibrationOptions,
) -> tuple[dict[float, dict[str, Picks]], dict[str, Picks], list[list[str]]]:
    """Picks and truth of all runs and views, and which of them belong to the same runs."""
    pickers: dict[int, Picker] = {}
    found: dict[float, dict[str, Picks]] = {}
    wanted: dict[str, Picks] = {}
    groups: list[list[str]] = [[] for _ in range(min(len(truth), _GROUPS))]
    if len(models) == 1:
        warn_of_familiar(models[0], runs.project, truth, "thresholds")
    for line in radius_doubts(runs.project.objects, models[0].objects):
        log.warning(line)
    for i, (run, references) in enumerate(truth.items()):
        model = models[0] if len(models) == 1 else out_of_fold(models, runs.project, run)
        if id(model) not in pickers:
            pickers[id(model)] = Picker(model, PickOptions(views=options.views, device=options.device))
        tomogram = runs.tomogram(run)
        for view, picks_at in candidates_of(pickers[id(model)], tomogram, options.smooth):
            key = f"{run} ({view})"
            groups[i % len(groups)].append(key)
            wanted[key] = replace(references, run=key)
            for cut, picks in picks_at.items():
                kept = runs.judged({run: picks.among(names)})[run]
                found.setdefault(cut, {})[key] = replace(kept, run=key)
        n = counted(len(found[min(found)][key]), "candidate")
        log.info(f"run {run}: {n}, {counted(len(references), 'true particle')}")
    if len({picker.positions_depend_on_threshold for picker in pickers.values()}) > 1:
        raise SelectionError("`models` find peaks in different ways; give models of one recipe")
    return found, wanted, groups


def _truth(runs: Runs, names: Sequence[str]) -> dict[str, Picks]:
    kept = {run: p.among(names) for run, p in runs.labelled("picks").items()}
    if not any(len(p) for p in kept.values()):
        where, fix = "", "name them with `picks=OBJECT:USER/SESSION`"
        if runs.project.regions:
            where, fix = (
                " where its runs are labelled",
                "mend the region or mask (`regions`, `labelled_in`)",
            )
        raise SelectionError(f"{runs.uri}: no true picks of {', '.join(names)}{where}; {fix}")
    return kept


# --------------------------------------------------------------------------------------------------------- writing
def write_thresholds(folder: Path, result: Calibrated, options: CalibrationOptions) -> None:
    """Puts the calibrated thresholds (and maps of scores) into the folder and the ones before into its history.

    Objects that could not be calibrated keep theirs; for a metric that the model had no thresholds for, those for
    `f1`. All thresholds of the model are moved along with its scores. Weights, recipe and checksum stay as they are.

    Raises:
        ModelError: no model folder.
    """
    path, about = _about(folder)
    history = _history(folder)
    before = {k: dict(v) for k, v in about["thresholds"].items()}
    maps_before = about.get("score_maps", {})
    old = {name: ScoreMap.from_json(knots) for name, knots in maps_before.items()}
    about["thresholds"] = {m: rescaled(cuts, old, result.score_maps) for m, cuts in before.items()}
    name = metric_name(options.metric)
    kept = about["thresholds"].setdefault(name, dict(about["thresholds"]["f1"]))
    kept |= {k: c.threshold for k, c in result.thresholds.items() if c.calibrated}
    about.pop("score_maps", None)
    if result.score_maps:
        about["score_maps"] = {k: m.to_json() for k, m in result.score_maps.items()}
    entry = {"metric": name, "smooth": options.smooth, "before": before, "score_maps_before": maps_before}
    if history and all(history[-1].get(k) == entry[k] for k in ("before", "score_maps_before")):
        history = history[:-1]  # it was cut off before it took effect
    # The history first: if the second write fails, undoing puts back what is there anyway.
    _write(folder / HISTORY, {"format_version": 1, "history": [*history, entry | result.to_json()]})
    _write(path, about)


def undo(folder: Path) -> dict[str, dict[str, float]]:
    """Puts back the thresholds and the maps of scores from before the last calibration; returns the thresholds.

    Raises:
        ModelError: there was none.
    """
    history = _history(folder)
    if not history:
        raise ModelError(f"{folder}: no calibration to undo; its thresholds are those that training measured")
    path, about = _about(folder)
    where = f"{folder / HISTORY}: before"
    about["thresholds"] = typed(dict[str, dict[str, float]], history[-1].get("before"), where, ModelError)
    about.pop("score_maps", None)
    if maps := history[-1].get("score_maps_before"):
        about["score_maps"] = {
            str(name): ScoreMap.from_json(knots).to_json()
            for name, knots in typed(dict[str, Any], maps, f"{folder / HISTORY}: score_maps_before", ModelError).items()
        }
    _write(path, about)
    _write(folder / HISTORY, {"format_version": 1, "history": history[:-1]})
    return about["thresholds"]


def _about(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file with the thresholds, of a model or of an ensemble, and what it holds."""
    path = model_file(folder)
    if not path.is_file():
        raise ModelError(f"{folder}: no model folder: detector.json is missing; copy a shipped model to calibrate it")
    return path, read_record(path)


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / HISTORY
    found = read_record(path).get("history", []) if path.is_file() else []
    return typed(list[dict[str, Any]], found, f"{path}: history", ModelError)


def _write(path: Path, data: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(data, indent=1))
