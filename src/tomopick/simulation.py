"""Whole projects of simulated runs."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .errors import OutputError, SelectionError, TomopickError
from .io import CopickProject, atomic_write, create_copick_project, write_run
from .io.select import near_miss
from .presets import CZII_OBJECTS
from .progress import bar
from .show import draw_sections
from .simulate import SimulationSpec, czii_spec, simulate_run
from .types import Grid, Picks, Shape, Tomogram

USER_ID, SESSION_ID = "simulation", "0"
PRESETS: Mapping[str, Callable[..., SimulationSpec]] = {"czii": czii_spec, "varied": SimulationSpec}


@dataclass(frozen=True)
class _Job:
    """One run; what a worker process is given."""

    spec: SimulationSpec
    run: str
    seed: int

    def __call__(self) -> tuple[dict[str, Tomogram], Picks]:
        return simulate_run(self.spec, CZII_OBJECTS, run=self.run, seed=self.seed)


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
    tomo_types: tuple[str, ...] = ("denoised",),
    preset: str = "czii",
    workers: int = 1,
) -> list[str]:
    """Writes a copick project of simulated runs with their truth and a picture of each; returns the runs' names.

    Repeated with the same arguments (or more runs), only the missing runs are made. The values of a run depend on its
    name, the seed and the specification alone, not on `workers`.

    Raises:
        OutputError: `out` holds something else, or was made with other arguments.
        TomopickError: the volume is too small for the objects.
    """
    spec = spec_of(preset, shape, tomo_types)
    facts = json.loads(json.dumps({"preset": preset, "seed": seed, "spec": asdict(spec)}, default=str))
    Grid(shape, spec.voxel_spacing)  # says so where the shape is none
    project = _project(out, facts)
    names = [f"SIM_{i:03d}" for i in range(runs)]
    missing = [name for name in names if name not in project.runs()]
    try:
        (out / "pictures").mkdir(exist_ok=True)
        with bar(len(missing), "simulate", "run") as shown:
            for tomograms, picks in _results([_Job(spec, name, seed) for name in missing], workers):
                write_run(project, list(tomograms.values()), picks, USER_ID, SESSION_ID)
                first = next(iter(tomograms.values()))
                picture = out / "pictures" / f"{first.run}.png"
                draw_sections(first, picks, CZII_OBJECTS, picture, title=f"{first.run}, {first.tomo_type}")
                shown.update(1)
    except TomopickError:
        _take_back(out)
        raise
    return names


def _take_back(out: Path) -> None:
    """Removes a project that has got no run, so that other arguments may be tried in the same place."""
    folders = [out / "ExperimentRuns", out / "pictures", out]
    if any((out / "ExperimentRuns").iterdir()):
        return
    for name in ("simulation.json", "copick.json"):
        (out / name).unlink(missing_ok=True)
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _project(out: Path, facts: dict[str, Any]) -> CopickProject:
    record = out / "simulation.json"
    if record.is_file():
        if json.loads(record.read_text()) != facts:
            raise OutputError(f"{out}: was simulated with other arguments; expected a new folder")
        if (out / "copick.json").is_file() and (out / "ExperimentRuns").is_dir():
            return CopickProject(out / "copick.json")
        (out / "copick.json").unlink(missing_ok=True)  # cut off while the project was made
    elif out.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: holds something else; expected a new or empty folder")
    else:
        with atomic_write(record) as file:
            file.write(json.dumps(facts, indent=1))
    return create_copick_project(out, CZII_OBJECTS, "simulation by tomopick")


def _results(jobs: Sequence[_Job], workers: int) -> Iterator[tuple[dict[str, Tomogram], Picks]]:
    """What the jobs give, in their order; a volume is large, so no more are begun than are soon written."""
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job()
        return
    # spawn: forking a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        begun: deque[Future[tuple[dict[str, Tomogram], Picks]]] = deque()
        for job in jobs:
            begun.append(pool.submit(job))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
