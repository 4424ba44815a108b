"""What training and scoring both ask of a project's picks; needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.errors import NoPicksError, ReadError, SelectionError, SeveralPicksError
from ..core.messages import counted, listing, near_miss
from ..core.types import Grid, Picks
from .choose import SPACING_TOLERANCE, require_one_pair
from .kept import without_below
from .masks import MESH_SUFFIXES, Mask, fitted_mask, mask_file, read_mask, require_fits
from .project import Project
from .regions import Labelled
from .sources.copick import CopickProject, Segmentation
from .sources.folder import FolderProject
from .volumes.checks import warn_once
from .volumes.volumes import contents_mark, is_volume_name

LABELLED_IN = "labelled_in"  # as which masks are given that say where a run is labelled
REJECTED = "-rejected"  # behind the session of a curation's picks: what is none


def picks_where_any(
    project: Project, runs: Sequence[str], query: str | None, field: str = "picks", below: bool = False
) -> dict[str, Picks]:
    """The picks of those runs that have what the query asks for.

    Args:
        project: with the picks.
        runs: to look at.
        query: `object:user/session`.
        field: that the query was given as, for the messages.
        below: those too that their model did not keep (`PickOptions.keep_below`); candidates are no labels.

    Raises:
        SelectionError: none has, or a run has several sets that fit, or the runs together have them of several users
            or sessions and the query does not say which.
    """
    try:
        found = _where_any(project, runs, query)
    except SeveralPicksError as error:
        raise SeveralPicksError(error.found, error.wanted, field) from None
    return found if below else {run: without_below(p, project.uri) for run, p in found.items()}


def labelled_picks(project: Project, run: str, query: str | None) -> Picks | None:
    """`Project.picks` without candidates that their model did not keep.

    Raises:
        SelectionError: see there.
    """
    picks = project.picks(run, query)
    return None if picks is None else without_below(picks, project.uri)


def _where_any(project: Project, runs: Sequence[str], query: str | None) -> dict[str, Picks]:
    found: dict[str, Picks] = {}
    refusal: NoPicksError | None = None
    for run in runs:
        try:
            picks = project.picks(run, query)
        except NoPicksError as error:
            # Others' picks only: not labelled by the one who is asked for. What is ambiguous is still refused.
            refusal = refusal or error
        else:
            found |= {run: picks} if picks is not None else {}
    if refusal and not found:
        raise refusal
    require_one_pair(query, [entry for run in found for entry in project.picks_sets(run)], project.uri)
    return found


def outside_text(picks: Picks, inside: np.ndarray, what: str = "picks") -> str:
    """How many picks, or `what` they are, lie outside, of which objects."""
    names, counts = np.unique(picks.names[~inside], return_counts=True)
    parts = ", ".join(f"{n} {name}" for name, n in zip(names.tolist(), counts.tolist()))
    return f"{int((~inside).sum())} of {len(picks)} {what} ({parts})"


def labelled_in(project: Project, run: str, tomo_type: str | None = None) -> Labelled | None:
    """Where a run is labelled; None: everywhere.

    Args:
        project: with its regions.
        run: its name.
        tomo_type: the tomogram whose voxels regions are counted in; None: the first.

    Raises:
        SelectionError: a mask that is neither a path nor a segmentation of the project; a box that cannot be meant in
            this tomogram.
        ReadError: a mask that cannot be read.
    """
    stated = project.regions.among([run])
    types = project.tomo_types(run) if stated else []
    if not types:
        return None
    grid = project.grid(run, tomo_type or types[0])
    stated.require_within(run, grid, project.uri)
    masks = [mask for where in stated.masks if (mask := mask_of(project, run, where, grid)) is not None]
    return stated.of(run, grid, masks)


def judged(project: Project, found: Mapping[str, Picks], tomo_type: str | None = None) -> dict[str, Picks]:
    """By run, the picks that can be right or wrong: those that lie where their run is labelled."""
    if not project.regions:
        return dict(found)
    known = set(project.runs())
    regions = {run: labelled_in(project, run, tomo_type) if run in known else None for run in found}
    say_everywhere(project, [run for run in found if run in known])
    return {run: p if (there := regions[run]) is None else p.select(there.holds(p)) for run, p in found.items()}


def say_everywhere(project: Project, runs: Sequence[str]) -> None:
    """Says once which runs have neither a region nor one of the masks by which others are labelled in part."""
    masks = project.regions.masks
    boxed = {part.run for part in project.regions.parts}
    bare = [r for r in runs if r not in boxed and not any(has_mask(project, r, m) for m in masks)] if masks else []
    if bare:
        wheres = " and ".join(f"`{LABELLED_IN}={where}`" for where in masks)
        warn_once(f"{project.uri}: {wheres}: no mask of {listing(bare)}, labelled everywhere for lack of one")


def where_labelled(
    project: Project | None, found: Mapping[str, Picks], wanted: Mapping[str, Picks], tomo_type: str | None = None
) -> tuple[dict[str, Picks], dict[str, Picks], list[str]]:
    """Both sides without what lies where nobody has looked for particles, and what to say about that."""
    if project is None:
        return dict(found), dict(wanted), []
    kept, true = judged(project, found, tomo_type), judged(project, wanted, tomo_type)
    out = [sum(len(side[run]) - len(part[run]) for run in part) for side, part in ((found, kept), (wanted, true))]
    if not any(out):
        return kept, true, []
    both = f"{counted(out[0], 'pick')} and {counted(out[1], 'true particle')}"
    return kept, true, [f"{both} lie where their run is not labelled: not scored"]


def mask_of(
    project: Project,
    run: str,
    where: str,
    grid: Grid,
    field: str = LABELLED_IN,
    chosen: Sequence[str] | None = None,
) -> Mask | None:
    """The mask of a run that a user names; None where it is of other runs.

    Args:
        project: whose runs and segmentations are meant.
        run: its name.
        where: a volume, a folder of volumes, or a segmentation `NAME[:user[/session]][@spacing]` of a copick project.
        grid: of the run's tomogram; a mask of as many voxels of that size lies on it.
        field: that it was given as, for the messages.
        chosen: runs that are looked at, as for `read_mask`.

    Raises:
        SelectionError: no such file, and no such segmentation or several.
        ReadError: a mask that cannot be read, or one that says where a run is labelled and marks nothing.
    """
    place = Path(os.path.expanduser(where))
    if place.exists():
        mask = read_mask(place, run, project.runs(), grid, header_of(project, run), chosen)
    else:
        mask = _segmented(project, run, where, grid, field)
    if mask is not None and field == LABELLED_IN and not mask.values.any():
        raise ReadError(
            f"`{field}={where}`: the mask of run {run} marks nothing, so that nothing would count as labelled; "
            "expected one that marks where it is, or none"
        )
    return mask


def _segmented(project: Project, run: str, where: str, grid: Grid, field: str) -> Mask | None:
    found = _segmentation(project, run, where, field)
    if found is None:
        return None
    values, own = found()
    return fitted_mask(values, own, grid, found.where)


def _segmentation(project: Project, run: str, where: str, field: str) -> Segmentation | None:
    """The one of a run that is called so; None where it has none, whatever others it has."""
    found = _segmentations(project, run, where, field)
    wanted = [text for text in found if _is_called(text, where)]
    if len(wanted) > 1:
        raise SelectionError(
            f"{project.uri}: run {run}: several segmentations '{where}': {listing(wanted)}; expected one, so write "
            "more of its name"
        )
    return found[wanted[0]] if wanted else None


def require_mask(
    project: Project, run: str, where: str, grid: Grid, field: str, chosen: Sequence[str] | None = None
) -> None:
    """Raises as `mask_of` for what names and headers tell of the mask of a run; reads no voxels.

    Args:
        project, run, where, grid, field, chosen: as for `mask_of`.

    Raises:
        SelectionError: no such file, or several segmentations.
        ReadError: a volume that is no mask of the tomogram by its header.
    """
    place = Path(os.path.expanduser(where))
    if not place.exists():
        _segmentation(project, run, where, field)
    elif (path := mask_file(place, run, project.runs(), chosen)) is not None:
        require_fits(path, grid, header_of(project, run))


def header_of(project: Project, run: str) -> Grid | None:
    """Where the header of a run's tomogram says that it lies, which masks in files count from; None: at 0."""
    return project.header_grid(run) if isinstance(project, FolderProject) else None


def has_mask(
    project: Project, run: str, where: str, field: str = LABELLED_IN, chosen: Sequence[str] | None = None
) -> bool:
    """Whether a mask that a user names, as in `mask_of`, is of a run; none is read."""
    place = Path(os.path.expanduser(where))
    if place.exists():
        return mask_file(place, run, project.runs(), chosen) is not None
    return any(_is_called(text, where) for text in _segmentations(project, run, where, field))


def mask_mark(project: Project, run: str, where: str, chosen: Sequence[str] | None = None) -> str:
    """Changes when the mask of a run that a user names, as in `mask_of`, is replaced; empty where it has none."""
    place = Path(os.path.expanduser(where))
    if place.exists():
        path = mask_file(place, run, project.runs(), chosen)
        return "" if path is None else contents_mark(path)
    stored = project.segmentations(run) if isinstance(project, CopickProject) else {}
    return next((of.mark() for text, of in stored.items() if _is_called(text, where)), "")


def mask_of_none(
    field: str, where: str, projects: Sequence[Project], chosen: Sequence[str] | None = None
) -> SelectionError:
    """That a mask that a user names is of no run of some projects, or of those chosen, and would decide nothing."""
    runs = list(chosen or [run for project in projects for run in project.runs()])
    place = Path(os.path.expanduser(where))
    if not place.exists():
        parts = [p for p in projects if isinstance(p, CopickProject)]
        known = sorted({text for p in parts for run in p.runs() for text in p.segmentations(run)})
        if known:
            return SelectionError(f"{parts[0].uri}: no segmentation '{where}'; {near_miss(where, known)}")
    ending = f".mrc{place.suffix}" if place.suffix == ".gz" else place.suffix
    remedy = "expected a folder of volumes that are called like them, or a segmentation that one of them has"
    if is_volume_name(place) and runs:
        remedy = f"a volume is of the run that it is called after: rename it to {runs[0]}{ending}, or give a folder"
    return SelectionError(f"`{field}={where}`: a mask that is of none of the runs {listing(runs)}; {remedy}")


def _segmentations(project: Project, run: str, where: str, field: str) -> Mapping[str, Segmentation]:
    if not isinstance(project, CopickProject) or _is_path(where):
        raise SelectionError(
            f"`{field}={where}`: there is no such file or folder; expected a volume of 0 and 1, or a folder of such"
        )
    return project.segmentations(run)


def _is_path(where: str) -> bool:
    """Whether what a user wrote is a path rather than `NAME[:user[/session]][@spacing]`."""
    path = Path(where)
    is_file = is_volume_name(path) or path.suffix.lower() in MESH_SUFFIXES
    return is_file or "/" in where.partition(":")[0]


def _is_called(text: str, where: str) -> bool:
    """Whether a segmentation `NAME:user/session@spacing` is meant by so much of it as is given, from NAME on."""
    (own, _, spacing), (asked, _, wanted) = text.rpartition("@"), where.partition("@")
    try:
        same = not wanted or abs(float(spacing) - float(wanted)) <= SPACING_TOLERANCE * float(spacing)
    except ValueError:
        same = False
    return same and asked in (own, own.partition(":")[0], own.partition("/")[0])
