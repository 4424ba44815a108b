"""From models and validation runs to an ensemble folder: aligned scores, weights and thresholds of the ensemble."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from ..core.errors import RecipeError, SelectionError
from ..core.files import require_new
from ..core.messages import listing
from ..core.types import PickableObject, Picks
from ..data import atomic_folder
from ..data.runs import Runs
from ..picking.cards import save_with_card
from ..picking.detector import Detector
from ..picking.ensemble import MEANS, Alignment, Ensemble, Member
from ..picking.familiar import trained_on
from ..picking.measured import with_measured
from ..picking.options import PickOptions
from ..picking.peaks import LOWEST_SCORE
from ..picking.picker import Picker
from ..scoring.metrics import METRICS
from ..scoring.score_maps import heights
from ..scoring.thresholds import GRID, Calibration, choose_thresholds
from .kept_heatmaps import Kept, keep_heatmaps
from .weight_search import Shares, search

log = logging.getLogger("tomopick")

_WEIGHTS = ("uniform", "grid")
KNOTS = 32  # of an alignment
_FEWEST = 8  # candidates of an object that an alignment can rest on


def unlearned(runs: Runs, detectors: Sequence[Detector]) -> dict[str, Picks]:
    """The true picks to measure on, by run: of the runs that are named, else of those that not all have learned from.

    Raises:
        SelectionError: a run that is not there or has none, or no run that a model has not learned from.
    """
    found = runs.labelled("picks")
    if runs.names is None:
        seen_by_all = set.intersection(*(trained_on(d, runs.project) for d in detectors))
        found = {run: p for run, p in found.items() if run not in seen_by_all}
    names = [o.name for d in detectors for o in d.objects]
    found = {run: p.among(names) for run, p in found.items()}
    if not any(len(p) for p in found.values()):
        raise SelectionError(
            f"{runs.uri}: no run with true picks of {listing(sorted(set(names)))}"
            f"{' where it is labelled' if runs.project.regions else ''} that a model has not learned from; "
            "name some with `Runs.names`"
        )
    return found


@dataclass(frozen=True)
class CombineOptions:
    """How models are combined.

    Attributes:
        weights: `uniform`, or `grid`: the best found on the validation runs.
        per_object: each object has its own best weights.
        mean: of `probabilities` or `logits`; None: as the models that are ensembles have it, else probabilities.
        align: the members' scores are aligned by their ranks first.
        metric: `f1` or `czii`, which the weights make best.
        views: whose heatmaps are averaged in each member (see `PickOptions`).
        device, engine: where to run.
    """

    weights: str = "uniform"
    per_object: bool = False
    mean: str | None = None
    align: bool = False
    metric: str = "f1"
    views: str | None = None
    device: str = "auto"
    engine: str = "auto"

    def __post_init__(self) -> None:
        if self.weights not in _WEIGHTS:
            raise RecipeError(f"weights '{self.weights}' are none of {', '.join(_WEIGHTS)}")
        if self.mean is not None and self.mean not in MEANS:
            raise RecipeError(f"the mean of '{self.mean}' is none of {', '.join(MEANS)}")
        if self.metric not in METRICS:
            raise SelectionError(f"metric '{self.metric}' is none of {', '.join(METRICS)}")
        if self.per_object and self.weights != "grid":
            raise RecipeError("weights by object are found on a grid; add `weights=grid`")


def combine(
    models: Sequence[Detector | Ensemble], out: Path, options: CombineOptions, runs: Runs | None = None
) -> Ensemble:
    """Writes the ensemble folder `out`; ensembles among the models are taken apart into their members.

    Args:
        models: trained ones, of any family, size, stride and voxel spacing.
        out: folder to make.
        options: how.
        runs: to measure on; without them the thresholds are the mean of the models'.

    Raises:
        SelectionError: weights or an alignment are to be measured, and there is nothing to measure on.
        OutputError: `out` exists.
    """
    require_new(out)
    ensemble = put_together(models, options, runs)
    with atomic_folder(out) as folder:
        checksum = save_with_card(ensemble, folder)
    return replace(ensemble, checksum=checksum, name=str(out))


def put_together(models: Sequence[Detector | Ensemble], options: CombineOptions, runs: Runs | None = None) -> Ensemble:
    """The ensemble that `combine` writes."""
    ensemble = Ensemble.of(models)
    cuts = {metric: heights(values, ensemble.score_maps) for metric, values in ensemble.thresholds.items()}
    ensemble = replace(
        ensemble, mean=options.mean or ensemble.mean, thresholds=cuts, score_maps={}, checksum="", name=""
    )
    if runs is None:
        if options.weights != "uniform" or options.align:
            what = "weights" if options.weights != "uniform" else "an alignment"
            raise SelectionError(f"{what} are measured on validation runs; give `runs`")
        log.info("not measured on any run: thresholds are the mean of the models'")
        return _remembering(ensemble, models, options, None, ())
    truth = unlearned(runs, ensemble.detectors)
    with tempfile.TemporaryDirectory(prefix="tomopick-heatmaps-") as place:
        picker = Picker(ensemble, PickOptions(views=options.views, device=options.device, engine=options.engine))
        kept = [keep_heatmaps(picker, runs, run, Path(place)) for run in truth]
        if options.align:
            ensemble = _align(ensemble, kept)
        if options.weights == "grid":
            ensemble = _weighed(ensemble, kept, truth, options)
        ensemble, kept = _used(ensemble, kept)
        ensemble = _calibrated(ensemble, kept, truth)
    return _remembering(ensemble, models, options, runs, [k.run for k in kept])


# ------------------------------------------------------------------------------------------------------------- aligning
def _align(ensemble: Ensemble, kept: Sequence[Kept]) -> Ensemble:
    """Each member's scores mapped so that its k-th best candidate has the mean of the members' k-th best scores."""
    plain = replace(ensemble, members=tuple(replace(m, alignment={}) for m in ensemble.members))
    ranked: list[dict[str, tuple[np.ndarray, int]]] = []
    for i in range(len(plain.members)):
        mine = [k.only(i) for k in kept if i in k.members]
        picks = [k.picks(plain, LOWEST_SCORE) for k in mine]
        names = [o.name for o in plain.members[i].detector.objects]
        ranked.append(
            {n: (np.sort(np.concatenate([p.of(n).scores for p in picks]))[::-1], len(mine)) for n in names}
            if mine
            else {}
        )
    found: list[dict[str, Alignment]] = [{} for _ in ranked]
    for o in plain.objects:
        those = {i: scores[o.name] for i, scores in enumerate(ranked) if o.name in scores}
        maps = rank_maps(list(those.values()))
        if maps is None:
            log.info(f"{o.name}: too few candidates to align its scores; they stay as they are")
            continue
        for i, alignment in zip(those, maps):
            found[i][o.name] = alignment
    members = tuple(replace(m, alignment=a) for m, a in zip(plain.members, found))
    return replace(plain, members=members)


def rank_maps(ranked: Sequence[tuple[np.ndarray, int]]) -> list[Alignment] | None:
    """Maps that give candidates of one rank one score, the members' mean; None where there are too few.

    Ranks are counted per run, not as a share of the candidates, of which a noisy member has many more.

    Args:
        ranked: of each member the (n,) scores in falling order, and from how many runs they are.

    Source: quantile matching of the two halves of the CZII challenge's 1st place, whose details are not public.
    """
    if len(ranked) < 2 or min(len(scores) for scores, _ in ranked) < _FEWEST:
        return None
    ranks = [(np.arange(len(scores)) + 0.5) / runs for scores, runs in ranked]
    common = np.linspace(max(r[0] for r in ranks), min(r[-1] for r in ranks), KNOTS)
    if common[-1] <= common[0]:
        return None
    given = [np.interp(common, r, scores)[::-1] for r, (scores, _) in zip(ranks, ranked)]
    wanted = np.mean(given, axis=0)
    return [_rising(g, wanted) for g in given]


def _rising(given: np.ndarray, wanted: np.ndarray) -> Alignment:
    x, y = [0.0], [0.0]
    for a, b in zip(given.tolist(), wanted.tolist()):
        if a > x[-1] + 1e-6 and b > y[-1] + 1e-6:
            x.append(a)
            y.append(b)
    return Alignment(tuple(x), tuple(y))


# ------------------------------------------------------------------------------------------------------------- weighing
def _weighed(ensemble: Ensemble, kept: Sequence[Kept], truth: Mapping[str, Picks], options: CombineOptions) -> Ensemble:
    """The weights of the highest score on the validation runs, for all objects together or for each."""
    n = len(ensemble.members)
    if all(len(k.members) < 2 for k in kept):
        raise SelectionError(
            "weights cannot be told apart: no run is left that two members have not learned from; name other "
            "runs (`Runs.names`), or take equal weights"
        )

    @cache
    def scores(weights: Shares) -> dict[str, float]:
        found = _best(_with_weights(ensemble, weights), kept, truth, options.metric)
        return {name: c.value for name, c in found.items() if c.n_truth}

    if options.per_object:
        chosen = {}
        for o in ensemble.objects:
            chosen[o.name], value = search(n, partial(_score_of, scores, o.name))
            log.info(f"{o.name}: weights {_text(chosen[o.name])}, {options.metric} {value:.4f}")
        return _with_weights(ensemble, chosen)
    parts = {o.name: o.score_weight if options.metric == "czii" else 1.0 for o in ensemble.objects}
    best, value = search(n, lambda w: _mean(scores(w), parts))
    equal = _mean(scores(tuple([1 / n] * n)), parts)
    log.info(f"weights {_text(best)}: {options.metric} {value:.4f} (equal weights {equal:.4f})")
    return _with_weights(ensemble, best)


def _score_of(scores: Callable[[Shares], Mapping[str, float]], name: str, weights: Shares) -> float:
    return scores(weights).get(name, 0.0)


def _with_weights(ensemble: Ensemble, weights: Shares | Mapping[str, Shares]) -> Ensemble:
    by_object = weights if isinstance(weights, Mapping) else {o.name: weights for o in ensemble.objects}
    members: list[Member] = []
    for i, m in enumerate(ensemble.members):
        members.append(replace(m, weights={o.name: by_object[o.name][i] for o in m.detector.objects}))
    for o in ensemble.objects:
        known = [i for i, m in enumerate(members) if o.name in m.weights]
        if not sum(members[i].weights[o.name] for i in known):  # all weight went to members that do not know it
            for i in known:
                members[i] = replace(members[i], weights={**members[i].weights, o.name: 1 / len(known)})
    return replace(ensemble, members=tuple(members))


def _used(ensemble: Ensemble, kept: Sequence[Kept]) -> tuple[Ensemble, list[Kept]]:
    """Without members that have no weight, and without runs that only these have predicted.

    Before thresholds are measured, for the first of those that stay says how peaks are found.
    """
    used = [i for i, m in enumerate(ensemble.members) if any(m.weights.values())]
    for i, member in enumerate(ensemble.members):
        if i not in used:
            log.info(f"{member.detector.name}: has no weight and is left out")
    left = [k.among(used) for k in kept]
    return replace(ensemble, members=tuple(ensemble.members[i] for i in used)), [k for k in left if k.members]


def _mean(scores: Mapping[str, float], parts: Mapping[str, float]) -> float:
    total = sum(parts[name] for name in scores)
    if not total:
        return float(np.mean(list(scores.values()))) if scores else 0.0
    return sum(parts[name] * value for name, value in scores.items()) / total


def _text(weights: Shares) -> str:
    return ", ".join(f"{w:.3g}" for w in weights)


# ---------------------------------------------------------------------------------------------------------- calibrating
def _best(ensemble: Ensemble, kept: Sequence[Kept], truth: Mapping[str, Picks], metric: str) -> dict[str, Calibration]:
    found, wanted, objects = _pool(ensemble, kept, truth)
    return choose_thresholds(found, wanted, objects, metric)


def _pool(
    ensemble: Ensemble, kept: Sequence[Kept], truth: Mapping[str, Picks]
) -> tuple[dict[float, dict[str, Picks]], dict[str, Picks], tuple[PickableObject, ...]]:
    """Picks of all kept runs by threshold, and the truth of what was picked there at all."""
    cuts = GRID if ensemble.peaks.positions_depend_on_threshold else (LOWEST_SCORE,)
    found = {cut: {k.run: k.picks(ensemble, cut) for k in kept} for cut in cuts}
    wanted = {}
    for k in kept:
        known = [o.name for i in k.members for o in ensemble.detectors[i].objects]
        wanted[k.run] = truth[k.run].among(known)
    return found, wanted, ensemble.objects


def _calibrated(ensemble: Ensemble, kept: Sequence[Kept], truth: Mapping[str, Picks]) -> Ensemble:
    """Thresholds, scores and displacement, as measured; what could not be measured keeps the members' mean."""
    found, wanted, objects = _pool(ensemble, kept, truth)
    return with_measured(ensemble, found, wanted, objects, "the mean of the models'")


def _remembering(
    ensemble: Ensemble,
    models: Sequence[Detector | Ensemble],
    options: CombineOptions,
    runs: Runs | None,
    on: Sequence[str],
) -> Ensemble:
    """With the record of what it was made of and how."""
    from .. import __version__

    made = {
        "members": [m.name for m in models],
        "weights": options.weights + (" by object" if options.per_object else ""),
        "aligned": options.align,
        "measured_on": {"project": runs.project.uri, "runs": list(on)} if runs else None,
        "versions": {"tomopick": __version__},
    }
    return replace(ensemble, facts=replace(ensemble.facts, provenance=made))
