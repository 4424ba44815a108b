"""Scores of picks that are at hand, of one run or of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import SelectionError
from ..core.types import PickableObject, Picks
from ..data import Project
from ..data.labelled import where_labelled
from .compare import Scoring
from .figures import Scores
from .matching import REACH
from .scores import CZII_BETA
from .sides import Sides, Thresholds

Side = Picks | Mapping[str, Picks]


def score(
    picks: Side,
    truth: Side,
    objects: Sequence[PickableObject],
    *,
    distance_multiplier: float = REACH,
    beta: float = CZII_BETA,
    exclude: Sequence[str] = (),
) -> Scores:
    """How good picks are: the CZII score, the mean F1 with its interval, and all figures of each object.

    Args:
        picks: of one run, or by run.
        truth: of the same run, or by run; all its runs are scored.
        objects: that are scored, as far as there is truth of them.
        distance_multiplier: radii within which a pick hits.
        beta: of the CZII score's F-beta.
        exclude: objects left out of the mean F1.

    Raises:
        SelectionError: something else than picks, no truth, or truth and picks of runs that have nothing in common.
        TomopickError: values that are not finite, an object without radius.
    """
    scoring = Scoring(distance_multiplier=distance_multiplier, beta=beta, exclude=tuple(exclude))
    return scoring.score(sides_of(picks, truth, objects))


def sides_of(
    picks: Side,
    truth: Side,
    objects: Sequence[PickableObject],
    thresholds: Thresholds | None = None,
    project: Project | None = None,
) -> Sides:
    """Both sides as what is scored and drawn reads them; arguments are those of `score`.

    Args:
        picks, truth, objects: as for `score`.
        thresholds: by object, from which on picks count.
        project: with the tomograms, and where they are labelled.
    """
    found, wanted = _by_run(picks, "picks"), _by_run(truth, "truth")
    found, wanted, _ = where_labelled(project, found, wanted)
    if isinstance(picks, Picks) and isinstance(truth, Picks):  # an array has no name, and is meant
        found = {run: replace(p, run=run) for run in wanted for p in found.values()}
    if not any(len(p) for p in wanted.values()):
        raise SelectionError("the truth holds no particle; there is nothing to score")
    if not set(found) & set(wanted):
        raise SelectionError(f"picks are of {_listed(found)} and the truth of {_listed(wanted)}; name the runs alike")
    # What has no truth at all is not scored: its picks are neither right nor wrong.
    present = {name for p in wanted.values() for name in p.names.tolist()}
    scored = tuple(o for o in objects if o.name in present)
    if not scored:
        names = ", ".join(o.name for o in objects) or "none"
        raise SelectionError(
            f"the truth is of {', '.join(sorted(present))}, and the objects are {names}; none is scored"
        )
    kinds = [o.name for o in scored]
    kept = {run: p.among(kinds) for run, p in found.items()}
    return Sides(kept, {run: p.among(kinds) for run, p in wanted.items()}, scored, thresholds or {}, project)


def _by_run(side: Any, what: str) -> dict[str, Picks]:
    if isinstance(side, Picks):
        return {side.run: side}
    if isinstance(side, Mapping) and all(isinstance(p, Picks) for p in side.values()):
        return dict(side)
    hint = f"; give its picks: `{what}=found.picks`" if hasattr(side, "picks") else ""
    raise SelectionError(f"`{what}` is {type(side).__name__}; expected Picks, or Picks by the name of their run{hint}")


def _listed(side: Mapping[str, Picks]) -> str:
    return f"runs {', '.join(sorted(side)[:5])}" if side else "no run"
