"""A whole run: specimen, tilt series, tomograms and truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np

from ..errors import TomopickError
from ..presets import CZII_VOXEL_SPACING
from ..types import Grid, PickableObject, Picks, Shape, Tomogram
from .bodies import density_of
from .density import Density
from .microscope import MicroscopeSpec
from .phantom import SpecimenSpec
from .restore import RestorationSpec

TOMO_TYPES = ("wbp", "ctfdeconvolved", "denoised")


@dataclass(frozen=True)
class SimulationSpec:
    """Everything that decides a run. The defaults vary much from run to run: they are for training.

    Attributes:
        shape: of the tomograms (z, y, x) [voxels].
        voxel_spacing: [Å].
        tomo_types: of `TOMO_TYPES`, all made from the same tilt series.
        specimen: what is in the ice.
        microscope: how it is seen.
        restoration: what becomes of the images.
    """

    shape: Shape
    voxel_spacing: float = CZII_VOXEL_SPACING
    tomo_types: tuple[str, ...] = ("denoised",)
    specimen: SpecimenSpec = field(default_factory=SpecimenSpec)
    microscope: MicroscopeSpec = field(default_factory=MicroscopeSpec)
    restoration: RestorationSpec = field(default_factory=RestorationSpec)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.tomo_types if kind not in TOMO_TYPES]
        if unknown or not self.tomo_types:
            raise TomopickError(f"no tomogram type {unknown} can be simulated; choose from {', '.join(TOMO_TYPES)}")


def czii_spec(shape: Shape = (184, 630, 630), *, tomo_types: tuple[str, ...] = ("denoised",)) -> SimulationSpec:
    """Runs like those of the CZII challenge: its objects in its numbers, in ice of 1200 to 1800 Å."""
    specimen = SpecimenSpec(
        thickness=(1200.0, 1800.0),
        crowding=(0.9, 1.1),
        dominance=0.0,
        distractors=(30.0, 120.0),
        background=(1.0, 5.0),
        contrast=(0.9, 1.1),
    )
    microscope = MicroscopeSpec(
        tilt_loss=(0.0, 6.0), magnification=(0.99, 1.01), defocus=(25_000.0, 45_000.0), dose=(110.0, 130.0)
    )
    restoration = RestorationSpec(
        log_snr=(1.0, 2.2),
        falloff=(0.006, 0.02),
        tilt_weight=(0.0, 3.0),
        dose_weight=(0.0, 1.0),
        strength=(0.7, 1.6),
        residue=(0.05, 0.25),
    )
    return SimulationSpec(
        shape, tomo_types=tomo_types, specimen=specimen, microscope=microscope, restoration=restoration
    )


def simulate_run(
    spec: SimulationSpec,
    objects: Sequence[PickableObject],
    *,
    run: str,
    seed: int,
    densities: Mapping[str, Density] | None = None,
) -> tuple[dict[str, Tomogram], Picks]:
    """One run. The same spec, objects, run and seed give the same values, whatever is simulated before or beside it.

    Args:
        spec: what to simulate.
        objects: that are picked; the others in the specimen have no picks.
        run: its name.
        seed: of all runs of a project.
        densities: of some objects; the others have built-in ones.

    Returns:
        tomograms: by tomogram type, in the order of `spec.tomo_types`.
        picks: the particles' centres of mass [Å] and rotations.

    Raises:
        TomopickError: an object that does not fit into the volume, or has neither density nor radius.
    """
    rng = np.random.default_rng((seed, crc32(run.encode())))
    magnification = rng.uniform(*spec.microscope.magnification)
    believed, grid = Grid(spec.shape, spec.voxel_spacing), Grid(spec.shape, spec.voxel_spacing * magnification)
    given = densities or {}
    known = {thing.name: given.get(thing.name) or density_of(thing) for thing in objects if thing.is_particle}
    specimen = spec.specimen(grid, objects, known, rng)
    series = spec.microscope(specimen, rng)
    volumes = spec.restoration(series, grid.shape[0], grid.shape[2], spec.tomo_types, rng)
    picks = specimen.picks(run)
    picks = replace(picks, positions=picks.positions / magnification)
    return {kind: Tomogram(run, volume, believed, kind) for kind, volume in volumes.items()}, picks
