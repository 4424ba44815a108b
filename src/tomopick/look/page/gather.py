"""From what a user names (a model or picks, and a project) to what the page is made of."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SelectionError
from ...core.messages import counted, listing, near_miss
from ...core.presets import CZII_OBJECTS
from ...core.text import read_text
from ...core.types import PickableObject, Picks, Tomogram
from ...data import Project, read_picks_csv
from ...data.choose import require_run
from ...data.formats import is_foreign
from ...data.kept import picked_thresholds
from ...data.labelled import picks_where_any, where_labelled
from ...data.names import RunNames, called_alike
from ...data.open import open_taking
from ...data.plausible import require_likely
from ...data.runs import Runs
from ...data.tables import the_one
from ...picking.folder import is_model
from ...scoring.crowding import crowded
from ...scoring.radii import radius_doubts
from ...scoring.sides import Made, Sides, twice_written, usual_distances, without_either
from .tables import Report

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class ReportOptions:
    """What goes into a report.

    Attributes:
        picks: `object:user/session`, where what is shown is a project's.
        name: the object of the picks, where their file does not say.
        only: objects to report on; None: all.
        idle: whether objects with neither picks nor truth are shown.
        embed: runs whose tomograms are embedded; None: the first three.
        metric: whose thresholds of a model the sliders open at.
        thresholds: by object, in place of those.
        title: heading of the page.
        views: whose heatmaps a model averages (see `PickOptions`).
        device: where a model runs.
        foreign: how files of other programs are read, fields of `ImportOptions`.
    """

    picks: str | None = None
    name: str | None = None
    only: Sequence[str] | None = None
    idle: bool = False
    embed: Sequence[str] | None = None
    metric: str = "f1"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    title: str | None = None
    views: str | None = None
    device: str = "auto"
    foreign: Mapping[str, Any] = field(default_factory=dict)


def gather_report(what: str, on: Runs | Project, opening: Mapping[str, Any], options: ReportOptions) -> Report:
    """Reads (or makes) the picks, the truth and the objects.

    Args:
        what: a model folder, a shipped model's name, a project of picks, or a CSV.
        on: the runs with the tomograms, and whose picks are true.
        opening: how a project of picks is opened, `open_project`'s arguments.
        options: what goes in.

    Raises:
        SelectionError: unknown runs, no picks, or picks that lie outside every tomogram's range.
        TomopickError: whatever else cannot be read.
    """
    on = Runs.of(on)
    project, runs = on.project, on.check()
    for run in options.embed or ():
        require_run(run, project.runs(), on.uri)
    notes: list[str] = []
    given: dict[str, Any] = {}
    distances: dict[str, float] = {}
    if is_model(what):
        made = pick_with(what, on, options)
        distances = usual_distances(made.objects, made)
        picks, theirs, given = made.picks, made.objects, {"thresholds": made.thresholds, **model_texts(what)}
    else:
        picks, theirs = _read(what, on, opening, options)
        picks, cuts, lines = picked_thresholds(picks, what)
        given = {"thresholds": cuts}
        notes += [f"{line}; the page opens at the highest." for line in lines if "different" in line]
    truth = _truth(on, what == on.uri, options)
    picks, truth, outside = where_labelled(project, picks, truth, on.tomo_type)
    notes += [f"{line}." for line in outside]
    if options.only is not None and not options.idle:
        _require_any(options.only, picks, truth, what)
    objects = _objects(project.objects, theirs, picks, truth, options.only)
    objects, idle = (objects, []) if options.idle else without_either(objects, picks, truth)
    notes += idle
    if truth:
        unlabelled = sorted(set(picks) - set(truth))
        if unlabelled:
            log.info(f"{', '.join(unlabelled)}: no truth; shown and not scored")
        objects, lines = _unscored(objects, picks, truth)
        notes += lines
    picks = {run: p.among([o.name for o in objects]) for run, p in picks.items()}
    truth = {run: p.among([o.name for o in objects]) for run, p in truth.items()}
    notes += _findings(on, picks, truth, objects)
    notes += [f"{line}." for line in crowded(truth, objects, distances or usual_distances(objects))]
    for line in notes:
        log.warning(line)
    title = options.title or _title(what, on.uri)
    shown = [run for run in (options.embed or runs) if run in {*picks, *truth}]
    readable = [run for run in shown if project.tomo_types(run)]
    return Report(
        title, picks, truth, objects, {**given.get("thresholds", {}), **options.thresholds},
        on.tomogram, readable if options.embed else readable[:3],
        given.get("card", ""), given.get("log", ()),
        _unknown(objects, given["thresholds"] if is_model(what) else None), notes,
    )  # fmt: skip


def _unscored(
    objects: tuple[PickableObject, ...], picks: Mapping[str, Picks], truth: Mapping[str, Picks]
) -> tuple[tuple[PickableObject, ...], list[str]]:
    """The objects, those without weight of which nothing is true, as in `Scoring`; and a line about their picks."""
    extra = {o.name for o in objects} - {name for t in truth.values() for name in t.names.tolist()}
    picked = sorted(extra & {n for p in picks.values() for n in p.names.tolist()})
    lines = [f"{', '.join(picked)}: picked, but without any truth; shown and not scored."] if picked else []
    return tuple(replace(o, score_weight=0.0) if o.name in extra else o for o in objects), lines


def _require_any(only: Sequence[str], picks: Mapping[str, Picks], truth: Mapping[str, Picks], what: str) -> None:
    """Raises `SelectionError` where there is nothing of the objects asked for to be looked at."""
    there = {name for side in (picks, truth) for p in side.values() for name in p.names.tolist()}
    if there and not there & set(only):
        raise SelectionError(
            f"`only={','.join(only)}`: neither picks nor truth of it in {what}; there is {listing(sorted(there))}"
        )


def _title(what: str, place: str) -> str:
    return f"{Path(what).name or what} on {Path(place).name or place}"


def report_of(sides: Sides, what: str, place: str, tomo_type: str | None = None, title: str | None = None) -> Report:
    """The page of what `tomopick evaluate` scored, from what it read.

    Args:
        sides: both sides.
        what, place: what the user called them.
        tomo_type: which tomograms are shown.
        title: heading of the page; None: what, on which place.
    """
    texts = model_texts(what) if is_model(what) else {}
    unknown = _unknown(sides.objects, sides.thresholds if texts else None)
    project = sides.project
    known = frozenset(project.runs()) if project else frozenset()
    named = [run for run in sorted({*sides.picks, *sides.truth}) if run in known]
    readable = [run for run in named if project and project.tomo_types(run)]

    def tomogram(run: str) -> Tomogram:
        assert project is not None
        return project.tomogram(run, tomo_type)

    return Report(
        title or _title(what, place),
        sides.picks, sides.truth, sides.objects, sides.thresholds, tomogram if readable else None, readable[:3],
        texts.get("card", ""), texts.get("log", ()), unknown, sides.notes,
    )  # fmt: skip


def _unknown(objects: Sequence[PickableObject], thresholds: Mapping[str, float] | None) -> list[str]:
    """The objects that a model has no threshold for, which it cannot pick; none where no model picked."""
    return [] if thresholds is None else [o.name for o in objects if o.name not in thresholds]


def pick_with(what: str, on: Runs, options: ReportOptions) -> Made:
    """Picks of a model's, down to a low score.

    Raises:
        TomopickError: the model or a tomogram cannot be read, or it has no thresholds for the metric.
    """
    from ...picking.familiar import warn_of_familiar
    from ...picking.load import load_model
    from ...picking.options import PickOptions
    from ...picking.peaks import distances_of
    from ...picking.picker import Picker

    model = load_model(what)
    runs = on.check()
    warn_of_familiar(model, on.project, runs, "scores")
    for line in radius_doubts(on.project.objects, model.objects):
        log.warning(line)
    picked = PickOptions(metric=options.metric, keep_below=True, views=options.views, device=options.device)
    picker = Picker(model, picked)
    if picker.positions_depend_on_threshold:
        log.info("its decoder finds other positions with another threshold: there are no picks below the thresholds")
    found = {}
    for run in runs:
        found[run], unlike = picker.pick(on.tomogram(run))
        n = counted(sum(picker.counts(found[run]).values()), "pick")
        log.info(f"{run}: {n} of {counted(len(found[run]), 'candidate')}")
        for line in unlike:
            log.warning(f"{run}: {line}")
    return Made(found, picker.objects, picker.thresholds, distances_of(picker.peaks, picker.objects))


def model_texts(what: str) -> dict[str, Any]:
    """A model's card and the rows of its training's log."""
    from ...picking.folder import read_log, shipped

    folder = Path(what) if Path(what).is_dir() else shipped()[what]
    card = folder / "README.md"
    return {"card": read_text(card, "a model's card") if card.is_file() else "", "log": read_log(folder / "log.jsonl")}


def _read(
    what: str, on: Runs, opening: Mapping[str, Any], options: ReportOptions
) -> tuple[dict[str, Picks], tuple[PickableObject, ...]]:
    runs = on.check()
    if Path(what).suffix.lower() == ".csv":
        found, objects = read_picks_csv(what, the_one(opening.get("objects", ()))), ()
        if set(found) == {""} and len(runs) == 1:
            found = {runs[0]: replace(found[""], run=runs[0])}
    elif Path(what).is_file() and is_foreign(Path(what)):
        from ...data.importing import ImportOptions, read_files

        choices = ImportOptions(name=options.name, **options.foreign)
        (found, _), objects = read_files([Path(what)], on, choices), ()
    else:
        source = open_taking(what, **{**opening, "voxel_spacing": None}).project
        names = RunNames(runs)
        found = picks_where_any(source, [run for run in source.runs() if names.find(run)], options.picks, below=True)
        objects = source.objects  # type: ignore[assignment]
    found = called_alike(found, runs)
    picks = {run: found[run] for run in runs if run in found}
    if not picks:
        raise SelectionError(
            f"{what}: no picks of {', '.join(runs[:5])}; name runs alike, or say which picks with `picks`"
        )
    for run in runs:
        if run not in picks:
            log.info(f"run {run}: no picks; where it has truth, all of it counts as missed")
    return picks, objects


def _truth(on: Runs, same: bool, options: ReportOptions) -> dict[str, Picks]:
    """The true picks. Where picks and truth are of one project, they must be named: nothing tells them apart."""
    if on.picks is None and same:
        if not options.idle:
            log.info("no `truth=OBJECT:USER/SESSION` was given: nothing is scored")
        return {}
    found = picks_where_any(on.project, on.check(), on.picks, "truth")
    if not found and (on.picks is not None or not options.idle):  # a curation is asked for no score
        log.info("no run has true picks: nothing is scored")
    return found


def _objects(
    own: Sequence[PickableObject],
    theirs: Sequence[PickableObject],
    picks: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    only: Sequence[str] | None,
) -> tuple[PickableObject, ...]:
    """The project's objects and whichever others occur, each with the first radius that somebody knows."""
    names = {n for side in (picks, truth) for p in side.values() for n in np.unique(p.names).tolist()}
    found: dict[str, PickableObject] = {}
    for o in (*own, *theirs, *CZII_OBJECTS):
        if o.name in found:
            if found[o.name].radius is None:
                found[o.name] = replace(found[o.name], radius=o.radius)
        elif o.name in names or (o.is_particle and o in own):
            found[o.name] = o
    found |= {n: PickableObject(n, None) for n in sorted(names - set(found))}
    for name in only or ():
        if name not in found:
            raise SelectionError(f"`only={name}`: there is no such object; {near_miss(name, sorted(found))}")
    kept = [o for o in found.values() if o.is_particle and (o.name in names or o.radius)]
    return tuple(o for o in kept if only is None or o.name in only)


def _findings(
    on: Runs, picks: Mapping[str, Picks], truth: Mapping[str, Picks], objects: Sequence[PickableObject]
) -> list[str]:
    """What a reader must know; raises for picks that cannot be in Å."""
    found = []
    for run, p in picks.items():
        if not len(p) or not on.project.tomo_types(run):
            continue
        grid = on.grid(run)
        outside = int((~grid.contains(p.positions)).sum())
        require_likely({run: p.select(grid.contains(p.positions))}, {run: grid}, f"run {run}")
        if outside:
            found.append(f"run {run}: {outside} of {len(p)} picks lie outside the tomogram and count as they are.")
    return found + [f"{line}." for line in twice_written(truth, objects)]
