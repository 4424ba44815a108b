"""A whole run: specimen, tilt series, tomograms and truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

import numpy as np

from ..core.errors import TomopickError
from ..core.presets import CZII_VOXEL_SPACING, require_types
from ..core.specs import Overrides, Range, narrowed, require_ranges
from ..core.types import Grid, PickableObject, Picks, Shape, Tomogram
from .arrays import Arrays, HostArrays
from .density import Density
from .microscope import MicroscopeSpec
from .phantom import SpecimenSpec
from .restore import RestorationSpec

VOXEL_SPACINGS = (7.0, 14.0)  # [Å]: what the specimen's detail and the microscope's approximations are made for
_OVERRIDES = Overrides((), TomopickError, "microscope.defocus=25000,45000")


@dataclass(frozen=True)
class SimulationSpec:
    """Everything that decides a run. The defaults vary much from run to run: they are for training.

    Attributes:
        shape: of the tomograms (z, y, x) [voxels].
        voxel_spacing: [Å], within `VOXEL_SPACINGS`; drawn once per run.
        tomo_types: of `known_types()`, all made from the same tilt series.
        specimen: what is in the ice.
        microscope: how it is seen.
        restoration: what becomes of the images.
    """

    shape: Shape
    voxel_spacing: Range = (CZII_VOXEL_SPACING, CZII_VOXEL_SPACING)
    tomo_types: tuple[str, ...] = ("denoised",)
    specimen: SpecimenSpec = field(default_factory=SpecimenSpec)
    microscope: MicroscopeSpec = field(default_factory=MicroscopeSpec)
    restoration: RestorationSpec = field(default_factory=RestorationSpec)

    def __post_init__(self) -> None:
        require_types(self.tomo_types)
        require_ranges(self, "", {"voxel_spacing": VOXEL_SPACINGS})
        Grid(self.shape, self.voxel_spacing[0])  # says so where the shape is none

    def override(self, assignments: Sequence[str]) -> SimulationSpec:
        """The spec with `section.field=value` applied, all at once; for a range, one number stands for both ends.

        Raises:
            TomopickError: an unknown section or field (with the nearest name), or a value that does not fit.
        """
        return _OVERRIDES(self, assignments)

    def varied(self, amount: float) -> SimulationSpec:
        """The spec with every range drawn together about its middle: 0 leaves the middles, 1 the ranges as they are.

        Raises:
            TomopickError: an amount that is not within 0..1.
        """
        if not 0 <= amount <= 1:
            raise TomopickError(f"how much runs vary is {amount:g}; expected 0 (not at all) to 1 (the whole ranges)")
        return narrowed(self, amount)


@dataclass(frozen=True)
class SimulatedRun:
    """What a simulation gives.

    Attributes:
        tomograms: by tomogram type, in the order of `SimulationSpec.tomo_types`.
        picks: the particles' centres of mass [Å] and rotations.
        facts: what was drawn for this run, plain values; lengths in Å, angles in degrees, doses in e/Å^2.
        surroundings: by kind, (z, y, x) bool, membranes only where the tilts show them: see `Specimen.surroundings`;
            empty where nobody asked for them.
    """

    tomograms: dict[str, Tomogram]
    picks: Picks
    facts: dict[str, Any]
    surroundings: dict[str, np.ndarray] = field(default_factory=dict)


def czii_spec(shape: Shape = (184, 630, 630), *, tomo_types: tuple[str, ...] = ("denoised",)) -> SimulationSpec:
    """Runs like those of the CZII challenge: its objects in its numbers.

    The ice is as thick and as tilted as the picks of the seven training runs lie: along their planes, which are 1.5 to
    6.1 degrees off the volume's, their centres span 840 to 1290 Å, and a particle's breadth more.
    """
    specimen = SpecimenSpec(
        thickness=(1000.0, 1500.0),
        slope=(1.0, 6.5),
        wedge=(0.0, 0.3),
        crowding=(0.9, 1.1),
        dominance=0.0,
        barren=(0.0, 0.15),
        protrusion=(0.0, 0.2),
        carbon=0.05,
        frost=(0.0, 2.0),
        distractors=(30.0, 120.0),
        background=(1.0, 5.0),
        contrast=(0.9, 1.1),
    )
    microscope = MicroscopeSpec(
        tilt_loss=(0.0, 6.0),
        tilt_step=(3.0, 3.0),
        magnification=(0.99, 1.01),
        axis_error=(0.0, 40.0),
        defocus=(25_000.0, 45_000.0),
        dose=(110.0, 130.0),
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


def simulate(
    spec: SimulationSpec,
    objects: Sequence[PickableObject],
    *,
    run: str,
    seed: int,
    densities: Mapping[str, Density] | None = None,
    twin: Picks | None = None,
    surroundings: bool = False,
    arrays: Arrays | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> SimulatedRun:
    """One run. The same spec, objects, run and seed give the same values, whatever is simulated before or beside it.

    Args:
        spec: what to simulate.
        objects: that are picked; the others in the specimen have no picks.
        run: its name.
        seed: of all runs of a project.
        densities: of some objects; the others have those of `spec.specimen.maps`, or built-in ones.
        twin: where the particles are to lie [Å]; without it they are placed at random.
        surroundings: whether it is told where gold, carbon, membranes, frost and the sample are.
        arrays: where the microscope computes; by default on the CPU.
        stage: is told what is made next: specimen, tilt series, then the tomogram types.

    Raises:
        TomopickError: an object that does not fit into the volume, or has neither density nor radius; a position of
            `twin` that lies outside the volume, or is of no object.
    """
    arrays, rng = arrays or HostArrays(), np.random.default_rng((seed, crc32(run.encode())))
    magnification, spacing = rng.uniform(*spec.microscope.magnification), rng.uniform(*spec.voxel_spacing)
    believed, grid = Grid(spec.shape, spacing), Grid(spec.shape, spacing * magnification)
    known = spec.specimen.known(objects, densities)
    stage("specimen")
    true_twin = None if twin is None else replace(twin, positions=twin.positions * magnification)
    specimen = spec.specimen(grid, objects, known, rng, run=run, twin=true_twin)
    stage("tilt series")
    series = spec.microscope(specimen, rng, arrays)
    picks, warnings = specimen.picks(run), specimen.warnings
    ends = float(series.angles[0]), float(series.angles[-1])
    around = specimen.surroundings(ends) if surroundings else {}
    del specimen  # its potential is larger than a tomogram
    volumes = spec.restoration(series, spec.shape, spec.tomo_types, rng, arrays, stage)
    picks = replace(picks, positions=picks.positions / magnification)
    names, counts = np.unique(picks.names, return_counts=True) if len(picks) else ((), ())
    facts = {
        "run": run, "seed": seed, "tilt_axis": "y", "voxel_spacing": spacing, "magnification": magnification,
        **series.facts, "picks": {str(name): int(count) for name, count in zip(names, counts)},
        "warnings": warnings,
    }  # fmt: skip
    return SimulatedRun({kind: Tomogram(run, v, believed, kind) for kind, v in volumes.items()}, picks, facts, around)
