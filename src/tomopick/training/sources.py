"""Which runs of which projects a training uses for what."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import SelectionError, TomopickError
from ..core.messages import counted, listing, near_miss
from ..core.types import Grid, PickableObject, Picks
from ..data import FolderProject, Project
from ..data.choose import require_run
from ..data.labelled import outside_text, picks_where_any
from ..data.runs import Runs
from ..picking.folder import LearnedFrom
from .recipe import Recipe

log = logging.getLogger("tomopick")

# By role of a source, the fields that the command line has once more for it.
_OWN = {"simulated": "tomo_type|picks|val_runs", "unlabelled": "tomo_type", "like": "tomo_type"}
HELD_BACK = 0.2  # share of the only run, or of the runs, kept for validation where none is named


@dataclass(frozen=True)
class Source:
    """Where volumes come from.

    Attributes:
        runs: to learn from, of a project, and what is read of each; where none is named, all the labelled ones. A
            project stands for its runs.
        val_runs: None: a share of the labelled ones, if this is the first of the sources, else none. Where no source
            has any, nothing is validated and the last weights are kept.
        drop_outside: leave out picks outside their volume, instead of refusing the run.
        invert: the runs that have light particles on dark; True: all.
        negatives: places that are known to be none, `object:user/session`, or as the picks: what a curation rejected
            beside them. Of a folder always its `RUN.negatives.csv`.
        all_labelled: nothing is said where picks fill only a part of their run.
        unlabelled_runs: to learn from without labels, for a semi-supervised recipe; what picks they have is not read.
        role: `simulated` where it is pretrained on, `unlabelled` where nothing in it is labelled, `like` where runs
            are simulated like it; messages name its fields so, as `simulated.tomo_type`.
    """

    runs: Runs
    val_runs: Sequence[str] | None = None
    drop_outside: bool = False
    unlabelled_runs: Sequence[str] = ()
    invert: bool | tuple[str, ...] = False
    negatives: str | None = None
    all_labelled: bool = False
    role: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", Runs.of(self.runs))

    @classmethod
    def unlabelled(cls, runs: Runs, invert: bool | tuple[str, ...] = False) -> Source:
        """Runs of which nothing is learned that needs labels."""
        runs = Runs.of(runs)
        runs, names = replace(runs, names=()), tuple(runs.check())
        return cls(runs, val_runs=(), unlabelled_runs=names, invert=invert, role="unlabelled")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Messages of what goes wrong inside name the fields of this source, not the first one's."""
        try:
            yield
        except TomopickError as error:
            if self.role:
                mine = re.sub(rf"`({_OWN[self.role]})(?=[`=])", rf"`{self.role}.\1", str(error))
                error.args = (mine, *error.args[1:])
            raise

    @property
    def project(self) -> Project:
        """Where the runs are."""
        return self.runs.project

    @property
    def tomo_type(self) -> str | None:
        """Which tomogram is read, `TYPE[@spacing]`."""
        return self.runs.tomo_type

    @property
    def picks(self) -> str | None:
        """Whose picks are learned, `object:user/session`."""
        return self.runs.picks

    @property
    def train_runs(self) -> Sequence[str] | None:
        """The runs that are named to be learned from; None: all the labelled ones."""
        return self.runs.names

    @property
    def named(self) -> Runs:
        """The runs that have or should have labels: all of the project's where none is named."""
        names = None if self.train_runs is None else [*self.train_runs, *(self.val_runs or ())]
        return replace(self.runs, names=names)

    @property
    def labelled(self) -> bool:
        """Whether labels are looked for at all."""
        return self.train_runs is None or bool(self.train_runs or self.val_runs) or not self.unlabelled_runs


@dataclass(frozen=True)
class SourceRuns:
    """Which runs of a source are for what.

    Attributes:
        source: where they are.
        train, val: their names.
        first: whether its runs are those that validation is on where none are named.
    """

    source: Source
    train: list[str]
    val: list[str]
    first: bool = True

    @property
    def alone(self) -> bool:
        """Whether it is one labelled run, of which a part has to serve for validation."""
        return self.first and self.source.val_runs is None and len(self.train) == 1 and not self.val

    @property
    def unlabelled(self) -> list[str]:
        """The runs that are learned from without labels."""
        return list(self.source.unlabelled_runs)

    @property
    def learned_from(self) -> LearnedFrom:
        """For the model's record."""
        uri = self.source.project.uri
        return LearnedFrom(uri, tuple(self.train), tuple(self.val), tuple(self.unlabelled))


def plans_of(sources: Sequence[Source], seed: int) -> list[SourceRuns]:
    """Which runs of each source are for what; those that are held back for validation are the first one's.

    What a training is chosen by is the data that it is meant for: runs of further projects would outvote them.
    """
    first, found = next((i for i, source in enumerate(sources) if source.labelled), 0), []
    for i, source in enumerate(sources):
        with source.told():
            found.append(SourceRuns(source, *split_runs(source, seed, i == first), i == first))
    return found


def _named(invert: bool | tuple[str, ...]) -> tuple[str, ...]:
    return () if isinstance(invert, bool) else invert


def split_runs(source: Source, seed: int, hold_back: bool = True) -> tuple[list[str], list[str]]:
    """Names of the training and validation runs of one project.

    Args:
        source: the project, and which of its runs are named.
        seed: of the choice of validation runs.
        hold_back: a share of the runs is kept for validation where none is named; else all are learned from.
    """
    project = source.project
    known = project.runs()
    source.runs.check()
    for run in [*(source.val_runs or ()), *source.unlabelled_runs, *_named(source.invert)]:
        require_run(run, known, project.uri)
    both = set(source.train_runs or ()) & set(source.val_runs or ())
    if both:
        raise SelectionError(f"run {sorted(both)[0]} is named for training and for validation; it can be one of them")
    val = list(source.val_runs or ())
    if source.train_runs is not None:
        runs = list(source.train_runs)
    else:
        rest = [r for r in known if r not in val]
        runs = list(picks_where_any(project, rest, source.picks))
        if not runs:
            why = f"besides {', '.join(val)}, kept for validation, " if val else ""
            raise SelectionError(f"{project.uri}: {why}no run with picks; training needs labelled runs (see `picks`)")
        left = [run for run in rest if run not in runs and run not in source.unlabelled_runs]
        if left:
            log.info(f"{project.uri}: {counted(len(left), 'run')} left out, without such picks")
    if source.train_runs is not None or val:
        # Named or not: where there are several users' picks, it has to be said whose are the truth.
        picks_where_any(project, [*runs, *val], source.picks)
    if hold_back and source.val_runs is None and len(runs) > 1:
        order = np.random.default_rng(seed).permutation(len(runs))
        val = sorted(runs[i] for i in order[: max(1, round(HELD_BACK * len(runs)))])
        runs = [r for r in runs if r not in val]
        log.info(f"{project.uri}: validation on {', '.join(val)}")
    return runs, val


def check_unlabelled(recipe: Recipe, plans: Sequence[SourceRuns]) -> None:
    """Unlabelled runs where the recipe wants them, each once, and none of them labelled."""
    wanted = recipe.objective.semi_supervised
    found = [(_place(plan), run, plan.source.project.uri) for plan in plans for run in plan.unlabelled]
    if wanted and not found:
        raise SelectionError(
            f"recipe {recipe.name} learns from unlabelled runs too, and there is none: name some with "
            "`unlabelled_runs` or a whole project with `unlabelled`, or train on labels alone: objective=SupervisedSpec"
        )
    if found and not wanted:
        raise SelectionError(
            f"recipe {recipe.name} learns from labels alone and has no use for unlabelled runs ({_few(found)}); leave "
            "them out, or make it semi-supervised: objective=MeanTeacherSpec"
        )
    uses = {(_place(p), run): use for p in plans for use, runs in (("validation", p.val), ("training", p.train))
            for run in runs}  # fmt: skip
    seen = set()
    for place, run, uri in found:
        if (place, run) in uses:
            raise SelectionError(
                f"{uri}: run {run} is unlabelled by name, but its picks are used for {uses[place, run]}; it can be one "
                "of them: say which runs are which with `Runs.names`, `val_runs` and `unlabelled_runs`"
            )
        if (place, run) in seen:
            raise SelectionError(f"{uri}: run {run} is named twice as unlabelled; name it once")
        seen.add((place, run))


def _place(plan: SourceRuns) -> str | int:
    """What tells a project from others, however its path was written."""
    uri = plan.source.project.uri
    return str(Path(uri).resolve()) if Path(uri).exists() else id(plan.source.project)


def _few(found: Sequence[tuple[str | int, str, str]]) -> str:
    names = [run for _, run, _ in found]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def inside_only(source: Source, grid: Grid, picks: Picks, what: str = "picks") -> Picks:
    """Those that lie in a run's volume, which are all, or the others are to be dropped.

    Args:
        source: whose they are.
        grid: of the volume.
        picks: of one run.
        what: they are called in messages.

    Raises:
        SelectionError: some lie outside and are not to be dropped.
    """
    inside = grid.contains(picks.positions)
    if inside.all():
        return picks
    where = f"{source.project.uri}: run {picks.run}: {outside_text(picks, inside, what)} lie outside the volume"
    if not source.drop_outside:
        raise SelectionError(
            f"{where} of {'x'.join(map(str, grid.shape))} voxels at {grid.voxel_spacing:g} Å; are they in Å, "
            "x y z, and of this tomogram? mend them, or leave them out with `drop_outside`"
        )
    log.info(f"{where} and are left out")
    return picks.select(inside)


def require_learnable(
    plans: Sequence[SourceRuns], labels: Sequence[Mapping[str, Picks]], objects: Sequence[PickableObject]
) -> None:
    """Raises `SelectionError` for an object that no run has picks of that is learned from; see `no_picks_of`."""
    there = {n for plan, picks in zip(plans, labels) for run in plan.train for n in picks[run].names.tolist()}
    for o in objects:
        if o.name not in there and any(plan.train for plan in plans):
            raise no_picks_of(o.name, [p.name for p in objects if p.name in there], [plan.source for plan in plans])


def no_picks_of(name: str, others: Sequence[str], sources: Sequence[Source] = ()) -> SelectionError:
    """That an object has no picks to learn from, and what may have been meant.

    Args:
        name: of the object.
        others: that are to be learned and have picks.
        sources: where its picks were looked for.
    """
    folders = [s.project for s in sources if isinstance(s.project, FolderProject)]
    known = [n for project in folders for n in project.names_in_tables() if n != name and n not in others]
    meant = near_miss(name, known)
    text = f"object '{name}' has no picks in the training runs; "
    if known and meant.startswith("did you mean"):
        return SelectionError(f"{text}{meant}")
    whose = "" if folders and len(folders) == len(sources) else " or other picks (`picks`)"
    tables = f" (the tables name {listing(sorted(set(known)))})" if known else ""
    learn = f", or learn the others: `FitOptions.objects={','.join(others)}`" if others else whose
    return SelectionError(f"{text}name other runs{learn}{tables}")


def objects_of(sources: Sequence[Source], names: Sequence[str] | None) -> tuple[PickableObject, ...]:
    """The objects to learn: those named, or all that the projects define; each with a radius, the same in all."""
    found: dict[str, PickableObject] = {}
    for source in sources:
        for o in source.project.objects:
            first = found.setdefault(o.name, o)
            if first.radius and o.radius and not np.isclose(first.radius, o.radius):
                raise SelectionError(
                    f"object '{o.name}' has a radius of {first.radius:g} Å in one project and {o.radius:g} Å in "
                    f"{source.project.uri}; give one for both: `objects={o.name}:RADIUS`"
                )
            if not first.radius:
                found[o.name] = o
    if names is not None:
        for name in names:
            if name not in found:
                raise SelectionError(f"no object '{name}' in the projects; {near_miss(name, found)}")
        found = {name: found[name] for name in names}
    if not found:
        raise SelectionError("the projects define no pickable objects; give some as `objects=NAME:RADIUS`")
    for o in found.values():
        _ = o.radius_angstrom  # says so where there is none
    return tuple(found.values())
