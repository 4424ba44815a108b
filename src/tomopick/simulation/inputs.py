"""What a user brings to a simulation: densities, templates, and the positions of a run that is to have a twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from ..core.errors import SelectionError
from ..core.types import PickableObject, Picks
from ..data import open_project
from ..data.labelled import labelled_picks
from .maps import DensityFile, templates
from .phantom import SpecimenSpec


def with_densities(
    spec: SpecimenSpec,
    objects: Sequence[PickableObject],
    densities: Sequence[str] = (),
    templates_folder: Path | None = None,
) -> tuple[SpecimenSpec, tuple[PickableObject, ...]]:
    """The specimen with densities from files, and the objects, to which those that were not among them are added.

    Every file is read once, so that one that cannot be read is told before anything is written.

    Args:
        spec: gets them.
        objects: known by now.
        densities: each "NAME=FILE[,radius=Å][,mass=kDa][,voxel=Å]"; it takes the place of a template of its name.
        templates_folder: see `maps.templates`.

    Raises:
        SelectionError: a density not of this form, or named twice.
        ReadError: a file or folder that cannot be read.
    """
    files = [DensityFile.parse(text) for text in densities]
    labelled, others = templates(templates_folder, objects) if templates_folder else ([], [])
    names = [file.name for file in files]
    for name in set(names):
        if names.count(name) > 1:
            raise SelectionError(
                f"`densities={name}`: given {names.count(name)} times; expected one file for an object"
            )
    chosen = {file.name: file for file in [*labelled, *files]}
    for file in [*chosen.values(), *others]:
        file.load()
    made = {thing.name: thing for thing in objects}
    for file in files:
        if file.name not in made:
            made[file.name] = file.object(max((thing.label for thing in made.values()), default=0) + 1)
        elif file.radius is not None:
            made[file.name] = replace(made[file.name], radius=file.radius)
    return replace(spec, maps=tuple(chosen.values()), distractor_maps=tuple(others)), tuple(made.values())


def twins(positions: str | Path, number: int | None = None) -> dict[str, Picks]:
    """Picks of a project's runs, by the name of the run that is to be their twin.

    Args:
        positions: a project, as `open_project` takes it.
        number: of runs; more than the project has go round again, as RUN-2, RUN-3 ..., whichever of these no run of
            the project is called; None: each once.

    Raises:
        ReadError: no project.
        SelectionError: it has no picks.
    """
    project = open_project(positions)
    every = {run: labelled_picks(project, run, None) for run in project.runs()}
    found = {run: picks for run, picks in every.items() if picks is not None and len(picks)}
    if not found:
        raise SelectionError(f"{positions}: no run has picks; expected the positions that particles are to take")
    runs, made = list(found), dict[str, Picks]()
    for i in range(len(runs) if number is None else number):
        again, run = i // len(runs), runs[i % len(runs)]
        numbered = (f"{run}-{k}" for k in count(again + 1))
        name = run if not again else next(n for n in numbered if n not in found and n not in made)
        made[name] = replace(found[run], run=name)
    return made
