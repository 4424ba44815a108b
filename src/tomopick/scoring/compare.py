"""Scores of one set of picks against another, wherever the two lie."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ReadError, SelectionError
from ..core.messages import near_miss, said_of
from ..core.presets import CZII_OBJECTS
from ..core.shards import Shard
from ..core.types import PickableObject, Picks
from ..data import Project, open_project, read_picks_csv
from ..data.formats import is_foreign
from ..data.kept import picked_thresholds, without_below
from ..data.labelled import outside_text, picks_where_any, where_labelled
from ..data.names import called_alike
from ..data.objects import with_specs
from ..data.open import open_taking, require_taken
from ..data.plausible import require_likely
from ..data.runs import Runs
from ..data.tables import is_kaggle_csv, the_one
from .crowding import crowded, sharing
from .figures import Scores, rankings, run_figures
from .intervals import Difference, bootstrap, bootstrap_f1, paired_difference
from .localisation import localisations
from .matching import REACH
from .scores import CZII_BETA, czii_score, matched_scores
from .sides import Made, Make, Sides, mistaken, require_truth_for, twice_written, usual_distances, without_either

log = logging.getLogger("tomopick")

_ENOUGH = 10  # picks whose range tells Å from voxels


@dataclass(frozen=True)
class Scoring:
    """What is compared and how.

    Attributes:
        picks: `object:user/session`, where what is scored is a project's.
        name: the object of the picks, where a file of another program does not say.
        shard: the part of the runs with truth that is scored; None: all.
        distance_multiplier, beta: of the CZII score.
        exclude: objects left out of the mean F1.
        only: objects that are scored at all; None: all.
        drop_outside: leave out picks outside their tomogram (they are counted, and refused otherwise).
        voxel_spacing, objects, coordinate_offset: how projects are opened; the offset holds for tables as well.
        regions, labelled_in: where the runs of the truth are labelled (see `open_project`).
        foreign: how files of other programs are read, fields of `ImportOptions`.
    """

    picks: str | None = None
    name: str | None = None
    shard: Shard | None = None
    distance_multiplier: float = REACH
    beta: float = CZII_BETA
    exclude: tuple[str, ...] = ()
    only: Sequence[str] | None = None
    drop_outside: bool = False
    voxel_spacing: float | None = None
    objects: Sequence[str] = ()
    coordinate_offset: str = "none"
    regions: Sequence[str] = ()
    labelled_in: Sequence[str] = ()
    foreign: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, candidates: str, truth: str | Runs) -> Scores:
        """Scores the picks at `candidates` against those at `truth`: see `sides`."""
        return self.score(self.sides(candidates, truth))

    def opened(self, truth: str) -> Runs:
        """The runs of a project, or of a table.

        Raises:
            TomopickError: nothing there, or an option that this project cannot take.
        """
        if Path(truth).suffix.lower() == ".csv":
            return Runs(open_project(truth, objects=self.objects if the_one(self.objects) else ()))
        where = {"regions": self.regions, "labelled_in": self.labelled_in}
        how: dict[str, Any] = {"objects": self.objects, "coordinate_offset": self.coordinate_offset, **where}
        given = open_taking(truth, voxel_spacing=self.voxel_spacing, **how)
        require_taken([given], self.voxel_spacing)
        return Runs(given.project)

    def sides(self, candidates: str, truth: str | Runs, make: Make | None = None) -> Sides:
        """Reads both sides: paths of CSV files, projects, or a file of another program beside a project.

        Args:
            candidates: where the picks are, or the name of the model that makes them.
            truth: where the truth is; Runs, as `opened` gives them, where runs, whose picks are true, or the tomograms
                that picks must lie in (else any of their run's) are chosen.
            make: picks the truth's runs, where the picks lie nowhere yet.

        Raises:
            SelectionError: runs or objects that one side lacks; picks outside the tomogram, or in voxels.
        """
        of = truth if isinstance(truth, Runs) else self.opened(truth)
        truth = of.uri
        found, wanted, objects, official, project, made = self._read_both(candidates, of, make)
        wanted = {run: without_below(p, truth) for run, p in wanted.items()}
        _require_truth(of, wanted)
        if not any(len(p) for p in wanted.values()):
            raise SelectionError(f"{truth}: the truth holds no particle; there is nothing to score")
        wanted = {run: wanted[run] for run in self._mine(of, wanted)}
        found = {run: p for run, p in found.items() if run in (wanted if self.shard else of.names or found)}
        notes = mistaken(candidates, truth, made is None and self.picks == of.picks)
        missing = sorted(set(wanted) - set(found))
        if missing:
            notes.append(f"{candidates} has no picks of {', '.join(missing)}: all their particles count as missed")
        unlabelled = sorted(set(found) - set(wanted))
        if unlabelled:
            notes.append(f"{', '.join(unlabelled)}: no truth; the picks there are not scored")
        self._refuse_voxels(found, wanted, project)
        found, dropped = self._outside(found, project, of.tomo_type)
        found, wanted, note = where_labelled(project, found, wanted, of.tomo_type)
        notes += note
        mine = self._only(objects, found, wanted)
        require_truth_for(self.only, wanted, truth)
        objects, lines = without_either(mine, found, wanted, official)
        notes += lines
        if self.only is not None:
            found, wanted = ({run: p.among(self.only) for run, p in side.items()} for side in (found, wanted))
        # What has no truth at all is not scored: its picks are neither right nor wrong.
        present = {o.name for o in objects} if official else {n for p in wanted.values() for n in p.names.tolist()}
        objects = tuple(o for o in objects if o.name in present)
        picked = {n for p in found.values() for n in p.names.tolist()}
        extra = sorted(picked - present)
        if extra:
            notes.append(f"{said_of(extra, 'has no truth and is', 'have no truth and are')} not scored")
            found = {run: p.select(~np.isin(p.names, extra)) for run, p in found.items()}
        if picked and (lacking := sorted({n for p in wanted.values() for n in p.names.tolist()} - picked)):
            whose = said_of(lacking, "has truth and no picks: all its", "have truth and no picks: all their")
            notes.append(f"{whose} particles count as missed")
        notes += [*twice_written(wanted, objects), *crowded(wanted, objects, usual_distances(objects, made))]
        if made:
            cuts = made.thresholds
        else:
            found, cuts, lines = picked_thresholds(found, candidates)
            notes += lines
        for line in notes:
            log.warning(line)
        return Sides(found, wanted, objects, cuts, project, dropped, tuple(notes))

    def _only(
        self, objects: tuple[PickableObject, ...], found: Mapping[str, Picks], wanted: Mapping[str, Picks]
    ) -> tuple[PickableObject, ...]:
        """The objects that are asked for."""
        if self.only is None:
            return objects
        known = {o.name for o in objects} | {n for p in (*found.values(), *wanted.values()) for n in p.names.tolist()}
        for name in self.only:
            if name not in known:
                raise SelectionError(f"`only={name}`: neither side has this object; {near_miss(name, sorted(known))}")
        return tuple(o for o in objects if o.name in self.only)

    def _mine(self, of: Runs, truth: Iterable[str]) -> list[str]:
        """The runs with truth that are scored."""
        runs = [run for run in truth if of.names is None or run in of.names]
        return runs if self.shard is None else self.shard.part(runs)

    def score(self, sides: Sides) -> Scores:
        """The scores of both sides.

        Raises:
            TomopickError: values that are not finite, an object without radius.
        """
        found, wanted, objects = sides.kept, sides.truth, sides.objects
        rng = np.random.default_rng(0)
        return Scores(
            czii_score(found, wanted, objects, distance_multiplier=self.distance_multiplier, beta=self.beta),
            matched_scores(found, wanted, objects, exclude=self.exclude),
            bootstrap_f1(found, wanted, objects, rng=rng, exclude=self.exclude),
            self._czii_interval(found, wanted, objects),
            rankings(sides.picks, wanted, objects),
            localisations(found, wanted, objects),
            run_figures(found, wanted, objects, self.exclude),
            sides.dropped_outside,
            sharing(found, objects),
        )

    def compare(self, sides: Sides, others: Sides) -> dict[str, Difference]:
        """By metric, how much better the first picks are than others on the same truth, with paired intervals.

        Raises:
            SelectionError: the truths are not the same.
        """
        if set(sides.truth) != set(others.truth):
            raise SelectionError("the two are scored on different runs; name the ones that both have with `runs`")
        names = {o.name: o for o in (*sides.objects, *others.objects)}
        given = others.kept, sides.kept, sides.truth, list(names.values())
        return {m: paired_difference(*given, rng=np.random.default_rng(0), metric=m) for m in ("czii", "f1")}

    def _czii_interval(
        self, found: Mapping[str, Picks], wanted: Mapping[str, Picks], objects: Sequence[PickableObject]
    ) -> tuple[float, float]:
        """Over runs drawn with replacement; nan for one run, and for another beta than the challenge's."""
        if self.beta != 4:
            return float("nan"), float("nan")
        rng = np.random.default_rng(0)
        drawn = bootstrap(found, wanted, objects, rng=rng, metric="czii", radius=self.distance_multiplier)
        return drawn.low, drawn.high

    def _read_both(
        self, candidates: str, of: Runs, make: Make | None
    ) -> tuple[dict[str, Picks], dict[str, Picks], tuple[PickableObject, ...], bool, Project | None, Made | None]:
        """Picks, truth, its objects, whether these are all of Kaggle's metric, whose tomograms count, what was made."""
        suffix, truth = Path(candidates).suffix.lower(), of.uri
        read = make is None and not is_foreign(Path(candidates))
        found, _, project = self._read(candidates, of.names) if read else ({}, (), None)
        if read and not found:
            raise SelectionError(f"{candidates}: no picks to score; name others with `picks`")
        wanted, objects, other = self._read_truth(of)
        if not wanted:
            raise SelectionError(f"{truth}: no true picks; name others with `truth`")
        made = None
        if make is not None:
            if other is None:
                raise SelectionError(f"{truth}: a table has no tomograms to pick; give a project, or picks made before")
            _require_truth(of, wanted)
            made = make(other, self._mine(of, wanted))
            found = dict(made.picks)
            radii = {o.name: o.radius for o in made.objects}
            objects = tuple(replace(o, radius=o.radius or radii.get(o.name)) for o in objects)
        elif not read:
            found = self._read_foreign(candidates, of if other else None)
            if not found:
                raise SelectionError(f"{candidates}: no picks of a run of {truth}; name the runs alike")
        official = other is None and is_kaggle_csv(Path(truth))  # its weighted mean runs over all six objects
        # A CSV without run names stands for the only run of the other side.
        found, wanted = _paired(found, wanted, candidates, truth)
        # The coordinate offset holds for both sides; two tables state their positions in the same way anyhow.
        found = _true(found, other) if read and suffix == ".csv" and other is not None else found
        wanted = _true(wanted, project) if other is None and project is not None else wanted
        return found, wanted, objects, official, other or project, made

    def _read_foreign(self, place: str, of: Runs | None) -> dict[str, Picks]:
        """Picks of another program's file, for which a project must say where its tomograms lie."""
        from ..data.importing import ImportOptions, read_files

        if of is None:
            raise SelectionError(f"{place}: a file of another program needs a project as TRUTH, with its tomograms")
        options = ImportOptions(name=self.name, **self.foreign)
        found, unmatched = read_files([Path(place)], replace(of, names=None), options)
        for name in unmatched:
            log.info(f"no run for '{name}'; {near_miss(name, of.project.runs())}")
        return found

    def _read(
        self, place: str, runs: Sequence[str] | None
    ) -> tuple[dict[str, Picks], tuple[PickableObject, ...], Project | None]:
        """What is scored: picks by run, the objects that have them, and the project where it is one."""
        if Path(place).suffix.lower() == ".csv":
            return self._read_table(place, self.picks)
        # What one side has no place for may be meant for the other.
        how: dict[str, Any] = {"objects": self.objects, "coordinate_offset": self.coordinate_offset}
        project = open_taking(place, voxel_spacing=self.voxel_spacing, **how).project
        return self._read_project(Runs(project, runs, picks=self.picks), "picks")

    def _read_truth(self, of: Runs) -> tuple[dict[str, Picks], tuple[PickableObject, ...], Project | None]:
        """As `_read`, what is true."""
        if Path(of.uri).suffix.lower() == ".csv":
            return self._read_table(of.uri, of.picks)
        return self._read_project(of, "truth")

    def _read_table(
        self, place: str, query: str | None
    ) -> tuple[dict[str, Picks], tuple[PickableObject, ...], Project | None]:
        if query:
            raise SelectionError(f"{place}: a table, but '{query}' chooses among a project's picks; leave it out")
        picks = read_picks_csv(place, the_one(self.objects))
        return picks, self._known({n for p in picks.values() for n in p.names.tolist()}), None

    def _read_project(
        self, of: Runs, field: str
    ) -> tuple[dict[str, Picks], tuple[PickableObject, ...], Project | None]:
        found = picks_where_any(of.project, of.names or of.project.runs(), of.picks, field, below=True)
        objects = of.project.objects
        if objects and all(o.radius is None for o in objects):  # known by their names alone, as in a table
            objects = self._known({o.name for o in objects})
        return found, objects, of.project

    def _known(self, names: set[str]) -> tuple[PickableObject, ...]:
        """Radii and weights of named objects: from `objects`, else from the CZII preset."""
        preset = {o.name: o for o in CZII_OBJECTS}
        found = with_specs([preset.get(n, PickableObject(n, None)) for n in sorted(names)], self.objects, extend=True)
        # The weighted mean of the challenge runs over its six objects, whatever the file happens to hold.
        if names <= set(preset):
            found = tuple(next((f for f in found if f.name == o.name), o) for o in CZII_OBJECTS)
        return found

    def _refuse_voxels(self, found: Mapping[str, Picks], wanted: Mapping[str, Picks], project: Project | None) -> None:
        """Says so where positions are in no unit of length: by the tomograms' sizes, else by the other side's range."""
        grids = {}
        known = frozenset(project.runs()) if project is not None else frozenset()
        for run, picks in found.items():
            if project is not None and run in known:
                try:
                    for tomo_type in project.tomo_types(run)[:1]:
                        grids[run] = project.grid(run, tomo_type)
                except ReadError:  # `_outside` says so
                    continue
            elif run in wanted:
                _refuse_other_units(run, picks, wanted[run])
        inside = {run: p.select(grids[run].contains(p.positions)) for run, p in found.items() if run in grids}
        require_likely(inside, grids, f"run {', '.join(sorted(grids)[:3])}")

    def _outside(
        self, found: dict[str, Picks], project: Project | None, tomo_type: str | None
    ) -> tuple[dict[str, Picks], int]:
        """The picks inside their tomograms, where these are known; refuses others unless they are to be dropped."""
        dropped = 0
        kept = {}
        runs = frozenset(project.runs()) if project is not None else frozenset()
        for run, picks in found.items():
            kept[run] = picks
            if project is None or run not in runs:
                continue
            try:
                # Tomograms of a run may be cropped differently: outside is what lies in none of them.
                known = project.tomo_types(run)
                types = [tomo_type] if known and tomo_type else known
                insides = [project.grid(run, t).contains(picks.positions) for t in types]
            except ReadError as error:  # scores need no tomogram
                log.warning(f"run {run}: whether its picks lie in the tomogram is not known: {error}")
                continue
            if not insides:
                continue
            inside = np.any(insides, axis=0)
            n = int((~inside).sum())
            if n and not self.drop_outside:
                raise SelectionError(
                    f"run {run}: {outside_text(picks, inside)} lie outside the tomogram; are they in Å, x y z, and of "
                    "this run? mend them, or leave them out with `drop_outside`"
                )
            if n:
                log.info(f"run {run}: {outside_text(picks, inside)} lie outside the tomogram and are left out")
            dropped, kept[run] = dropped + n, picks.select(inside)
        return kept, dropped


def _require_truth(of: Runs, wanted: Mapping[str, Picks]) -> None:
    for run in of.names or ():
        if run not in wanted:
            raise SelectionError(f"{of.uri}: run '{run}' has no truth; {near_miss(run, sorted(wanted))}")


def _refuse_other_units(run: str, picks: Picks, truth: Picks) -> None:
    """As `require_likely`, where no tomogram is known: one side reaches at least four times as far in every axis."""
    if min(len(picks), len(truth)) < _ENOUGH:
        return
    reach = [np.percentile(side.positions, 95, axis=0) for side in (picks, truth)]
    for near, far, side in ((*reach, "picks"), (*reach[::-1], "true picks")):
        if (near > 0).all() and (far > 4 * near).all():
            raise SelectionError(
                f"run {run or 'of the table'}: the {side} reach to {near.max():.0f} Å and the other side to "
                f"{far.max():.0f} Å; are the {side} in voxels? expected Å on both sides"
            )


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
    found = called_alike(found, list(wanted))
    if not set(found) & set(wanted):
        raise SelectionError(
            f"{candidates} has runs {', '.join(sorted(found)[:5])} and {truth} has {', '.join(sorted(wanted)[:5])}: "
            "none in common; name the runs alike"
        )
    return found, wanted
