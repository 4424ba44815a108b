"""A plan carried out: one training after the other into one folder, and the ensemble of them; goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.claims import claimed
from ..core.errors import ModelError, OutputError, SelectionError
from ..core.files import is_vacant
from ..core.messages import untold
from ..core.shards import Shard
from ..core.types import PickableObject
from ..data import atomic_write
from ..models.combine import CombineOptions, put_together
from ..models.soup import SoupOptions, make_soup
from ..picking.cards import save_with_card
from ..picking.detector import Detector
from ..picking.ensemble import Ensemble
from ..picking.folder import PLAN, read_record
from ..picking.load import load_detector, load_model
from ..training.fit import FitOptions, fit
from ..training.labelling import labelled
from ..training.resuming import check_same, refused_without_trace, require_place
from ..training.sources import Source
from ..training.transfer import held_objects
from .plans import Plan, Training
from .shares import Grounds, RunShares

log = logging.getLogger("tomopick")

_FORMAT_VERSION = 1


def carry_out(plan: Plan, grounds: Grounds, out: Path, options: FitOptions) -> Detector | Ensemble:
    """Trains what is not trained yet and puts it together.

    A plan of several members becomes the ensemble folder `out`, with the members in `out/members/` and what they start
    from in `out/pretrained...`; of one member `out` is the model folder, and what it starts from lies in
    `OUT-pretrained/` beside it.

    Args:
        plan: which trainings.
        grounds: on what.
        out: folder to make; it exists already only to resume.
        options: how to run; `seed` is the plan's business.

    Raises:
        TomopickError: data or options that do not fit, or another process trains into `out`; one line.
    """
    with claimed(out), refused_without_trace(out, PLAN):
        return _carry_out(plan, grounds, out, options)


def carry_out_part(plan: Plan, grounds: Grounds, out: Path, options: FitOptions, shard: Shard) -> list[str]:
    """Trains a part of a plan of several trainings, beside processes that train the others; gives their names.

    What others start from comes first in the count of the parts. `carry_out` with `resume` then puts it together.

    Raises:
        SelectionError: the plan is of one training, or one starts from another that is not finished.
        TomopickError: as `carry_out`, but that others may be at work in `out`.
    """
    place = _Places(plan, out)
    if not place.together:
        raise SelectionError(f"{plan.name} is one training, which has no parts; leave `shard` out")
    shares = begin_parts(plan, grounds, out, options)
    ordered = _in_parts(plan)
    numbers = shard.part(f"{i:06d}" for i in range(len(ordered)))
    mine = [ordered[int(number)] for number in numbers]
    for training in mine:
        start = next((t for t in plan.trainings if t.name == training.start), None)
        if start and start not in mine and not (place.of(start) / "detector.json").is_file():
            raise SelectionError(
                f"{training.name} starts from {start.name}, which is not finished; train that part first: "
                f"{ordered.index(start) % shard.of + 1}/{shard.of}"
            )
        _train(training, shares, place, options)
    return [training.name for training in mine]


def begin_parts(plan: Plan, grounds: Grounds, out: Path, options: FitOptions) -> RunShares:
    """Makes the folder of a plan that is trained in parts, or looks whether what was begun there is this plan.

    Raises:
        TomopickError: as `carry_out_part`.
    """
    shares, place = RunShares.of(plan, grounds, options), _Places(plan, out)
    try:
        _begin(plan, shares, place, replace(options, resume=(out / PLAN).is_file()))
    except OutputError:
        if not (out / PLAN).is_file():
            raise
        _begin(plan, shares, place, replace(options, resume=True))  # another part was quicker
    return shares


@dataclass(frozen=True)
class PlanLeft:
    """What is still to do of a plan that is trained in parts, which are counted from 1.

    Attributes:
        pretraining: parts that others start from.
        members: parts that the result is made of.
        of: how many parts there are.
        ensemble: whether the members are still to be put together.
    """

    pretraining: tuple[int, ...]
    members: tuple[int, ...]
    of: int
    ensemble: bool


def left_of(plan: Plan, out: Path) -> PlanLeft | None:
    """What of a plan is not finished in its folder; None where it is one training, which has no parts."""
    place = _Places(plan, out)
    if not place.together:
        return None
    numbered = [(i + 1, t) for i, t in enumerate(_in_parts(plan)) if not (place.of(t) / "detector.json").is_file()]
    return PlanLeft(
        tuple(i for i, t in numbered if t.simulated),
        tuple(i for i, t in numbered if not t.simulated),
        len(plan.trainings),
        not (out / "ensemble.json").is_file(),
    )


def _in_parts(plan: Plan) -> list[Training]:
    """The trainings as parts are counted: first what others start from."""
    return sorted(plan.trainings, key=lambda t: not t.simulated)


def _carry_out(plan: Plan, grounds: Grounds, out: Path, options: FitOptions) -> Detector | Ensemble:
    shares = RunShares.of(plan, grounds, options)
    place = _Places(plan, out)
    _begin(plan, shares, place, options)
    for training in plan.trainings:
        _train(training, shares, place, options)
    if not place.together:
        return load_detector(out)
    if (out / "ensemble.json").is_file():
        log.info(f"{out}: the ensemble was finished before")
        return load_model(out)
    members = _members(plan, place, options)
    runs = shares.validation()
    weigh = CombineOptions(weights=plan.weights if runs else "uniform", mean=plan.mean, device=options.device)
    ensemble = put_together(members, weigh, runs)
    made = {"plan": plan.name, **ensemble.facts.provenance}
    ensemble = replace(ensemble, facts=replace(ensemble.facts, provenance=made))
    checksum = save_with_card(ensemble, out)
    return replace(ensemble, checksum=checksum, name=str(out))


def runs_of(
    plan: Plan, grounds: Grounds, options: FitOptions, start: Detector | None = None
) -> list[tuple[Training, int, int, int, tuple[PickableObject, ...]]]:
    """How many training, validation and unlabelled runs each training of a plan has, and which objects it learns.

    `start` is the model of `options.init_from`.

    Raises:
        SelectionError: the runs, or what is labelled in them, do not suffice for the plan, or nothing can be added.
    """
    shares, found = RunShares.of(plan, grounds, options), []
    known = held_objects(start, options.add, options.objects)
    for training in plan.trainings:
        sources = shares.sources(training)
        names = options.add or _names(training, sources, options)
        with untold():
            plans, _, objects = labelled(training.recipe, sources, names, training.seed, known)
        parts = [(len(p.train), len(p.val), len(p.unlabelled)) for p in plans]
        train, val, unlabelled = (sum(column) for column in zip(*parts))
        found.append((training, train, val, unlabelled, objects))
    return found


def _members(plan: Plan, place: _Places, options: FitOptions) -> list[Detector]:
    """The models that are put together: trainings, and the averages of those that make a soup."""
    groups: dict[str, list[Training]] = {}
    for training in plan.members:
        groups.setdefault(training.soup or f"/{training.name}", []).append(training)
    found = []
    for name, trainings in groups.items():
        models, out = [load_detector(place.of(t)) for t in trainings], place.out / "soups" / name
        if name.startswith("/") or len(models) == 1:
            found += models
        else:
            made = load_detector(out) if out.exists() else make_soup(models, out, SoupOptions(device=options.device))
            found.append(made)
    return found


@dataclass(frozen=True)
class _Places:
    """Where the trainings of a plan lie."""

    plan: Plan
    out: Path

    @property
    def together(self) -> bool:
        """Whether the result is an ensemble."""
        return len(self.plan.members) > 1

    def of(self, training: Training) -> Path:
        """The folder of a training."""
        if self.together:
            return self.out / training.name if training.simulated else self.out / "members" / training.name
        return self.out.with_name(f"{self.out.name}-{training.name}") if training.simulated else self.out


def _begin(plan: Plan, shares: RunShares, place: _Places, options: FitOptions) -> None:
    """The plan written into a new folder, or a look at whether it is the one that was begun."""
    there = [folder for folder in (place.out, *map(place.of, plan.trainings)) if not is_vacant(folder)]
    for folder in there:
        require_place(folder, options.resume)
    if options.resume and not (there and (not place.together or (place.out / PLAN).is_file())):
        raise OutputError(f"{place.out}: nothing to resume there; leave `resume` out to begin the trainings")
    if not place.together:
        return  # a single training looks after itself
    about = {"format_version": _FORMAT_VERSION, "plan": plan.to_json(), "data": shares.to_json()}
    if options.resume:
        _check_same(read_record(place.out / PLAN), json.loads(json.dumps(about)), place.out)
        return
    with atomic_write(place.out / PLAN) as file:
        file.write(json.dumps(about, indent=1))


def _check_same(begun: Mapping[str, Any], mine: Mapping[str, Any], out: Path) -> None:
    if {**begun, "data": {**mine["data"], **begun.get("data", {})}} == mine:  # older versions kept less of the data
        return
    if begun.get("format_version") != _FORMAT_VERSION:
        raise ModelError(
            f"{out}: was begun by another version of tomopick; go on with that, or train into a new folder"
        )
    names = [[t["name"] for t in about["plan"]["trainings"]] for about in (begun, mine)]
    if names[0] != names[1]:
        what = f"other trainings ({', '.join(names[0])}, not {', '.join(names[1])})"
    elif begun["plan"] != mine["plan"]:
        what = "other recipes or seeds"
    else:
        different = [k for k, value in begun["data"].items() if mine["data"].get(k) != value]
        what = f"other data ({', '.join(different)})"
    raise ModelError(f"{out}: was begun with {what}; resume with the same command, or train into a new folder")


def _names(training: Training, sources: Sequence[Source], options: FitOptions) -> Sequence[str] | None:
    """The objects that a training learns; None: all that its projects define and have picks of."""
    if not training.simulated:
        return options.objects
    there = [o.name for o in sources[0].project.objects]
    return there if options.objects is None else [name for name in options.objects if name in there]


def _train(training: Training, shares: RunShares, place: _Places, options: FitOptions) -> None:
    """One training, unless it is finished."""
    from ..look.sections import draw_training
    from ..picking.folder import read_log

    folder, recipe = place.of(training), training.recipe
    if (folder / "detector.json").is_file():
        goes_on = training.start or options.init_from
        if goes_on:
            train = recipe.train.from_model()
            # How many steps it took follows from what the model to start from knows.
            check_same(replace(recipe, train=replace(train, steps_from_model=0)), folder, train.steps_from_model > 0)
        else:
            check_same(recipe, folder)
        log.info(f"{training.name}: finished before")
        return
    log.info(f"{training.name}: {training.recipe.name}, seed {training.seed}")
    sources = shares.sources(training)
    starts = {t.name: t for t in shares.plan.trainings}
    start = str(place.of(starts[training.start])) if training.start else options.init_from
    names = _names(training, sources, options)
    more = replace(options, seed=training.seed, init_from=start, objects=names, resume=not is_vacant(folder))
    fit(training.recipe, sources, folder, more)
    draw_training(read_log(folder / "log.jsonl"), folder / "training.png")
