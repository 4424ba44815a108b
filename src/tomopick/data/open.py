"""`open_project`: the source that a path stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ReadError, SelectionError
from ..core.messages import near_miss
from ..core.records import Records
from .offset import CoordinateOffset
from .project import Project
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
) -> Project:
    """The project at `path`.

    Args:
        path: a copick configuration (JSON) or a folder with `copick.json`; Kaggle's download of the CZII challenge or a
            folder of `RUN/Picks/*.json`; a folder of MRC or OME-Zarr volumes with RUN.csv; one volume; a CSV of picks.
        voxel_spacing: [Å], instead of what volume files say; only for volumes that lie in a folder or alone.
        objects: "name:radius" [Å].
        coordinate_offset: a preset (`none`, `czii`), "z,y,x" or three numbers [voxels]: true index = position / voxel
            spacing + offset.

    Raises:
        ReadError: nothing there, or nothing of these kinds.
        SelectionError: an argument that is not of its form, or does not go with the kind of project.
    """
    place = Path(path).expanduser()
    offset = CoordinateOffset.parse(coordinate_offset)
    if voxel_spacing is not None and not 0 < voxel_spacing < float("inf"):
        raise SelectionError(f"--voxel-spacing {voxel_spacing}: expected a positive number in Å")
    if not place.exists():
        beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        hint = near_miss(place.name, beside) if beside else "check the path"
        raise ReadError(f"{path}: there is no such file or folder; {hint}")
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
    return project


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
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _refuse_spacing(path: str | Path, voxel_spacing: float | None, kind: str) -> None:
    if voxel_spacing is not None:
        raise SelectionError(
            f"{path}: {kind} states its voxel spacings; leave --voxel-spacing out, "
            f"and choose a tomogram with --tomo-type TYPE@{voxel_spacing:g}"
        )


def _refuse_stray_config(place: Path) -> None:
    """A folder with a copick configuration of another name is not taken for a folder of volumes."""
    for path in sorted(place.glob("*.json")) if place.is_dir() else []:
        if "pickable_objects" in _json(path):
            raise ReadError(f"{place}: holds the copick configuration {path.name}; expected that file, so give {path}")
