"""What lies in the ice, and on it, besides particles: gold, membranes, the carbon film, frost, small proteins."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from .bodies import globule
from .density import ICE_POTENTIAL, BlobDensity, box_around
from .specimen import Specimen

# Mean inner potential of gold less that of ice. Source: free atoms, 59 atoms/nm^3 that scatter as 10.6 Å (International
# Tables C, table 4.3.2.2), give 30 V; holography measures less, from 21 V on. 27 V lies between.
GOLD_CONTRAST = 22.5  # [V] above ice
# Mean inner potential of evaporated carbon, 9.09 V at 1.75 g/cm^3, less that of ice.
# Source: Wanner et al. 2006, Ultramicroscopy 106, 341.
CARBON_CONTRAST = 4.56  # [V] above ice
CARBON_GRAIN = 0.05  # relative: our estimate; an ideal gas of as many atoms would have 0.11 in 10 Å voxels
HOLE_RADIUS = (5_000.0, 10_000.0)  # [Å] of the holes in common supports (R1/..., R2/...)
# Head groups above ice; the tails are about as dense as it. Our estimate: phosphate and glycerol are 1.3 times as dense
# as protein, in half the volume, the other half being water.
LIPID_CONTRAST = 1.6  # [V]
LEAFLETS = 36.0  # [Å] from head group to head group of a bilayer of C16..C18 lipids
_DALTONS_PER_MG_ML = 6.022e-7  # [kDa/Å^3] in 1 mg/ml
_LEAFLET_SIGMA = 8.0  # [Å]
_TRIES = 8  # places tried for a bead or a vesicle before it is left out
_FACES = 14  # planes that cut a crystal of frost


def add_gold(specimen: Specimen, radius: float) -> None:
    """A gold bead [Å] at a surface of the ice, where nothing is; nothing that comes after it overlaps it."""
    spacing = specimen.field.voxel_spacing
    for _ in range(_TRIES):
        yx = specimen.anywhere(1)
        low, high = specimen.surfaces(yx)
        z = specimen.rng.choice([low[0], high[0]])
        start, axes = _axes(specimen, np.array([z, *yx[0]]), radius + spacing)
        box = np.clip((radius - _distance(axes)) / spacing + 0.5, 0, 1)
        if specimen.reserve(start, box > 0):
            specimen.deposit(start, np.float32(GOLD_CONTRAST) * box)
            specimen.mark("gold", start, box > 0.5)
            return


def add_membrane(specimen: Specimen) -> None:
    """A vesicle or a piece of one, where nothing is: two leaflets, cut off by the surfaces of the ice."""
    rng, side = specimen.rng, min(specimen.grid.shape[1:]) * specimen.grid.voxel_spacing
    radius = min(float(np.exp(rng.uniform(np.log(150), np.log(700)))), 0.45 * side - 60)
    if radius < 120:  # no room for one
        return
    for _ in range(_TRIES):
        yx = specimen.anywhere(1)
        low, high = specimen.surfaces(yx)
        start, axes = _axes(specimen, np.array([rng.uniform(low[0], high[0]), *yx[0]]), radius + 50)
        distance, pole = _distance(axes), Rotation.random(None, rng).apply([0, 0, 1])
        opening = rng.uniform(-1.6, 0.6)  # below -1: a closed vesicle
        box = np.zeros_like(distance)
        near = np.abs(distance - radius) < LEAFLETS / 2 + 4 * _LEAFLET_SIGMA
        across = distance[near] - radius
        for half in (-LEAFLETS / 2, LEAFLETS / 2):
            box[near] += np.exp(-0.5 * ((across - half) / _LEAFLET_SIGMA) ** 2)
        box[near] *= np.clip((_along(axes, pole)[near] / distance[near] - opening) * radius / 30, 0, 1)
        ice = specimen.ice_mask(start, box.shape)
        box *= ice
        if specimen.reserve(start, box > 0.05):
            specimen.deposit(start, np.float32(LIPID_CONTRAST) * box)
            body = np.abs(distance - radius) < LEAFLETS / 2 + _LEAFLET_SIGMA  # leaflets and what is between them
            whole = _along(axes, pole) > opening * distance
            specimen.mark("membrane", start, body & whole & (ice > 0.5), _edge_on(axes))
            return


def add_carbon(specimen: Specimen, depth: float, thickness: float) -> None:
    """The edge of a hole in the carbon film: a grainy sheet along the lower surface of the ice.

    Args:
        specimen: gets it.
        depth: how far the film reaches into the volume, part of its side.
        thickness: of the film [Å].
    """
    rng, spacing = specimen.rng, specimen.field.voxel_spacing
    nz, ny, nx = specimen.field.shape
    side = min(specimen.grid.shape[1:]) * spacing
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(*HOLE_RADIUS)
    outward = np.array([np.sin(angle), np.cos(angle)])
    hole = (np.array([ny, nx]) - 1) / 2 + outward * (side * (0.5 - depth) - radius) / spacing
    y, x = np.meshgrid(np.arange(ny), np.arange(nx), indexing="ij")
    rough = gaussian_filter(rng.standard_normal((ny, nx)), 8.0, mode="wrap")
    inside = np.hypot(y - hole[0], x - hole[1]) + rough / rough.std() * 1.5 - radius / spacing
    covered = np.clip(inside + 0.5, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not len(rows):
        return
    low = specimen.surfaces(np.column_stack([y.ravel(), x.ravel()]))[0].reshape(ny, nx)
    first = max(0, int(np.floor(low[covered > 0].min())))
    last = min(nz, int(np.ceil(low[covered > 0].max() + thickness / spacing)) + 1)
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    z = np.arange(first, last)[:, None, None]
    film = np.clip(z - low[part] + 0.5, 0, 1) * np.clip(low[part] + thickness / spacing - z + 0.5, 0, 1) * covered[part]
    grain = 1 + CARBON_GRAIN * rng.standard_normal(film.shape)
    start = np.array([first, rows[0], columns[0]])
    specimen.reserve(start, film > 0.05)
    specimen.deposit(start, (CARBON_CONTRAST * film * grain).astype(np.float32))
    specimen.mark("carbon", start, film > 0.5)


def add_frost(specimen: Specimen, radius: float) -> None:
    """A crystal of ice [Å] on the outside of the layer, above vacuum; its lattice is too fine to be seen."""
    rng, spacing = specimen.rng, specimen.field.voxel_spacing
    yx = specimen.anywhere(1)
    low, high = specimen.surfaces(yx)
    inset = rng.uniform(0.2, 0.8) * radius / spacing
    z = low[0] - inset if rng.random() < 0.5 else high[0] + inset
    start, axes = _axes(specimen, np.array([z, *yx[0]]), 1.4 * radius)
    faces = Rotation.random(_FACES, rng).apply([0, 0, 1.0])
    inside = 1.4 * radius - _distance(axes)
    for face, distance in zip(faces, rng.uniform(0.6, 1.1, _FACES) * radius):
        inside = np.minimum(inside, np.float32(distance) - _along(axes, face))
    box = np.clip(inside / spacing + 0.5, 0, 1)
    box *= 1 - specimen.ice_mask(start, box.shape)  # the layer is ice already
    specimen.deposit(start, np.float32(ICE_POTENTIAL) * box)
    specimen.mark("frost", start, box > 0.5)


def add_background(specimen: Specimen, concentration: float, contrast: float) -> None:
    """Small proteins of 12..22 Å radius wherever nothing else is, `concentration` [mg/ml]."""
    pool = [_small(index) for index in range(8)]
    mass = np.mean([density.mass for density in pool])
    shape = specimen.field.shape
    volume = np.prod(shape) * specimen.field.voxel_spacing**3
    count = specimen.rng.poisson(concentration * _DALTONS_PER_MG_ML * volume / mass)
    yx = specimen.anywhere(count)
    z = specimen.rng.uniform(-0.5, shape[0] - 0.5, count)
    low, high = specimen.surfaces(yx)
    centres = np.column_stack([z, yx])[(z > low) & (z < high)]
    centres = centres[specimen.is_free(centres)]
    which = specimen.rng.integers(0, len(pool), len(centres))
    for index, centre in zip(which, centres):
        start, box = pool[index].sample(np.eye(3), specimen.field.positions(centre), specimen.field)
        specimen.deposit(start, box * np.float32(contrast))


def _axes(specimen: Specimen, centre: np.ndarray, reach: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """First voxel of the box of half-width `reach` [Å] around `centre` [voxels]; its voxels' offsets from it [Å].

    The offsets are three float32 arrays, zyx, that broadcast to the box.
    """
    start, axes = box_around(specimen.field.positions(centre), reach, specimen.field)
    return start, list(np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij", sparse=True))


def _distance(axes: list[np.ndarray]) -> np.ndarray:
    z, y, x = axes
    return np.sqrt(z * z + y * y + x * x)


def _edge_on(axes: list[np.ndarray]) -> np.ndarray:
    """The tilt about y at which a sphere's surface is seen from its edge, -90..90 [degrees]; a plane in z: 90."""
    z, y, x = axes
    tilt = np.degrees(np.arctan2(np.where(x < 0, -z, z), np.abs(x)))
    return np.asarray(np.broadcast_to(tilt, np.broadcast_shapes(z.shape, y.shape, x.shape)))


def _along(axes: list[np.ndarray], direction: np.ndarray) -> np.ndarray:
    """Offsets along a unit vector, zyx."""
    z, y, x = (axis * np.float32(part) for axis, part in zip(axes, direction))
    return z + y + x


@lru_cache(maxsize=16)
def _small(index: int) -> BlobDensity:
    return globule(f"background {index}", 14.0 + 1.5 * index, np.random.default_rng((20_242, index)))
