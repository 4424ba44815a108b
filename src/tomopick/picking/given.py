"""The masks and ranges of `Places` as they were given: found, told whether they can be meant, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import SelectionError, TomopickError
from ..core.types import Grid
from ..data import Project
from ..data.labelled import has_mask, header_of, mask_mark, mask_of, mask_of_none, require_mask
from ..data.masks import MESH_SUFFIXES, file_of_run
from ..data.names import RunNames
from ..data.regions import Span
from ..data.surfaces import MeshSurface, Surface, VoxelSurface, read_mesh
from ..data.volumes.volumes import contents_mark, volume_run
from .places import Places


def require_masks(places: Places, project: Project, runs: Sequence[str], tomo_type: str | None = None) -> None:
    """Raises where nothing would be picked, or all, and nobody told: before anything is written.

    Args:
        places: that were asked for.
        project: whose masks are meant.
        runs: that are to be picked.
        tomo_type: of their tomograms, `TYPE[@spacing]`; None: the only one.

    Raises:
        SelectionError: a mask that none of the runs has, or what cannot be meant in any of them by names and headers.
        ReadError: the same of a single run, of which a file cannot be read.
    """
    if not places:
        return
    for option, where in _asked(places):
        if not any(_has(project, run, where, option, runs) for run in runs):
            raise mask_of_none(option, where, [project], runs)
    refusal: TomopickError | None = None
    for run in runs:
        try:
            _require(places, project, run, tomo_type)
            return
        except TomopickError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal if len(runs) == 1 else SelectionError(f"none of {len(runs)} runs can be picked: {refusal}")


def _require(places: Places, project: Project, run: str, tomo_type: str | None) -> None:
    """Raises for a run what names and headers tell against its masks, and of meshes their triangles."""
    try:
        grid = project.grid(run, tomo_type)
    except TomopickError:  # which has nothing to do with places, and is said where tomograms are read
        return
    if why := objection(places, grid):
        raise SelectionError(f"{project.uri}: run {run}: {why}")
    for option, where in _asked(places):
        if mesh := mesh_of(project, Path(where).expanduser(), run):
            require_closed(places, {where: read_mesh(mesh, grid, header_of(project, run))})
        else:
            require_mask(project, run, where, grid, option, [run])


def objection(places: Places, grid: Grid) -> str | None:
    """Why the border and the range of z leave nothing of a tomogram, by what was given; None where they do."""
    if _is_some(places, grid):
        return None
    by_z = f"`z_range={places.z_range}`"
    if not _is_some(replace(places, border=0.0), grid):
        return f"{by_z}: {Span.parse(places.z_range).objection(grid, 0) or 'leaves nothing; state a part of it'}"
    size = ", ".join(f"{n * grid.voxel_spacing:.4g}" for n in grid.shape)
    both = f" and {by_z}" if _is_some(replace(places, z_range=""), grid) else ""
    return f"`border={places.border:g}`{both}: leaves nothing of z, y, x = {size} Å; expected less than half of each"


def _is_some(places: Places, grid: Grid) -> bool:
    low, high = box_of(places, grid)
    return bool((low <= high).all())


def box_of(places: Places, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(3,) corners of the box that the border and the range of z leave, zyx [Å]."""
    low, high = grid.box
    low, high = low + places.border, high - places.border
    if places.z_range:
        span = Span.parse(places.z_range).bounds(grid, 0)
        low[0], high[0] = max(low[0], span[0]), min(high[0], span[1])
    return low, high


def require_closed(places: Places, surfaces: Mapping[str, Surface | None]) -> None:
    """Raises `SelectionError` for an open mesh that picks are to lie inside or outside of, at no distance.

    Args:
        places: that were asked for.
        surfaces: by what the user calls them.
    """
    for field, other, wheres, reach in (
        ("inside", "within", places.inside, places.within),
        ("outside", "beyond", places.outside, places.beyond),
    ):
        for where in wheres:
            surface = surfaces.get(where)
            if isinstance(surface, MeshSurface) and not surface.closed and reach <= 0:
                raise SelectionError(
                    f"`{field}={where}`: an open mesh, which has no inside; expected a closed one, of whose edges each "
                    f"is of two triangles, so close it, or say how far from it picks may lie with `{other}`"
                )


def masks_mark(places: Places, project: Project, run: str) -> str:
    """Changes when a mask of the run is replaced, whatever it is called; empty without masks."""
    marks = []
    for where in dict.fromkeys(where for _, where in _asked(places)):
        mesh = mesh_of(project, Path(where).expanduser(), run)
        marks.append(mask_mark(project, run, where, [run]) if mesh is None else contents_mark(mesh))
    return " ".join(marks)


def surface_of(project: Project, run: str, where: str, grid: Grid, field: str = "inside") -> Surface | None:
    """The surface that a user names: a mesh, a folder of RUN.ply, or whatever `mask_of` takes; None: of other runs.

    Raises:
        SelectionError: it is not there.
        ReadError: it cannot be read, or a folder has several of the run.
    """
    mesh = mesh_of(project, Path(where).expanduser(), run)
    if mesh is not None:
        return read_mesh(mesh, grid, header_of(project, run))
    # A volume of another name is of all that are picked: `require_masks` has seen that this is one run.
    mask = mask_of(project, run, where, grid, field, [run])
    return None if mask is None else VoxelSurface(mask)


def mesh_of(project: Project, path: Path, run: str) -> Path | None:
    """The mesh of a run: the file itself, of whatever name, or RUN.ply in a folder; None: none, or it is a volume.

    Raises:
        ReadError: a folder with several meshes or volumes of the run.
    """
    if path.is_file():
        return path if path.suffix.lower() in MESH_SUFFIXES else None
    if not path.is_dir() or volume_run(path) is not None:
        return None
    meshes = [(p.stem, p) for p in path.iterdir() if p.suffix.lower() in MESH_SUFFIXES]
    if not meshes:
        return None
    volumes = [(name, p) for p in path.iterdir() if (name := volume_run(p)) is not None]
    found = file_of_run([*meshes, *volumes], run, RunNames(project.runs()))
    return found if found is not None and found.suffix.lower() in MESH_SUFFIXES else None


def _asked(places: Places) -> list[tuple[str, str]]:
    """Each mask with the field that it was given as."""
    asked = [("inside", w) for w in places.inside] + [("outside", w) for w in places.outside]
    return [*asked, *([("orient_to", places.orient_to)] if places.orient_to else [])]


def _has(project: Project, run: str, where: str, option: str, runs: Sequence[str]) -> bool:
    return mesh_of(project, Path(where).expanduser(), run) is not None or has_mask(project, run, where, option, runs)
