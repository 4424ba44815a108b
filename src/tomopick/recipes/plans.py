"""Which trainings a published method is, as a value: recipes, seeds, folds, subsets of runs, and what starts from what.

A plan names runs and says nothing of where they lie; `published` carries it out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import recipes
from ..core.errors import SelectionError
from ..core.messages import counted
from ..training.objectives import SupervisedSpec
from ..training.recipe import Recipe

PRETRAINED = "pretrained"  # prefix of the trainings on simulated runs


@dataclass(frozen=True)
class Training:
    """One training of a plan.

    Attributes:
        name: of its folder.
        recipe: the method.
        seed: of its weights and patches.
        val_runs: the fold that it is validated on, the others being learned from; None: the plan's own split.
        subset: how many runs it learns from, the first of a shuffled order that all trainings share; None: all.
        tomo_type: the one it learns from; None: all that were asked for, together.
        simulated: it learns from the simulated project.
        start: name of the training whose weights it starts from; "": none.
        soup: name of the model that is the mean of its weights and those of the others that say the same; "": it is a
            member by itself.
    """

    name: str
    recipe: Recipe
    seed: int = 0
    val_runs: tuple[str, ...] | None = None
    subset: int | None = None
    tomo_type: str | None = None
    simulated: bool = False
    start: str = ""
    soup: str = ""


@dataclass(frozen=True)
class Plan:
    """Trainings in the order they are run in; those on the project itself become the members of an ensemble.

    Attributes:
        name: of the method.
        trainings: see `Training`.
        weights: of the members: `uniform`, or `grid` searched on the validation runs.
        mean: of the members' `probabilities` or `logits`.
    """

    name: str
    trainings: tuple[Training, ...]
    weights: str = "uniform"
    mean: str = "probabilities"

    @property
    def members(self) -> tuple[Training, ...]:
        """The trainings that the result is made of."""
        return tuple(t for t in self.trainings if not t.simulated)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, by which an interrupted plan is known again."""
        shown = [{**vars(t), "recipe": t.recipe.to_json()} for t in self.trainings]
        for row in shown:
            row["val_runs"] = None if row["val_runs"] is None else list(row["val_runs"])
            if not row["soup"]:  # plans that were begun before there were some say nothing of it
                del row["soup"]
        mean = {} if self.mean == "probabilities" else {"mean": self.mean}
        return {"name": self.name, "trainings": shown, "weights": self.weights, **mean}


@dataclass(frozen=True)
class Wanted:
    """What is asked for besides the method.

    Attributes:
        overrides: `section.field=value`, of every recipe of the plan.
        seed: the first, and that of the shuffled order of runs.
        seeds: how many trainings differ in nothing but their seed; None: as published.
        folds: into how many parts the runs are divided by name, each part validating one training; None: as published.
        subsets: numbers of runs to learn from; None: as published.
        tomo_types: `TYPE[@spacing]` of the tomograms.
        runs: those with picks, sorted by name.
        simulated: whether there is a simulated project to pretrain on.
    """

    overrides: tuple[str, ...] = ()
    seed: int = 0
    seeds: int | None = None
    folds: int | None = None
    subsets: tuple[int, ...] | None = None
    tomo_types: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    simulated: bool = False

    def recipe(self, name: str) -> Recipe:
        """A recipe with the overrides."""
        return recipes.get(name).override(list(self.overrides))


def folds_of(runs: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """The runs, sorted by name, in n parts of as many runs as possible alike; every n-th run belongs to one part.

    Raises:
        SelectionError: there are fewer runs than parts, or fewer than two parts.
    """
    if n < 2:
        raise SelectionError(
            f"`folds={n}`: a run is either learned from or validated on, so it takes two folds or more"
        )
    if n > len(runs):
        raise SelectionError(
            f"`folds={n}`: {counted(len(runs), 'run')} with picks ({', '.join(sorted(runs)[:8])}) cannot be "
            f"divided into {n} parts; take `folds={max(2, len(runs))}` or fewer, or label more runs"
        )
    ordered = sorted(runs)
    return [tuple(ordered[i::n]) for i in range(n)]


def plan_of(method: str, wanted: Wanted) -> Plan:
    """One recipe, once or with several seeds, folds and subsets, pretrained where there is a simulated project.

    Raises:
        RecipeError: no such recipe or override.
        SelectionError: more folds than runs.
    """
    recipe = wanted.recipe(method)
    first = _pretraining(recipe, wanted, "")
    return Plan(method, (*first, *_expanded(recipe, wanted, start=first[0].name if first else "")))


def published(method: str, wanted: Wanted) -> Plan:
    """All trainings of a method as its authors describe it; what `wanted` states takes the place of their numbers.

    Args:
        method: `bpd`, `soup`, `topcup`, `unet25d`, `semietpicker`, or a recipe that is one of its members.
        wanted: besides the method.

    Raises:
        RecipeError: no such override.
        SelectionError: no published method of that name, more folds than runs, or a simulated project is missing.
    """
    return _PLANS[recipes.method_of(method)](wanted)


def _bpd(wanted: Wanted) -> Plan:
    """BPD: four seeds, whose heatmaps are averaged.

    Real and simulated runs are learned from together: both projects are given.

    Source: method description of BPD (CZII challenge, 5th place).
    """
    if wanted.simulated:
        raise SelectionError(
            "bpd as published learns from simulated and real runs together: give the simulated project as a further "
            "PROJECT, not with `simulated`"
        )
    four = replace(wanted, seeds=wanted.seeds or 4)
    return Plan("bpd", tuple(_expanded(wanted.recipe("bpd"), four)))


def _soup(wanted: Wanted) -> Plan:
    """Ensemble 3D U-Net Soup: three sizes, pretrained on simulated runs, fine-tuned once a tomogram type.

    Heatmaps are averaged with weights searched on the validation runs.

    Source: method description of the Ensemble 3D U-Net Soup (CZII challenge, 8th place).
    """
    _needs_simulated("soup", wanted)
    trainings: list[Training] = []
    for size in ("tiny", "medium", "large"):
        recipe = wanted.recipe(f"soup_{size}")
        (first,) = _pretraining(recipe, wanted, size)
        trainings.append(first)
        for kind in wanted.tomo_types or (None,):
            name = size if kind is None else f"{size}-{kind}"
            trainings += _expanded(recipe, wanted, name, first.name, kind)
    return Plan("soup", tuple(trainings), weights="grid")


def _topcup(wanted: Wanted) -> Plan:
    """TopCUP: three models that learn from 6, 12 and 24 runs, each from one pretraining on simulated runs.

    Source: method description of TopCUP (CZII challenge, 1st place).
    """
    _needs_simulated("topcup", wanted)
    recipe = wanted.recipe("topcup")
    (first,) = _pretraining(recipe, wanted, "")
    three = replace(wanted, subsets=wanted.subsets or (6, 12, 24))
    return Plan("topcup", (first, *_expanded(recipe, three, start=first.name)))


# The folds that the first network was trained on, by their validation run; the second has the others.
_CONVNEXT_FOLDS = ("TS_6_4", "TS_6_6", "TS_73_6", "TS_99_9")


def _unet25d(wanted: Wanted) -> Plan:
    """The 2.5D U-Net: seven folds by run, four with ConvNeXt and three with ResNet-RS, averaged.

    In the challenge's own runs the folds are the authors'; in others the first 4/7 of the folds are ConvNeXt's.

    Source: Uchida & Fukui 2025, arXiv:2502.13484 (CZII challenge, 4th place); which three folds the second network had
    is not told: here the other three.
    """
    folds = folds_of(wanted.runs, wanted.folds or 7)
    named = [all(run in _CONVNEXT_FOLDS for run in fold) for fold in folds]
    if wanted.folds not in (None, 7) or sum(named) != len(_CONVNEXT_FOLDS):
        named = [i < round(len(folds) * 4 / 7) for i in range(len(folds))]
    first: dict[str, Training] = {}
    trainings: list[Training] = []
    for fold, is_convnext in zip(folds, named):
        name = "convnext" if is_convnext else "resnetrs"
        recipe = wanted.recipe(f"unet25d_{name}")
        if name not in first:
            for start in _pretraining(recipe, wanted, name):
                first[name] = start
                trainings.append(start)
        start_name = first[name].name if name in first else ""
        trainings += _expanded(recipe, replace(wanted, folds=None), f"{name}-{fold_name(fold)}", start_name, val=fold)
    return Plan("unet25d", tuple(trainings))


def _semietpicker(wanted: Wanted) -> Plan:
    """SemiETPicker: burn-in on the labelled runs, then co-training with a teacher on the unlabelled ones; one network.

    Source: SemiETPicker, arXiv:2510.22454.
    """
    return plan_of("semietpicker", wanted)


def _bpd_released(wanted: Wanted) -> Plan:
    """BPD as released: four seeds on experimental runs alone, whose heatmaps are averaged.

    Source: y284/biological-particle-detector and its model card.
    """
    _needs_no_simulated("bpd_released", wanted)
    four = replace(wanted, seeds=wanted.seeds or 4)
    return Plan("bpd_released", tuple(_expanded(wanted.recipe("bpd_released"), four)))


# Overrides of its three configurations.
_TOPCUP = {
    "resnet34": (),
    "resnet34-deep": ("loss.head_weights=0,0,1,1", "loss.particle=64"),
    "efficientnet": ("network.encoder=efficientnet-b3", "network.unused=false", "loss.particle=64"),
}


def _topcup_released(wanted: Wanted) -> Plan:
    """TopCUP as released: two seeds of three configurations, each on all runs; logits are averaged.

    Nothing is validated: the last weights are taken, and thresholds are the defaults until `tomopick calibrate`.

    Source: ChristofHenkel/kaggle-cryoet-1st-place-segmentation.
    """
    _needs_no_simulated("topcup_released", wanted)
    two, everything = replace(wanted, seeds=wanted.seeds or 2), () if wanted.folds is None else None
    trainings: list[Training] = []
    for name, changes in _TOPCUP.items():
        recipe = wanted.recipe("topcup_released").override(list(changes))
        trainings += _expanded(recipe, two, name, val=everything)
    return Plan("topcup_released", tuple(trainings), mean="logits")


_SOUP_BIG_FOLDS = ("TS_69_2", "TS_86_3", "TS_99_9")  # by their validation run
_SOUP_SIMULATED = 6  # runs that the two smaller sizes are pretrained on; the largest: all


def _soup_released(wanted: Wanted) -> Plan:
    """The Soup as released: each size once a fold, the folds' weights averaged, the logits of the four averages too.

    The tiny one learns from the first tomogram type, the medium one from all, the big one once from either.

    Source: the Soup's released code. Of runs of other names the big one has the first three of the folds.
    """
    _needs_simulated("soup_released", wanted)
    folds = folds_of(wanted.runs, wanted.folds or min(7, max(2, len(wanted.runs))))
    big = [fold for fold in folds if set(fold) <= set(_SOUP_BIG_FOLDS)]
    kind = wanted.tomo_types[0] if wanted.tomo_types else None
    # Of each size the soups and their tomogram type; None: all.
    members: dict[str, list[tuple[str, str | None]]] = {
        "tiny": [("tiny", kind)],
        "medium": [("medium", None)],
        "big": [("big-one", kind), ("big-all", None)],
    }
    trainings: list[Training] = []
    for size in members:
        recipe = wanted.recipe(f"soup_released_{size}")
        (first,) = _pretraining(recipe, wanted, size)
        trainings.append(first if size == "big" else replace(first, subset=_SOUP_SIMULATED))
        for name, one in members[size]:
            for fold in folds if size != "big" else big or folds[:3]:
                training = Training(f"{name}-{fold_name(fold)}", recipe, wanted.seed, fold, None, one, start=first.name)
                trainings.append(replace(training, soup=name))
    return Plan("soup_released", tuple(trainings), mean="logits")


_PLANS: dict[str, Callable[[Wanted], Plan]] = {
    "bpd": _bpd,
    "bpd_released": _bpd_released,
    "semietpicker": _semietpicker,
    "soup": _soup,
    "soup_released": _soup_released,
    "topcup": _topcup,
    "topcup_released": _topcup_released,
    "unet25d": _unet25d,
}


def told_of(method: str) -> str:
    """What a published method is made of, in words: its recipes and how they are trained together."""
    about = inspect.cleandoc(_PLANS[method].__doc__ or "")
    return f"{method}: {about}\n\nits recipes: {', '.join(recipes.PUBLISHED[method])}"


def fold_name(runs: Sequence[str]) -> str:
    """A fold by the runs that it is validated on: their numbers differ from one author to another, names do not."""
    return "without-" + "+".join(runs[:3]) + (f"+{len(runs) - 3}" if len(runs) > 3 else "")


def _needs_simulated(method: str, wanted: Wanted) -> None:
    if not wanted.simulated:
        raise SelectionError(
            f"{method} as published starts from simulated runs: give their project with `simulated` (tomopick simulate "
            "makes one)"
        )


def _needs_no_simulated(method: str, wanted: Wanted) -> None:
    if wanted.simulated:
        raise SelectionError(f"{method} as published learns from experimental runs alone: leave `simulated` out")


def _pretraining(recipe: Recipe, wanted: Wanted, name: str) -> tuple[Training, ...]:
    """The training on simulated runs, if there are any."""
    if not wanted.simulated:
        return ()
    # Simulated runs are all labelled, and completely.
    if recipe.objective.semi_supervised:
        recipe = replace(recipe, objective=SupervisedSpec())
    if recipe.loss.unlabelled != "negative":
        recipe = recipe.override(["loss.unlabelled=negative"])
    return (Training(f"{PRETRAINED}-{name}" if name else PRETRAINED, recipe, wanted.seed, simulated=True),)


def _expanded(
    recipe: Recipe,
    wanted: Wanted,
    name: str = "",
    start: str = "",
    tomo_type: str | None = None,
    val: tuple[str, ...] | None = None,
) -> Iterator[Training]:
    """A training for every fold, subset and seed."""
    folds = folds_of(wanted.runs, wanted.folds) if wanted.folds is not None else [val]
    for fold in folds:
        for subset in wanted.subsets or (None,):
            for seed in range(wanted.seed, wanted.seed + (wanted.seeds or 1)):
                parts = [
                    name,
                    fold_name(fold) if fold and wanted.folds is not None else "",
                    f"runs{subset}" if subset is not None else "",
                    f"seed{seed}" if wanted.seeds is not None else "",
                ]
                label = "-".join(p for p in parts if p) or recipe.name
                yield Training(label, recipe, seed, fold, subset, tomo_type, start=start)
