"""The built-in bodies: the objects of the CZII challenge by size and symmetry, and unlabelled ones of any size.

Each is a sum of blobs that fill an envelope under a point group. A name means the same body everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from zlib import crc32

import numpy as np
from scipy.spatial.transform import Rotation

from ..core.types import PickableObject, Vector
from .density import BLOB_SIGMA, PROTEIN_CONTRAST, PROTEIN_VOLUME, BlobDensity

# Potential of RNA above ice, over that of protein: it is denser (1.8 against 1.37 g/cm^3) and has phosphorus. By
# `atoms`: 8.1 V and 7.0 V, of which ice has 4.5.
RNA_FACTOR = 1.4

Inside = Callable[[np.ndarray], np.ndarray]  # (n, 3) xyz [Å] -> (n,) bool: in the body


def symmetry(group: str) -> np.ndarray:
    """(n, 3, 3) rotation matrices of a point group: `C2`, `D2`, `O`, `I`, ..."""
    return Rotation.create_group(group).as_matrix()


def fill(inside: Inside, reach: float, count: int, group: str, rng: np.random.Generator) -> np.ndarray:
    """About `count` evenly spread points, xyz [Å], in a body: the candidate farthest from all others comes next.

    Args:
        inside: (n, 3) xyz [Å] -> (n,) bool.
        reach: half-width of the cube that holds the body [Å].
        count: of points, the symmetry's copies included.
        group: point group under which the points are invariant.
        rng: draws the candidates.
    """
    operators = symmetry(group)
    candidates = rng.uniform(-reach, reach, (20_000, 3))
    candidates = candidates[inside(candidates)][:2000]
    mates = np.einsum("gij,nj->gni", operators, candidates)
    others = ~np.isclose(np.trace(operators, axis1=1, axis2=2), 3)  # all but the identity
    own = np.linalg.norm(mates[others] - candidates, axis=2)
    nearest = own.min(axis=0, initial=reach)
    chosen = []
    for _ in range(max(1, round(count / len(operators)))):
        best = int(np.argmax(nearest))
        chosen.append(mates[:, best])
        nearest = np.minimum(nearest, np.linalg.norm(mates[:, best, None] - candidates, axis=2).min(axis=0))
    return np.concatenate(chosen, axis=0)


def ellipsoid(semi_axes: Sequence[float] | np.ndarray, centre: Vector = (0.0, 0.0, 0.0)) -> Inside:
    """`inside` of an ellipsoid, xyz [Å]."""
    return lambda p: np.sum(((p - np.asarray(centre)) / np.asarray(semi_axes)) ** 2, axis=1) < 1


def shell(inner: float, outer: float) -> Inside:
    """`inside` of a hollow sphere [Å]."""
    return lambda p: np.abs(np.linalg.norm(p, axis=1) - (inner + outer) / 2) < (outer - inner) / 2


def body(
    name: str, mass: float, points: np.ndarray, group: str, rng: np.random.Generator, texture: float = 0.25
) -> BlobDensity:
    """Blobs at `points` that weigh `mass` [kDa] together; each orbit of the symmetry has a weight of its own.

    Args:
        name: of the object.
        mass: [kDa].
        points: (n, 3) xyz [Å], orbit after orbit as `fill` gives them.
        group: of the points.
        rng: draws the weights.
        texture: their relative spread.
    """
    order = len(symmetry(group))
    weights = np.repeat(np.exp(rng.normal(0, texture, len(points) // order)), order)
    total = mass * PROTEIN_VOLUME * PROTEIN_CONTRAST
    return BlobDensity(name, points, weights * total / weights.sum())


def _apo_ferritin(name: str, rng: np.random.Generator) -> BlobDensity:
    """24 chains of 20 kDa in a cage of 120 Å with a cavity of 80 Å. Source: PDB 6pxm (shell of 38..62 Å)."""
    along, up = np.array([1.0, -1.0, 0.0]) / np.sqrt(2), np.array([0.0, 0.0, 1.0])
    outward = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)  # a two-fold axis: two chains lie antiparallel on it
    rod = np.linspace(-19, 19, 6)[:, None] * (along + 0.2 * up) + 12.5 * up + 49.0 * outward
    rod *= 50.5 / np.linalg.norm(rod, axis=1, keepdims=True)
    points = np.einsum("gij,nj->ngi", symmetry("O"), rod).reshape(-1, 3)
    return replace(body(name, 480.0, points, "O", rng, texture=0.05), sigma=8.5)


def _beta_amylase(name: str, rng: np.random.Generator) -> BlobDensity:
    """Four chains of 56 kDa, 222 symmetry, 130 Å at the longest. Source: PDB 1fa2 (sweet potato)."""
    lobe = ellipsoid((24.0, 25.0, 23.0), (33.0, 23.0, 14.0))
    points = fill(lambda p: lobe(np.abs(p)), 62.0, 112, "D2", rng)
    return body(name, 224.0, points, "D2", rng)


def _beta_galactosidase(name: str, rng: np.random.Generator) -> BlobDensity:
    """Four chains of 116 kDa, 222 symmetry, 175 x 135 x 90 Å, lighter in the middle. Source: PDB 1f4a."""
    outer, cavity = ellipsoid((82.0, 62.0, 40.0)), ellipsoid((16.0, 14.0, 45.0))
    points = fill(lambda p: outer(p) & ~cavity(p), 85.0, 200, "D2", rng)
    return body(name, 465.0, points, "D2", rng, texture=0.35)


def _ribosome(name: str, rng: np.random.Generator) -> BlobDensity:
    """80S: a round large and a long small subunit with a cleft between them; RNA inside. Source: PDB 6qzp (sizes)."""
    large, small = ellipsoid((100.0, 105.0, 85.0), (0, 0, -38)), ellipsoid((106.0, 62.0, 40.0), (12, 10, 82))
    beak = ellipsoid((26.0, 26.0, 26.0), (-88, 30, 66))
    stalk = ellipsoid((16.0, 50.0, 16.0), (35, 95, 5))
    cleft = ellipsoid((70.0, 24.0, 12.0), (0, 0, 44))
    points = fill(lambda p: (large(p) | small(p) | beak(p) | stalk(p)) & ~cleft(p), 150.0, 700, "C1", rng)
    made = body(name, 3300.0, points, "C1", rng, texture=0.35)
    core = np.minimum(
        np.linalg.norm(points - [0, 0, -38], axis=1) / 75, np.linalg.norm(points - [10, 8, 80], axis=1) / 55
    )
    return BlobDensity(name, points, made.weights * np.where(core < 1, RNA_FACTOR, 1.0), sigma=9.0)


def _thyroglobulin(name: str, rng: np.random.Generator) -> BlobDensity:
    """Two chains of 330 kDa, two-fold, 250 x 160 x 110 Å, with a waist. Source: PDB 7n4y."""
    arm, flap = ellipsoid((72.0, 44.0, 48.0), (54, 8, 0)), ellipsoid((30.0, 36.0, 28.0), (38, 48, 14))

    def inside(p: np.ndarray) -> np.ndarray:
        turned = p * np.array([-1, -1, 1])
        return arm(p) | arm(turned) | flap(p) | flap(turned)

    return body(name, 660.0, fill(inside, 130.0, 240, "C2", rng), "C2", rng, texture=0.35)


def _virus_like_particle(name: str, rng: np.random.Generator) -> BlobDensity:
    """Hollow T=3 capsid of 180 chains of 14 kDa, some RNA within. Source: PDB 8tux (shell of 112..143 Å)."""
    capsid = fill(shell(119.0, 139.0), 140.0, 720, "I", rng)
    inner = fill(shell(40.0, 100.0), 105.0, 120, "I", rng)
    wall = body(name, 2550.0, capsid, "I", rng, texture=0.3)
    content = body(name, 500.0, inner, "I", rng, texture=0.8)
    return BlobDensity(name, np.vstack([capsid, inner]), np.concatenate([wall.weights, content.weights]))


def globule(name: str, radius: float, rng: np.random.Generator) -> BlobDensity:
    """A compact protein that fills a ball of `radius` [Å]."""
    inner = max(radius - BLOB_SIGMA, 1.0)
    count = int(np.clip((radius / 10) ** 3, 8, 400))
    points = fill(ellipsoid((inner, inner, inner)), inner, count, "C1", rng)
    return body(name, 4 / 3 * np.pi * radius**3 / PROTEIN_VOLUME, points, "C1", rng)


_BUILT_IN: dict[str, Callable[[str, np.random.Generator], BlobDensity]] = {
    "apo-ferritin": _apo_ferritin,
    "beta-amylase": _beta_amylase,
    "beta-galactosidase": _beta_galactosidase,
    "ribosome": _ribosome,
    "thyroglobulin": _thyroglobulin,
    "virus-like-particle": _virus_like_particle,
}


def is_built_in(name: str) -> bool:
    """Whether there is an analytic body of that name."""
    return name in _BUILT_IN


def density_of(thing: PickableObject) -> BlobDensity:
    """The built-in density of that name; for any other name a compact globule of the object's radius.

    Raises:
        TomopickError: it has neither.
    """
    return _made(thing.name, None if thing.name in _BUILT_IN else thing.radius_angstrom)


@lru_cache(maxsize=64)
def _made(name: str, radius: float | None) -> BlobDensity:
    rng = np.random.default_rng(crc32(name.encode()))  # a name means the same body everywhere
    return _BUILT_IN[name](name, rng) if radius is None else globule(name, radius, rng)


@lru_cache(maxsize=64)
def distractor(index: int) -> BlobDensity:
    """One of endlessly many unlabelled proteins: 60..900 kDa, round, long or flat, some symmetric."""
    rng = np.random.default_rng((20_241, index))
    mass, group = float(np.exp(rng.uniform(np.log(60), np.log(900)))), str(rng.choice(["C1", "C2", "C3", "D2", "D3"]))
    ratios = np.exp(rng.uniform(-0.45, 0.45, 3))
    scale = (mass * PROTEIN_VOLUME * 3 / (4 * np.pi * 0.75 * ratios.prod())) ** (1 / 3)  # a quarter is water
    semi = scale * ratios
    hole = ellipsoid(0.35 * semi) if rng.random() < 0.3 else (lambda p: np.zeros(len(p), bool))
    points = fill(
        lambda p: ellipsoid(semi)(p) & ~hole(p), float(semi.max()), int(np.clip(mass / 2.5, 24, 300)), group, rng
    )
    return body(f"distractor {index}", mass, points, group, rng, texture=0.4)
