"""The page of what is at hand: a model, or picks by run, on the runs of a project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.errors import NoPicksError, SelectionError
from ...core.messages import with_fields
from ...core.types import PickableObject, Picks
from ...data import Project
from ...data.runs import Runs
from ...picking.options import PickOptions
from ...picking.picker import Model, Picker
from ...scoring.score import sides_of
from ...scoring.sides import Sides
from .gather import report_of
from .tables import Report


def page_of(
    what: Model | Picks | Mapping[str, Picks],
    on: Project | Runs,
    thresholds: Mapping[str, float] | None = None,
    title: str | None = None,
    how: Mapping[str, Any] | None = None,
) -> Report:
    """What the page is made of.

    Args:
        what: a model, which picks the runs down to a low score; or picks of one run, or by run.
        on: the tomograms, and true picks where there are any.
        thresholds: by object, where the sliders open; None: the model's.
        title: heading of the page.
        how: of a model, fields of `PickOptions`.

    Raises:
        SelectionError: picks of runs that are not there.
    """
    runs = Runs.of(on)
    names = runs.check()
    objects: tuple[PickableObject, ...] = runs.project.objects
    if isinstance(what, (Picks, Mapping)):
        name = "picks"
        picks = {what.run: what} if isinstance(what, Picks) else dict(what)
        picks = {run: p for run, p in picks.items() if run in names}
        if not picks:
            raise SelectionError(f"{runs.uri}: no picks of {', '.join(names[:5])}; name the runs alike")
    else:
        picker = Picker(what, with_fields(PickOptions(keep_below=True), how or {}))
        name, objects = what.name, picker.objects
        picks = {run: picker.pick(runs.tomogram(run))[0] for run in names}
        thresholds = {**picker.thresholds, **(thresholds or {})}
    return report_of(
        _sides(picks, runs, objects, thresholds or {}),
        name,
        runs.uri,
        runs.tomo_type,
        title,
    )


def _sides(
    picks: Mapping[str, Picks], runs: Runs, objects: tuple[PickableObject, ...], thresholds: Mapping[str, float]
) -> Sides:
    """With the truth where the project has any; without, the picks are shown and not scored."""
    try:
        truth = runs.labelled()
    except NoPicksError:
        truth = {}
    if not any(len(p) for p in truth.values()):
        return Sides(picks, {}, objects, thresholds, runs.project)
    return sides_of(picks, truth, objects, thresholds, runs.project)
