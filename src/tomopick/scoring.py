"""Scores of one set of picks against another, wherever the two lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import ReadError, SelectionError
from .evaluate import CziiScore, MatchedScores, bootstrap_f1, czii_score, matched_scores
from .io import Project, open_project, read_picks_csv
from .io.objects import with_specs
from .io.select import near_miss
from .labels import outside_text, picks_where_any
from .metrics import bootstrap
from .presets import CZII_OBJECTS
from .types import PickableObject, Picks


@dataclass(frozen=True)
class Scores:
    """Both ways of scoring, with 95 % intervals of the mean F1 at half a radius and of the CZII score."""

    czii: CziiScore
    matched: MatchedScores
    interval: tuple[float, float]
    czii_interval: tuple[float, float]
    dropped_outside: int = 0

    def text(self) -> str:
        """Tables for a terminal."""
        low, high = self.interval
        distance, drawn = self.czii.distance_multiplier, self.czii_interval
        over_runs = (
            [] if np.isnan(drawn).any() else [f"score, 95 % interval over runs: {drawn[0]:.4f} to {drawn[1]:.4f}"]
        )
        return "\n".join(
            [
                f"CZII score (a hit lies within {distance:g} radii; no one-to-one matching)",
                self.czii.table(),
                *over_runs,
                "",
                "one-to-one matching, best score first",
                self.matched.table(),
                f"mean F1 at 0.5 radii, 95 % interval: {low:.4f} to {high:.4f}",
            ]
        )

    def json_text(self) -> str:
        """Every figure at full precision; null where there is none."""
        f1, czii = ([None if np.isnan(v) else v for v in drawn] for drawn in (self.interval, self.czii_interval))
        data = {
            "czii": self.czii.to_json(),
            "czii_interval": czii,
            "matched": self.matched.to_json(),
            "f1_interval": f1,
        }
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
        voxel_spacing, objects, coordinate_offset: how projects are opened; the offset holds for tables as well.
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
        official = other is None and "" not in wanted  # Kaggle's table: its weighted mean runs over all six objects
        # A CSV without run names stands for the only run of the other side.
        found, wanted = _paired(found, wanted, candidates, truth)
        # The coordinate offset holds for both sides; two tables state their positions in the same way anyhow.
        found = _true(found, other) if project is None and other is not None else found
        wanted = _true(wanted, project) if other is None and project is not None else wanted
        for run in self.runs or ():
            if run not in wanted:
                raise SelectionError(f"{truth}: run '{run}' has no truth; {near_miss(run, sorted(wanted))}")
        wanted = {run: p for run, p in wanted.items() if self.runs is None or run in self.runs}
        missing = sorted(set(wanted) - set(found))
        if missing:
            self.say(f"warning: {candidates} has no picks of {', '.join(missing)}: all their particles count as missed")
        found, dropped = self._outside(found, other or project)
        # What has no truth at all is not scored: its picks are neither right nor wrong.
        present = {o.name for o in objects} if official else {n for p in wanted.values() for n in p.names.tolist()}
        objects = tuple(o for o in objects if o.name in present)
        extra = sorted({n for p in found.values() for n in p.names.tolist()} - present)
        if extra:
            self.say(f"warning: {', '.join(extra)} has no truth and is not scored")
            found = {run: p.select(~np.isin(p.names, extra)) for run, p in found.items()}
        rng = np.random.default_rng(0)
        return Scores(
            czii_score(found, wanted, objects, distance_multiplier=self.distance_multiplier, beta=self.beta),
            matched_scores(found, wanted, objects, exclude=self.exclude),
            bootstrap_f1(found, wanted, objects, rng=rng, exclude=self.exclude),
            self._czii_interval(found, wanted, objects),
            dropped,
        )

    def _czii_interval(
        self, found: dict[str, Picks], wanted: dict[str, Picks], objects: Sequence[PickableObject]
    ) -> tuple[float, float]:
        """Over runs drawn with replacement; nan for one run, and for another beta than the challenge's."""
        if self.beta != 4:
            return float("nan"), float("nan")
        rng = np.random.default_rng(0)
        drawn = bootstrap(found, wanted, objects, rng=rng, metric="czii", radius=self.distance_multiplier)
        return drawn.low, drawn.high

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
        found = picks_where_any(project, self.runs or project.runs(), query)
        objects = project.objects
        if objects and all(o.radius is None for o in objects):  # known by their names alone, as in a table
            objects = self._known({o.name for o in objects})
        return found, objects, project

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
            if project is None or run not in project.runs():
                continue
            try:
                # Tomograms of a run may be cropped differently: outside is what lies in none of them.
                known = project.tomo_types(run)
                types = [self.tomo_type] if known and self.tomo_type else known
                insides = [project.grid(run, t).contains(picks.positions) for t in types]
            except ReadError as error:  # scores need no tomogram
                self.say(f"warning: run {run}: whether its picks lie in the tomogram is not known: {error}")
                continue
            if not insides:
                continue
            inside = np.any(insides, axis=0)
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


def _true(tables: dict[str, Picks], project: Project) -> dict[str, Picks]:
    """Picks of a table at their true positions, as the other side's project gives its own."""
    moved = dict(tables)
    for run in set(tables) & set(project.runs()):
        here = Picks(run, np.zeros((1, 3)), np.array(["-"]))
        moved[run] = tables[run].shifted(-project.stated(here).positions[0])
    return moved


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
