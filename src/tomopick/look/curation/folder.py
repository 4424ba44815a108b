"""The folder of a curation: whose it is, who works in it, and what lies there beside the decisions."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ...core.errors import OutputError, ReadError
from ...core.text import read_json
from ...core.types import PickableObject
from ...data import Project
from ...data.objects import read_objects

RECORD = "curation.json"  # what a folder of decisions has
TABLES = {"accepted": ".csv", "rejected": ".negatives.csv", "unsure": ".unsure.csv"}  # behind a run's name


def require_own_folder(out: Path, what: str, project: Project, runs: Iterable[str]) -> None:
    """Refuses to begin a curation where picks are that nobody decided on here: they would be written over.

    Args:
        out: folder of the decisions.
        what: the picks, as the user calls them.
        project: with the tomograms.
        runs: that are curated.

    Raises:
        OutputError: the folder is that of the picks or the project, or has tables of the runs already.
    """
    if (out / RECORD).is_file():
        return
    for place, held in ((what, "the picks"), (project.uri, "the tomograms")):
        if out.is_dir() and Path(place).is_dir() and out.samefile(place):
            raise OutputError(
                f"`out={out}`: is the folder of {held}; expected one of the curation's own, so name a new one"
            )
    tables = [] if project.keeps_picks else [out / f"{run}{end}" for run in sorted(runs) for end in TABLES.values()]
    if found := next((path for path in tables if path.exists()), None):
        raise OutputError(
            f"`out={out}`: has a {found.name} that is no curation's; expected a folder of the curation's own, so name "
            "a new one"
        )


def objects_in(folder: Path) -> dict[str, PickableObject]:
    """By name, the objects whose radii a folder of picks, or of a curation, knows; none where it is no such folder.

    Raises:
        ReadError: its `objects.json` or its record cannot be read.
    """
    listed, record = folder / "objects.json", folder / RECORD
    found = {o.name: o for o in read_objects(listed) if o.radius} if listed.is_file() else {}
    if record.is_file():
        data = read_json(record, "a record of a curation")
        radii = data.get("radii", {}) if isinstance(data, dict) else {}
        try:
            found = {name: PickableObject(name, float(radius)) for name, radius in dict(radii).items()} | found
        except (TypeError, ValueError):
            raise ReadError(
                f"{record}: no record of a curation (its radii are {radii!r}); choose a new folder"
            ) from None
    return found


def folder_lock(out: Path) -> IO[str]:
    """The folder's lock, held while the file is open; it goes with the process, however that ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".curating").open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise OutputError(
            f"{out}: is being curated by another process; close that one, or choose another folder"
        ) from None
    return file


def link_volume(out: Path, project: Project, run: str, tomo_type: str | None) -> None:
    """The volume beside its picks, so that the folder is a project that can be trained on."""
    if not project.tomo_types(run):
        return
    place = Path(project.stamp(run, tomo_type).place)
    link = out / place.name
    if place.exists() and not link.exists() and place.parent.resolve() != out.resolve():
        try:
            os.symlink(place, link)
        except OSError:  # a file system without links: training is then told where the volumes are
            return
