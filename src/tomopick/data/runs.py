"""Which runs of which project, which tomogram, whose picks: what training, scoring and measuring all ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import SelectionError
from ..core.types import Grid, Picks, Tomogram
from .choose import require_run
from .labelled import judged, picks_where_any
from .project import Project


@dataclass(frozen=True)
class Runs:
    """Runs of a project, with what is read of each.

    Attributes:
        project: opened.
        names: of the runs; None: all.
        tomo_type: which tomogram, `TYPE[@spacing]`; None: the only one.
        picks: whose picks, `object:user/session`; None: the only ones.
    """

    project: Project
    names: Sequence[str] | None = None
    tomo_type: str | None = None
    picks: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.project, Project):
            raise SelectionError(
                f"found {_shown(self.project)} where a project is expected; open it first: open_project(...)"
            )
        if isinstance(self.names, str):
            raise SelectionError(f"`Runs.names={self.names}`: expected a list of runs, such as ['{self.names}']")

    @classmethod
    def of(cls, runs: Runs | Project) -> Runs:
        """Runs as they are, or all of a project.

        Raises:
            SelectionError: neither.
        """
        return runs if isinstance(runs, Runs) else cls(runs)

    @property
    def uri(self) -> str:
        """What the user called the project; messages begin with it."""
        return self.project.uri

    def check(self) -> list[str]:
        """The names of the runs; raises `SelectionError`, with the near misses, for one that is not there."""
        known = self.project.runs()
        there = frozenset(known)
        for run in self.names or ():
            require_run(run, there, self.uri)
        return known if self.names is None else list(dict.fromkeys(self.names))

    def tomogram(self, run: str) -> Tomogram:
        """The tomogram of one of them."""
        return self.project.tomogram(run, self.tomo_type)

    def grid(self, run: str) -> Grid:
        """Where its voxels lie; reads none."""
        return self.project.grid(run, self.tomo_type)

    def labelled(self, field: str = "picks") -> dict[str, Picks]:
        """The picks of those runs that have such, where these are labelled.

        Args:
            field: that these picks are given as, for the messages.

        Raises:
            SelectionError: a run that is not there, or that was named and has none; no run has such picks; several
                sets fit, and nothing says which.
        """
        found = picks_where_any(self.project, self.check(), self.picks, field)
        for run in self.names or ():
            if run not in found:
                raise SelectionError(
                    f"{self.uri}: run '{run}' has no picks to measure on; leave it out of `Runs.names`"
                )
        return self.judged(found)

    def judged(self, found: Mapping[str, Picks]) -> dict[str, Picks]:
        """By run, the picks that can be right or wrong."""
        return judged(self.project, found, self.tomo_type)


def _shown(value: Any) -> str:
    """What was given in place of something else: a short text as it is, else its type."""
    kind = type(value).__name__
    return f"{kind} '{value}'" if isinstance(value, str) and len(value) < 200 else kind
