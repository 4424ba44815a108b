"""Whole projects of simulated runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import OutputError, ReadError, SelectionError, TomopickError
from ..core.files import is_vacant
from ..core.messages import near_miss
from ..core.names import components
from ..core.presets import CZII_OBJECTS
from ..core.progress import bar
from ..core.records import RUNS, expect
from ..core.shards import Shard
from ..core.text import read_json
from ..core.types import PickableObject, Picks, Shape, Tomogram
from ..data import CopickProject, atomic_write, create_copick_project, write_run
from . import (
    SimulatedRun,
    SimulationSpec,
    SpecimenSpec,
    arrays_of,
    czii_spec,
    simulate,
    twins,
    with_densities,
    with_halves,
)
from .workers import Tell, results

log = logging.getLogger("tomopick")

USER_ID, SESSION_ID = "simulation", "0"
PRESETS: Mapping[str, Callable[..., SimulationSpec]] = {"czii": czii_spec, "varied": SimulationSpec}
DEFAULT_TYPES = ("wbp", "ctfdeconvolved", "denoised")

Draw = Callable[[Sequence[Tomogram], Picks, Sequence[PickableObject], Path], None]


@dataclass(frozen=True)
class _Job:
    """One run; what a worker process is given."""

    spec: SimulationSpec
    objects: tuple[PickableObject, ...]
    run: str
    seed: int
    device: str
    workers: int
    twin: Picks | None = None

    def __call__(self, tell: Tell) -> SimulatedRun:
        return simulate(
            self.spec, self.objects, run=self.run, seed=self.seed, arrays=arrays_of(self.device, self.workers),
            twin=self.twin, stage=lambda name: tell(f"{self.run}: {name}"),
        )  # fmt: skip


def spec_of(preset: str, shape: Shape, tomo_types: tuple[str, ...]) -> SimulationSpec:
    """`czii`: runs like the challenge's; `varied`: much varied from run to run, to train on.

    Raises:
        SelectionError: no such preset.
    """
    if preset not in PRESETS:
        raise SelectionError(f"no preset '{preset}' to simulate; {near_miss(preset, PRESETS)}")
    return PRESETS[preset](shape, tomo_types=tomo_types)


def simulate_project(
    out: Path,
    shape: Shape,
    *,
    runs: int = 1,
    seed: int = 0,
    tomo_types: tuple[str, ...] = DEFAULT_TYPES,
    halves: bool = False,
    preset: str = "czii",
    vary: float = 1.0,
    settings: Sequence[str] = (),
    device: str = "cpu",
    workers: int = 1,
    densities: Sequence[str] = (),
    templates: Path | None = None,
    positions: str | Path | None = None,
    shard: Shard | None = None,
    draw: Draw | None = None,
) -> list[str]:
    """Writes a copick project of simulated runs with their truth; returns the runs' names.

    Repeated with the same arguments (or more runs), only the missing runs are made. The values of a run depend on its
    name, the seed, the specification and the kind of device alone, not on `workers`.

    Args:
        out: folder of the project.
        shape: of the tomograms (z, y, x).
        runs, seed: how many; the same seed gives the same.
        tomo_types: of `simulate.TOMO_TYPES`.
        halves: whether tomograms of the even and of the odd tilts are made as well.
        preset, vary: its name, and how much of its ranges is used, 0 (their middles) to 1.
        settings: `section.field=value`, applied last.
        device, workers: `cpu`, `cuda` or `cuda:N`; how many processes.
        densities: of objects, each "NAME=FILE[,radius=Å][,mass=kDa][,voxel=Å]"; new names are new objects.
        templates: a folder of maps named after their PDB entries: the objects' own, and unlabelled distractors.
        shard: the part of the runs that is made here; None: all.
        positions: a project; each run has its particles where one of that project has its picks, and its name.
        draw: writes the picture of a run, its last argument, such as `look.simulated.draw_simulated`.

    Raises:
        OutputError: `out` holds something else, or was made with other arguments.
        TomopickError: a setting that does not fit, no such device, or a volume too small for the objects.
    """
    _refuse_other(out)
    spec = spec_of(preset, shape, with_halves(tomo_types) if halves else tomo_types).varied(vary).override(settings)
    specimen, objects = with_densities(spec.specimen, CZII_OBJECTS, densities, templates)
    spec = replace(spec, specimen=_of_known(specimen, objects))
    arrays_of(device)
    facts = {"preset": preset, "vary": vary, "settings": list(settings), "seed": seed, "positions": positions}
    facts |= {"device": device.partition(":")[0], "tilt_axis": "y", "spec": asdict(spec), "files": _digests(specimen)}
    followed = {} if positions is None else twins(positions, runs)
    names = components(list(followed) or [f"SIM_{i:03d}" for i in range(runs)], "run")
    project = _project(out, objects, json.loads(json.dumps(facts, default=str)))
    expect(out / "runs", names)
    names = names if shard is None else shard.part(names)
    missing = sorted(set(names) - set(project.runs()))
    jobs = [_Job(spec, objects, name, seed, device, min(workers, len(missing)), followed.get(name)) for name in missing]
    _make(jobs, workers, project, out, draw, alone=shard is None)
    return names


def _digests(specimen: SpecimenSpec) -> dict[str, str]:
    """SHA-256 of each file of a density, by its path."""
    paths = [Path(os.path.expanduser(file.path)) for file in (*specimen.maps, *specimen.distractor_maps)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _of_known(specimen: SpecimenSpec, objects: Sequence[PickableObject]) -> SpecimenSpec:
    """The specimen itself, which says how many there are of `objects` alone."""
    names = [thing.name for thing in objects]
    for name, _ in specimen.copies:
        if name not in names:
            raise SelectionError(f"specimen.copies.{name}: no such object is simulated; {near_miss(name, names)}")
    return specimen


def _make(
    jobs: Sequence[_Job], workers: int, project: CopickProject, out: Path, draw: Draw | None, alone: bool
) -> None:
    """Makes the runs; where that fails and nobody else is at work there, a project without runs is taken back."""
    try:
        with bar(len(jobs), "simulate", "run") as shown:
            for made in results(jobs, workers, shown.set_postfix_str):
                for warning in made.facts["warnings"]:
                    log.warning(warning)
                _write(project, out, made, jobs[0].objects, draw)
                shown.update(1)
    except TomopickError:
        if alone:
            _take_back(out)
        raise


def _write(
    project: CopickProject, out: Path, made: SimulatedRun, objects: Sequence[PickableObject], draw: Draw | None
) -> None:
    """The run last: once it is there, it is not made again."""
    name, tomograms = made.facts["run"], list(made.tomograms.values())
    with atomic_write(out / "runs" / f"{name}.json") as file:
        file.write(json.dumps(made.facts, indent=1))
    if draw is not None:
        draw(tomograms, made.picks, objects, out / "pictures" / f"{name}.png")
    try:
        write_run(project, tomograms, made.picks, USER_ID, SESSION_ID)
    except OutputError:
        if not (out / "ExperimentRuns" / name).is_dir():
            raise
        log.warning("%s: was made by another process in the meantime; the same values, so they are left", name)


def _take_back(out: Path) -> None:
    """Removes a project that has got no run, so that other arguments may be tried in the same place."""
    if any((out / "ExperimentRuns").iterdir()):
        return
    for name in ("simulation.json", "copick.json"):
        (out / name).unlink(missing_ok=True)
    for path in (*out.glob("runs/*.json"), *out.glob(f"runs/{RUNS}"), *out.glob("pictures/*.png")):
        path.unlink()
    for folder in (out / "ExperimentRuns", out / "runs", out / "pictures", out):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _refuse_other(out: Path) -> None:
    """Raises `OutputError` where `out` is anything but a simulation; at once, for reading densities takes a while."""
    if not (out / "simulation.json").is_file() and not is_vacant(out):
        raise OutputError(f"{out}: holds something else; expected a new or empty folder")


def _project(out: Path, objects: Sequence[PickableObject], facts: dict[str, Any]) -> CopickProject:
    record = out / "simulation.json"
    if record.is_file():
        _require_same(record, facts)
    else:
        with atomic_write(record) as file:
            file.write(json.dumps(facts, indent=1))
    # Several processes may begin at once, each with a part of the runs; they write the same.
    config = out / "copick.json"
    if not config.is_file():
        try:
            return create_copick_project(out, objects, "simulation by tomopick")
        except OutputError:
            if not config.is_file():
                raise
    (out / "ExperimentRuns").mkdir(exist_ok=True)  # one may have been cut off before it
    return CopickProject(config)


def _require_same(record: Path, facts: dict[str, Any]) -> None:
    try:
        before = read_json(record, "the record of a simulation")
    except ReadError as error:
        raise OutputError(f"{error}; simulate into a new folder") from None
    before = {"files": facts["files"]} | (before if isinstance(before, dict) else {})  # older ones do not say
    if not isinstance(before["files"], dict):
        raise OutputError(f"{record}: its 'files' are no table; simulate into a new folder")
    changed = [path for path, digest in facts["files"].items() if before["files"].get(path, digest) != digest]
    if changed:
        raise OutputError(
            f"{changed[0]}: has changed since {record.parent} was simulated with it; put the file back, or simulate "
            "into a new folder"
        )
    if before != facts:
        other = [name for name in facts if before.get(name) != facts[name]]
        names = [name for name in other if name != "spec"] or other or ["what this version does not know"]
        raise OutputError(
            f"{record.parent}: was simulated with other arguments ({', '.join(names)}); repeat it with the same, or "
            "simulate into a new folder"
        )
