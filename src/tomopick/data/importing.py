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
from ..core.types import Picks
from . import Project
from .choose import require_objects
from .exporting import ExportOptions, frames
from .formats import Reading, RunFrame, RunNames, detect, get_format

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class ImportOptions:
    """How files are understood, and whose picks they become.

    Attributes:
        format: its key; None: by the file's ending and columns.
        name: the object of all picks, where the files do not say.
        tomo_type, tomograms_star, voxel_spacing: as in `ExportOptions`.
        pixel_size: of the coordinates [Å], in place of what the files say.
        index_map: list of tomograms, for formats that number them.
        user_id, session_id: of the new picks.
        overwrite: replace picks of the same user and session.
        drop_outside: leave picks outside their tomogram out; otherwise they are counted and kept.
        choices: the format's own (`origin`).
    """

    format: str | None = None
    name: str | None = None
    tomo_type: str | None = None
    tomograms_star: Path | None = None
    voxel_spacing: float | None = None
    pixel_size: float | None = None
    index_map: Path | None = None
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


def import_picks(files: Sequence[Path], project: Project, options: ImportOptions) -> ImportReport:
    """Reads files and writes what they hold as picks of the project, after all of them could be read.

    Raises:
        ReadError: a file that is not of its format.
        SelectionError: no run of the project is in the files; an object it does not have; a size nobody says.
        OutputError: there are picks of this user and session.
    """
    found, unmatched = read_files(files, project, options)
    for name in unmatched:
        log.info(f"no run for '{name}'; {near_miss(name, project.runs())}")
    if not found:
        raise SelectionError(
            f"{listing(files)}: nothing for the runs of {project.uri} ({listing(project.runs())}); "
            f"the files name {listing(unmatched) or 'no tomogram'}; rename the files or the runs alike"
        )
    counts: dict[str, dict[str, int]] = {}
    outside: dict[str, int] = {}
    for run, picks in found.items():
        require_objects(picks.names.tolist(), [o.name for o in project.objects], project.uri)
        if project.has_picks(run, options.user_id, options.session_id) and not options.overwrite:
            raise OutputError(
                f"{project.uri}: run {run} has picks already (of {options.user_id}/{options.session_id}); expected "
                "none, so choose another --session-id or replace them with --overwrite"
            )
        inside = _inside(project, run, picks, options.tomo_type)
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
        project.write_picks(picks, options.user_id, options.session_id)
    return ImportReport(counts, tuple(unmatched), outside)


def read_files(files: Sequence[Path], project: Project, options: ImportOptions) -> tuple[dict[str, Picks], list[str]]:
    """The picks of each run of the project, positions in Å, and the tomograms that no run is called by.

    Raises:
        ReadError: a file that is not there or not of its format.
    """
    shape = ExportOptions(
        tomo_type=options.tomo_type, tomograms_star=options.tomograms_star, voxel_spacing=options.voxel_spacing
    )

    @cache
    def frame(run: str) -> RunFrame:
        return frames(project, [run], shape)[0]

    objects = {o.label: o.name for o in project.objects}
    reading = Reading(
        frame, RunNames(project.runs(), list(objects.values())), name=options.name, labels=objects,
        pixel_size=options.pixel_size, index_map=options.index_map,
    )  # fmt: skip
    parts: dict[str, list[Picks]] = {}
    for path in files:
        if not path.is_file():
            raise ReadError(f"{path}: there is no such file; expected picks of another program")
        kind = get_format(options.format or detect(path), **options.choices)
        for picks in kind.read(path, reading):
            parts.setdefault(picks.run, []).append(picks)
    return {run: Picks.join(run, some) for run, some in parts.items()}, reading.unmatched


def _inside(project: Project, run: str, picks: Picks, tomo_type: str | None) -> np.ndarray:
    types = project.tomo_types(run)
    if not types:
        return np.ones(len(picks), dtype=bool)
    return project.grid(run, tomo_type or types[0]).contains(picks.positions)
