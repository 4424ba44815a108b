"""Runs that a model has learned from: what is measured on them is too good for others."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from ..core.messages import listing
from ..data import Project
from .folder import TrainingFacts

log = logging.getLogger("tomopick")


class Taught(Protocol):
    """A model, or one of those that it is made of."""

    @property
    def facts(self) -> TrainingFacts:
        """Of its training, or trainings."""


def trained_on(model: Taught, project: Project) -> set[str]:
    """The runs of this project that the model's record says it learned from (by name, in whatever project)."""
    return {run for part in model.facts.learned_from for run in part.train} & set(project.runs())


def warn_of_familiar(model: Taught, project: Project, runs: Iterable[str], what: str) -> None:
    """Says which of the runs a model has learned from.

    Args:
        model: that picks them.
        project, runs: what is picked.
        what: is too good for others there, `scores` or `thresholds`.
    """
    seen = sorted(trained_on(model, project) & set(runs))
    if seen:
        log.warning(f"run {listing(seen)}: the model has learned from it; {what} will be too good for others")
