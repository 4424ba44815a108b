"""Scores of one set of picks against another, wherever the two lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import SelectionError
from .evaluate import CziiScore, MatchedScores, bootstrap_f1, czii_score, matched_scores
from .io import Project, open_project, read_picks_csv
from .io.objects import with_specs
from .io.select import near_miss
from .labels import outside_text, picks_where_any
from .presets import CZII_OBJECTS
from .types import PickableObject, Picks


@dataclass(frozen=True)
class Scores:
    """Both ways of scoring, and the interval of the mean F1 at the official distance."""

    czii: CziiScore
    matched: MatchedScores
    interval: tuple[float, float]
    dropped_outside: int = 0

    def text(self) -> str:
        """Tables for a terminal."""
        low, high = self.interval
        distance = self.czii.distance_multiplier
        return "\n".join(
            [
                f"CZII score (a hit lies within {distance:g} radii; no one-to-one matching)",
                self.czii.table(),
                "",
                "one-to-one matching, best score first",
                self.matched.table(),
                f"mean F1 at 0.5 radii, 95 % interval: {low:.4f} to {high:.4f}",
            ]
        )

    def json_text(self) -> str:
        """Every figure at full precision; null where there is none."""
        interval = [None if np.isnan(v) else v for v in self.interval]
        data = {"czii": self.czii.to_json(), "matched": self.matched.to_json(), "f1_interval": interval}
        return json.dumps(data | {"dropped_outside": self.dropped_outside}, indent=1)


@dataclass(frozen=True)
class Scoring:
    """What is compared and how.

    Attributes:
        picks, truth: `object:user/session` where that side is a project.
        runs: to score; None: all with truth.
        tomo_type: the tomograms that picks must lie in; None: any of their run's.
        distance_multiplier, beta: of the CZII score.
        exclude: objects left out of the mean F1.
        drop_outside: leave out picks outside their tomogram (they are counted, and refused otherwise).
        voxel_spacing, objects, coordinate_offset: how projects are opened.
        say: told what was found, one line at a time.
    """

    picks: str | None = None
    truth: str | None = None
    runs: Sequence[str] | None = None
    tomo_type: str | None = None
    distance_multiplier: float = 0.5
    beta: float = 4.0
    exclude: tuple[str, ...] = ()
    drop_outside: bool = False
    voxel_spacing: float | None = None
    objects: Sequence[str] = ()
    coordinate_offset: str = "none"
    say: Callable[[str], None] = lambda line: None

    def __call__(self, candidates: str, truth: str) -> Scores:
        """Scores the picks at `candidates` against those at `truth` (paths of CSV files or projects).

        Raises:
            SelectionError: runs or objects that one side lacks; picks outside the tomogram.
        """
        found, _, project = self._read(candidates, self.picks)
        wanted, objects, other = self._read(truth, self.truth)
        if not found or not wanted:
            raise SelectionError(f"{candidates if not found else truth}: no picks to score; name others with --picks")
        # A CSV without run names stands for the only run of the other side.
        found, wanted = _paired(found, wanted, candidates, truth)
        for run in self.runs or ():
            if run not in wanted:
                raise SelectionError(f"{truth}: run '{run}' has no truth; {near_miss(run, sorted(wanted))}")
        wanted = {run: p for run, p in wanted.items() if self.runs is None or run in self.runs}
        missing = sorted(set(wanted) - set(found))
        if missing:
            self.say(f"warning: {candidates} has no picks of {', '.join(missing)}: all their particles count as missed")
        found, dropped = self._outside(found, other or project)
        extra = sorted({n for p in found.values() for n in p.names.tolist()} - {o.name for o in objects})
        if extra:
            self.say(f"warning: {', '.join(extra)} has no truth and is not scored")
            found = {run: p.select(~np.isin(p.names, extra)) for run, p in found.items()}
        rng = np.random.default_rng(0)
        return Scores(
            czii_score(found, wanted, objects, distance_multiplier=self.distance_multiplier, beta=self.beta),
            matched_scores(found, wanted, objects, exclude=self.exclude),
            bootstrap_f1(found, wanted, objects, rng=rng, exclude=self.exclude),
            dropped,
        )

    def _read(
        self, place: str, query: str | None
    ) -> tuple[dict[str, Picks], tuple[PickableObject, ...], Project | None]:
        """Picks by run, the objects that have them, and the project where it is one."""
        if Path(place).suffix.lower() == ".csv":
            if query:
                raise SelectionError(f"{place}: a table, but '{query}' chooses among a project's picks; leave it out")
            picks = read_picks_csv(place)
            return picks, self._known({n for p in picks.values() for n in p.names.tolist()}), None
        project = open_project(
            place,
            voxel_spacing=self.voxel_spacing,
            objects=self.objects,
            coordinate_offset=self.coordinate_offset,
        )
        return picks_where_any(project, self.runs or project.runs(), query), project.objects, project

    def _known(self, names: set[str]) -> tuple[PickableObject, ...]:
        """Radii and weights of named objects: from `objects`, else from the CZII preset."""
        preset = {o.name: o for o in CZII_OBJECTS}
        found = with_specs([preset.get(n, PickableObject(n, None)) for n in sorted(names)], self.objects, extend=True)
        # The weighted mean of the challenge runs over its six objects, whatever the file happens to hold.
        if names <= set(preset):
            found = tuple(next((f for f in found if f.name == o.name), o) for o in CZII_OBJECTS)
        return found

    def _outside(self, found: dict[str, Picks], project: Project | None) -> tuple[dict[str, Picks], int]:
        """The picks inside their tomograms, where these are known; refuses others unless they are to be dropped."""
        dropped = 0
        kept = {}
        for run, picks in found.items():
            kept[run] = picks
            if project is None or run not in project.runs() or not project.tomo_types(run):
                continue
            # Tomograms of a run may be cropped differently: outside is what lies in none of them.
            types = [self.tomo_type] if self.tomo_type else project.tomo_types(run)
            inside = np.any([project.grid(run, t).contains(picks.positions) for t in types], axis=0)
            n = int((~inside).sum())
            if n and not self.drop_outside:
                raise SelectionError(
                    f"run {run}: {outside_text(picks, inside)} lie outside the tomogram; are they in Å, x y z, and of "
                    "this run? mend them, or leave them out with --drop-outside"
                )
            if n:
                self.say(f"run {run}: {outside_text(picks, inside)} lie outside the tomogram and are left out")
            dropped, kept[run] = dropped + n, picks.select(inside)
        return kept, dropped


def _paired(
    found: dict[str, Picks], wanted: dict[str, Picks], candidates: str, truth: str
) -> tuple[dict[str, Picks], dict[str, Picks]]:
    if set(found) == {""} and len(wanted) == 1:
        return {run: replace(found[""], run=run) for run in wanted}, wanted
    if set(wanted) == {""} and len(found) == 1:
        return found, {run: replace(wanted[""], run=run) for run in found}
    if not set(found) & set(wanted):
        raise SelectionError(
            f"{candidates} has runs {', '.join(sorted(found)[:5])} and {truth} has {', '.join(sorted(wanted)[:5])}: "
            "none in common; name the runs alike"
        )
    return found, wanted
