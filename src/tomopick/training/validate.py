"""What a training is judged by: picks of its validation volumes, and the thresholds that are best there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..core.arrays import Array
from ..core.types import Heatmap, PickableObject, Picks
from ..networks.engines import EngineSpec
from ..picking.detector import Detector
from ..picking.measured import with_measured, with_thresholds_of
from ..picking.peaks import LOWEST_SCORE, PeakFinder
from ..picking.predict import Predictor, predict_rows
from ..picking.rows import decode_rows
from ..picking.tensors import fits
from ..scoring.metrics import DEFAULT_THRESHOLDS, METRICS, POSITIVES
from ..scoring.thresholds import Candidates, choose_thresholds, found_uphill
from .dataset import Data
from .loop import TrainState
from .patches import LabelledVolume

log = logging.getLogger("tomopick")

# Of a volume, no more of which can be of one object: where a heatmap of groups is cut lower, nothing is parted well and
# much is flooded.
FULLEST = 0.1
ENOUGH = 50  # true particles of an object that set its threshold by themselves
_MORE = 3  # volumes that were learned from, at most, that help where there are fewer


def validation_picks(detector: Detector, predictor: Predictor, data: Data, metrics: Sequence[str]) -> Candidates:
    """Candidates of the validation volumes, by lowest height and volume: all down to a low one, or around the best.

    Args:
        detector: how peaks are found.
        predictor: of the weights that are validated.
        data: with the volumes.
        metrics: that a threshold is wanted for; only a decoder whose positions depend on it needs to know.
    """
    volumes, peaks = {str(i): volume for i, volume in enumerate(data.val)}, detector.method.peaks
    rows: Mapping[str, Iterable[Heatmap]] = {
        run: predict_rows(predictor, run, _placed(volume, predictor, peaks), volume.grid)
        for run, volume in volumes.items()
    }

    def pick_at(cuts: Mapping[str, float]) -> dict[str, Picks]:
        chosen = [o for o in data.objects if o.name in cuts]
        found = {run: decode_rows(strips, peaks, chosen, cuts, run) for run, strips in rows.items()}
        return {run: _judged(picks, volumes[run]) for run, picks in found.items()}

    if not peaks.positions_depend_on_threshold:
        return {LOWEST_SCORE: pick_at({o.name: LOWEST_SCORE for o in data.objects})}
    rows = held = {run: list(strips) for run, strips in rows.items()}
    lowest = {o.name: _height([s for strips in held.values() for s in strips], o.name) for o in data.objects}
    return found_uphill(pick_at, _truth(data), data.objects, metrics, lowest)


def _placed(volume: LabelledVolume, predictor: Predictor, peaks: PeakFinder) -> Array:
    """The values of a volume, on the GPU that the network runs on where they fit and nothing but maxima is wanted."""
    device = predictor.engine.tensors_on
    if device is None or device.type != "cuda" or peaks.positions_depend_on_threshold or not fits(volume.grid, device):
        return volume.values
    return torch.from_numpy(np.array(volume.values, dtype=np.float32)).to(device)


def _judged(picks: Picks, volume: LabelledVolume) -> Picks:
    """Those that can be right or wrong: of what is not labelled there, or in the void, nobody knows."""
    return picks.select(volume.labelled_at(picks))


def _height(strips: Sequence[Heatmap], name: str) -> float:
    """What an object's heatmap exceeds in `FULLEST` of all cells; of each strip, one row in four is looked at."""
    cells = [strip.values[strip.objects.index(name), :, strip.core or slice(None)][:, ::4].ravel() for strip in strips]
    return float(np.quantile(np.concatenate(cells), 1 - FULLEST))


def validate(
    detector: Detector, state: TrainState, data: Data, metric: str = "f1", cut_by: str = "f1"
) -> tuple[float, dict[str, float], Detector]:
    """The metric (see `TrainSpec.select`) at the best thresholds, with the averaged weights; and each object's.

    Where not all particles were picked it is `positives` in any case.

    Of the volumes as they are, whatever views the method picks with: the best weights are told as well by one. The
    detector given back has the thresholds that are best for these weights, and not the weights themselves; for `cut_by`
    too, and by that, for objects that never reach a precision, those for F1.
    """
    network = detector.method.network.build(len(data.objects))
    network.load_state_dict(state.averages["ema"].tensors)
    device = next(state.network.parameters()).device
    # These weights are used once: nothing that converts or compiles them first pays.
    predictor = replace(detector, network=network).predictor(device, "none", EngineSpec("torch"))
    by = metric if data.complete else POSITIVES
    candidates, truth = validation_picks(detector, predictor, data, [by]), _truth(data)
    best = choose_thresholds(candidates, truth, data.objects, by, tolerance=0.0)
    scores = {name: c.value for name, c in best.items() if c.n_truth}
    weights = [o.score_weight if metric == "czii" else 1.0 for o in data.objects if o.name in scores]
    # Where positions depend on the threshold, candidates are those around the best of one metric, which all share.
    wanted = {m: m if data.complete else POSITIVES for m in METRICS}
    found = {m: best if b == by else choose_thresholds(candidates, truth, data.objects, b) for m, b in wanted.items()}
    cuts = {m: {k: c.threshold for k, c in each.items() if c.calibrated} for m, each in found.items()}
    known = {m: {k: float(c.value) for k, c in cs.items() if c.n_truth and data.complete} for m, cs in found.items()}
    thresholds = {**detector.thresholds, **{m: {**detector.thresholds[m], **mine} for m, mine in cuts.items()}}
    if cut_by not in METRICS and data.complete:
        reached = choose_thresholds(candidates, truth, data.objects, cut_by)
        thresholds[cut_by] = {**thresholds["f1"], **{k: c.threshold for k, c in reached.items() if c.calibrated}}
    detector = replace(detector, thresholds=thresholds, facts=replace(detector.facts, scores=known))
    return float(np.average(list(scores.values()), weights=weights)) if sum(weights) else 0.0, scores, detector


def _truth(data: Data) -> dict[str, Picks]:
    return {str(i): replace(v.picks, run=str(i)) for i, v in enumerate(data.val)}


def measured(detector: Detector, data: Data, device: torch.device) -> Detector:
    """The detector with what the validation volumes tell: thresholds, displacement and scores.

    Of an object with few true particles there, one doubtful place decides between a low threshold and a high one: then
    volumes that were learned from help to set it, whose doubtful places show, too, where a cut should not be. Where
    they are known by heart any cut that validation allows suits them, so they change nothing. Scores are of
    validation alone.
    """
    metrics = METRICS if data.complete else (POSITIVES,)
    predictor = detector.predictor(device)
    candidates, truth = validation_picks(detector, predictor, data, metrics), _truth(data)
    start, cuts = detector.facts.provenance.get("added_to"), detector.thresholds["f1"]
    kept = [n for n, cut in cuts.items() if start and cut != DEFAULT_THRESHOLDS["f1"]]
    before = dict.fromkeys(cuts, "the defaults") | dict.fromkeys(kept, f"those of {start}")
    made = with_measured(detector, candidates, truth, data.objects, before, data.complete)
    n = Counter(name for picks in truth.values() for name in picks.names.tolist())
    few = [o for o in data.objects if 0 < n[o.name] < ENOUGH]
    if not few or detector.method.peaks.positions_depend_on_threshold:
        return made
    more = replace(data, val=_with_most(data.train, few, ENOUGH - min(n[o.name] for o in few)))
    seen, known = validation_picks(detector, predictor, more, metrics), _truth(more)
    pooled = {LOWEST_SCORE: {**candidates[LOWEST_SCORE], **_renamed(seen[LOWEST_SCORE])}}
    return with_thresholds_of(made, pooled, {**truth, **_renamed(known)}, few, (candidates, truth), data.complete)


def _with_most(
    volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject], wanted: int
) -> list[LabelledVolume]:
    """Volumes with the most of these objects, until there are as many as wanted; few, for they take time."""
    names = [o.name for o in objects]
    held = sorted(volumes, key=lambda v: -len(v.picks.among(names)))
    found: list[LabelledVolume] = []
    while held and len(found) < _MORE and sum(len(v.picks.among(names)) for v in found) < wanted * len(names):
        found.append(held.pop(0))
    return found


def _renamed(picks: Mapping[str, Picks]) -> dict[str, Picks]:
    return {f"learned {run}": replace(p, run=f"learned {run}") for run, p in picks.items()}
