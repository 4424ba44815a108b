"""What picks of validation runs tell of a model: thresholds, scores and where its picks lie."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ..core.types import PickableObject, Picks
from ..scoring.localisation import median_shift
from ..scoring.metrics import METRICS, POSITIVES
from ..scoring.thresholds import Candidates, choose_thresholds, picks_for, value_at
from .detector import Detector
from .ensemble import Ensemble

log = logging.getLogger("tomopick")
AnyModel = TypeVar("AnyModel", Detector, Ensemble)


def with_measured(
    model: AnyModel, found: Candidates, truth: Mapping[str, Picks], objects: Sequence[PickableObject],
    before: str | Mapping[str, str],
    complete: bool = True,
) -> AnyModel:  # fmt: skip
    """The model with thresholds, scores and displacement as measured; what could not be measured keeps its thresholds.

    Args:
        model: whose picks they are.
        found: lowest height -> run -> picks.
        truth: run -> true particles.
        objects: that are measured.
        before: what the thresholds are that the model has so far, all alike or by object, for the warning.
        complete: whether all particles are known; else `positives` chooses the thresholds and there are no scores.

    Raises:
        TomopickError: no truth, names not among `objects`, values that are not finite.
    """
    best = {metric: choose_thresholds(found, truth, objects, metric if complete else POSITIVES) for metric in METRICS}
    thresholds = {
        metric: {**model.thresholds[metric], **{name: c.threshold for name, c in cuts.items() if c.calibrated}}
        for metric, cuts in best.items()
    }
    for name, c in best["f1"].items():
        if not c.calibrated:
            what = f"validation particle of {name} was found" if c.n_truth else f"true {name} to validate on"
            log.warning(f"no {what}; its thresholds are {before if isinstance(before, str) else before[name]}")
    shift, n = median_shift(picks_for(found, thresholds["f1"]), truth, objects, thresholds["f1"])
    scores = {m: {k: float(c.value) for k, c in cuts.items() if c.n_truth and complete} for m, cuts in best.items()}
    facts = replace(model.facts, displacement=shift, displacement_matches=int(n), scores=scores)
    return replace(model, thresholds=thresholds, facts=facts)


def with_thresholds_of(
    model: AnyModel,
    found: Candidates,
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    judge: tuple[Candidates, Mapping[str, Picks]],
    complete: bool = True,
) -> AnyModel:
    """The model with thresholds of some objects from more runs than it is judged by.

    Args:
        model: as measured on the runs that it is judged by.
        found, truth: picks and true particles of more runs, those among them.
        objects: whose thresholds they set.
        judge: picks and true particles that scores are of.
        complete: see `with_measured`.
    """
    names = [o.name for o in objects]
    of_them = {cut: {run: p.among(names) for run, p in runs.items()} for cut, runs in found.items()}
    wanted = {run: p.among(names) for run, p in truth.items()}
    thresholds, scores = dict(model.thresholds), dict(model.facts.scores)
    for metric in METRICS:
        best = choose_thresholds(of_them, wanted, objects, metric if complete else POSITIVES)
        cuts = {name: c.threshold for name, c in best.items() if c.calibrated}
        thresholds[metric] = {**thresholds[metric], **cuts}
        if complete:
            kept = picks_for(judge[0], thresholds[metric])
            mine = {o.name: value_at(metric, kept, judge[1], o, cuts[o.name]) for o in objects if o.name in cuts}
            scores[metric] = {**scores.get(metric, {}), **mine}
    return replace(model, thresholds=thresholds, facts=replace(model.facts, scores=scores))
