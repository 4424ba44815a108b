"""Which runs a training uses for what, and the picks and objects that it learns; no volume is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ..core.errors import SelectionError
from ..core.types import PickableObject, Picks
from ..data.labelled import labelled_picks
from .recipe import Recipe
from .sources import Source, SourceRuns, check_unlabelled, objects_of, plans_of, require_learnable

log = logging.getLogger("tomopick")


def labelled(
    recipe: Recipe,
    sources: Sequence[Source],
    names: Sequence[str] | None = None,
    seed: int = 0,
    held: Sequence[PickableObject] = (),
) -> tuple[list[SourceRuns], list[dict[str, Picks]], tuple[PickableObject, ...]]:
    """What each source's runs are for, its picks by run, and what is learned; arguments as of `gather`.

    Raises:
        SelectionError: no labelled run, an object without picks, unlabelled runs that do not fit.
    """
    plans = plans_of(sources, seed)
    for plan in plans:
        if not (plan.train or plan.val or plan.unlabelled):
            log.warning(f"{plan.source.project.uri}: none of its runs is named; nothing is learned from it")
    check_unlabelled(recipe, plans)
    defined = objects_of([source for source in sources if source.labelled], names)
    defined = (*held, *(o for o in defined if o.name not in {h.name for h in held}))
    labels = [{run: _labels(plan.source, run, defined) for run in (*plan.train, *plan.val)} for plan in plans]
    objects = defined if names is not None else _occurring(defined, plans, labels)
    require_learnable(plans, labels, [o for o in objects if o not in held])
    return plans, labels, objects


def _labels(source: Source, run: str, objects: Sequence[PickableObject]) -> Picks:
    """The truth of a run, of the objects that are learned."""
    with source.told():
        picks = labelled_picks(source.project, run, source.picks)
    if picks is None:
        raise SelectionError(f"{source.project.uri}: run {run} has no picks to learn from; name labelled runs")
    return picks.among([o.name for o in objects])


def _occurring(
    objects: tuple[PickableObject, ...], plans: Sequence[SourceRuns], labels: Sequence[Mapping[str, Picks]]
) -> tuple[PickableObject, ...]:
    """The objects, without those that several projects together define and none has picks of to learn from."""
    there = {n for plan, picks in zip(plans, labels) for run in plan.train for n in picks[run].names.tolist()}
    absent = [o.name for o in objects if o.name not in there]
    if not absent or not there or sum(bool(plan.train) for plan in plans) < 2:
        return objects
    log.warning(f"no picks to learn from in any of the projects, so not learned: {', '.join(absent)}")
    return tuple(o for o in objects if o.name in there)
