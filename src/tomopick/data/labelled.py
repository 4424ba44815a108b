"""What training and scoring both ask of a project's picks; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.errors import NoPicksError, SeveralPicksError
from ..core.types import Picks
from . import Project
from .choose import require_one_pair


def picks_where_any(project: Project, runs: Sequence[str], query: str | None, field: str = "picks") -> dict[str, Picks]:
    """The picks of those runs that have what the query asks for.

    Args:
        project: with the picks.
        runs: to look at.
        query: `object:user/session`.
        field: that the query was given as, for the messages.

    Raises:
        SelectionError: none has, or a run has several sets that fit, or the runs together have them of several users
            or sessions and the query does not say which.
    """
    try:
        return _where_any(project, runs, query)
    except SeveralPicksError as error:
        raise SeveralPicksError(error.found, error.wanted, field) from None


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


def outside_text(picks: Picks, inside: np.ndarray) -> str:
    """How many picks lie outside, of which objects."""
    names, counts = np.unique(picks.names[~inside], return_counts=True)
    parts = ", ".join(f"{n} {name}" for name, n in zip(names.tolist(), counts.tolist()))
    return f"{int((~inside).sum())} of {len(picks)} picks ({parts})"
