"""What a specimen is made of: how thick the ice is, what is in it and how much of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.errors import SelectionError, TomopickError
from ..core.specs import LogRange, Range, require_ranges
from ..core.types import Grid, PickableObject, Picks
from .bodies import density_of, distractor
from .density import Density
from .layer import Barren, layer_around, slab
from .maps import DensityFile
from .specimen import Habits, Specimen
from .surroundings import add_background, add_carbon, add_frost, add_gold, add_membrane

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
ANALYTIC_DISTRACTORS = 48
BARREN_LENGTH = 1_500.0  # [Å] of a region without particles: about that of the CZII runs' gaps, by eye
_MANY = 1e5
_BOUNDS = {
    "thickness": (50.0, 1e4), "undulation": (0.0, 1e4), "slope": (0.0, 30.0), "wedge": (0.0, 1.5),
    "margin": (0.0, 2_000.0), "crowding": (1e-3, 1e3), "dominance": (0.0, 1.0), "dominant_fill": (0.0, 0.6),
    "dominant_layers": (1.0, 100.0), "clustering": (0.0, 1.0), "adsorption": (0.0, 1.0), "protrusion": (0.0, 0.9),
    "barren": (0.0, 0.95), "distractors": (0.0, _MANY), "background": (0.0, 500.0), "membranes": (0.0, _MANY),
    "gold": (0.0, _MANY), "gold_radius": (10.0, 500.0), "carbon": (0.0, 1.0), "carbon_depth": (0.0, 1.0),
    "carbon_thickness": (10.0, 2_000.0), "frost": (0.0, _MANY), "frost_radius": (20.0, 5_000.0),
    "contrast": (0.01, 100.0),
}  # fmt: skip


@dataclass(frozen=True)
class SpecimenSpec:
    """What is in the ice. A range is drawn from uniformly, once per run.

    Attributes:
        thickness: of the ice, not more than the volume [Å].
        undulation: how far the layer's middle goes up and down [Å].
        slope: angle of the layer to the volume's planes [degrees].
        wedge: how much thicker the layer is at one side than at the other, part of `thickness`.
        margin: how far the specimen goes on beyond the volume before it repeats itself [Å].
        copies: particles of each object per `REFERENCE_VOLUME`; objects not named have `OTHER_COPIES`.
        crowding: factor on all copies.
        dominance: probability that one object fills a thin layer and the others are rare.
        dominant: which objects may do so; empty: any.
        dominant_fill: part of that layer's volume that the object takes.
        dominant_layers: thickness of that layer in diameters of the object.
        clustering: part of the particles that are placed against one of their kind.
        adsorption: part of the particles that lie within a particle's breadth of a surface of the ice.
        protrusion: part of its radius by which such a particle may stick out of the ice, where it is cut off.
        barren: part of the area where there are no particles.
        distractors: unlabelled proteins per `REFERENCE_VOLUME`.
        background: concentration of small unlabelled proteins [mg/ml].
        membranes: vesicles and membrane pieces per `REFERENCE_VOLUME`.
        gold: fiducials per `REFERENCE_VOLUME`.
        gold_radius: [Å]; beads of 5 to 15 nm are sold.
        carbon: probability that the edge of the carbon film is in the volume; in a twin it never is.
        carbon_depth: how far it reaches into the volume, part of its side.
        carbon_thickness: of the film [Å]; makers of grids state 100 to 200.
        frost: ice crystals on the layer per `REFERENCE_VOLUME`.
        frost_radius: [Å].
        contrast: factor on the potential of proteins.
        maps: densities from files; the other objects have built-in ones.
        distractor_maps: of unlabelled proteins; where there are none they are analytic.
    """

    thickness: Range = (350.0, 1800.0)
    undulation: Range = (0.0, 60.0)
    slope: Range = (0.0, 4.0)
    wedge: Range = (0.0, 0.4)
    margin: float = 200.0
    copies: tuple[tuple[str, Range], ...] = CZII_COPIES
    crowding: LogRange = (1.5, 10.0)
    dominance: float = 0.25
    dominant: tuple[str, ...] = ()
    dominant_fill: Range = (0.04, 0.28)
    dominant_layers: Range = (1.3, 4.0)
    clustering: Range = (0.0, 0.8)
    adsorption: Range = (0.0, 0.6)
    protrusion: Range = (0.0, 0.3)
    barren: Range = (0.0, 0.4)
    distractors: Range = (20.0, 300.0)
    background: Range = (0.0, 8.0)
    membranes: Range = (0.0, 12.0)
    gold: Range = (0.0, 12.0)
    gold_radius: Range = (40.0, 75.0)
    carbon: float = 0.12
    carbon_depth: Range = (0.02, 0.2)
    carbon_thickness: Range = (100.0, 200.0)
    frost: Range = (0.0, 3.0)
    frost_radius: LogRange = (60.0, 300.0)
    contrast: Range = (0.7, 1.3)
    maps: tuple[DensityFile, ...] = field(default=())
    distractor_maps: tuple[DensityFile, ...] = field(default=())

    def __post_init__(self) -> None:
        require_ranges(self, "specimen", _BOUNDS)
        for name, (low, high) in self.copies:
            if not 0 <= low <= high <= _MANY:
                raise TomopickError(
                    f"specimen.copies.{name} is {low:g},{high:g}; expected low,high within 0..{_MANY:g}"
                )

    def known(self, objects: Sequence[PickableObject], given: Mapping[str, Density] | None) -> dict[str, Density]:
        """The density of each particle of `objects`: `given`, or from `maps`, or built in.

        Raises:
            TomopickError: a file that cannot be read; an object that has neither density nor radius.
        """
        files, given = {file.name: file for file in self.maps}, given or {}
        made: dict[str, Density] = {}
        for thing in objects:
            if thing.is_particle:
                file = files.get(thing.name)
                made[thing.name] = given.get(thing.name) or (file.load() if file else density_of(thing))
        return made

    def __call__(
        self,
        grid: Grid,
        objects: Sequence[PickableObject],
        densities: Mapping[str, Density],
        rng: np.random.Generator,
        *,
        run: str = "",
        twin: Picks | None = None,
    ) -> Specimen:
        """A specimen on `grid` with the particles of `objects` (membranes and the like are not particles).

        Args:
            grid: of the volume.
            objects: that are labelled.
            densities: of each.
            rng: draws everything.
            run: its name, for warnings.
            twin: where the labelled particles are to lie; without it they are placed at random.

        Raises:
            TomopickError: an object does not fit into the volume; a position of `twin` outside it or of no object.
        """
        particles = [thing for thing in objects if thing.is_particle]
        if twin is not None:
            _check_twin(twin, grid, densities)
            particles = [thing for thing in particles if thing.name in twin.names]
        plan = _plan(self, grid, particles, densities, twin, rng)
        layer = slab(
            plan.thickness, rng.uniform(*self.undulation), grid, rng, slope=rng.uniform(*self.slope),
            wedge=rng.uniform(*self.wedge), thinnest=plan.thinnest,
        )  # fmt: skip
        barren = Barren(rng.uniform(*self.barren), BARREN_LENGTH, _with_margin(grid, self.margin), rng)
        if twin is not None and len(twin):
            layer = layer_around(twin, np.array([densities[name].radius for name in twin.names]), grid)
        specimen = Specimen(grid, layer, rng, margin=self.margin, barren=barren)
        for thing in particles:
            if not specimen.holds(densities[thing.name]):
                raise TomopickError(
                    f"object '{thing.name}' is {2 * densities[thing.name].radius:.0f} Å across and does not fit into "
                    f"{grid.shape} voxels of {grid.voxel_spacing:g} Å; make the volume larger"
                )
        volume = np.prod(specimen.field.shape[1:]) * grid.shape[0] * grid.voxel_spacing**3
        scale = float(volume / REFERENCE_VOLUME)
        habits = Habits(
            rng.uniform(*self.clustering), rng.uniform(*self.adsorption), rng.uniform(*self.protrusion),
            rng.uniform(*self.contrast),
        )  # fmt: skip
        if twin is None:
            if rng.random() < self.carbon:
                add_carbon(specimen, rng.uniform(*self.carbon_depth), rng.uniform(*self.carbon_thickness))
            self._surround(specimen, scale)
            _scatter(specimen, densities, plan.copies, habits, run)
        else:
            _follow(specimen, densities, twin, habits, run)
            self._surround(specimen, scale)
        self._crowd(specimen, scale * plan.crowding, habits)
        return specimen

    def _surround(self, specimen: Specimen, scale: float) -> None:
        """Gold, membranes and frost."""
        rng = specimen.rng
        for _ in range(rng.poisson(rng.uniform(*self.gold) * scale)):
            add_gold(specimen, rng.uniform(*self.gold_radius))
        for _ in range(rng.poisson(rng.uniform(*self.membranes) * scale)):
            add_membrane(specimen)
        for _ in range(rng.poisson(rng.uniform(*self.frost) * scale)):
            add_frost(specimen, float(np.exp(rng.uniform(*np.log(self.frost_radius)))))

    def _crowd(self, specimen: Specimen, scale: float, habits: Habits) -> None:
        """The unlabelled proteins."""
        rng = specimen.rng
        pool = len(self.distractor_maps) or ANALYTIC_DISTRACTORS
        others = rng.poisson(rng.uniform(*self.distractors) * scale)
        for index, count in zip(*np.unique(rng.integers(0, pool, others), return_counts=True)):
            other = self.distractor_maps[index].load() if self.distractor_maps else distractor(int(index))
            specimen.add(other, int(count), habits, labelled=False)
        add_background(specimen, rng.uniform(*self.background), habits.contrast)


def _scatter(
    specimen: Specimen, densities: Mapping[str, Density], copies: Mapping[str, int], habits: Habits, run: str
) -> None:
    """Particles at random, the largest first."""
    short = []
    for name in sorted(copies, key=lambda name: -densities[name].radius):
        fitted = specimen.add(densities[name], copies[name], habits)
        if fitted < copies[name]:
            short.append(f"{fitted} of {copies[name]} {name}")
    if short:
        specimen.warnings.append(f"run {run}: only {', '.join(short)} fitted into the ice")


def _follow(specimen: Specimen, densities: Mapping[str, Density], twin: Picks, habits: Habits, run: str) -> None:
    """Particles where those of another run are, cut off by the ice nowhere."""
    short, habits = [], Habits(contrast=habits.contrast)
    for name in sorted(set(twin.names.tolist()), key=lambda name: -densities[name].radius):
        some = twin.of(name)
        rotations = None if some.rotations is None else list(some.rotations)
        fitted = specimen.place(densities[name], some.positions, rotations, habits)
        if fitted < len(some):
            short.append(f"{fitted} of {len(some)} {name}")
    if short:
        specimen.warnings.append(f"run {run}: only {', '.join(short)} had room; the others lie within another")


def _check_twin(twin: Picks, grid: Grid, densities: Mapping[str, Density]) -> None:
    strange = sorted(set(twin.names.tolist()) - set(densities))
    if strange:
        raise SelectionError(
            f"run {twin.run}: picks of '{strange[0]}', which is no object to be simulated; give its density "
            f"(`densities={strange[0]}=FILE`)"
        )
    outside = ~grid.contains(twin.positions)
    if outside.any():
        z, y, x = twin.positions[outside][0]
        depth, height, width = (n * grid.voxel_spacing for n in grid.shape)
        raise SelectionError(
            f"run {twin.run}: {outside.sum()} of {len(twin)} positions lie outside the volume, as z, y, x = {z:.0f}, "
            f"{y:.0f}, {x:.0f} Å does; expected 0..{depth:.0f}, 0..{height:.0f}, 0..{width:.0f} Å; make `shape` larger"
        )


def _with_margin(grid: Grid, margin: float) -> Grid:
    rim = int(np.ceil(margin / grid.voxel_spacing))
    return grid.crop((0, -rim, -rim), [n + more for n, more in zip(grid.shape, (0, 2 * rim, 2 * rim))])


@dataclass(frozen=True)
class _Plan:
    """Thickness of the ice, in the middle and at least [Å]; how crowded it is; copies of each object in it."""

    thickness: float
    thinnest: float
    crowding: float
    copies: dict[str, int]


def _plan(
    spec: SpecimenSpec,
    grid: Grid,
    particles: Sequence[PickableObject],
    densities: Mapping[str, Density],
    twin: Picks | None,
    rng: np.random.Generator,
) -> _Plan:
    """What one run has; the copies are for the volume and its margin."""
    margin = 2 * np.ceil(spec.margin / grid.voxel_spacing)
    area = (grid.shape[1] + margin) * (grid.shape[2] + margin) * grid.voxel_spacing**2
    depth = grid.shape[0] * grid.voxel_spacing
    thickness = min(rng.uniform(spec.thickness[0], max(spec.thickness[0], min(spec.thickness[1], 1.2 * depth))), depth)
    crowding = float(np.exp(rng.uniform(*np.log(spec.crowding))))
    ranges = dict(spec.copies)
    scale = area * depth / REFERENCE_VOLUME * crowding
    expected = {thing.name: rng.uniform(*ranges.get(thing.name, OTHER_COPIES)) * scale for thing in particles}
    there = [name for name, n in expected.items() if n > 0 and (not spec.dominant or name in spec.dominant)]
    if there and twin is None and rng.random() < spec.dominance:
        name = there[int(rng.integers(len(there)))]
        radius = densities[name].radius
        thickness = min(depth, 2 * radius * rng.uniform(*spec.dominant_layers))
        expected = {other: count * 0.15 for other, count in expected.items()}
        expected[name] = rng.uniform(*spec.dominant_fill) * area * thickness / (4 / 3 * np.pi * radius**3)
    largest = max((2 * densities[name].radius for name, count in expected.items() if count > 0), default=0.0)
    counts = {name: int(count + rng.random()) for name, count in expected.items()}  # right on average
    thinnest = min(depth, largest + 2 * grid.voxel_spacing)
    return _Plan(max(thickness, thinnest), thinnest, crowding, counts)
