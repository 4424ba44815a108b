"""Whole runs out: picks from any place tomopick reads, to files of other programs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import NoPicksError, OutputError, SelectionError
from ..core.files import atomic_folder, write_together
from ..core.messages import counted, near_miss
from ..core.names import components
from ..core.types import Grid, PickableObject, Picks, Vector
from . import Project, create_copick_project, open_project
from .choose import require_objects, require_run
from .formats import WRITTEN, Part, RunFrame, RunNames, TomogramRow, get_format, read_tomograms_star, save
from .kept import picked_thresholds
from .picksjson import picks_files
from .project import holds_part
from .runs import Runs

log = logging.getLogger("tomopick")

COPICK = "copick"
TARGETS = (*WRITTEN, COPICK)


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and how.

    Attributes:
        objects: which objects; None: all.
        tomograms: project with the tomograms, where the picks lie without them.
        tomograms_star: RELION's tomograms.star: true sizes, names, pixel sizes.
        tilt_series_pixel_size: [Å]; in place of what tomograms.star says.
        voxel_spacing: of the voxels to count in [Å], where there are no tomograms.
        min_score: picks below it are left out; one for all objects, or by object, with `*` for all that are not named.
        at_thresholds: whether those below the thresholds that they were picked with are left out, where they tell.
        together: all objects in one file; None: where the format tells them apart again.
        folder: `out` is a folder, whether it is there yet or not.
        overwrite: replace what exists.
        user_id, session_id: of the picks in a copick project.
        names: our runs -> what the other program calls them, where that is otherwise.
        choices: the format's own (`layout`, `origin`, `tilt_range`, `coords_angpix`).
    """

    objects: Sequence[str] | None = None
    tomograms: Project | None = None
    tomograms_star: Path | None = None
    tilt_series_pixel_size: float | None = None
    voxel_spacing: float | None = None
    min_score: float | Mapping[str, float] | None = None
    at_thresholds: bool = False
    together: bool | None = None
    folder: bool = False
    overwrite: bool = False
    user_id: str = "tomopick"
    session_id: str = "0"
    names: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)


def export_picks(of: Runs | Project, target: str, out: Path, options: ExportOptions) -> list[Path]:
    """Writes the picks of a project for another program; gives the files, all of them or none written.

    Args:
        of: runs with picks, and the tomograms whose voxels are counted; where none is named, all that have picks.
        target: one of `TARGETS`.
        out: the file; the folder, where each run (or object) has its own.
        options: what and how.

    Raises:
        SelectionError: no picks, or a size, centre or run that the format needs and nobody says.
        OutputError: a file exists or cannot be written.
    """
    require_target(target)
    of = Runs.of(of)
    project, found = of.project, _chosen(of, options)
    if target == COPICK:
        if any(value is not None for value in options.choices.values()):
            get_format("csv", **options.choices)
        return _export_copick(project, found, out, options)
    kind = get_format(target, **options.choices)
    parts = list(zip(found, frames(of, [p.run for p in found], options)))
    objects = {o.name: o for o in project.objects}
    together = kind.mixed if options.together is None else options.together
    files: dict[Path, bytes] = {}
    for path, group in _paths(parts, out, kind, together, options.folder or out.is_dir()).items():
        files |= kind.write(group, path, objects)
    written = save(files, options.overwrite)
    log.info(f"{counted(sum(map(len, found)), 'pick')} of {counted(len(parts), 'run')}")
    for line in kind.notes(parts):
        log.info(line)
    return written


def require_target(target: str) -> None:
    """Raises `SelectionError`, with the near misses, for a format that picks cannot be written in."""
    if target not in TARGETS:
        raise SelectionError(f"`target={target}`: no such format; {near_miss(target, TARGETS)}")


def _chosen(of: Runs, options: ExportOptions) -> list[Picks]:
    """The picks of the runs and objects asked for, one entry a run."""
    project, runs = of.project, of.check()
    if options.objects is not None:
        require_objects(options.objects, [o.name for o in project.objects], project.uri)
    found: dict[str, Picks] = {}
    missing: SelectionError | None = None
    for run in runs:
        try:
            picks = project.picks(run, of.picks)
        except NoPicksError as error:
            missing = missing or error
            continue
        if picks is None:
            continue
        if options.objects is not None:
            picks = picks.among(options.objects)
        if len(picks):
            found[run] = picks
    kept = [p for p in _scored_high(found, project, options) if len(p)]
    if not kept and missing is not None:
        raise missing
    if not kept:
        low = options.min_score
        parts = low.items() if isinstance(low, Mapping) else [("*", low)] if low else []
        score = ",".join(f"{v:g}" if k == "*" else f"{k}={v:g}" for k, v in parts)
        asked = [f"`{k}={v}`" for k, v in (("picks", of.picks), ("min_score", score)) if v]
        raise SelectionError(
            f"{project.uri}: no picks to export{' with ' + ' and '.join(asked) if asked else ''}; "
            "expected at least one, so check the runs and the choice"
        )
    return kept


def _scored_high(found: Mapping[str, Picks], project: Project, options: ExportOptions) -> Iterator[Picks]:
    """The picks that score as high as is asked for; says so where there are such as their model did not keep."""
    picked, cuts, _ = picked_thresholds(found, project.uri)
    if options.at_thresholds and found and not cuts:
        raise SelectionError(
            f"{project.uri}: these picks tell no thresholds, as picks do that were made with `keep_below`; leave "
            "`at_thresholds` out, or give `min_score=OBJECT=VALUE`"
        )
    low = options.min_score or {}
    named = dict(low) if isinstance(low, Mapping) else {"*": low}
    every = named.pop("*", 0.0)
    require_objects(named, [o.name for o in project.objects], project.uri)
    lowest = {name: every for p in found.values() for name in np.unique(p.names).tolist()} | named
    below = 0
    for picks in picked.values():
        kept = picks.above(lowest)
        high = kept.select(kept.is_kept)
        below += len(kept) - len(high)
        yield high if options.at_thresholds else kept
    if below and not options.at_thresholds:
        log.warning(
            f"{counted(below, 'pick')} below the thresholds that they were picked with are written too; leave them out "
            "with `at_thresholds`"
        )


def frames(of: Runs, runs: Sequence[str], options: ExportOptions) -> list[RunFrame]:
    """What files need to know of the runs: grids, centres, numbers, other names; in the order of `runs`."""
    source = options.tomograms or of.project
    names = RunNames(source.runs())
    rows = read_tomograms_star(options.tomograms_star) if options.tomograms_star else {}
    # What a row says its tomogram is called like is as good as its own name.
    stated = {file: row.name for row in rows.values() for file in row.files}
    star = RunNames(list(rows), stated={**stated, **dict(options.names)})
    numbers = {run: i + 1 for i, run in enumerate(of.project.runs())}
    found = []
    for run in runs:
        frame = RunFrame(run, index=numbers.get(run, 1), pixel_size=options.tilt_series_pixel_size)
        there = names.find(run)
        if there is None and options.tomograms is not None:
            raise SelectionError(f"{source.uri}: no tomogram of run '{run}'; {near_miss(run, source.runs())}")
        if there is not None and source.tomo_types(there):
            frame = _with_grid(frame, source, there, of.tomo_type)
        elif options.voxel_spacing is not None:
            frame = replace(frame, grid=Grid((1, 1, 1), options.voxel_spacing))
        if rows:
            title = star.find(run)
            if title is None:
                raise SelectionError(
                    f"{options.tomograms_star}: no tomogram of run '{run}'; {near_miss(run, rows)}; or say which it is "
                    "with `names=FILE`"
                )
            frame = with_row(frame, rows[title])
        elif run in options.names:
            frame = replace(frame, title=options.names[run])
        found.append(frame)
    for line in (*names.said(), *star.said()):
        log.info(line)
    return found


def _with_grid(frame: RunFrame, source: Project, run: str, wanted: str | None) -> RunFrame:
    """The frame with the grid of the tomogram asked for, and the middle of the whole tomogram.

    Where no one tomogram is asked for and grids differ, no voxels can be counted; the middle is the finest's.
    """
    types = source.tomo_types(run)
    if wanted is None:
        grids = {t: source.grid(run, t) for t in types}
        finest = min(grids.values(), key=lambda g: g.voxel_spacing)
        if len(set(grids.values())) > 1:
            return replace(frame, centre=_middle(finest), choices=tuple(types))
        return replace(frame, grid=finest, centre=_middle(finest))
    grid = whole = source.grid(run, wanted)
    if any(grid.origin):  # a level of a pyramid: the middle is that of its finest, whose size is not rounded
        kind = wanted.partition("@")[0]
        grids = {t: source.grid(run, t) for t in types if not kind or t.partition("@")[0] == kind}
        whole = min(grids.values(), key=lambda g: g.voxel_spacing)
    return replace(frame, grid=grid, centre=_middle(whole))


def _middle(grid: Grid) -> Vector:
    z, y, x = (n / 2 * grid.voxel_spacing for n in grid.shape)
    return z, y, x


def with_row(frame: RunFrame, row: TomogramRow) -> RunFrame:
    """The frame with what RELION's tomograms.star says of its tomogram."""
    size = frame.pixel_size or row.pixel_size
    return replace(frame, title=row.name, centre=row.centre, pixel_size=size, optics=row.optics)


def _paths(parts: Sequence[Part], out: Path, kind: Any, together: bool, folder: bool) -> dict[Path, list[Part]]:
    """The main files, and the picks that go into each."""
    objects = sorted({name for picks, _ in parts for name in picks.names.tolist()})
    if kind.per_run:
        components((frame.name for _, frame in parts), "tomogram")
    groups: list[tuple[str, list[Part]]] = [("", list(parts))]
    if not together and len(components(objects, "object")) > 1:
        groups = [(name, [(p.of(name), f) for p, f in parts if name in p.names]) for name in objects]
    result: dict[Path, list[Part]] = {}
    for name, group in groups:
        ending = f"_{name}" if name else ""
        if not kind.per_run and folder:
            result[out / f"particles{ending}{kind.suffix}"] = group
        elif not kind.per_run:
            result[out.with_name(f"{out.stem}{ending}{out.suffix or kind.suffix}")] = group
        elif out.suffix.lower() == kind.suffix and not folder:
            if len(parts) > 1:
                raise OutputError(
                    f"{out}: {kind.key} has a file for each of the {len(parts)} runs; expected a folder, so name one"
                )
            result[out.with_name(f"{out.stem}{ending}{out.suffix}")] = group
        else:
            for part in group:
                result[out / f"{part[1].name}{ending}{kind.suffix}"] = [part]
    return result


def _export_copick(project: Project, found: Sequence[Picks], out: Path, options: ExportOptions) -> list[Path]:
    """Into the copick project at `out`, or as a new one that holds picks alone."""
    config = out / "copick.json" if out.is_dir() else out
    if config.is_file():
        other = open_project(config)
        known = other.runs()
        names = RunNames(known)
        moved = [(replace(p, run=names.find(p.run) or p.run), p.run) for p in found]
        for picks, run in moved:
            require_run(picks.run, known, other.uri)
            require_objects(picks.names.tolist(), [o.name for o in other.objects], other.uri)
            there = other.has_picks(picks.run, options.user_id, options.session_id) and not options.overwrite
            if there and not holds_part(other, picks, options.user_id, options.session_id):
                raise OutputError(
                    f"{other.uri}: run {run} has picks of {options.user_id}/{options.session_id}; expected none, so "
                    "choose another `session_id` or replace them with `overwrite`"
                )
        for picks, _ in moved:
            other.write_picks(picks, options.user_id, options.session_id)
        return [config]
    if out.suffix:
        raise OutputError(f"{out}: is no copick project; expected its configuration, or the name of a new folder")
    pair = (options.user_id, options.session_id, options.voxel_spacing)
    runs = components((picks.run for picks in found), "run")
    with atomic_folder(out) as part:
        new = create_copick_project(part, _described(project), place=out)
        for run, picks in zip(runs, found):
            files = picks_files(picks, [o.name for o in new.objects], (), pair)
            write_together({part / "ExperimentRuns" / run / "Picks" / name: text for name, text in files.items()})
    return [out / "copick.json"]


def _described(project: Project) -> list[PickableObject]:
    return [replace(o, label=i + 1) for i, o in enumerate(project.objects)] or []
