"""Whole runs in: files of other programs, to picks of a project."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import OutputError, ReadError, SelectionError
from ..core.messages import listing, near_miss
from ..core.reading import require_file
from ..core.types import Grid, Picks
from . import FolderProject, Project
from .choose import require_objects
from .exporting import ExportOptions, frames, with_row
from .formats import Reading, RunFrame, RunNames, TomogramRow, detect, get_format, read_tomograms_star
from .names import read_names
from .plausible import FEW, OF_SIZE, unlikely, unlikely_runs
from .project import holds_part
from .runs import Runs

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class ImportOptions:
    """How files are understood, and whose picks they become.

    Attributes:
        format: its key; None: by the file's ending and columns.
        name: the object of all picks, where the files do not say.
        tomograms_star, voxel_spacing: as in `ExportOptions`.
        pixel_size: of the coordinates [Å], in place of what the files say.
        index_map: list of tomograms, for formats that number them.
        names: list "NAME RUN", for tomograms that are called otherwise than our runs.
        user_id, session_id: of the new picks.
        overwrite: replace picks of the same user and session.
        drop_outside: leave picks outside their tomogram out; otherwise they are counted and kept.
        choices: the format's own (`origin`).
    """

    format: str | None = None
    name: str | None = None
    tomograms_star: Path | None = None
    voxel_spacing: float | None = None
    pixel_size: float | None = None
    index_map: Path | None = None
    names: Path | None = None
    user_id: str = "imported"
    session_id: str = "0"
    overwrite: bool = False
    drop_outside: bool = False
    choices: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportReport:
    """What became of the files.

    Attributes:
        counts: picks by run and object.
        unmatched: tomograms that the files name and no run is called by.
        outside: picks that lie outside their tomogram, by run.
    """

    counts: Mapping[str, Mapping[str, int]]
    unmatched: tuple[str, ...] = ()
    outside: Mapping[str, int] = field(default_factory=dict)


def import_picks(files: Sequence[Path], into: Runs | Project, options: ImportOptions) -> ImportReport:
    """Reads files and writes what they hold as picks of a project's runs, after all of them could be read.

    Raises:
        ReadError: a file that is not of its format.
        SelectionError: no run of the project is in the files; an object it does not have; a size nobody says.
        OutputError: there are picks of this user and session.
    """
    into = Runs.of(into)
    project = into.project
    found, unmatched = read_files(files, into, options)
    for name in unmatched:
        log.info(f"no run for '{name}'; {near_miss(name, project.runs())}")
    if not found and unmatched:
        raise SelectionError(
            f"{listing(files)}: nothing for the runs of {project.uri} ({listing(project.runs())}); the files name "
            f"{listing(unmatched)}; rename the files or the runs alike, or map them with `names=FILE`"
        )
    if isinstance(project, FolderProject):
        project.admit(sorted({name for picks in found.values() for name in picks.names.tolist()}))
    for run, picks in found.items():
        require_objects(picks.names.tolist(), [o.name for o in project.objects], project.uri)
        _refuse_what_is_there(project, run, picks, options)
    grids = {run: grid for run in found if (grid := _grid(into, run)) is not None}
    _judge(found, grids, project, options)
    counts: dict[str, dict[str, int]] = {}
    outside: dict[str, int] = {}
    for run, picks in found.items():
        inside = grids[run].contains(picks.positions) if run in grids else np.ones(len(picks), dtype=bool)
        if not inside.all():
            outside[run] = int((~inside).sum())
            done = "left out" if options.drop_outside else "kept"
            log.warning(
                f"run {run}: {outside[run]} of {len(picks)} picks lie outside the tomogram and are {done}; "
                "are pixel size, centre and run the right ones?"
            )
            found[run] = picks = picks.select(inside) if options.drop_outside else picks
        names, numbers = np.unique(picks.names, return_counts=True)
        counts[run] = dict(zip(names.tolist(), numbers.tolist()))
    for picks in found.values():
        project.write_picks(
            picks, options.user_id, options.session_id, replace=options.overwrite or project.keeps_picks
        )
    return ImportReport(counts, tuple(unmatched), outside)


def _refuse_what_is_there(project: Project, run: str, picks: Picks, options: ImportOptions) -> None:
    """Raises where other picks are there already; what is advised is what the kind of project has."""
    if options.overwrite or not project.has_picks(run, options.user_id, options.session_id):
        return
    if holds_part(project, picks, options.user_id, options.session_id):
        return
    if isinstance(project, FolderProject):
        raise OutputError(
            f"{project.uri}: run {run} has picks already, and a folder holds one table a run; expected none, so move "
            f"{project.table(run).name} elsewhere, or replace it with `overwrite`"
        )
    raise OutputError(
        f"{project.uri}: run {run} has picks already (of {options.user_id}/{options.session_id}); expected none, so "
        "choose another `session_id` or replace them with `overwrite`"
    )


def _judge(found: Mapping[str, Picks], grids: Mapping[str, Grid], project: Project, options: ImportOptions) -> None:
    """Raises for picks that are all in a corner or all outside; only says so where the pixel size was asked for."""
    why = unlikely(found, grids, FEW)
    if why is None:
        for line in unlikely_runs(found, grids):
            log.warning(line)
        return
    if options.pixel_size is not None:
        log.warning(why)
        return
    fix = "multiply them by it" if OF_SIZE in why else "say what 1 of the coordinates is with `pixel_size` (in Å)"
    raise SelectionError(f"{project.uri}: {why}; {fix}")


def read_files(files: Sequence[Path], of: Runs, options: ImportOptions) -> tuple[dict[str, Picks], list[str]]:
    """The picks of each of the runs, positions in Å, and the tomograms that no run is called by.

    Raises:
        ReadError: a file that is not there or not of its format.
    """
    rows = read_tomograms_star(options.tomograms_star) if options.tomograms_star else {}
    project, shape = of.project, ExportOptions(voxel_spacing=options.voxel_spacing)
    stated = {row.name: file for row in rows.values() for file in row.files[:1]}
    stated |= read_names(options.names) if options.names is not None else {}
    objects = {o.label: o.name for o in project.objects}
    names = RunNames(of.check(), list(objects.values()), stated)
    there = {run: row for row in rows.values() if (run := _found(names, row)) is not None}

    @cache
    def frame(run: str) -> RunFrame:
        found = frames(of, [run], shape)[0]
        return with_row(found, there[run]) if run in there else found

    names.shortened.clear()
    reading = Reading(
        frame, names, name=options.name, labels=objects, pixel_size=options.pixel_size, index_map=options.index_map,
        new_objects=isinstance(project, FolderProject) and project.open_objects,
    )  # fmt: skip
    parts: dict[str, list[Picks]] = {}
    for path in files:
        require_file(path)
        if not path.is_file():
            raise ReadError(f"{path}: there is no such file; expected picks of another program")
        kind = get_format(options.format or detect(path), **options.choices)
        for picks in kind.read(path, reading):
            parts.setdefault(picks.run, []).append(picks)
    for line in names.said():
        log.info(line)
    return {run: Picks.join(run, some) for run, some in parts.items()}, reading.unmatched


def _found(names: RunNames, row: TomogramRow) -> str | None:
    """The run of one of RELION's tomograms; None where two could be it, which matters only where picks are of it."""
    try:
        return names.find(row.name)
    except SelectionError:
        return None


def _grid(of: Runs, run: str) -> Grid | None:
    types = of.project.tomo_types(run)
    return of.project.grid(run, of.tomo_type or types[0]) if types else None
