"""Training data: labelled and unlabelled volumes of one or several projects, read and normalised once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import counted, listing
from ..core.progress import bar
from ..core.statistics import LIGHT, contrast_at, radial_spectrum, skewness
from ..core.types import Grid, PickableObject, Picks, Tomogram, is_inverted
from ..data.labelled import labelled_in, say_everywhere
from ..data.plausible import require_likely
from ..picking.folder import TrainingFacts
from ..picking.peaks import distances_of
from ..picking.resample import matched, spacings_differ
from ..picking.unpicked import unpicked
from ..scoring.crowding import crowded
from ..scoring.radii import diameter_doubts
from .labelling import labelled
from .negatives import negatives_for, require_contrary
from .patches import LabelledVolume
from .recipe import Recipe
from .shelf import Shelf
from .sources import Source, SourceRuns, inside_only, no_picks_of
from .split import split_run

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class Data:
    """Everything a training learns from; the unlabelled volumes have no picks and no known object.

    Attributes:
        complete: whether all particles were picked where labels are; else nothing can be wrong for certain.
    """

    train: list[LabelledVolume]
    val: list[LabelledVolume]
    objects: tuple[PickableObject, ...]
    facts: TrainingFacts
    voxel_spacing: float
    unlabelled: list[LabelledVolume] = field(default_factory=list)
    complete: bool = True


def gather(
    recipe: Recipe, sources: Sequence[Source], names: Sequence[str] | None = None, seed: int = 0,
    held: Sequence[PickableObject] = (), goes_on: bool = False,
) -> Data:  # fmt: skip
    """Reads, normalises and labels all volumes, each once.

    Args:
        recipe: says how grey values are normalised and at which voxel spacing.
        sources: projects to learn from, together.
        names: objects to learn; None: all that the projects define.
        seed: of the choice of validation runs where none are named.
        held: objects that are in the model whether they are labelled or not, before those that are learned.
        goes_on: whether the training starts from a model, which knows what is no particle.

    Raises:
        TomopickError: no labelled run, an object without picks or radius, picks of light particles, unlabelled runs
            that are labelled too, that the recipe has no use for, or that it lacks.
    """
    plans, labels, objects = labelled(recipe, sources, names, seed, held)
    negatives = negatives_for(plans, labels, objects)
    require_contrary(recipe, any(negatives), goes_on)
    spacing = recipe.voxel_spacing or _first_spacing(plans)
    parts: dict[str, list[LabelledVolume]] = {"train": [], "val": []}
    witness = _Witness(objects)
    read_one = _Reader(recipe, spacing, witness, Shelf())
    unlabelled: list[LabelledVolume] = []
    with bar(sum(len(p.train) + len(p.val) + len(p.unlabelled) for p in plans), "read", "run") as shown:
        for plan, picks, none in zip(plans, labels, negatives):
            _require_likely(plan.source, picks)
            known = _known(plan.source, picks, objects)  # names; other objects' absence says nothing there
            read: dict[str, list[LabelledVolume]] = {"train": [], "val": []}
            for part, runs in (("train", plan.train), ("val", plan.val)):
                for run in runs:
                    read[part].append(read_one(plan.source, run, picks[run], known, part == "train", none.get(run)))
                    shown.update(1)
            _ask(plan.source, [*read["train"], *read["val"]], objects)
            if plan.alone:
                (only,) = read["train"]
                read["train"], read["val"] = ([part] for part in split_run(only, objects))
            for part, volumes in read.items():
                parts[part] += volumes
            for run in plan.unlabelled:
                unlabelled.append(read_one(plan.source, run, Picks.empty(run), (), remember=True))
                shown.update(1)
    _check(recipe, parts["train"], parts["val"], [o for o in objects if o not in held])
    facts, complete = witness.facts(spacing), recipe.loss.unlabelled == "negative"
    _check_light(witness, facts)
    told = _told(plans, parts["train"], objects)
    told |= _validated(parts["val"], objects, any(plan.alone for plan in plans))
    facts = replace(facts, learned_from=tuple(plan.learned_from for plan in plans), provenance=told)
    return Data(parts["train"], parts["val"], objects, facts, spacing, unlabelled, complete)


def _ask(source: Source, volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject]) -> None:
    """Says where picks fill only a part of their run and nobody has said why."""
    if source.all_labelled:
        return
    read = {v.picks.run: v for v in volumes if all(mask is None for mask in v.known.values())}
    found, grids = [v.picks for v in read.values()], {run: v.grid for run, v in read.items()}
    for line in unpicked(found, grids, objects, lambda run: (read[run].values, read[run].void)):
        log.warning(f"{source.project.uri}: {line}")


def _check(
    recipe: Recipe, train: Sequence[LabelledVolume], val: Sequence[LabelledVolume], objects: Sequence[PickableObject]
) -> None:
    """What is wrong with the labels of the objects that are learned from them is said before the first step."""
    if train and not val:
        log.info("no run is validated on: the last weights are kept, with thresholds that nothing has measured")
    _check_labels(train, objects)
    _check_validation(val, objects)
    _check_crowding(recipe, [*train, *val], objects)


def _told(
    plans: Sequence[SourceRuns], volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject]
) -> dict[str, Any]:
    """What a model card says of data, besides the runs: the inverted ones, parts, and places known to be none."""
    inverted = [run for p in plans for run in (*p.train, *p.val, *p.unlabelled) if is_inverted(p.source.invert, run)]
    in_part = [v.picks.run for v in volumes if any(mask is not None for mask in v.known.values())]
    names = [n for v in volumes if v.negatives is not None for n in v.negatives.names.tolist()]
    counts = {o.name: names.count(o.name) for o in objects if o.name in names}
    told = {"inverted": inverted, "labelled_in_part": in_part, "negatives": counts}
    return {key: value for key, value in told.items() if value}


def _validated(volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject], within: bool) -> dict[str, Any]:
    """What a model card says of validation: on how many particles, and whether it was a part of the only run."""
    names = [n for v in volumes for n in v.picks.names.tolist()]
    counts = {o.name: names.count(o.name) for o in objects}
    return {"validation_particles": counts, "validated_within": within} if volumes else {}


def _first_spacing(plans: Sequence[SourceRuns]) -> float:
    for plan in plans:
        if plan.train:
            with plan.source.told():
                return plan.source.project.grid(plan.train[0], plan.source.tomo_type).voxel_spacing
    raise SelectionError("no run to train on; name some with `Runs.names`, or leave fewer for `val_runs`")


def _contrast(volume: LabelledVolume, positions: np.ndarray, radius: float) -> float:
    return contrast_at(volume.values, volume.grid, positions, radius, volume.void)


class _Witness:
    """Collects what a detector remembers of its training volumes."""

    def __init__(self, objects: Sequence[PickableObject]) -> None:
        self.objects = objects
        self.types: set[str] = set()
        self.spectra: list[np.ndarray] = []
        self.skews: dict[str, float] = {}
        self.remembered: list[float] = []
        self.contrast: dict[str, list[float]] = {o.name: [] for o in objects}
        self.runs: dict[str, tuple[float | None, float]] = {}

    def judge(self, run: str, volume: LabelledVolume) -> None:
        """Takes in how light the particles of a run are, and its skewness."""
        held = [(o, volume.picks.of(o.name).positions[:200]) for o in self.objects]
        found = [_contrast(volume, positions, o.radius_angstrom) for o, positions in held if len(positions)]
        self.skews[run] = skewness(volume.values, volume.void)
        self.runs[run] = (float(np.mean(found)) if found else None, self.skews[run])

    def light_runs(self) -> list[str]:
        """The runs with light particles on dark, where others have dark ones on light; empty where all are alike."""
        light = [run for run, (c, skew) in self.runs.items() if (skew > 0.15 if c is None else c > LIGHT)]
        dark = [run for run, (c, skew) in self.runs.items() if (skew < -0.05 if c is None else c < -LIGHT)]
        return light if dark else []

    def look(self, tomo_type: str, run: str, volume: LabelledVolume) -> None:
        """Takes one volume in that was judged."""
        self.types |= {tomo_type} - {""}
        self.spectra.append(radial_spectrum(volume.values, volume.void))
        self.remembered.append(self.skews[run])
        for o in self.objects:
            positions = volume.picks.of(o.name).positions[:200]
            if len(positions):
                self.contrast[o.name].append(_contrast(volume, positions, o.radius_angstrom))

    def facts(self, voxel_spacing: float) -> TrainingFacts:
        """The means over the volumes."""
        return TrainingFacts(
            voxel_spacing=voxel_spacing,
            tomo_types=tuple(sorted(self.types)),
            spectrum=tuple(np.mean(self.spectra, axis=0).tolist()),
            spectrum_spread=tuple(np.std(self.spectra, axis=0).tolist()),
            skewness=float(np.mean(self.remembered)),
            contrast={k: float(np.mean(v)) for k, v in self.contrast.items() if v},
        )


@dataclass(frozen=True)
class _Reader:
    """Reads runs as a recipe wants them.

    Attributes:
        recipe: says how grey values are normalised.
        spacing: that all volumes have afterwards [Å].
        witness: told of what is remembered.
        shelf: where volumes are kept.
    """

    recipe: Recipe
    spacing: float
    witness: _Witness
    shelf: Shelf

    def __call__(
        self, source: Source, run: str, picks: Picks, known: Iterable[str], remember: bool, none: Picks | None = None
    ) -> LabelledVolume:
        """One run; `known`: the objects labelled in it; `remember`: the detector is to know volumes like it.

        `none` are places that are known to be none.
        """
        tomogram = _tomogram(source, run, self.spacing)
        labels = _inside(source, tomogram, picks)
        void = None if tomogram.void is None else self.shelf.keep(tomogram.void)
        masks = self._masks(source, run, tomogram.grid, list(known))
        values = self.shelf.keep(self.recipe.normalize(tomogram))
        volume = LabelledVolume(values, tomogram.grid, labels, masks, void, none if masks else None)
        if source.project.regions:
            labelled = volume.labelled_at(labels)
            volume = replace(volume, picks=labels.select(labelled))
            if not labelled.all():
                n, doubt = counted(int(np.count_nonzero(~labelled)), "pick"), "; is the region right?"
                text = f"{source.project.uri}: run {run}: {n} outside of what is labelled are left out"
                log.log(logging.INFO if labelled.any() else logging.WARNING, text + doubt * (not labelled.any()))
        self.witness.judge(run, volume)
        if remember:
            self.witness.look(tomogram.tomo_type, run, volume)
        return volume

    def _masks(self, source: Source, run: str, grid: Grid, names: Sequence[str]) -> dict[str, np.ndarray | None]:
        """By object that is labelled in the run, where that is; objects of the same region share its mask."""
        labelled = labelled_in(source.project, run, source.tomo_type) if names else None
        if labelled is None:
            return dict.fromkeys(names)
        regions = {name: labelled.of(name) for name in names}
        kept = {id(r): self.shelf.keep(r.on(grid)) for r in regions.values() if r is not None}
        return {name: None if r is None else kept[id(r)] for name, r in regions.items()}


def _require_likely(source: Source, picks: Mapping[str, Picks]) -> None:
    """Raises where all the picks of a project lie in one corner: they are not in Å, and noise would be learned.

    And where a region cannot be meant, before any volume is read.
    """
    with source.told():
        grids = {run: source.project.grid(run, source.tomo_type) for run in picks}
    for run, grid in grids.items():
        source.project.regions.require_within(run, grid, source.project.uri)
    say_everywhere(source.project, list(grids))
    inside = {run: p.select(grids[run].contains(p.positions)) for run, p in picks.items()}
    fix = "mend them, or import them with `pixel_size` (in Å)"
    require_likely(inside, grids, source.project.uri, fix)


def _known(source: Source, picks: Mapping[str, Picks], objects: Sequence[PickableObject]) -> frozenset[str]:
    """The objects that are labelled in a project: where one never is, its absence says nothing and is not learned."""
    names = {name for p in picks.values() for name in p.names.tolist()}
    absent = [o.name for o in objects if o.name not in names]
    if names and absent:
        log.info(f"{source.project.uri}: not labelled there, so not learned from it: {', '.join(absent)}")
    return frozenset(names)


def _tomogram(source: Source, run: str, spacing: float) -> Tomogram:
    """A run's tomogram at the training's voxel spacing."""
    with source.told():
        tomogram = source.project.tomogram(run, source.tomo_type)
    if is_inverted(source.invert, run):
        tomogram = tomogram.inverted()
    found = tomogram.grid.voxel_spacing
    if spacings_differ(found, spacing):
        log.info(f"{source.project.uri}: run {run}: voxel spacing {found:g} Å resampled to {spacing:g} Å")
    return matched(tomogram, spacing, "the training runs")


def _inside(source: Source, tomogram: Tomogram, picks: Picks) -> Picks:
    """The picks that lie in the volume and where it holds specimen."""
    picks = inside_only(source, tomogram.grid, picks)
    held = tomogram.holds(picks.positions)
    if not held.all():
        n = np.count_nonzero(~held)
        log.warning(
            f"{source.project.uri}: run {tomogram.run}: {n} of {counted(len(picks), 'pick')} lie where the volume "
            "holds no specimen (a blank part, or a mask): nothing can be learned from them, so they are left out"
        )
    return picks.select(held)


def _check_light(witness: _Witness, facts: TrainingFacts) -> None:
    for name in [name for name, value in facts.contrast.items() if value > 0]:
        log.warning(
            f"{name} is light on dark at its picks (contrast {facts.contrast[name]:+.2f}); expected dark on "
            "light: check the volume's sign (`invert`) or the picks' axes"
        )
    light = witness.light_runs()
    if light:
        log.warning(
            f"run {listing(light)}: light particles on dark, other than the other runs; expected dark on light in all: "
            f"train with `invert={','.join(light)}`, or check the picks there"
        )


def _check_crowding(recipe: Recipe, volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject]) -> None:
    truth = {str(i): volume.picks for i, volume in enumerate(volumes)}
    for line in [*diameter_doubts(truth, objects), *crowded(truth, objects, distances_of(recipe.peaks, objects))]:
        log.warning(line)


def _check_validation(volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject]) -> None:
    """Says before the first step what validation cannot tell; raises where that is everything."""
    absent = [o.name for o in objects if not any((v.picks.names == o.name).any() for v in volumes)]
    if volumes and len(absent) == len(objects):
        raise SelectionError(
            f"no true {' or '.join(absent)} in what is kept for validation: nothing would tell good weights from bad, "
            "and no threshold could be set; name other `val_runs`"
        )
    if volumes and absent:
        what = f"no true {', '.join(absent)}"
        log.warning(f"{what} in what is kept for validation: there is no F1 for it; name other `val_runs`")


def _check_labels(volumes: Sequence[LabelledVolume], objects: Sequence[PickableObject]) -> None:
    for o in objects:
        n = sum(int((v.picks.names == o.name).sum()) for v in volumes)
        if n == 0:
            others = [p.name for p in objects if any((v.picks.names == p.name).any() for v in volumes)]
            raise no_picks_of(o.name, others)
        if n < 20:
            log.warning(f"only {counted(n, 'pick')} of {o.name} to learn from")
