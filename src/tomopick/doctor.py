"""What a project holds and what was assumed about it: the mistake is to be found before the hours are spent.

`cheap_findings` reads headers and picks alone; `findings` reads the voxels of a few runs, and tries the model on one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from .asymmetry import displacement
from .errors import TomopickError
from .formats.names import object_alias, tomo_type_alias
from .formats.star import CENTRED, NAMES, PIXELS, optics_sizes, particle_block, read_star
from .io import CopickProject, FolderProject, KaggleProject, Project
from .io.select import SPACING_TOLERANCE, listing, require_run
from .normalize import RobustNormalization, contrast_at, skewness
from .types import Grid, PickableObject, Picks, Tomogram

OK, WARNING, ERROR = "ok", "warning", "error"
MARKS = {OK: "✓", WARNING: "!", ERROR: "✗"}
FEW = 20  # picks of an object with which little can be learned
COARSE = 2.0  # radius in voxels below which a particle is hardly more than a speck
_KINDS = {CopickProject: "copick project", KaggleProject: "CZII challenge as Kaggle has it", FolderProject: "folder"}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: `ok`, `warning` or `error`.
        where: the run or object; empty for the whole project.
        text: what was found.
        fix: what to do about it.
    """

    level: str
    where: str
    text: str
    fix: str = ""

    def line(self) -> str:
        """As shown in a terminal."""
        where = f"{self.where}: " if self.where else ""
        return f"{MARKS[self.level]} {where}{self.text}{'; ' + self.fix if self.fix else ''}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Checkup:
    """What is looked at.

    Attributes:
        runs: None: all.
        tomo_type: the tomograms meant, `TYPE[@spacing]`; None: all types.
        picks: `object:user/session`.
        examine: how many runs have their voxels read.
    """

    runs: Sequence[str] | None = None
    tomo_type: str | None = None
    picks: str | None = None
    examine: int = 2

    def names(self, project: Project) -> list[str]:
        """The runs; raises `SelectionError` for one that is not there."""
        for run in self.runs or ():
            require_run(run, project.runs(), project.uri)
        return list(project.runs() if self.runs is None else self.runs)


def cheap_findings(project: Project, checkup: Checkup = Checkup(), detector: Any = None) -> list[Finding]:  # noqa: B008
    """Everything that can be said without reading voxels."""
    runs = checkup.names(project)
    kind = next((text for cls, text in _KINDS.items() if isinstance(project, cls)), "project")
    found = [Finding(OK, "", f"{kind} with {len(runs)} runs: {listing(runs)}")]
    found += _object_findings(project.objects)
    types = {run: project.tomo_types(run) for run in runs}
    found += _type_findings(types)
    grids: dict[str, Grid] = {}
    for run in runs:
        found += _grid_findings(project, run, types[run], checkup.tomo_type, grids)
    if grids:
        found += _spacing_findings(grids)
    found += _picks_findings(project, runs, grids, checkup.picks)
    if detector is not None:
        found += _model_findings(project, types, grids, detector)
    return found


def findings(project: Project, checkup: Checkup = Checkup(), detector: Any = None) -> list[Finding]:  # noqa: B008
    """`cheap_findings`, and what the voxels of a few runs say."""
    found = cheap_findings(project, checkup, detector)
    able = [run for run in checkup.names(project) if project.tomo_types(run)]
    for i, run in enumerate(able[: checkup.examine]):
        try:
            query = checkup.tomo_type or project.tomo_types(run)[0]
            tomogram = project.tomogram(run, query)
            found += _voxel_findings(tomogram, project, checkup.picks)
            if detector is not None:
                found += _trial_findings(tomogram, detector, i == 0)
        except TomopickError as error:
            found.append(Finding(ERROR, f"run {run}", str(error)))
    return found


def report(found: Sequence[Finding]) -> str:
    """All lines, and the count of errors and warnings."""
    count = Counter(f.level for f in found)
    return "\n".join([*(f.line() for f in found), f"{count[ERROR]} errors, {count[WARNING]} warnings"])


def has_errors(found: Sequence[Finding]) -> bool:
    """Whether any finding is an error."""
    return any(f.level == ERROR for f in found)


def _object_findings(objects: Sequence[PickableObject]) -> Iterator[Finding]:
    if not objects:
        yield Finding(WARNING, "", "no objects", "name them with --object NAME:RADIUS (radius in Å)")
        return
    text = ", ".join(f"{o.name} ({'no radius' if o.radius is None else f'{o.radius:g} Å'})" for o in objects)
    yield Finding(OK, "", f"objects: {text}")
    for o in objects:
        if o.radius is None:
            yield Finding(WARNING, o.name, "has no radius", f"say it with --object {o.name}:RADIUS (in Å)")
        elif o.radius < 15 or o.radius > 1000:
            yield Finding(WARNING, o.name, f"radius {o.radius:g} Å", "radii are in Å: is it in nm, voxels, a diameter?")


def _type_findings(types: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    kinds = Counter(t.partition("@")[0] for found in types.values() for t in set(found))
    if any(kinds):
        yield Finding(OK, "", f"tomogram types: {', '.join(f'{k} ({n} runs)' for k, n in kinds.most_common() if k)}")
    empty = [run for run, found in types.items() if not found]
    if empty:
        yield Finding(WARNING, "", f"no tomogram in {len(empty)} runs: {listing(empty)}", "they can only be scored")
    names = sorted(k for k in kinds if k)
    for i, name in enumerate(names):
        for close in get_close_matches(name, names[i + 1 :], n=1, cutoff=0.85):
            yield Finding(WARNING, "", f"tomogram types '{name}' and '{close}' look alike", "are they one type?")
        lacking = [run for run, found in types.items() if found and name not in {t.partition("@")[0] for t in found}]
        if lacking:
            yield Finding(WARNING, "", f"no '{name}' tomogram in {listing(lacking)}", "leave them out with --runs")


def _grid_findings(
    project: Project, run: str, types: Sequence[str], wanted: str | None, grids: dict[str, Grid]
) -> Iterator[Finding]:
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


def _spacing_findings(grids: Mapping[str, Grid]) -> Iterator[Finding]:
    spacings = np.array([g.voxel_spacing for g in grids.values()])
    low, high = float(spacings.min()), float(spacings.max())
    shapes = Counter(g.shape[::-1] for g in grids.values())
    size = " x ".join(map(str, shapes.most_common(1)[0][0]))
    others = f" and {len(shapes) - 1} other sizes" if len(shapes) > 1 else ""
    spacing = f"{low:.4g} Å" if high - low < 1e-6 * low else f"{low:.5g} to {high:.5g} Å"
    yield Finding(OK, "", f"voxel size {spacing}; {size} voxels (x, y, z){others}; the first voxel is centred at 0 Å")
    if high > (1 + SPACING_TOLERANCE) * low:
        yield Finding(
            WARNING, "", f"voxel sizes differ: {low:.4g} to {high:.4g} Å", "choose with --tomo-type TYPE@SPACING"
        )
    if high > 30 or low < 2:
        yield Finding(WARNING, "", f"voxel size {spacing}", "expected 5 to 20 Å: is the header right? --voxel-spacing")


def _picks_findings(
    project: Project, runs: Sequence[str], grids: Mapping[str, Grid], query: str | None
) -> Iterator[Finding]:
    objects = {o.name: o for o in project.objects}
    totals: Counter[str] = Counter()
    labelled = 0
    for run in runs:
        try:
            picks = project.picks(run, query)
        except TomopickError as error:
            yield Finding(WARNING if "several picks" in str(error) else ERROR, f"run {run}", str(error))
            continue
        if picks is None:
            continue
        labelled += 1
        totals.update(picks.names.tolist())
        yield from _run_picks_findings(picks, grids.get(run), objects)
    if not labelled:
        yield Finding(OK, "", "no picks: there is nothing to train on or to score against")
        return
    text = ", ".join(f"{totals[name]} {name}" for name in objects)
    yield Finding(OK, "", f"picks in {labelled} of {len(runs)} runs: {text}")
    for name, o in objects.items():
        if totals[name] < FEW:
            yield Finding(WARNING, name, f"only {totals[name]} picks", f"expected {FEW} or more to learn from")
        spacing = min((g.voxel_spacing for g in grids.values()), default=0.0)
        if o.radius and spacing and o.radius < COARSE * spacing:
            yield Finding(
                WARNING, name, f"radius {o.radius:g} Å is {o.radius / spacing:.1f} voxels", "use finer tomograms"
            )


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


def _voxel_findings(tomogram: Tomogram, project: Project, query: str | None) -> Iterator[Finding]:
    where = f"run {tomogram.run}"
    values = RobustNormalization()(tomogram)
    skew = skewness(values)
    low, high = float(tomogram.values.min()), float(tomogram.values.max())
    yield Finding(OK, where, f"grey values {low:.4g} to {high:.4g}, skewness {skew:+.2f}")
    try:
        picks = project.picks(tomogram.run, query) or Picks.empty(tomogram.run)
    except TomopickError:
        picks = Picks.empty(tomogram.run)  # said by the cheap part
    light = []
    for o in project.objects:
        positions = picks.of(o.name).positions
        if not len(positions) or not o.radius:
            continue
        contrast = contrast_at(values, tomogram.grid, positions, o.radius)
        light += [o.name] if contrast > 0.1 else []
        yield from _offset_findings(values, tomogram, positions, o)
    if light:
        text = f"{listing(light)} lighter than what is around them"
        yield Finding(WARNING, where, text, "expected dark particles: pick and train with --invert, or check the picks")
    elif not len(picks) and skew > 0.15:
        yield Finding(WARNING, where, "looks inverted: light particles on dark?", "if so, pick with --invert")


def _offset_findings(
    values: np.ndarray, tomogram: Tomogram, positions: np.ndarray, o: PickableObject
) -> Iterator[Finding]:
    found = displacement(values, tomogram.grid, positions, o.radius_angstrom)
    if found is None:
        return
    text = ", ".join(f"{v:+.2f}" for v in found.voxels)
    where = f"run {tomogram.run}, {o.name}"
    if found.significant:
        given = ",".join(f"{np.round(v * 2) / 2:g}" for v in found.voxels)
        yield Finding(
            WARNING, where, f"particles lie {text} voxels (z, y, x) from their {found.n} picks",
            f"--coordinate-offset {given} (czii is 0.5,0.5,0.5)",
        )  # fmt: skip
    else:
        yield Finding(OK, where, f"picks sit in the middle ({text} voxels z, y, x; {found.n} averaged)")


def _model_findings(
    project: Project, types: Mapping[str, Sequence[str]], grids: Mapping[str, Grid], detector: Any
) -> Iterator[Finding]:
    known, wanted = [o.name for o in detector.objects], [o.name for o in project.objects]
    facts = detector.facts
    yield Finding(
        OK, "model", f"finds {listing(known)} at {facts.voxel_spacing:.4g} Å in {'/'.join(facts.tomo_types) or 'any'}"
    )
    for name in wanted:
        other = object_alias(name, known)
        if name not in known and other in known:
            yield Finding(WARNING, name, f"is called '{other}' by the model", "rename it in the project")
        elif name not in known:
            yield Finding(WARNING, name, "is not known to the model", "it will not be picked")
    kinds = {t.partition("@")[0] for found in types.values() for t in found} - {""}
    if kinds and facts.tomo_types and not kinds & set(facts.tomo_types):
        same = [k for k in kinds if tomo_type_alias(k, facts.tomo_types) in facts.tomo_types]
        if not same:
            text = f"types {listing(sorted(kinds))} are none the model learned from ({listing(facts.tomo_types)})"
            yield Finding(WARNING, "model", text, "expect poorer picks")
    if grids:
        voxels = max(int(np.prod(g.shape)) * (g.voxel_spacing / facts.voxel_spacing) ** 3 for g in grids.values())
        yield Finding(
            OK, "model", f"picking the largest run takes about {3 * 4 * voxels / 2**30 + 1:.1f} GiB of memory"
        )


def _trial_findings(tomogram: Tomogram, detector: Any, timed: bool) -> Iterator[Finding]:
    values, grid = detector.prepare(tomogram)
    for text in detector.findings(tomogram, values):
        yield Finding(WARNING, f"run {tomogram.run}", text)
    if timed:
        predictor = detector.predictor()
        edges, starts = predictor.tiling.plan(grid.shape, predictor.multiple)
        began = time.perf_counter()
        predictor.tile(np.zeros(edges, dtype=np.float32))
        seconds = (time.perf_counter() - began) * len(starts[0]) * len(starts[1]) * len(starts[2])
        yield Finding(OK, f"run {tomogram.run}", f"picking takes about {max(1, round(seconds))} s here, without --tta")


def star_findings(path: Path) -> list[Finding]:
    """What a STAR file of another program holds, and what is needed to read it."""
    try:
        blocks = read_star(path)
        table = particle_block(blocks, path)
        sizes = optics_sizes(table, blocks.get("optics"), path)
    except TomopickError as error:
        return [Finding(ERROR, "", str(error))]
    name = next((c for c in NAMES if c in table), None)
    if name is None:
        return [Finding(ERROR, "", f"{path}: no rlnTomoName or rlnMicrographName", "say which tomogram each row is of")]
    tomograms = sorted(set(table[name].astype(str)))
    found = [Finding(OK, "", f"{len(table)} particles of {len(tomograms)} tomograms: {listing(tomograms)}")]
    if set(CENTRED) <= set(table):
        found.append(Finding(OK, "", "coordinates in Å from the middle of the tomogram (RELION 5)"))
    elif sizes is not None:
        found.append(Finding(OK, "", f"coordinates in pixels of {listing(sorted(set(sizes)))} Å (RELION 4)"))
    elif set(PIXELS) <= set(table):
        fix = "say it with --tilt-series-pixel-size or --tomograms-star"
        found.append(Finding(WARNING, "", "coordinates in pixels whose size the file does not say", fix))
    return found
