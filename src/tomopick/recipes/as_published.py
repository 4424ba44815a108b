"""A plan carried out: one training after the other into one folder, and the ensemble of them; goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.claims import claimed
from ..core.errors import ModelError, OutputError, SelectionError
from ..core.files import is_vacant
from ..core.messages import untold
from ..core.shards import Shard
from ..data import atomic_write
from ..data.labelled import picks_where_any
from ..data.runs import Runs
from ..models.combine import CombineOptions, put_together
from ..models.soup import SoupOptions, make_soup
from ..picking.cards import save_with_card
from ..picking.detector import Detector
from ..picking.ensemble import Ensemble
from ..picking.folder import read_record
from ..picking.load import load_detector, load_model
from ..training.fit import FitOptions, check_same, fit, require_place
from ..training.sources import Source, plans_of
from .plans import Plan, Training

log = logging.getLogger("tomopick")

PLAN = "plan.json"
_FORMAT_VERSION = 1
_SHUFFLE = 0x73756273  # tells the order of the runs from other random numbers of one seed


@dataclass(frozen=True)
class Grounds:
    """What a plan learns from.

    Attributes:
        sources: projects, together. The first one's runs are divided into folds and subsets; the others are learned
            from as they are. Those without labels come last.
        tomo_types: of each source: the types that are learned from together. The first of them is validated on.
        simulated: the project to pretrain on: all its runs, and its validation runs where some are named. Where none
            are, what is pretrained is chosen on the first source's.
    """

    sources: tuple[Source, ...]
    tomo_types: tuple[tuple[str, ...], ...]
    simulated: Source | None = None


def labelled_runs(source: Source) -> tuple[str, ...]:
    """The runs of a source that have picks, or those that were named, sorted."""
    if source.train_runs is not None:
        return tuple(sorted({*source.train_runs, *(source.val_runs or ())}))
    rest = [run for run in source.project.runs() if run not in source.unlabelled_runs]
    return tuple(sorted(picks_where_any(source.project, rest, source.picks)))


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
    with claimed(out):
        return _carry_out(plan, grounds, out, options)


def carry_out_part(plan: Plan, grounds: Grounds, out: Path, options: FitOptions, shard: Shard) -> list[str]:
    """Trains a part of a plan of several trainings, beside processes that train the others; gives their names.

    What others start from comes first in the count of the parts. `carry_out` with `resume` then puts it together.

    Raises:
        SelectionError: the plan is of one training, or one starts from another that is not finished.
        TomopickError: as `carry_out`, but that others may be at work in `out`.
    """
    shares, place = _Shares.of(plan, grounds, options), _Places(plan, out)
    if not place.together:
        raise SelectionError(f"{plan.name} is one training, which has no parts; leave `shard` out")
    try:
        _begin(plan, shares, place, replace(options, resume=(out / PLAN).is_file()))
    except OutputError:
        if not (out / PLAN).is_file():
            raise
        _begin(plan, shares, place, replace(options, resume=True))  # another part was quicker
    ordered = sorted(plan.trainings, key=lambda t: not t.simulated)
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


def _carry_out(plan: Plan, grounds: Grounds, out: Path, options: FitOptions) -> Detector | Ensemble:
    shares = _Shares.of(plan, grounds, options)
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


def runs_of(plan: Plan, grounds: Grounds, options: FitOptions) -> list[tuple[Training, int, int, int]]:
    """How many training, validation and unlabelled runs each training of a plan has.

    Raises:
        SelectionError: the runs do not suffice for the plan.
    """
    shares, found = _Shares.of(plan, grounds, options), []
    for training in plan.trainings:
        plans = plans_of(shares.sources(training), training.seed)
        parts = [(len(p.train), len(p.val), len(p.unlabelled)) for p in plans]
        found.append((training, *(sum(column) for column in zip(*parts))))
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


@dataclass(frozen=True)
class _Shares:
    """Which runs each training gets; decided once, so that all see the same split.

    Attributes:
        plan: that is carried out.
        grounds: on what.
        splits: (training runs, validation runs) of each source.
        order: all labelled runs of the first source, shuffled.
    """

    plan: Plan
    grounds: Grounds
    splits: tuple[tuple[list[str], list[str]], ...]
    order: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, grounds: Grounds, options: FitOptions) -> _Shares:
        """Raises `SelectionError` where the runs do not suffice for the plan."""
        seed = min(t.seed for t in plan.trainings)
        folded = any(t.val_runs is not None for t in plan.trainings)
        with untold() if folded else nullcontext():
            splits = [(p.train, p.val) for p in plans_of(grounds.sources, seed)]
        train, val = splits[0]
        runs = sorted([*train, *val])
        order = np.random.default_rng((_SHUFFLE, seed)).permutation(len(runs))
        shares = cls(plan, grounds, tuple(splits), tuple(runs[i] for i in order))
        for training in plan.members:
            shares._check(training)
        if plan.weights == "grid" and not folded and not val:
            raise SelectionError(
                f"{plan.name} weighs its members on validation runs and there is none; name some with `val_runs`, or "
                "label another run"
            )
        return shares

    def _check(self, training: Training) -> None:
        train, val = self._first(training)
        if training.subset is not None and training.subset > len(self._pool(training)):
            n = len(self._pool(training))
            fitting = ",".join(str(max(1, k)) for k in sorted({n // 4, n // 2, n}) if k)
            raise SelectionError(
                f"{training.name}: {training.subset} runs to learn from are asked for, and there are {n} (those kept "
                f"for validation do not count); label more, or take fewer: `subset={fitting or 1}`"
            )
        types = self.grounds.tomo_types[0]
        if len(types) > 1 and training.tomo_type is None and not val and len(train) < 2:
            raise SelectionError(
                f"several tomogram types of the only labelled run {', '.join(train)}: none could be validated on "
                "without having been seen; label another run and name it with `val_runs`"
            )

    def _pool(self, training: Training) -> list[str]:
        """The first source's runs that a training may learn from, in the shuffled order."""
        return [run for run in self.order if run not in self._kept(training)]

    def _kept(self, training: Training) -> Sequence[str]:
        """The first source's runs that a training is validated on: of one that names none, those the user names."""
        if training.val_runs:
            return training.val_runs
        return self.splits[0][1] if training.val_runs is None or self.grounds.sources[0].val_runs else ()

    def _first(self, training: Training) -> tuple[list[str], list[str]]:
        """Training and validation runs of the first source."""
        return sorted(self._pool(training)[: training.subset]), list(self._kept(training))

    def sources(self, training: Training) -> list[Source]:
        """What a training learns from: a source for each type of each project."""
        if training.simulated:
            return self._simulated(training.subset)
        found = []
        for i, (source, types) in enumerate(zip(self.grounds.sources, self.grounds.tomo_types)):
            if not source.labelled:
                found.append(source)
                continue
            train, val = self._first(training) if not i else self.splits[i]
            kinds: Sequence[str | None] = types or (None,)
            if training.tomo_type is not None and training.tomo_type in types:
                kinds = (training.tomo_type,)
            alone = source.val_runs is None and not val and training.val_runs is None
            runs = replace(source.runs, names=train, tomo_type=kinds[0])
            found.append(replace(source, runs=runs, val_runs=None if alone else val))
            for kind in kinds[1:]:
                further = replace(runs, tomo_type=kind)
                found.append(replace(source, runs=further, val_runs=(), unlabelled_runs=()))
        return found

    def _simulated(self, subset: int | None) -> list[Source]:
        """What pretraining learns from, and the runs that it is chosen on: none where these are folds of the plan's.

        A subset are the first runs by name.
        """
        assert self.grounds.simulated is not None
        learned = replace(self.grounds.simulated, val_runs=self.grounds.simulated.val_runs or ())
        if subset is not None:
            kept = [run for run in labelled_runs(learned) if run not in (learned.val_runs or ())]
            learned = replace(learned, runs=replace(learned.runs, names=kept[:subset]))
        val, folded = self.splits[0][1], any(t.val_runs is not None for t in self.plan.trainings)
        if learned.val_runs or folded or not val:
            return [learned]
        first, types = self.grounds.sources[0], self.grounds.tomo_types[0]
        none = replace(first.runs, names=(), tomo_type=types[0] if types else None)
        chosen = replace(first, runs=none, val_runs=val, unlabelled_runs=())
        return [learned, chosen]

    def validation(self) -> Runs | None:
        """The runs that the ensemble is measured on: all folds', else those of the split."""
        source, types = self.grounds.sources[0], self.grounds.tomo_types[0]
        runs = sorted({run for t in self.plan.members for run in self._kept(t)})
        if not runs:
            return None
        return replace(source.runs, names=runs, tomo_type=types[0] if types else None)

    def to_json(self) -> dict[str, Any]:
        """By which an interrupted plan's data are known again."""
        kept = [[s.project.uri, *split] for s, split in zip(self.grounds.sources, self.splits)]
        simulated = self.grounds.simulated.project.uri if self.grounds.simulated else None
        return {"runs": kept, "tomo_types": [list(t) for t in self.grounds.tomo_types], "simulated": simulated}


def _begin(plan: Plan, shares: _Shares, place: _Places, options: FitOptions) -> None:
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
    if begun == mine:
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
        different = [k for k in mine["data"] if begun["data"].get(k) != mine["data"][k]]
        what = f"other data ({', '.join(different)})"
    raise ModelError(f"{out}: was begun with {what}; resume with the same command, or train into a new folder")


def _train(training: Training, shares: _Shares, place: _Places, options: FitOptions) -> None:
    """One training, unless it is finished."""
    from ..look.sections import draw_training
    from ..picking.folder import read_log

    folder = place.of(training)
    if (folder / "detector.json").is_file():
        check_same(training.recipe, folder)
        log.info(f"{training.name}: finished before")
        return
    log.info(f"{training.name}: {training.recipe.name}, seed {training.seed}")
    sources = shares.sources(training)
    starts = {t.name: t for t in shares.plan.trainings}
    start = str(place.of(starts[training.start])) if training.start else options.init_from
    names = options.objects
    if training.simulated:
        there = [o.name for o in sources[0].project.objects]
        names = there if names is None else [name for name in names if name in there]
    more = replace(options, seed=training.seed, init_from=start, objects=names, resume=not is_vacant(folder))
    fit(training.recipe, sources, folder, more)
    draw_training(read_log(folder / "log.jsonl"), folder / "training.png")
