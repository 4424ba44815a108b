"""How far a simulation is: read from its folder, whoever is at work there and wherever."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.records import expected

_RECENT = 50  # runs that the rate is measured on
_LONG = 10.0  # times as long as runs took lately without one: nobody is at work


@dataclass(frozen=True)
class SimulationStanding:
    """How far a simulation is.

    Attributes:
        made: runs that are there.
        missing: runs that were asked for and are not.
        per_hour: runs made lately; 0 where that cannot be told.
    """

    made: tuple[str, ...]
    missing: tuple[str, ...]
    per_hour: float

    @property
    def is_whole(self) -> bool:
        """Whether every run is there."""
        return not self.missing

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where that cannot be told."""
        return len(self.missing) / self.per_hour * 3600 if self.missing and self.per_hour else None


def is_simulation(out: Path) -> bool:
    """Whether something is simulated in a folder."""
    return (out / "simulation.json").is_file()


def simulation_standing(out: Path) -> SimulationStanding:
    """How far the simulation of a folder is."""
    runs = out / "ExperimentRuns"
    made = {p.name for p in runs.iterdir() if p.is_dir() and not p.name.startswith(".")} if runs.is_dir() else set()
    missing = {*expected(out / "runs")} - made
    return SimulationStanding(tuple(sorted(made)), tuple(sorted(missing)), _rate(out / "runs", made))


def _rate(records: Path, made: set[str]) -> float:
    times = []
    for run in made:
        with suppress(OSError):
            times.append((records / f"{run}.json").stat().st_mtime)
    recent = sorted(times)[-_RECENT:]
    if len(recent) < 2:
        return 0.0
    each = max((recent[-1] - recent[0]) / (len(recent) - 1), 1e-3)
    return 0.0 if time.time() - recent[-1] > _LONG * each + 60 else 3600 / each
