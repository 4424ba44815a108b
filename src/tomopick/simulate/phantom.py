"""What a specimen is made of: how thick the ice is, what is in it and how much of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import TomopickError
from ..types import Grid, PickableObject
from .bodies import distractor
from .density import Density
from .specimen import Habits, Range, Specimen, slab

REFERENCE_VOLUME = 184 * 630 * 630 * 10.012444**3  # [Å^3] a tomogram of the CZII challenge
# Smallest and largest number of picks in the seven CZII training runs. Source: the portal's annotations (10440).
CZII_COPIES: tuple[tuple[str, Range], ...] = (
    ("apo-ferritin", (35, 95)),
    ("beta-amylase", (9, 21)),
    ("beta-galactosidase", (11, 24)),
    ("ribosome", (23, 74)),
    ("thyroglobulin", (28, 49)),
    ("virus-like-particle", (9, 29)),
)
OTHER_COPIES: Range = (20, 80)  # of an object of any other name


@dataclass(frozen=True)
class SpecimenSpec:
    """What is in the ice. A range is drawn from uniformly, once per run.

    Attributes:
        thickness: of the ice, not more than the volume [Å].
        undulation: how far the layer's middle goes up and down [Å].
        copies: particles of each object per `REFERENCE_VOLUME`; objects not named have `OTHER_COPIES`.
        crowding: factor on all copies, drawn evenly on a log scale.
        dominance: probability that one object fills a thin layer and the others are rare.
        dominant_fill: part of that layer's volume that the object takes.
        dominant_layers: thickness of that layer in diameters of the object.
        clustering: part of the particles that are placed against one of their kind.
        adsorption: part of the particles that lie within a particle's breadth of a surface of the ice.
        distractors: unlabelled proteins per `REFERENCE_VOLUME`.
        background: concentration of small unlabelled proteins [mg/ml].
        membranes: vesicles and membrane pieces per `REFERENCE_VOLUME`.
        gold: fiducials per `REFERENCE_VOLUME`.
        gold_radius: [Å].
        contrast: factor on the potential of proteins.
    """

    thickness: Range = (350.0, 1800.0)
    undulation: Range = (0.0, 60.0)
    copies: tuple[tuple[str, Range], ...] = CZII_COPIES
    crowding: Range = (1.5, 10.0)
    dominance: float = 0.25
    dominant_fill: Range = (0.04, 0.28)
    dominant_layers: Range = (1.3, 4.0)
    clustering: Range = (0.0, 0.6)
    adsorption: Range = (0.0, 0.6)
    distractors: Range = (20.0, 300.0)
    background: Range = (0.0, 8.0)
    membranes: Range = (0.0, 12.0)
    gold: Range = (0.0, 12.0)
    gold_radius: Range = (40.0, 75.0)
    contrast: Range = (0.7, 1.3)

    def __call__(
        self, grid: Grid, objects: Sequence[PickableObject], densities: Mapping[str, Density], rng: np.random.Generator
    ) -> Specimen:
        """A specimen on `grid` with the particles of `objects` (membranes and the like are not particles).

        Raises:
            TomopickError: an object does not fit into the volume.
        """
        particles = [thing for thing in objects if thing.is_particle]
        plan = _plan(self, grid, particles, densities, rng)
        specimen = Specimen(grid, slab(plan.thickness, rng.uniform(*self.undulation), grid, rng), rng)
        for thing in particles:
            if not specimen.holds(densities[thing.name]):
                raise TomopickError(
                    f"object '{thing.name}' is {2 * densities[thing.name].radius:.0f} Å across and does not fit into "
                    f"{grid.shape} voxels of {grid.voxel_spacing:g} Å; make the volume larger"
                )
        scale = np.prod(grid.shape) * grid.voxel_spacing**3 / REFERENCE_VOLUME
        for _ in range(rng.poisson(rng.uniform(*self.gold) * scale)):
            specimen.add_gold(rng.uniform(*self.gold_radius))
        for _ in range(rng.poisson(rng.uniform(*self.membranes) * scale)):
            specimen.add_membrane()
        habits = Habits(rng.uniform(*self.clustering), rng.uniform(*self.adsorption), rng.uniform(*self.contrast))
        largest_first = sorted(plan.copies, key=lambda name: -densities[name].radius)
        for name in largest_first:
            specimen.add(densities[name], plan.copies[name], habits)
        others = rng.poisson(rng.uniform(*self.distractors) * scale * plan.crowding)
        for index, count in zip(*np.unique(rng.integers(0, 48, others), return_counts=True)):
            specimen.add(distractor(int(index)), int(count), habits, labelled=False)
        specimen.add_background(rng.uniform(*self.background), habits.contrast)
        return specimen


@dataclass(frozen=True)
class _Plan:
    thickness: float
    crowding: float
    copies: dict[str, int]


def _plan(
    spec: SpecimenSpec,
    grid: Grid,
    particles: Sequence[PickableObject],
    densities: Mapping[str, Density],
    rng: np.random.Generator,
) -> _Plan:
    """Thickness of the ice [Å] and copies of each object for one run."""
    area = grid.shape[1] * grid.shape[2] * grid.voxel_spacing**2
    depth = grid.shape[0] * grid.voxel_spacing
    thickness = min(rng.uniform(spec.thickness[0], max(spec.thickness[0], min(spec.thickness[1], 1.2 * depth))), depth)
    crowding = float(np.exp(rng.uniform(*np.log(spec.crowding))))
    ranges = dict(spec.copies)
    scale = area * depth / REFERENCE_VOLUME * crowding
    expected = {thing.name: rng.uniform(*ranges.get(thing.name, OTHER_COPIES)) * scale for thing in particles}
    if particles and rng.random() < spec.dominance:
        name = particles[int(rng.integers(len(particles)))].name
        radius = densities[name].radius
        thickness = min(depth, 2 * radius * rng.uniform(*spec.dominant_layers))
        expected = {other: count * 0.15 for other, count in expected.items()}
        expected[name] = rng.uniform(*spec.dominant_fill) * area * thickness / (4 / 3 * np.pi * radius**3)
    largest = max((2 * densities[name].radius for name, count in expected.items() if count > 0), default=0.0)
    counts = {name: int(count + rng.random()) for name, count in expected.items()}  # right on average
    return _Plan(min(depth, max(thickness, largest + 2 * grid.voxel_spacing)), crowding, counts)
