"""Several trained networks of one family as one: the mean of their weights."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.errors import ModelError, RecipeError, SelectionError
from ..core.files import require_new
from ..core.messages import counted, reason_of, untold
from ..data import atomic_folder
from ..data.runs import Runs
from ..networks.engines import choose_device, place
from ..picking.cards import save_with_card
from ..picking.detector import Detector
from ..picking.ensemble import Ensemble, joint_facts
from ..picking.folder import TrainingFacts
from ..picking.resample import spacings_differ
from ..picking.tiling import TilingSpec, cut
from ..scoring.metrics import METRICS
from ..training.recipe import Recipe
from .combine import CombineOptions, put_together, unlearned
from .weight_search import Shares, greedy, search

log = logging.getLogger("tomopick")

_WEIGHTS = ("uniform", "greedy", "grid")
NORMS = ("average", "estimate")
MOST_BATCHES = 64  # that BatchNorm statistics are estimated on
_State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class SoupOptions:
    """How weights are averaged.

    Attributes:
        weights: `uniform`; `greedy`: equal shares of those that help, from the best model on; or `grid`: the best
            shares found.
        norm: BatchNorm statistics are averaged as well (`average`), or measured anew on the runs (`estimate`), for
            the mean of two networks' statistics is not that of the mean network.
        metric: `f1` or `czii`, which the weights make best.
        views: whose heatmaps are averaged (see `PickOptions`).
        device: where to run.
    """

    weights: str = "uniform"
    norm: str = "average"
    metric: str = "f1"
    views: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("weights", _WEIGHTS), ("norm", NORMS), ("metric", METRICS)):
            if getattr(self, name) not in known:
                raise RecipeError(f"{name} '{getattr(self, name)}' is none of {', '.join(known)}")


def make_soup(models: Sequence[Detector], out: Path, options: SoupOptions, runs: Runs | None = None) -> Detector:
    """Writes the model folder `out`.

    Args:
        models: of one family, with the same objects in the same order.
        out: folder to make.
        options: how.
        runs: to measure on; without them thresholds are the mean of the models'.

    Raises:
        ModelError: models that cannot be averaged.
        SelectionError: weights or statistics are to be measured, and there is nothing to measure on.
        OutputError: `out` exists.

    Source: Wortsman et al. 2022, arXiv:2203.05482; in the CZII challenge the 8th place.
    """
    require_new(out)
    check_alike(models)
    if runs is None and (options.weights != "uniform" or options.norm == "estimate"):
        what = "weights" if options.weights != "uniform" else "BatchNorm statistics"
        raise SelectionError(f"{what} are measured on validation runs; give `runs`")
    kitchen = _Kitchen(models, options, runs)
    shares = kitchen.shares()
    soup = kitchen.judged(shares)
    if runs is None:
        log.info("not measured on any run: thresholds are the mean of the models'")
    soup = replace(soup, name=str(out))
    with atomic_folder(out) as folder:
        checksum = save_with_card(soup, folder)
    return replace(soup, checksum=checksum)


def top_candidates(model: Detector) -> list[Detector]:
    """The best weights that a training kept in `top/`, each as a model.

    Raises:
        ModelError: there are none to average.
    """
    place = Path(model.name)
    place = place if place.name == "top" else place / "top"
    files = sorted(place.glob("*.safetensors"), key=lambda p: (len(p.stem), p.stem))
    if len(files) < 2:
        raise ModelError(
            f"{place}: {counted(len(files), 'file')} of weights, expected two or more to average; "
            "give several models, or train with a larger train.keep_top"
        )
    found = []
    for path in files:
        network = model.method.network.build(len(model.objects))
        try:
            network.load_state_dict(load_file(path))
        except (RuntimeError, OSError, SafetensorError) as error:
            raise ModelError(f"{path}: not weights of this model ({reason_of(error)}); remove it") from error
        found.append(replace(model, network=network.eval(), name=str(path.with_suffix(""))))
    return found


def check_alike(models: Sequence[Detector]) -> None:
    """Raises `ModelError` where weights cannot be averaged: another network, other objects, other grey values."""
    if len(models) < 2:
        raise ModelError("a soup needs two models or more")
    first = models[0]
    shapes = {k: v.shape for k, v in first.network.state_dict().items()}
    for other in models[1:]:
        names = [[o.name for o in m.objects] for m in (first, other)]
        if names[0] != names[1]:
            raise ModelError(
                f"{other.name}: finds {', '.join(names[1])}, but {first.name} {', '.join(names[0])}; weights can be "
                "averaged only between models of the same objects in the same order (heatmaps always: ensemble)"
            )
        theirs = {k: v.shape for k, v in other.network.state_dict().items()}
        if type(other.method.network) is not type(first.method.network) or theirs != shapes:
            raise ModelError(
                f"{other.name}: its network ({other.method.network}) is another than that of {first.name} "
                f"({first.method.network}); average heatmaps instead: ensemble"
            )
        for what in ("normalize", "activation"):
            mine, its = getattr(first.method, what), getattr(other.method, what)
            if mine != its:
                raise ModelError(
                    f"{other.name}: learned with another {what} ({its}) than {first.name} ({mine}); average heatmaps "
                    "instead: ensemble"
                )
        if spacings_differ(first.facts.voxel_spacing, other.facts.voxel_spacing):
            raise ModelError(
                f"{other.name}: learned at {other.facts.voxel_spacing:g} Å, but {first.name} at "
                f"{first.facts.voxel_spacing:g} Å; average heatmaps instead: ensemble"
            )


def mean_state(states: Sequence[_State], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """Weighted mean of parameters and statistics; counters are those of the first that has a share.

    Args:
        states: of networks of one shape.
        shares: one each, that add up to 1.
    """
    used = [(state, share) for state, share in zip(states, shares) if share]
    mean = {}
    for key, first in used[0][0].items():
        if first.is_floating_point():
            total = sum(share * state[key].double() for state, share in used)
            mean[key] = torch.as_tensor(total).to(first.dtype)
        else:
            mean[key] = first.clone()
    return mean


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: Iterator[torch.Tensor], device: torch.device) -> int:
    """BatchNorm's means and variances measured anew, the mean over the batches; gives how many layers there are.

    Args:
        network: changed in place.
        batches: (b, 1, z, y, x) normalised.
        device: to run on.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return 0
    network = place(network, device).eval()
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the plain mean over the batches
        m.train()
    for batch in batches:
        network(batch.to(device))
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
    network.eval().cpu()
    return len(norms)


class _Kitchen:
    """Soups of given shares of some models, tasted on the runs."""

    def __init__(self, models: Sequence[Detector], options: SoupOptions, runs: Runs | None):
        self.models, self.options, self.runs = list(models), options, runs
        self.states = [m.network.state_dict() for m in models]
        self.facts = _joint(models)
        self.value = cache(self._value)

    def shares(self) -> Shares:
        """The shares that the options ask for."""
        n, metric = len(self.models), self.options.metric
        if self.options.weights == "uniform":
            return tuple([1 / n] * n)
        if self.options.weights == "greedy":
            alone = [self.value(tuple(float(i == k) for i in range(n))) for k in range(n)]
            for model, value in zip(self.models, alone):
                log.info(f"{model.name}: {metric} {value:.4f}")
            chosen, value = greedy(alone, self.value)
        else:
            chosen, value = search(n, self.value)
        log.info(f"shares {', '.join(f'{w:.3g}' for w in chosen)}: {metric} {value:.4f}")
        return chosen

    def judged(self, shares: Shares) -> Detector:
        """The soup of some shares, with thresholds, scores and displacement where there are runs."""
        first = self.models[0]
        network = first.method.network.build(len(first.objects))
        network.load_state_dict(mean_state(self.states, shares))
        if self.options.norm == "estimate":
            device = choose_device(self.options.device)
            if not estimate_norms(network, self._batches(), device):
                log.warning("the network has no BatchNorm; nothing is estimated")
        made = {
            "soup": [{"model": m.name, "checksum": m.checksum, "share": w} for m, w in zip(self.models, shares)],
            "shares": self.options.weights,
            "norm": self.options.norm,
        }
        facts = replace(self.facts, provenance={**made, **self.facts.provenance})
        thresholds = Ensemble.of(self.models).thresholds
        soup = replace(
            first, network=network.eval(), facts=facts, thresholds=thresholds, checksum="", name="soup", score_maps={}
        )
        if self.runs is None:
            return soup
        # Other engines convert a network first and keep what they made of it, which a trial is not worth.
        options = CombineOptions(
            metric=self.options.metric, views=self.options.views, device=self.options.device, engine="torch"
        )
        found = put_together([soup], options, self.runs)
        known = {k: getattr(found.facts, k) for k in ("scores", "displacement", "displacement_matches")}
        facts = replace(facts, **known, provenance={**facts.provenance, **_measured_on(found)})
        return replace(soup, thresholds=found.thresholds, facts=facts)

    def _value(self, shares: Shares) -> float:
        with untold():  # a trial; what its runs are like is told of the soup that is kept
            scores = self.judged(shares).facts.scores[self.options.metric]
        weights = {o.name: o.score_weight if self.options.metric == "czii" else 1.0 for o in self.models[0].objects}
        total = sum(weights[name] for name in scores)
        return sum(weights[name] * value for name, value in scores.items()) / total if total else 0.0

    def _batches(self) -> Iterator[torch.Tensor]:
        """Batches of tiles as large as training's patches, from all over the runs; one run is in memory at a time."""
        assert self.runs is not None
        recipe, rng = Recipe.from_json(self.models[0].recipe_json), np.random.default_rng(0)
        shape, size = recipe.patch.shape, recipe.train.batch_size
        tiles: list[tuple[float, np.ndarray]] = []
        for run in unlearned(self.runs, self.models):
            values, grid = self.models[0].prepare(self.runs.tomogram(run))
            _, starts = TilingSpec(shape, 0).plan(grid.shape, recipe.network.multiple)
            # Each tile draws a number, and those with the lowest are kept: a fair choice, however many there are.
            tiles += [(rng.random(), cut(values, start, shape)) for start in itertools.product(*starts)]
            tiles = sorted(tiles, key=itemgetter(0))[: MOST_BATCHES * size]
        # Whole batches alone, for of a few values no variance can be had: the first ones once more behind the last.
        order = np.resize(np.arange(len(tiles)), -(-len(tiles) // size) * size)
        for first in range(0, len(order), size):
            yield torch.from_numpy(np.stack([tiles[i][1][None] for i in order[first : first + size]]))


def _measured_on(found: Ensemble) -> dict[str, object]:
    return {"measured_on": found.facts.provenance["measured_on"]}


def _joint(models: Sequence[Detector]) -> TrainingFacts:
    """What a soup remembers of the trainings: their means, so that inputs are judged as theirs are."""
    facts = [m.facts for m in models]
    alike = len({len(f.spectrum) for f in facts}) == 1
    spectra: dict[str, Any] = {}
    if alike:
        spectra = {k: tuple(np.mean([getattr(f, k) for f in facts], axis=0).tolist()) for k in _SPECTRA}
    names = {name for f in facts for name in f.contrast}
    contrast = {k: float(np.mean([f.contrast[k] for f in facts if k in f.contrast])) for k in sorted(names)}
    runs = tuple(dict.fromkeys(part for f in facts for part in f.learned_from))
    return replace(
        joint_facts(models), **spectra, contrast=contrast, scores={}, voxel_spacing=facts[0].voxel_spacing,
        learned_from=runs,
    )  # fmt: skip


_SPECTRA = ("spectrum", "spectrum_spread")
