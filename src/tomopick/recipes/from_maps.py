"""A model from densities alone: simulated runs with the objects in them, to learn from and to measure thresholds on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core.errors import ReadError, SelectionError
from ..core.messages import counted, listing
from ..core.presets import CZII_OBJECTS
from ..core.types import Grid, Shape
from ..simulation.bodies import density_of
from ..simulation.density import Density, has_room
from ..simulation.maps import DensityFile
from ..simulation.phantom import REFERENCE_VOLUME
from ..simulation.projects import Draw, simulate_project
from ..training.augment import Blur, Noise, ScaleShift
from ..training.recipe import Recipe
from .looks import Looks

log = logging.getLogger("tomopick")

_COPIES = (6.0, 40.0)  # of each object a run, before runs are crowded: from a few among others to a specimen of its own
_DOMINANCE = 0.5  # of the runs have little else than one of the objects, as a purified specimen has
_MASSES = 1.5  # times as heavy, and with `_SHARED` of the mass at the same distances from the centre, an object looks
_SHARED = 0.8  # in a tomogram like another
_SHELL = 5.0  # [Å] at which densities are compared, in shells of twice that
_MOST_SHELLS = 64
_BUILT_IN = {thing.name: thing for thing in CZII_OBJECTS}
# Wider than a recipe's own. Source: the shipped model, which learned from simulations alone and picks a real volume.
_INTENSITY = (ScaleShift(scale=0.6, shift=0.4, p=0.9), Blur(1.0, 0.25), Noise(0.5, 0.4))
_THICKEST = 160  # voxels of a simulated run along z, at most: memory and time


def for_other_volumes(recipe: Recipe) -> Recipe:
    """A recipe whose patches vary more in their grey values: what simulations teach is used on other volumes."""
    return replace(recipe, augment=replace(recipe.augment, intensity=_INTENSITY))


@dataclass(frozen=True)
class MapOptions:
    """How runs are made of densities.

    Attributes:
        runs: how many; a fifth of them validate.
        across: their size in y and x [voxels].
        tomo_type: of `simulation.TOMO_TYPES`.
        looks: of the runs.
        seed: of the runs.
        device, workers: see `simulate_project`.
        draw: see `simulate_project`.
    """

    runs: int = 10
    across: int = 192
    tomo_type: str = "denoised"
    looks: Looks = field(default_factory=Looks)
    seed: int = 0
    device: str = "cpu"
    workers: int = 1
    draw: Draw | None = None

    @property
    def shape(self) -> Shape:
        """Of a run (z, y, x)."""
        thick = self.looks.thickness[1] if self.looks.thickness else 900.0
        sections = self.looks.sections or round(thick / self.looks.voxel_spacing)
        return min(max(8 * -(-sections // 8), 48), _THICKEST), self.across, self.across


def simulated_with(maps: Sequence[str], out: Path, options: MapOptions) -> tuple[Path, tuple[str, ...]]:
    """Simulates runs with the objects of maps among others; gives the project's configuration and the objects' names.

    Args:
        maps: each "[NAME=]FILE[,radius=Å][,mass=kDa][,voxel=Å]", a map or an atomic model; a name may be the file's.
        out: folder of the project; what is there already of the same is not made again.
        options: how.

    Raises:
        SelectionError: not of this form, or two of one name.
        ReadError: a file that cannot be read, or holds no density, or one that does not fit into the runs.
        OutputError: `out` holds something else.
    """
    files = [_parsed(text) for text in maps]
    twice = next((file.name for i, file in enumerate(files) if file.name in [f.name for f in files[:i]]), None)
    if twice:
        raise SelectionError(f"`maps={twice}`: given twice; expected one file for an object: name them apart")
    z, y, x = options.shape
    spacing = options.looks.voxel_spacing
    _require_fit(files, options)
    share = REFERENCE_VOLUME / (z * y * x * spacing**3)
    low, high = (min(n * share, 1e4) for n in _COPIES)
    settings = options.looks.settings()
    settings += [f"specimen.copies.{file.name}={low:.1f},{high:.1f}" for file in files]
    settings += [f"specimen.dominance={_DOMINANCE:g}", f"specimen.dominant={','.join(file.name for file in files)}"]
    if options.looks.thickness:  # such runs are as thick as the others
        breadth = 2 * sum(file.object(1).radius_angstrom or 0.0 for file in files) / len(files)
        layers = (max(1.0, thick / breadth) for thick in options.looks.thickness)
        settings.append("specimen.dominant_layers=" + ",".join(f"{n:.2f}" for n in layers))
    alike = [name for name in _others(files) if any(_looks_alike(density_of(_BUILT_IN[name]), f.load()) for f in files)]
    settings += [f"specimen.copies.{name}=0,0" for name in alike]
    if alike:
        log.info(f"left out of the runs, for a tomogram hardly tells it from yours: {listing(alike)}")
    for file in files:
        whose = "as given" if file.mass else "as its density or its name implies"
        radius = file.object(1).radius_angstrom
        log.info(f"{file.name}: {file.load().mass:.0f} kDa, {whose}; radius {radius:g} Å; from {file.path}")
    simulate_project(
        out, options.shape, runs=options.runs, seed=options.seed, tomo_types=(options.tomo_type,), preset="varied",
        settings=settings, device=options.device, workers=options.workers, draw=options.draw,
        densities=[_written(file) for file in files],
    )  # fmt: skip
    log.info(f"{counted(options.runs, 'simulated run')} with {listing(f.name for f in files)} in {out}")
    return out / "copick.json", tuple(file.name for file in files)


def _require_fit(files: Sequence[DensityFile], options: MapOptions) -> None:
    """Raises `ReadError` for a density that is too large for the runs, before it is compared with anything."""
    grid = Grid(options.shape, options.looks.voxel_spacing)
    for file in files:
        if not has_room(file.load(), grid):
            raise ReadError(
                f"{file.path}: its density is {2 * file.load().radius:.0f} Å across and does not fit into the "
                f"simulated runs, of {min(grid.shape) * grid.voxel_spacing:.0f} Å; expected a smaller one: check its "
                "voxel size"
            )


def _others(files: Sequence[DensityFile]) -> list[str]:
    """The objects that are in simulated runs besides those of the maps."""
    return [name for name in _BUILT_IN if name not in {file.name for file in files}]


def _looks_alike(one: Density, other: Density) -> bool:
    """Whether tomograms hardly tell two densities apart: what is true of the one would be taught to be wrong."""
    (mass, near), (its, far) = _shells(one), _shells(other)
    return 1 / _MASSES < mass / its < _MASSES and float(np.minimum(near, far).sum()) >= _SHARED


def _shells(density: Density) -> tuple[float, np.ndarray]:
    """The integral of a density [V Å^3], and which parts of it lie how far from its centre."""
    side = 2 * math.ceil(density.radius / _SHELL) + 3
    grid = Grid((side, side, side), _SHELL, (-(side // 2) * _SHELL,) * 3)
    start, box = density.sample(np.eye(3), np.zeros(3), grid)
    axes = [np.square(first + np.arange(n) - side // 2) for first, n in zip(start, box.shape)]
    away = np.sqrt(axes[0][:, None, None] + axes[1][:, None] + axes[2]) / 2
    parts = np.bincount(away.astype(int).ravel(), np.maximum(box, 0).ravel(), _MOST_SHELLS)[:_MOST_SHELLS]
    return float(parts.sum() * _SHELL**3), parts / parts.sum()


def _parsed(text: str) -> DensityFile:
    file = DensityFile.parse(text, "maps")
    file.load("maps")
    return file


def _written(file: DensityFile) -> str:
    more = {"radius": file.radius, "mass": file.mass, "voxel": file.voxel_spacing}
    return ",".join([f"{file.name}={file.path}", *(f"{k}={v:g}" for k, v in more.items() if v)])
