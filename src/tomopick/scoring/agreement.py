"""What several pickers agree on: picks of many places become one set, without doubles."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import SelectionError
from ..core.messages import counted, near_miss
from ..core.presets import CZII_OBJECTS
from ..core.types import DISTANCE, THRESHOLD, PickableObject, Picks
from ..data import MemoryProject
from ..data.exporting import ExportOptions, export_picks
from ..data.labelled import picks_where_any
from ..data.names import called_alike
from ..data.open import open_taking
from ..data.tables import write_tables
from .matching import REACH

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class MergeOptions:
    """What is merged, and when picks are of one particle.

    Attributes:
        agree: of how many places a particle must have a pick.
        within: radii of its object, in which picks are of one particle.
        picks: `object:user/session`, once for all places that are projects, or one each.
        runs: None: all.
        only: objects; None: all.
        objects: "name:radius" [Å].
        coordinate_offset: of the projects.
        overwrite: replace what is there.
    """

    agree: int = 2
    within: float = REACH
    picks: Sequence[str | None] = ()
    runs: Sequence[str] | None = None
    only: Sequence[str] | None = None
    objects: Sequence[str] = ()
    coordinate_offset: str = "none"
    overwrite: bool = False


def merge_picks(places: Sequence[str], out: str | Path, options: MergeOptions) -> dict[str, Picks]:
    """Writes what the places agree on, as one table OUT.csv or a folder of RUN.csv; gives it by run.

    Raises:
        SelectionError: fewer places than are to agree, nothing that they agree on, unknown runs or objects, an object
            without radius.
        OutputError: there is something already.
    """
    if not 1 <= options.agree <= len(places):
        raise SelectionError(
            f"`agree={options.agree}`: of {counted(len(places), 'place')}; expected 1 to {len(places)}"
        )
    sides, objects = _read(places, options)
    runs = sorted({run for side in sides for run in side})
    for run in options.runs or ():
        if run not in runs:
            raise SelectionError(f"no picks of run '{run}' in {', '.join(places)}; {near_miss(run, runs)}")
    for name in options.only or ():
        if name not in {o.name for o in objects}:
            known = sorted(o.name for o in objects)
            raise SelectionError(f"`only={name}`: {', '.join(places)} have no such object; {near_miss(name, known)}")
    wanted = [o for o in objects if options.only is None or o.name in options.only]
    found = {}
    for run in options.runs or runs:
        given = [side.get(run, Picks.empty(run)) for side in sides]
        found[run] = agreed(run, given, wanted, agree=options.agree, within=options.within)
        log.info(f"{run}: {len(found[run])} of {' and '.join(str(len(p)) for p in given)}")
    if not any(map(len, found.values())):
        raise SelectionError(
            f"{', '.join(places)}: no particle that {counted(options.agree, 'place')} agree on; expected picks of one "
            "object and run within reach of each other, so try a smaller `agree` or a larger `within`"
        )
    _write(found, wanted, Path(out), options.overwrite)
    return found


def agreed(
    run: str, sides: Sequence[Picks], objects: Sequence[PickableObject], *, agree: int = 2, within: float = REACH
) -> Picks:
    """The particles that at least `agree` sides have a pick of; where it is, in the middle of one pick a side.

    Best first, a pick takes to itself what lies within `within` radii: the nearest pick of every other side, while
    others of the same object there are doubles and go. Its score is the mean of those that agree, its rotation the
    best one's, where all have one; thresholds and distances from masks were of its members and are not its own.

    Args:
        run: the name of the run.
        sides: picks of each picker.
        objects: that are merged; radii are needed.
        agree: how many sides.
        within: radii.

    Raises:
        TomopickError: an object without radius.
    """
    parts = []
    for o in objects:
        pool = [side.of(o.name) for side in sides]
        if any(map(len, pool)):
            parts.append(_groups(run, pool, o.radius_angstrom * within, agree))
    return Picks.join(run, parts)


def _groups(run: str, pool: Sequence[Picks], reach: float, agree: int) -> Picks:
    """Of one object; see `agreed`."""
    side = np.repeat(np.arange(len(pool)), [len(p) for p in pool])  # (n,)
    every = Picks.join(run, pool)
    order = np.argsort(-every.scores, kind="stable")
    free = np.ones(len(every), dtype=bool)
    near = cKDTree(every.positions).query_ball_point(every.positions, reach)
    best, places, scores = [], [], []
    for i in order.tolist():
        if not free[i]:
            continue
        around = np.array([j for j in near[i] if free[j]])
        away = np.linalg.norm(every.positions[around] - every.positions[i], axis=1)
        around = around[np.argsort(away, kind="stable")]
        _, first = np.unique(side[around], return_index=True)
        members = around[first]  # the nearest of each side
        free[around] = False
        if len(members) >= agree:
            best.append(i)
            places.append(every.positions[members].mean(axis=0))
            scores.append(float(every.scores[members].mean()))
    found = every.select(np.array(best, dtype=int))
    # A threshold was of another score, and a distance of another place.
    told = {t: c for t, c in found.columns.items() if t != THRESHOLD and not t.startswith(DISTANCE)}
    found = replace(found, positions=np.array(places), scores=np.array(scores), columns=told)
    return _apart(found, reach)


def _apart(picks: Picks, reach: float) -> Picks:
    """Without those that lie within reach of a better one, as middles may where their picks did not."""
    picks = picks.select(np.argsort(-picks.scores, kind="stable"))
    keep = np.ones(len(picks), dtype=bool)
    if len(picks) > 1:
        pairs = cKDTree(picks.positions).query_pairs(reach, output_type="ndarray")  # (n, 2), the better one first
        for i, j in pairs[np.argsort(pairs[:, 0], kind="stable")].tolist():
            keep[j] &= not keep[i]
    return picks.select(keep)


def _read(places: Sequence[str], options: MergeOptions) -> tuple[list[dict[str, Picks]], tuple[PickableObject, ...]]:
    """Picks by run of each place, under the names of the first, and the objects with what is known of their radii."""
    radii = {o.name: o for o in reversed(CZII_OBJECTS)}
    sides: list[dict[str, Picks]] = []
    queries = list(options.picks) * (len(places) if len(options.picks) == 1 else 1) or [None] * len(places)
    for place, query in zip(places, queries, strict=True):
        project = open_taking(place, objects=options.objects, coordinate_offset=options.coordinate_offset).project
        side = picks_where_any(project, project.runs(), query)
        if not side:
            raise SelectionError(f"{place}: no picks; expected some of every place that is to agree")
        sides.append(_named_as(sides[0], side) if sides else side)
        for o in project.objects:
            if o.radius or o.name not in radii:
                radii[o.name] = o
    names = sorted({name for side in sides for p in side.values() for name in np.unique(p.names).tolist()})
    return sides, tuple(replace(radii.get(n, PickableObject(n, None)), label=i + 1) for i, n in enumerate(names))


def _named_as(first: Mapping[str, Picks], side: dict[str, Picks]) -> dict[str, Picks]:
    """A side under the names of the first; two of a single run each are of one, whatever their files are called."""
    if len(first) == len(side) == 1:
        (run,), (picks,) = first, side.values()
        return {run: replace(picks, run=run)}
    return called_alike(side, sorted(first))


def _write(found: Mapping[str, Picks], objects: Sequence[PickableObject], out: Path, overwrite: bool) -> None:
    """One table, or a folder with one for each run and the objects beside them."""
    if out.suffix.lower() == ".csv":
        project = MemoryProject(objects)
        for picks in found.values():
            project.write_picks(picks, "tomopick", "0")
        export_picks(project, "csv", out, ExportOptions(overwrite=overwrite))
        return
    write_tables(out, found, objects, overwrite)
