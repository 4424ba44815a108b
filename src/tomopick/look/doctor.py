"""What a project holds and what was assumed about it: the mistake is to be found before the hours are spent.

`cheap_findings` reads headers and picks alone; `findings` reads the voxels of a few runs, and tries the model on one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import TomopickError
from ..core.messages import counted, listing, near_miss, said_of
from ..core.types import Grid, Picks
from ..data import CopickProject, FolderProject, KaggleProject, Project
from ..data.formats.counted import columns, counted_in
from ..data.formats.particles import M_NAME, normalised, score_column
from ..data.formats.star import CENTRED, LIST_FILE, NAMES, PIXELS, particle_block
from ..data.formats.star_text import read_documents
from ..data.names import object_alias, tomo_type_alias
from ..data.plausible import unlikely
from ..data.runs import Runs
from ..data.sources.folder import tables_in
from ..data.tables import is_picks_csv
from ..data.volumes.volumes import MRC_SUFFIXES, volume_run
from ..picking.normalize import RobustNormalization
from ..picking.unpicked import unpicked
from ..scoring.radii import radius_doubts
from .checks import (
    ERROR,
    OK,
    WARNING,
    Finding,
    grid_findings,
    header_findings,
    object_findings,
    part_findings,
    picks_findings,
    spacing_findings,
    type_findings,
)
from .voxels import light_findings, seen_part, trial_findings, voxel_findings

log = logging.getLogger("tomopick")

_KINDS = {CopickProject: "copick project", KaggleProject: "CZII challenge as Kaggle has it", FolderProject: "folder"}

_MOST_RUNS = 200  # whose picks are looked at for their contrast
LOOKED_AT = 20  # runs whose headers are looked over before a batch is picked


@dataclass(frozen=True)
class Checkup:
    """What is looked at.

    Attributes:
        examine: how many runs have all their voxels read; of others a few sections, for the contrast at picks.
        truth: whether the picks are looked at (who is about to pick has no need of them).
        all_labelled: nothing is said where picks fill only a part of their run.
        only: the objects that matter; None: all of the project.
        crowding: whether picks that lie too close together are told of (a training tells of them itself).
    """

    examine: int = 2
    truth: bool = True
    all_labelled: bool = False
    only: tuple[str, ...] | None = None
    crowding: bool = True


def cheap_findings(of: Runs | Project, checkup: Checkup = Checkup(), detector: Any = None) -> list[Finding]:
    """Everything that can be said without reading voxels; of runs of no one type of tomogram, about all types.

    Raises:
        SelectionError: a run that is not there.
    """
    return _from_headers(Runs.of(of), checkup, detector)[0]


def _from_headers(of: Runs, checkup: Checkup, detector: Any) -> tuple[list[Finding], dict[str, Grid], list[Picks]]:
    """What headers and picks say; the grids, and the picks of runs that nobody said to be labelled in a part."""
    project, runs = of.project, of.check()
    kind = next((text for cls, text in _KINDS.items() if isinstance(project, cls)), "project")
    found = [Finding(OK, "", f"{kind} with {counted(len(runs), 'run')}: {listing(runs)}")]
    if checkup.truth:
        brought = detector is not None and not project.objects  # by the model
        found += [*(() if brought else object_findings(project.objects)), *_stray_tables(project)]
    types = _types(project, runs, found)
    found += type_findings(types)
    found += header_findings(_mrc_files(project))
    grids: dict[str, Grid] = {}
    whole: list[Picks] = []
    for run in types:
        found += grid_findings(project, run, types[run], of.tomo_type, grids)
    if grids:
        found += spacing_findings(grids)
    if checkup.truth:
        near = _distances(detector)
        found += picks_findings(project, runs, grids, of.picks, near, checkup.only, checkup.crowding)
        found += part_findings(of, runs, grids, whole)
    if detector is not None:
        found += _model_findings(project, types, grids, detector)
    return found, grids, whole


def _distances(detector: Any) -> dict[str, float] | None:
    """By object, how far apart a model's picks are at least [Å]."""
    if detector is None:
        return None
    from ..picking.peaks import distances_of

    return distances_of(detector.peaks, detector.objects)


def before_picking(runs: Runs, model: Any) -> list[Finding]:
    """What is to be known before a batch is picked, from the headers of its first runs."""
    looked_at = replace(runs, names=runs.check()[:LOOKED_AT])
    return _warnings(looked_at, Checkup(truth=False), model)


def before_training(runs: Runs, objects: Sequence[str] | None = None) -> list[Finding]:
    """What is to be known before hours are spent on these runs, and is not said by the training itself.

    Args:
        runs: to learn from.
        objects: that are learned, as names or "name:radius"; None: all.
    """
    only = None if objects is None else tuple(name.partition(":")[0] for name in objects)
    return _warnings(runs, Checkup(only=only, crowding=False))


def warn(found: Sequence[Finding]) -> None:
    """Tells the findings as warnings."""
    for finding in found:
        log.warning(finding.said())


def _warnings(runs: Runs, checkup: Checkup, model: Any = None) -> list[Finding]:
    """What is plainly wrong is refused by whoever picks or trains, with words of its own."""
    return [f for f in cheap_findings(runs, checkup, model) if f.level == WARNING]


def findings(of: Runs | Project, checkup: Checkup = Checkup(), detector: Any = None) -> list[Finding]:
    """`cheap_findings`, and what the voxels of a few runs say."""
    of = Runs.of(of)
    found, grids, whole = _from_headers(of, checkup, detector)
    if checkup.truth and not checkup.all_labelled:
        found += _asked(of, grids, whole)
    able = {run: types for run, types in _types(of.project, of.check(), []).items() if types}
    if checkup.truth:
        others = {run: of.tomo_type or types[0] for run, types in list(able.items())[checkup.examine : _MOST_RUNS]}
        found += light_findings(of.project, others, of.picks)
    for i, (run, types) in enumerate(list(able.items())[: checkup.examine]):
        try:
            seen = seen_part(of.project, run, of.tomo_type or types[0])
            found += voxel_findings(seen, of.project, of.picks)
            if detector is not None:
                found += trial_findings(seen, detector, i == 0)
        except TomopickError as error:
            found.append(Finding(ERROR, f"run {run}", str(error)))
    return found


def _asked(of: Runs, grids: Mapping[str, Grid], whole: Sequence[Picks]) -> list[Finding]:
    """Whether runs are labelled only where their picks are; not asked of picks in another unit than Å."""
    if unlikely({p.run: p for p in whole}, grids) is not None:
        return []
    whole = [p for p in whole if unlikely({p.run: p}, grids) is None]

    def seen(run: str) -> tuple[np.ndarray, np.ndarray | None]:
        tomogram = of.tomogram(run)
        return RobustNormalization()(tomogram), tomogram.void

    try:
        return [Finding(WARNING, "", line) for line in unpicked(whole, grids, of.project.objects, seen)]
    except TomopickError as error:
        return [Finding(ERROR, "", str(error))]


def _mrc_files(project: Project) -> list[Path]:
    """The MRC volumes of a folder, as many as show what they are like."""
    place = Path(project.uri)
    if not isinstance(project, FolderProject):
        return []
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    volumes = [p for p in files if volume_run(p) is not None and p.suffix.lower() in MRC_SUFFIXES]
    return volumes[:20]


def _stray_tables(project: Project) -> list[Finding]:
    """Tables of picks in a folder of tomograms that belong to none of them by their name."""
    place = Path(project.uri)
    if not isinstance(project, FolderProject) or not place.is_dir():
        return []
    runs = {run for path in place.iterdir() if (run := volume_run(path)) is not None}
    taken = {project.table(run) for run in runs}
    tables = [p for p in tables_in(place) if runs and p not in taken and is_picks_csv(p)]
    return [
        Finding(WARNING, "", f"{p.name} belongs to no tomogram, for they are matched by name", near_miss(p.stem, runs))
        for p in tables
    ]


def _types(project: Project, runs: Sequence[str], found: list[Finding]) -> dict[str, list[str]]:
    """The tomograms of each run; a run whose cannot be listed is left out, and said in `found`."""
    types = {}
    for run in runs:
        try:
            types[run] = project.tomo_types(run)
        except TomopickError as error:
            found.append(Finding(ERROR, f"run {run}", str(error)))
    return types


def report(found: Sequence[Finding]) -> str:
    """All lines, and the count of errors and warnings."""
    count = Counter(f.level for f in found)
    wrong = f"{counted(count[ERROR], 'error')}, {counted(count[WARNING], 'warning')}"
    return "\n".join([*(f.line() for f in found), wrong])


def has_errors(found: Sequence[Finding]) -> bool:
    """Whether any finding is an error."""
    return any(f.level == ERROR for f in found)


def _model_findings(
    project: Project, types: Mapping[str, Sequence[str]], grids: Mapping[str, Grid], detector: Any
) -> Iterator[Finding]:
    known, wanted = [o.name for o in detector.objects], [o.name for o in project.objects]
    facts = detector.facts
    yield Finding(
        OK, "model", f"finds {listing(known)} at {facts.voxel_spacing:.4g} Å in {'/'.join(facts.tomo_types) or 'any'}"
    )
    for line in radius_doubts(project.objects, detector.objects):
        yield Finding(WARNING, "model", line)
    strange = [name for name in wanted if name not in known and object_alias(name, known) not in known]
    if strange:
        text = said_of(strange, "is not known to the model and", "are not known to the model and")
        yield Finding(WARNING, "", f"{text} will not be picked")
    for name in wanted:
        other = object_alias(name, known)
        if name not in known and other in known:
            yield Finding(WARNING, name, f"is called '{other}' by the model", "rename it in the project")
    kinds = {t.partition("@")[0] for found in types.values() for t in found} - {""}
    if kinds and facts.tomo_types and not kinds & set(facts.tomo_types):
        same = [k for k in kinds if tomo_type_alias(k, facts.tomo_types) in facts.tomo_types]
        if not same:
            text = f"types {listing(sorted(kinds))} are none the model learned from ({listing(facts.tomo_types)})"
            yield Finding(WARNING, "model", text, "expect poorer picks")
    if grids:
        from ..picking.footprint import picking_bytes

        # Most voxels to read, or most once they are of the model's size.
        sizes = (lambda g: np.prod(g.shape), lambda g: np.prod(g.shape) * g.voxel_spacing**3)
        most = max(picking_bytes(detector.detectors, max(grids.values(), key=size)) for size in sizes)
        yield Finding(OK, "model", f"picking the largest run takes about {most / 2**30:.1f} GiB of memory")


def star_findings(path: Path) -> list[Finding]:
    """What a STAR file of another program holds, and what is needed to read it."""
    try:
        documents = read_documents(path)
        found = [f for blocks in documents for f in _table_findings(path, blocks)]
    except TomopickError as error:
        return [Finding(ERROR, "", str(error))]
    if len(documents) > 1:
        text = f"{len(documents)} STAR files that were joined into one; each is read with its own optics"
        found.insert(0, Finding(OK, "", text))
    return found


def _table_findings(path: Path, blocks: Mapping[str, Any]) -> Iterator[Finding]:
    listed = next((b for b in blocks.values() if LIST_FILE in b), None)
    if listed is not None:
        yield Finding(OK, "", f"a list of {counted(len(listed), 'file')} of coordinates (RELION's import)")
        return
    m = next((b for b in blocks.values() if M_NAME in b), None)
    table = particle_block(blocks, path) if m is None else m
    name = M_NAME if m is not None else next((c for c in NAMES if c in table), None)
    if name is None:
        text = f"{path}: no rlnTomoName or rlnMicrographName"
        yield Finding(ERROR, "", text, "say which tomogram each row is of")
        return
    tomograms = sorted(set(table[name].astype(str)))
    text = f"{counted(len(table), 'particle')} of {counted(len(tomograms), 'tomogram')}"
    yield Finding(OK, "", f"{text}: {listing(tomograms)}" if tomograms else text)
    score = score_column(table)
    yield Finding(OK, "", f"scores: {score}" if score else "no scores")
    if m is not None:
        yield Finding(OK, "", "coordinates in Å from the first voxel (M)")
        return
    if set(CENTRED) <= set(table):
        columns(table, CENTRED, path)
        yield Finding(OK, "", "coordinates in Å from the middle of the tomogram (RELION 5)")
        return
    unit = counted_in(table, blocks.get("optics"), path)
    if normalised(columns(table, PIXELS, path)):
        yield Finding(OK, "", "coordinates are parts of the tomogram's size, 0..1 (Warp)")
    elif unit is not None:
        yield Finding(OK, "", f"coordinates in pixels of {unit.text()}")
        if unit.doubt:
            yield Finding(WARNING, "", unit.doubt, "which is right? say it with `pixel_size`")
    elif name == "rlnMicrographName":
        text = "coordinates in pixels whose size the file does not say; they are taken for the tomogram's own voxels"
        yield Finding(WARNING, "", text, "if they are others, say it with `pixel_size`")
    else:
        fix = "say it with `pixel_size` or `tomograms_star`"
        yield Finding(WARNING, "", "coordinates in pixels whose size the file does not say", fix)
