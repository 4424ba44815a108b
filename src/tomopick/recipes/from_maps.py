"""A model from densities alone: simulated runs with the objects in them, to learn from and to measure thresholds on."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..core.errors import SelectionError
from ..core.messages import counted, listing
from ..core.presets import CZII_OBJECTS, CZII_VOXEL_SPACING
from ..core.types import Grid, Shape, Tomogram
from ..data.runs import Runs
from ..picking.normalize import RobustNormalization
from ..simulation.bodies import density_of
from ..simulation.density import Density
from ..simulation.maps import DensityFile
from ..simulation.phantom import REFERENCE_VOLUME
from ..simulation.projects import Draw, simulate_project
from ..simulation.run import VOXEL_SPACINGS
from ..training.augment import Blur, Noise, ScaleShift
from ..training.recipe import Recipe

log = logging.getLogger("tomopick")

_COPIES = (6.0, 40.0)  # of each object a run, before runs are crowded: from a few among others to a specimen of its own
_MASSES = 1.5  # times as heavy, and with `_SHARED` of the mass at the same distances from the centre, an object looks
_SHARED = 0.8  # in a tomogram like another
_SHELL = 5.0  # [Å] at which densities are compared, in shells of twice that
_MOST_SHELLS = 64
_BUILT_IN = {thing.name: thing for thing in CZII_OBJECTS}
_MEASURED = 3  # tomograms that are looked at, at most
_EDGE = 0.2  # of the way from empty ice to the specimen's middle: a layer is not flat, and its rim has fewer particles
# Wider than a recipe's own. Source: the shipped model, which learned from simulations alone and picks a real volume.
_INTENSITY = (ScaleShift(scale=0.6, shift=0.4, p=0.9), Blur(1.0, 0.25), Noise(0.5, 0.4))
_THICKEST = 160  # voxels of a simulated run along z, at most: memory and time


@dataclass(frozen=True)
class Looks:
    """What simulated runs share with a user's own.

    Attributes:
        voxel_spacing: [Å].
        thickness: of the specimen, from and to [Å]; None: as varied as the simulator has it.
        sections: of the tomograms; 0: as many as the specimen needs.
    """

    voxel_spacing: float = CZII_VOXEL_SPACING
    thickness: tuple[float, float] | None = None
    sections: int = 0

    @classmethod
    def of(cls, runs: Runs) -> Looks:
        """Measured on tomograms.

        Raises:
            SelectionError: there is none.
        """
        names = [run for run in runs.check() if runs.project.tomo_types(run)][:_MEASURED]
        if not names:
            raise SelectionError(f"{runs.uri}: no tomogram to simulate the like of")
        seen = [runs.tomogram(run) for run in names]
        thick = [thickness_of(tomogram) for tomogram in seen]
        spacing = float(np.median([t.grid.voxel_spacing for t in seen]))
        sections = max(t.grid.shape[0] for t in seen)
        near = float(np.clip(spacing, *VOXEL_SPACINGS))
        if near != spacing:
            log.info(f"{runs.uri}: voxels of {spacing:.4g} Å; runs are simulated at {near:g} Å, and picking resamples")
            sections, spacing = round(sections * spacing / near), near
        log.info(
            f"like {runs.uri}: voxels of {spacing:.4g} Å, {sections} sections, a specimen of {min(thick):.0f} to "
            f"{max(thick):.0f} Å"
        )
        return cls(spacing, (0.85 * min(thick), 1.15 * max(thick)), sections)


def for_other_volumes(recipe: Recipe) -> Recipe:
    """A recipe whose patches vary more in their grey values: what simulations teach is used on other volumes."""
    return replace(recipe, augment=replace(recipe.augment, intensity=_INTENSITY))


def thickness_of(tomogram: Tomogram) -> float:
    """How thick a specimen is [Å]: the sections in which grey values vary by more than a part of the way from ice."""
    values = RobustNormalization()(tomogram)
    kept = np.ones(values.shape, dtype=bool) if tomogram.void is None else ~tomogram.void
    spread = np.array([v[k].std() if k.any() else 0.0 for v, k in zip(values, kept)])
    spread = gaussian_filter1d(spread, 2.0)
    low, high = np.quantile(spread, (0.05, 0.95))
    if high < 1.15 * low:  # the specimen fills the volume
        return float(len(spread) * tomogram.grid.voxel_spacing)
    inside = np.flatnonzero(spread > low + _EDGE * (high - low))
    return float((inside[-1] - inside[0] + 1) * tomogram.grid.voxel_spacing)


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
    looks: Looks = Looks()
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
        SelectionError: not of this form.
        ReadError: a file that cannot be read, or holds no density.
        OutputError: `out` holds something else.
    """
    files = [_parsed(text) for text in maps]
    z, y, x = options.shape
    spacing = options.looks.voxel_spacing
    share = REFERENCE_VOLUME / (z * y * x * spacing**3)
    low, high = (min(n * share, 1e4) for n in _COPIES)
    settings = [f"voxel_spacing={spacing:.6f}"]
    settings += [f"specimen.copies.{file.name}={low:.1f},{high:.1f}" for file in files]
    alike = [name for name in _others(files) if any(_looks_alike(density_of(_BUILT_IN[name]), f.load()) for f in files)]
    settings += [f"specimen.copies.{name}=0,0" for name in alike]
    if alike:
        log.info(f"left out of the runs, for a tomogram hardly tells it from yours: {listing(alike)}")
    if options.looks.thickness:
        settings.append(f"specimen.thickness={options.looks.thickness[0]:.0f},{options.looks.thickness[1]:.0f}")
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
    name, equals, _ = text.partition(",")[0].partition("=")
    if not equals:
        stem = Path(text.partition(",")[0]).name.split(".")[0]
        name = re.sub(r'[_ <>:"/\\|?*]+', "-", stem).strip("-")
        text = f"{name}={text}"
    file = DensityFile.parse(text)
    file.load()
    return file


def _written(file: DensityFile) -> str:
    more = {"radius": file.radius, "mass": file.mass, "voxel": file.voxel_spacing}
    return ",".join([f"{file.name}={file.path}", *(f"{k}={v:g}" for k, v in more.items() if v)])
