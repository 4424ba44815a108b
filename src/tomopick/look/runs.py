"""Pictures of a project's runs: finds tomogram and picks, wherever they lie, and has them drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import listing, near_miss
from ..core.presets import CZII_OBJECTS
from ..core.types import PickableObject, Picks
from ..data import Project
from ..data.labelled import picks_where_any
from ..data.names import RunNames
from ..data.runs import Runs
from .sections import draw_sections
from .voxels import MOST


def draw_run(
    of: Runs | Project,
    out: Path,
    *,
    picks_from: Project | None = None,
    truth: str | None = None,
    min_score: float | None = None,
    thickness: float = 100.0,
    at: Sequence[float] | None = None,
) -> None:
    """Writes the picture of one run.

    Args:
        of: the run, in a project of others or alone; with the picks where `picks_from` is None.
        out: the PNG.
        picks_from: another project, or a table, with the picks of the run (or of one run alone).
        truth: `object:user/session` of the true ones, in the run's project.
        min_score: of picks that are drawn.
        thickness: of the slabs [Å].
        at: their centres, zyx [Å].

    Raises:
        SelectionError: no such run or picks, or which is not said.
        TomopickError: an object has no radius, or `out` cannot be written.
    """
    of = Runs.of(of)
    project, name = of.project, _one_run(of)
    source = picks_from or project
    found = _picks(source, name, of.picks) if picks_from is not None or of.picks or truth is None else None
    shown = found if found is not None else Picks.empty(name)
    if min_score is not None:
        shown = shown.select(shown.scores >= min_score)
    # A small one is looked through and checked; a large one is not held as a whole.
    grid = project.grid(name, of.tomo_type)
    volume = project.slabs(name, of.tomo_type) if np.prod(grid.shape) > MOST else of.tomogram(name)
    true = picks_where_any(project, [name], truth, "truth").get(name) if truth else None
    objects = _objects([*project.objects, *source.objects], [shown, *([] if true is None else [true])])
    centre = None if at is None else (float(at[0]), float(at[1]), float(at[2]))
    if centre is not None and not grid.contains(np.array([centre]))[0]:
        raise SelectionError(
            f"{project.uri}: run {name}: `at={','.join(f'{v:g}' for v in centre)}` lies outside the volume; expected "
            f"z,y,x in Å up to {','.join(f'{n * grid.voxel_spacing:.0f}' for n in grid.shape)}"
        )
    draw_sections(volume, shown, objects, out, thickness=thickness, truth=true, at=centre)


def _one_run(of: Runs) -> str:
    runs = of.check()
    if len(runs) != 1:
        raise SelectionError(f"{of.uri}: has {len(runs)} runs; say which with `Runs.names`: {listing(runs)}")
    return runs[0]


def _picks(source: Project, run: str, query: str | None) -> Picks | None:
    runs = source.runs()
    there = RunNames(runs).find(run) or (runs[0] if len(runs) == 1 else None)
    if there is None:
        raise SelectionError(f"{source.uri}: no picks of run '{run}'; {near_miss(run, runs)}")
    found = source.picks(there, query)
    return None if found is None else replace(found, run=run)


def _objects(known: Sequence[PickableObject], drawn: Sequence[Picks]) -> list[PickableObject]:
    """The objects that are drawn, with a radius: a project's, else the CZII preset's."""
    preset = {o.name: o.radius for o in CZII_OBJECTS}
    found: dict[str, PickableObject] = {}
    for o in known:
        if o.name not in found or found[o.name].radius is None:
            found[o.name] = o
    names = {name for picks in drawn for name in picks.names.tolist()}
    return [replace(o, radius=o.radius or preset.get(o.name)) for o in found.values() if o.name in names]
