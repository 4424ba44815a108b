"""`open_project`: the source that a path stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ReadError, SelectionError
from ..core.messages import listing, near_miss
from ..core.reading import require_file
from ..core.records import Records
from ..core.text import read_json
from .objects import object_and_radius, with_specs
from .offset import CoordinateOffset
from .project import Project
from .regions import Regions
from .sources.copick import CopickProject
from .sources.copick_config import CONFIG_NAME
from .sources.folder import FolderProject
from .sources.kaggle import KaggleProject, kaggle_roots


def open_project(
    path: str | Path,
    *,
    voxel_spacing: float | None = None,
    objects: Sequence[str] = (),
    coordinate_offset: str | Sequence[float] | CoordinateOffset = "none",
    regions: Sequence[str] = (),
    labelled_in: Sequence[str] = (),
    held: Sequence[str] = (),
) -> Project:
    """The project at `path`.

    Args:
        path: a copick configuration (JSON) or a folder with `copick.json`; Kaggle's download of the CZII challenge or a
            folder of `RUN/Picks/*.json`; a folder of MRC or OME-Zarr volumes with RUN.csv; one volume; a CSV of picks.
        voxel_spacing: [Å], instead of what volume files say; only for volumes that lie in a folder or alone.
        objects: "name:radius" [Å].
        coordinate_offset: a preset (`none`, `czii`), "z,y,x" or three numbers [voxels]: true index = position / voxel
            spacing + offset.
        regions: where runs are labelled, `RUN[:OBJECT]=z0:z1,y0:y1,x0:x1` in voxels, or in Å with A behind; in place
            of what a table `regions.csv` beside the volumes says of a run. What lies outside is neither learned from
            nor scored.
        labelled_in: masks of the same: volumes, folders of `RUN.mrc`, or segmentations `NAME:user/session`.
        held: "name:radius" [Å] of objects that a model knows which is gone on with: a folder's picks of them count,
            too, and whoever knows them has this radius.

    Raises:
        ReadError: nothing there, or nothing of these kinds.
        SelectionError: an argument that is not of its form, or does not go with the kind of project.
    """
    offset = CoordinateOffset.parse(coordinate_offset)
    if voxel_spacing is not None and not 0 < voxel_spacing < float("inf"):
        raise SelectionError(f"`voxel_spacing={voxel_spacing}`: expected a positive number in Å")
    place = require_there(path)
    require_file(place)
    config = place / CONFIG_NAME if (place / CONFIG_NAME).is_file() else place
    project: CopickProject | KaggleProject | FolderProject
    if config.suffix.lower() == ".json" and config.is_file():
        _refuse_spacing(path, voxel_spacing, "a copick project")
        project = CopickProject(config, objects, offset)
    elif place.is_dir() and kaggle_roots(place):
        _refuse_spacing(path, voxel_spacing, "Kaggle's layout")
        project = KaggleProject(place, objects, offset)
    else:
        _refuse_stray_config(place)
        project = _folder(place, voxel_spacing, objects, offset)
    project.uri = str(path)
    known = [o.name for o in project.objects]
    mine = held if isinstance(project, FolderProject) else [h for h in held if object_and_radius(h)[0] in known]
    project.objects = with_specs(project.objects, mine, extend=True)
    project.regions = Regions.beside(place) + Regions.parse(regions, labelled_in)
    _require_regions(project.regions, [project], project.uri)
    _require_masks([project], project.regions.masks)
    return project


def require_there(path: str | Path, names: Iterable[str] = ()) -> Path:
    """Where a path leads; what is not there is said before anything is opened.

    Args:
        path: as it was typed.
        names: that may have been meant besides those of the files beside it.

    Raises:
        ReadError: nothing is there.
    """
    place = Path(os.path.expanduser(path))
    if not place.exists():
        beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        known = [*beside, *names]
        raise ReadError(
            f"{path}: there is no such file or folder; {near_miss(place.name, known) if known else 'check the path'}"
        )
    return place


class Opened(NamedTuple):
    """A project, opened with those options that it can take.

    Attributes:
        project: opened.
        strange: "name:radius" of objects that it does not have and takes none in addition.
        spaced: whether it takes a voxel spacing.
    """

    project: Project
    strange: tuple[str, ...]
    spaced: bool


def open_taking(
    path: str | Path,
    *,
    voxel_spacing: float | None = None,
    objects: Sequence[str] = (),
    coordinate_offset: str | Sequence[float] | CoordinateOffset = "none",
    **labelled: Sequence[str],
) -> Opened:
    """`open_project` where options are meant for this project or another beside it: what it cannot take is left out.

    Whoever asks says with `require_taken` what nobody took; `labelled` are further arguments of it.
    """
    place = Path(os.path.expanduser(path))
    if not _is_closed(place):
        spacing = voxel_spacing if not _is_table(place) else None
        given = {"objects": objects, "coordinate_offset": coordinate_offset, **labelled}
        opened = open_project(path, voxel_spacing=spacing, **given)  # type: ignore[arg-type]
        return Opened(opened, (), True)
    opened = open_project(path, coordinate_offset=coordinate_offset, **labelled)  # type: ignore[arg-type]
    known = [o.name for o in opened.objects]
    mine = [spec for spec in objects if spec.strip().partition(":")[0] in known]
    opened.objects = with_specs(opened.objects, mine, extend=False)
    return Opened(opened, tuple(spec for spec in objects if spec not in mine), False)


def require_taken(opened: Sequence[Opened], voxel_spacing: float | None = None) -> None:
    """Raises `SelectionError` for an object that none of the projects knows, and a voxel spacing that none takes."""
    if not opened:
        return
    for spec in opened[0].strange:
        if all(spec in other.strange for other in opened):
            known = sorted({o.name for other in opened for o in other.project.objects})
            name = spec.strip().partition(":")[0]
            raise SelectionError(
                f"`objects={spec}`: {listing(o.project.uri for o in opened)}: no object '{name}'; "
                f"{near_miss(name, known)}"
            )
    if voxel_spacing is not None and not any(other.spaced for other in opened):
        _refuse_spacing(opened[0].project.uri, voxel_spacing, "a project of this kind")


def open_projects(
    paths: Sequence[str],
    *,
    voxel_spacing: float | None = None,
    objects: Sequence[str] = (),
    coordinate_offsets: Sequence[str] = ("none",),
    regions: Sequence[str] = (),
    labelled_in: Sequence[str] = (),
    held: Sequence[str] = (),
) -> list[Project]:
    """Several projects with one set of options, each of which goes to those that can take it.

    Args:
        paths: of the projects.
        voxel_spacing, objects: as in `open_project`.
        coordinate_offsets: one for all, or one each.
        regions, labelled_in: as in `open_project`; a region is of the projects that have its run.
        held: as in `open_project`.

    Raises:
        SelectionError: an option that none of them takes.
    """
    given = {"voxel_spacing": voxel_spacing, "objects": objects}
    offsets = list(coordinate_offsets) * (len(paths) if len(coordinate_offsets) == 1 else 1)
    if len(paths) == 1:
        given |= {"coordinate_offset": offsets[0], "regions": regions, "labelled_in": labelled_in, "held": held}
        return [open_project(paths[0], **given)]  # type: ignore[arg-type]
    opened = [
        open_taking(path, **given, coordinate_offset=offset, held=held)  # type: ignore[arg-type]
        for path, offset in zip(paths, offsets, strict=True)
    ]
    require_taken(opened, voxel_spacing)
    stated = Regions.parse(regions, labelled_in)
    projects: list[Project] = [each.project for each in opened]
    _require_regions(stated, projects, listing(paths))
    _require_masks(projects, stated.masks)
    for project in projects:
        project.regions += replace(stated.among(project.runs()), masks=_masks_for(project, stated.masks))
    return projects


def _masks_for(project: Project, masks: Sequence[str]) -> tuple[str, ...]:
    """Those that a project may have: files, and of copick's segmentations, too."""
    return tuple(w for w in masks if isinstance(project, CopickProject) or Path(os.path.expanduser(w)).exists())


def _require_regions(regions: Regions, projects: Sequence[Project], where: str) -> None:
    """Raises `SelectionError` for parts of a run, or of an object, that none of the projects has.

    Objects that only tables of a folder name may be meant for another time, and count.
    """
    if not regions.parts:
        return
    known = {o.name for project in projects for o in project.objects}
    if known and not {part.name for part in regions.parts} <= {"", *known}:
        known |= {name for p in projects if isinstance(p, FolderProject) for name in p.names_in_tables()}
    regions.require([run for project in projects for run in project.runs()], known, where)


def _require_masks(projects: Sequence[Project], masks: Sequence[str]) -> None:
    """Raises `SelectionError` for a mask that no run of any project has: all would count as labelled everywhere."""
    if not masks:
        return
    from .labelled import has_mask, mask_of_none

    for where in masks:
        able = [p for p in projects if _masks_for(p, [where])] or projects[:1]
        if not any(has_mask(project, run, where) for project in able for run in project.runs()):
            raise mask_of_none("labelled_in", where, able)


def _is_closed(place: Path) -> bool:
    """Whether a project lists its own objects and voxel spacings: copick's and Kaggle's do, folders do not."""
    config = place / CONFIG_NAME if (place / CONFIG_NAME).is_file() else place
    return (config.suffix.lower() == ".json" and config.is_file()) or (place.is_dir() and bool(kaggle_roots(place)))


def _is_table(place: Path) -> bool:
    return place.suffix.lower() == ".csv"


def _folder(
    place: Path, voxel_spacing: float | None, objects: Sequence[str], offset: CoordinateOffset
) -> FolderProject:
    """A folder or file; where it holds the records of `pick` alone, the message says where the picks are."""
    try:
        return FolderProject(place, voxel_spacing, objects, offset)
    except ReadError:
        found = Records(place).runs()
        record = next((record for record in found.values() if {"place", "fingerprint"} <= record.keys()), None)
        if record is None:
            raise
    beside = [path for path in place.absolute().parent.glob("*.csv") if path.stem in found]
    made = record.get("settings", {})
    pair = f"{made.get('user_id', 'tomopick')}/{made.get('session_id', '0')}"
    instead = f"give {record['place']}, and of its picks '*:{pair}'"
    if not str(record["place"]).endswith(".json"):  # picks of a folder are tables
        instead = f"give {place.parent}" if beside else "no run was finished: pick again"
    raise ReadError(f"{place}: holds records of how runs were picked, and no picks; {instead}")


def _json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is none."""
    try:
        data = read_json(path, "JSON")
    except ReadError:
        return {}
    return data if isinstance(data, dict) else {}


def _refuse_spacing(path: str | Path, voxel_spacing: float | None, kind: str) -> None:
    if voxel_spacing is not None:
        raise SelectionError(
            f"{path}: {kind} states its voxel spacings; leave `voxel_spacing` out, "
            f"and choose a tomogram with `tomo_type=TYPE@{voxel_spacing:g}`"
        )


def _refuse_stray_config(place: Path) -> None:
    """A folder with a copick configuration of another name is not taken for a folder of volumes."""
    for path in sorted(place.glob("*.json")) if place.is_dir() else []:
        if "pickable_objects" in _json(path):
            raise ReadError(f"{place}: holds the copick configuration {path.name}; expected that file, so give {path}")
