"""Single looks at a project's headers and picks; `doctor` makes a report of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import NoPicksError, ReadError, TomopickError
from ..core.messages import counted, listing
from ..core.names import plain_line
from ..core.types import Grid, PickableObject, Picks
from ..data import Project
from ..data.choose import SPACING_TOLERANCE
from ..data.labelled import labelled_in, labelled_picks
from ..data.plausible import unlikely, unlikely_runs
from ..data.runs import Runs
from ..data.volumes.mrc import mrc_header
from ..scoring.crowding import crowded
from ..scoring.radii import diameter_doubts, radius_doubts
from ..scoring.sides import usual_distances

Severity = Literal["ok", "warning", "error"]
OK: Final = "ok"
WARNING: Final = "warning"
ERROR: Final = "error"
MARKS: dict[Severity, str] = {OK: "✓", WARNING: "!", ERROR: "✗"}
FEW = 20  # picks of an object with which little can be learned
MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}
_COARSE = 2.0  # radius in voxels below which a particle is hardly more than a speck


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: `ok`, `warning` or `error`.
        where: the run or object; empty for the whole project.
        text: what was found.
        fix: what to do about it.
    """

    level: Severity
    where: str
    text: str
    fix: str = ""

    def line(self) -> str:
        """As shown in a terminal."""
        return f"{MARKS[self.level]} {self.said()}"

    def said(self) -> str:
        """Where, what, and what to do, in one line."""
        where = f"{self.where}: " if self.where else ""
        return plain_line(f"{where}{self.text}{'; ' + self.fix if self.fix else ''}")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def object_findings(objects: Sequence[PickableObject]) -> Iterator[Finding]:
    """Names and radii."""
    if not objects:
        yield Finding(WARNING, "", "no objects", "name them with `objects=NAME:RADIUS` (radius in Å)")
        return
    text = ", ".join(f"{o.name} ({'no radius' if o.radius is None else f'{o.radius:g} Å'})" for o in objects)
    yield Finding(OK, "", f"objects: {text}")
    for line in radius_doubts(objects):
        yield Finding(WARNING, "", line)
    for o in objects:
        if o.radius is None:
            yield Finding(WARNING, o.name, "has no radius", f"say it with `objects={o.name}:RADIUS` (in Å)")
        elif o.radius < 15 or o.radius > 1000:
            yield Finding(WARNING, o.name, f"radius {o.radius:g} Å", "radii are in Å: is it in nm, voxels, a diameter?")


def type_findings(types: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Types of tomograms, what runs lack, and names that look alike; `types` by run, as `TYPE@spacing`."""
    kinds = Counter(t.partition("@")[0] for found in types.values() for t in set(found))
    if any(kinds):
        text = ", ".join(f"{k} ({counted(n, 'run')})" for k, n in kinds.most_common() if k)
        yield Finding(OK, "", f"tomogram types: {text}")
    empty = [run for run, found in types.items() if not found]
    if empty:
        text = f"no tomogram in {counted(len(empty), 'run')}: {listing(empty)}"
        yield Finding(WARNING, "", text, "they can only be scored")
    names = sorted(k for k in kinds if k)
    for i, name in enumerate(names):
        for close in get_close_matches(name, names[i + 1 :], n=1, cutoff=0.85):
            yield Finding(WARNING, "", f"tomogram types '{name}' and '{close}' look alike", "are they one type?")
        lacking = [run for run, found in types.items() if found and name not in {t.partition("@")[0] for t in found}]
        if lacking:
            text = f"no '{name}' tomogram in {listing(lacking)}"
            yield Finding(WARNING, "", text, "leave them out with `Runs.names`")


def grid_findings(
    project: Project, run: str, types: Sequence[str], wanted: str | None, grids: dict[str, Grid]
) -> Iterator[Finding]:
    """A run whose grid cannot be read or looks turned; the grid itself goes into `grids`."""
    if not types:
        return
    try:
        grids[run] = project.grid(run, wanted or types[0])
    except TomopickError as error:
        yield Finding(ERROR, f"run {run}", str(error))
        return
    z, y, x = grids[run].shape
    if z > min(y, x) and z > 1.2 * max(min(y, x), 1):
        yield Finding(
            WARNING, f"run {run}", f"{x} x {y} x {z} voxels (x, y, z) is thickest along z",
            "tomograms are thin along z: were the axes exchanged?",
        )  # fmt: skip


def header_findings(paths: Sequence[Path]) -> Iterator[Finding]:
    """Data types of MRC files, and origins in their headers, which are not heeded."""
    kinds: Counter[str] = Counter()
    moved = []
    for path in paths:
        try:
            header = mrc_header(path)
        except ReadError:  # what is wrong with a file is said by who reads it
            continue
        kinds[MODES.get(int(header.mode), f"mode {int(header.mode)}")] += 1
        if any(float(header.origin[a]) for a in "xyz") or any(int(header[f"n{a}start"]) for a in "xyz"):
            moved.append(path.name)
    if kinds:
        files = ((kind, counted(n, "file")) for kind, n in kinds.most_common())
        yield Finding(OK, "", f"data types: {', '.join(f'{kind} ({n})' for kind, n in files)}")
    if moved:
        text = f"headers with an origin other than 0, which is not heeded: {listing(moved)}"
        yield Finding(OK, "", text, "positions count from the first voxel")


def spacing_findings(grids: Mapping[str, Grid]) -> Iterator[Finding]:
    """Voxel sizes and shapes."""
    spacings = np.array([g.voxel_spacing for g in grids.values()])
    low, high = float(spacings.min()), float(spacings.max())
    shapes = Counter(g.shape[::-1] for g in grids.values())
    size = " x ".join(map(str, shapes.most_common(1)[0][0]))
    others = f" and {len(shapes) - 1} other sizes" if len(shapes) > 1 else ""
    spacing = f"{low:.4g} Å" if high - low < 1e-6 * low else f"{low:.5g} to {high:.5g} Å"
    yield Finding(OK, "", f"voxel size {spacing}; {size} voxels (x, y, z){others}; the first voxel is centred at 0 Å")
    if high > (1 + SPACING_TOLERANCE) * low:
        yield Finding(
            WARNING, "", f"voxel sizes differ: {low:.4g} to {high:.4g} Å", "choose with `tomo_type=TYPE@SPACING`"
        )
    if high > 30 or low < 2:
        yield Finding(WARNING, "", f"voxel size {spacing}", "expected 5 to 20 Å: is the header right? `voxel_spacing`")


def picks_findings(
    project: Project,
    runs: Sequence[str],
    grids: Mapping[str, Grid],
    query: str | None,
    distances: Mapping[str, float] | None = None,
    only: Sequence[str] | None = None,
    crowding: bool = True,
) -> Iterator[Finding]:
    """Counts, and picks that are outside, double, too few, too small, or closer together than picking leaves them.

    Args:
        project, runs, grids, query: whose picks, and where tomograms lie.
        distances: by object, smallest between two picks [Å]; None: what methods keep that say nothing else.
        only: the objects that matter; None: all.
        crowding: whether what lies too close together is said here.
    """
    objects = {o.name: o for o in project.objects if only is None or o.name in only}
    totals: Counter[str] = Counter()
    truth: dict[str, Picks] = {}
    unclear, missing = [], []
    for run in runs:
        try:
            picks = labelled_picks(project, run, query)
        except NoPicksError as error:
            missing.append(str(error))
            continue
        except TomopickError as error:
            unclear.append(str(error))
            continue
        if picks is None:
            continue
        truth[run] = picks
        totals.update(picks.names.tolist())
        yield from _run_picks_findings(picks, grids.get(run), objects)
    if missing and truth:
        yield Finding(OK, "", f"no picks '{query}' in {counted(len(missing), 'run')}")
    elif missing:
        yield Finding(ERROR, "", missing[0])
    if unclear:  # most likely the same in all of them
        more = f" (and in {counted(len(unclear) - 1, 'other run')})" if len(unclear) > 1 else ""
        yield Finding(WARNING if "several picks" in unclear[0] else ERROR, "", unclear[0] + more)
    if not truth:
        if not unclear and not missing:
            yield Finding(OK, "", "no picks yet: picking needs none, training and scoring do")
        return
    yield from _unit_findings({run: picks for run, picks in truth.items() if run in grids}, grids)
    distances = usual_distances(project.objects) if distances is None else distances
    wanted = list(objects.values())
    for line in [*crowded(truth, wanted, distances), *diameter_doubts(truth, wanted)] if crowding else ():
        yield Finding(WARNING, "", line)
    text = ", ".join(f"{totals[name]} {name}" for name in objects)
    yield Finding(OK, "", f"picks in {len(truth)} of {counted(len(runs), 'run')}: {text}")
    yield from _scarce_findings(totals, objects, grids)


def _scarce_findings(
    totals: Mapping[str, int], objects: Mapping[str, PickableObject], grids: Mapping[str, Grid]
) -> Iterator[Finding]:
    """Objects with few picks, and such as are hardly more than a voxel."""
    for name, o in objects.items():
        if totals[name] < FEW:
            few = f"only {counted(totals[name], 'pick')}"
            yield Finding(WARNING, name, few, f"expected {FEW} or more to learn from")
        spacing = min((g.voxel_spacing for g in grids.values()), default=0.0)
        if o.radius and spacing and o.radius < _COARSE * spacing:
            text = f"radius {o.radius:g} Å is {o.radius / spacing:.1f} voxels"
            yield Finding(WARNING, name, text, "use finer tomograms")


def _unit_findings(placed: Mapping[str, Picks], grids: Mapping[str, Grid]) -> Iterator[Finding]:
    """Whether picks, or those of single runs, are meant in something else than Å."""
    corner = unlikely(placed, grids)
    for line in unlikely_runs(placed, grids) if corner is None else ():
        yield Finding(WARNING, "", line)
    if corner and "outside" not in corner:  # what lies outside is said of each run
        yield Finding(ERROR, "", corner, "mend them, or import them with `pixel_size` (in Å)")


def part_findings(of: Runs, runs: Sequence[str], grids: Mapping[str, Grid], whole: list[Picks]) -> Iterator[Finding]:
    """Where runs are labelled; the picks of those of which nobody said so go into `whole`."""
    project, query = of.project, of.picks
    for run in (run for run in runs if run in grids):
        try:
            picks = labelled_picks(project, run, query)
            if picks is None:
                continue
            labelled = labelled_in(project, run, of.tomo_type)
        except NoPicksError:
            continue
        except TomopickError as error:
            yield Finding(ERROR, f"run {run}", str(error))
            continue
        if labelled is None:
            whole.append(picks)
        else:
            inside = np.count_nonzero(labelled.holds(picks))
            text = f"labelled in a part, which holds {inside} of its {len(picks)} picks"
            yield Finding(OK if inside else ERROR, f"run {run}", text, "" if inside else "is the region right?")


def _run_picks_findings(picks: Picks, grid: Grid | None, objects: Mapping[str, PickableObject]) -> Iterator[Finding]:
    where = f"run {picks.run}"
    if grid is not None and len(picks):
        outside = int((~grid.contains(picks.positions)).sum())
        if outside:
            high = "x ".join(f"{v:.0f} " for v in (np.array(grid.shape) * grid.voxel_spacing)[::-1]).strip()
            voxels = grid.contains(picks.positions * grid.voxel_spacing).all()
            fix = "they seem to be in voxels: multiply them" if voxels else "are axes (x, y, z), unit and run right?"
            yield Finding(ERROR, where, f"{outside} of {len(picks)} picks lie outside the {high} Å (x, y, z)", fix)
    for name in sorted(set(picks.names.tolist())):
        positions = picks.of(name).positions
        reach = 0.25 * (objects[name].radius or 0) if name in objects else 0.0
        pairs = len(cKDTree(positions).query_pairs(max(reach, 1e-3)))
        if pairs:
            text = f"{pairs} pairs of {name} lie within {max(reach, 1e-3):.3g} Å of each other"
            yield Finding(WARNING, where, text, "duplicates? keep one of each")
