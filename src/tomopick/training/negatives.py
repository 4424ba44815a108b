"""Places that are known to be none of an object: which are stated, and whether they can be meant as they stand."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import NoPicksError, SelectionError
from ..core.messages import counted, near_miss
from ..core.types import Grid, PickableObject, Picks
from ..data import FolderProject
from ..data.labelled import REJECTED, picks_where_any
from ..data.plausible import FEW, MANY, unlikely
from .recipe import Recipe
from .sources import Source, SourceRuns, inside_only

log = logging.getLogger("tomopick")

SAME = 0.5  # radii from a pick within which a place is that particle


def negatives_for(
    plans: Sequence[SourceRuns], labels: Sequence[Mapping[str, Picks]], objects: Sequence[PickableObject]
) -> list[dict[str, Picks]]:
    """By source and run, the places that are stated to be none of an object; runs without such are left out.

    Args:
        plans: the sources.
        labels: by source and run, what is true.
        objects: that are learned.

    Raises:
        SelectionError: negatives that are asked for and not there, outside of their volume, in another unit than Å, or
            where a pick of the same object is.
    """
    found, refusals = [], {}
    for plan, picks in zip(plans, labels):
        try:
            found.append(_stated(plan.source, list(picks)))
        except NoPicksError as error:  # of a query that is meant for several projects, one has to have some
            refusals[plan.source.negatives] = error
            found.append({})
    answered = {plan.source.negatives for plan, mine in zip(plans, found) if mine}
    for query, refusal in refusals.items():
        if query not in answered:
            raise SelectionError(f"`negatives={query}`: {refusal}")
    return [_checked(plan.source, mine, picks, objects) for plan, mine, picks in zip(plans, found, labels)]


def require_contrary(recipe: Recipe, stated: bool, goes_on: bool) -> None:
    """Raises where all that is not picked is ignored, and nothing else says what is no particle.

    Args:
        recipe: whose loss may ignore it.
        stated: whether there are negatives.
        goes_on: whether the training starts from a model.
    """
    if recipe.loss.unlabelled == "ignore" and not stated and not goes_on:
        raise SelectionError(
            "loss.unlabelled=ignore learns nothing of what nobody picked, and nothing else says what is no particle: "
            "give negatives (RUN.negatives.csv beside the volumes, or `negatives`), a model to start from "
            "(`init_from=default`), or take loss.unlabelled=pu"
        )


def _stated(source: Source, runs: Sequence[str]) -> dict[str, Picks]:
    """What is stated, as it stands.

    Raises:
        NoPicksError: no run has what the query asks for.
    """
    project, query = source.project, source.negatives
    if isinstance(project, FolderProject):
        if query:
            raise SelectionError(
                f"`negatives={query}`: {project.uri} is a folder, whose negatives are its tables RUN.negatives.csv "
                "(object,x,y,z) beside the volumes; write them there and leave `negatives` out"
            )
        beside = {run: project.negatives(run) for run in runs}
        return {run: p for run, p in beside.items() if p is not None and len(p)}
    if not query or not runs:
        return {}
    rejected = query == source.picks  # a curation's, beside what was accepted
    try:
        found = picks_where_any(project, runs, query + REJECTED if rejected else query, "negatives")
    except NoPicksError:
        if not rejected:
            raise
        found = {}
    found = {run: p for run, p in found.items() if len(p)}
    if rejected and not found:
        log.warning(f"{project.uri}: nothing was rejected beside the picks '{query}': there are no negatives")
    elif not found:
        known = sorted({str(entry) for run in runs for entry in project.picks_sets(run)})
        raise NoPicksError(f"{project.uri}: no picks '{query}' in the runs to learn from; {near_miss(query, known)}")
    return found


def _checked(
    source: Source, found: Mapping[str, Picks], labels: Mapping[str, Picks], objects: Sequence[PickableObject]
) -> dict[str, Picks]:
    """The negatives of objects that are learned, once nothing is wrong with them."""
    if not found:
        return {}
    uri = source.project.uri
    _say_strange(source, found)
    found = {run: p.among([o.name for o in objects]) for run, p in found.items()}
    grids = {run: source.project.grid(run, source.tomo_type) for run, p in found.items() if len(p)}
    found = {run: inside_only(source, grid, found[run], "negatives") for run, grid in grids.items()}
    if not any(map(len, found.values())):
        log.warning(
            f"{uri}: no negatives of {', '.join(o.name for o in objects)}, which are learned: they teach nothing"
        )
        return {}
    _require_likely(uri, found, grids)
    for run, picks in found.items():
        _require_other_places(source, run, picks, labels[run], objects)
    names = [name for p in found.values() for name in p.names.tolist()]
    counts = ", ".join(f"{names.count(o.name)} of {o.name}" for o in objects if o.name in names)
    log.info(f"{uri}: negatives: {counts}")
    return found


def _say_strange(source: Source, found: Mapping[str, Picks]) -> None:
    """Warns of negatives of objects that the project does not have; raises where there are no others."""
    known, names = [o.name for o in source.project.objects], [n for p in found.values() for n in p.names.tolist()]
    strange = sorted(set(names) - set(known))
    lines = [f"{counted(names.count(n), 'negative')} of '{n}', which is no object there; {near_miss(n, known)}"
             for n in strange]  # fmt: skip
    if strange and not set(names) & set(known):
        raise SelectionError(f"{source.project.uri}: {lines[0]}")
    for line in lines:
        log.warning(f"{source.project.uri}: left out: {line}")


def _require_likely(uri: str, found: Mapping[str, Picks], grids: Mapping[str, Grid]) -> None:
    """Raises for negatives that all lie in one corner, as in another unit they would; of a few it is said."""
    why = unlikely(found, grids, FEW)
    if why is None:
        return
    line = f"{uri}: of the negatives {why}"
    if sum(map(len, found.values())) >= MANY:
        raise SelectionError(f"{line}; mend them (object,x,y,z in Å)")
    log.warning(line)


def _require_other_places(
    source: Source, run: str, negatives: Picks, labels: Picks, objects: Sequence[PickableObject]
) -> None:
    """Raises `SelectionError` for negatives where a pick of the same object is."""
    for o in objects:
        none, true = negatives.of(o.name).positions, labels.of(o.name).positions
        if not len(none) or not len(true):
            continue
        reach = SAME * o.radius_angstrom
        same = int(np.count_nonzero(cKDTree(true).query(none)[0] < reach))
        if same:
            fix = f"take them out of `negatives={source.negatives}`, or give other negatives" if source.negatives else (
                f"take them out of {run}.negatives.csv or {run}.csv"
            )  # fmt: skip
            raise SelectionError(
                f"{source.project.uri}: run {run}: {same} of {counted(len(none), 'negative')} of {o.name} lie within "
                f"{reach:g} Å (half a radius) of its picks, which are learned as particles; {fix}"
            )
