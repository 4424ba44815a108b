"""New copick projects on disk, and tomograms into them; a run appears whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...core.errors import OutputError
from ...core.files import flush, hidden, remove, sweep, write_together
from ...core.messages import reason_of
from ...core.types import Grid, PickableObject, Picks, Tomogram
from ..choose import require_id, require_objects
from ..picksjson import picks_files
from .copick import CopickProject
from .copick_config import write_config


def create_copick_project(
    folder: str | Path, objects: Iterable[PickableObject], name: str = "tomopick", place: Path | None = None
) -> CopickProject:
    """An empty project in `folder`, with its configuration at `folder/copick.json`; the folder may be moved later.

    Args:
        folder: of the project.
        objects: it is to define.
        name: of the project.
        place: where the folder will lie when it is finished, if that is elsewhere.

    Raises:
        OutputError: there is a project already, copick refuses an object, or the folder cannot be written.
    """
    folder = Path(folder)
    path = write_config(folder, objects, name, place or folder)
    try:
        (folder / "ExperimentRuns").mkdir()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from None
    return CopickProject(path)


def write_run(
    project: CopickProject,
    tomograms: Sequence[Tomogram],
    picks: Picks | None = None,
    user_id: str = "tomopick",
    session_id: str = "0",
) -> None:
    """Writes a new run: its tomograms as pyramids of local means, and its picks where there are any.

    Everything is written under a hidden name that copick does not list, then renamed: an interrupted run is not there.
    Picks are written as they are, for a new project has no coordinate offset.

    Raises:
        OutputError: the run exists, tomograms of several runs, a cropped tomogram, or the disk refuses.
    """
    names = {t.run for t in tomograms} | ({picks.run} if picks is not None else set())
    if len(names) != 1 or not tomograms:
        raise OutputError(f"{project.uri}: a run needs tomograms (and picks) of one run, not of {sorted(names)}")
    (run,) = names
    target = _folder(project, run)
    if target.exists():
        raise OutputError(f"{project.uri}: run '{run}' exists already; expected a new name")
    with _staged(project, tomograms) as part:
        if picks is not None:
            require_id(user_id, "user")
            require_id(session_id, "session")
            known = [o.name for o in project.objects]
            require_objects(picks.names.tolist(), known, project.uri)
            spacing = min(t.grid.voxel_spacing for t in tomograms)
            texts = picks_files(picks, known, (), (user_id, session_id, spacing))
            write_together({part / "Picks" / name: text for name, text in texts.items()})
        flush(part)
        os.rename(part, target)


def write_tomogram(project: CopickProject, tomogram: Tomogram) -> None:
    """Writes a tomogram as a pyramid of local means, into a new run or one that is there.

    Raises:
        OutputError: the run has this type at this voxel spacing, a cropped tomogram, or the disk refuses.
    """
    target = _folder(project, tomogram.run)
    if not target.exists():
        write_run(project, [tomogram])
        return
    with _staged(project, [tomogram]) as part:
        (source,) = part.glob("VoxelSpacing*/*.zarr")
        place = target / source.relative_to(part)
        if place.exists():
            raise OutputError(f"{place}: exists already; expected another type or voxel spacing")
        place.parent.mkdir(exist_ok=True)
        flush(source)
        os.rename(source, place)


def _folder(project: CopickProject, run: str) -> Path:
    folder = project.overlay_folder(run)
    if folder is None:
        raise OutputError(
            f"{project.uri}: its overlay is not on this machine; expected a local folder to write runs to"
        )
    return folder


@contextmanager
def _staged(project: CopickProject, tomograms: Sequence[Tomogram]) -> Iterator[Path]:
    """The folder of a hidden run that holds the tomograms; removed at the end, if it is still there."""
    part = hidden(_folder(project, tomograms[0].run))
    try:
        sweep(part.parent)
        with warnings.catch_warnings():
            # Deprecations inside copick's dependencies are nothing a user of tomopick can act on.
            warnings.simplefilter("ignore", DeprecationWarning)
            run = project.root.new_run(part.name)
            for tomogram in tomograms:
                _require_writable(project, tomogram)
                spacing = run.new_voxel_spacing(tomogram.grid.voxel_spacing, exist_ok=True)
                spacing.new_tomogram(tomogram.tomo_type).from_numpy(np.asarray(tomogram.values, dtype=np.float32))
        yield part
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{project.uri}: run {tomograms[0].run}: cannot be written ({reason}); check space") from None
    finally:
        remove(part)
        project.root.refresh()


def _require_writable(project: CopickProject, tomogram: Tomogram) -> None:
    require_id(tomogram.tomo_type, "tomogram type")
    if any(abs(v) > 1e-6 for v in tomogram.grid.origin):
        raise OutputError(
            f"{project.uri}: run {tomogram.run}: voxel (0, 0, 0) lies at {tomogram.grid.origin} Å; copick has no place "
            "for an origin, so move the tomogram and its picks to (0, 0, 0)"
        )


def write_segmentation(
    project: CopickProject, run: str, name: str, values: np.ndarray, grid: Grid, user_id: str, session_id: str
) -> None:
    """Writes a segmentation of a run, in place of one that is there.

    Args:
        project: takes it.
        run: its name.
        name: of what is marked; it need be no pickable object.
        values: (z, y, x) 0 and 1.
        grid: of a tomogram of the run.
        user_id, session_id: whose it is.

    Raises:
        OutputError: copick refuses it, or the disk does.
    """
    for value, what in ((name, "segmentation"), (user_id, "user"), (session_id, "session")):
        require_id(value, what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # Of several labels, for what is marked is none of the project's objects.
            made = project.root.get_run(run).new_segmentation(
                grid.voxel_spacing, name, session_id, is_multilabel=True, user_id=user_id, exist_ok=True
            )
            made.from_numpy(np.ascontiguousarray(values))
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        raise OutputError(
            f"{project.uri}: run {run}: '{name}' cannot be written ({reason}); check the overlay"
        ) from None
