"""Whether picks can be meant in Å as they stand; all of them in one corner, or all outside, is a wrong unit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import listing
from ..core.types import Grid, Picks

log = logging.getLogger("tomopick")

CORNER = 0.2  # of every axis: picks that all lie in it were counted in something larger than was thought
FEW, MANY = 3, 10  # picks that tell a corner from chance: where a known unit would fit, and in any case
EMPTY = 0.25  # of an axis at one end, without any pick, which may not have been looked at
CHANCE = 1e-4  # of so many picks leaving it empty where they might be anywhere
SPECK = 5  # voxels; in a volume no larger, coordinates of 0..1 may be voxels
_OVER = 0.05  # beyond 0..1 that parts of a size may lie: outside, by less than a particle
_FINE = 2.0  # [Å]; voxels and Å are told apart by numbers alone from this voxel size on

Meant = Callable[[np.ndarray, Grid], np.ndarray]
OF_SIZE = "are they parts of the tomogram's size? expected Å"
_NEAR: tuple[tuple[str, Meant], ...] = (
    ("are they in voxels? expected Å", lambda p, g: p * g.voxel_spacing),
    ("are they in nm? expected Å", lambda p, g: p * 10),
    (OF_SIZE, lambda p, g: p * np.asarray(g.shape) * g.voxel_spacing),
)
_FAR: tuple[tuple[str, Meant], ...] = (
    ("are they in Å, where voxels are expected, or multiplied twice?", lambda p, g: p / g.voxel_spacing),
    ("are x and z exchanged?", lambda p, g: p[:, ::-1]),
    ("do they count from the middle?", lambda p, g: p + (np.asarray(g.shape) - 1) / 2 * g.voxel_spacing),
    ("are they in smaller pixels than was thought, half as large?", lambda p, g: p / 2),
    ("are they in smaller pixels than was thought, a quarter as large?", lambda p, g: p / 4),
    ("are they in smaller pixels than was thought, an eighth as large?", lambda p, g: p / 8),
)


def unlikely(found: Mapping[str, Picks], grids: Mapping[str, Grid], few: int = MANY) -> str | None:
    """Why picks cannot be meant as they stand, and what would make them fit; None where nothing is odd.

    Args:
        found: by run.
        grids: of the tomograms that they are to lie in; runs without one are not looked at.
        few: as many in a corner are enough where a known unit would fit.
    """
    sides = [(p.positions, grids[run]) for run, p in found.items() if len(p) and run in grids]
    n = sum(len(positions) for positions, _ in sides)
    if not n:
        return None
    if not any(grid.contains(positions).any() for positions, grid in sides):
        return _outside(sides, n)
    return _in_corner(sides, n, few)


def unlikely_runs(found: Mapping[str, Picks], grids: Mapping[str, Grid]) -> list[str]:
    """A line for each of several runs whose picks all lie in a corner, though those of others do not.

    Particles may well be there; in another unit than the others they lie there always.
    """
    lines = []
    for run, picks in found.items() if len(found) > 1 else ():
        if run in grids and len(picks):
            why = _in_corner([(picks.positions, grids[run])], len(picks), MANY)
            lines += [f"run {run}: {why}"] if why else []
    return lines


def _in_corner(sides: list[tuple[np.ndarray, Grid]], n: int, few: int) -> str | None:
    """Why picks that all lie in one corner cannot be meant as they stand; None where they can, or lie elsewhere."""
    if not all(grid.contains(positions).all() for positions, grid in sides):
        return None
    if _are_parts(sides):
        return f"all {n} picks lie within the first voxel; {OF_SIZE}"
    fits = [text for text, meant in _NEAR if _fits(sides, meant)]
    corner = all((_parts(positions, grid) < CORNER).all() for positions, grid in sides)
    in_voxels = fits[:1] == [_NEAR[0][0]] and all(grid.voxel_spacing > _FINE for _, grid in sides)
    if not ((corner and (n >= MANY or (n >= few and fits))) or (in_voxels and n >= MANY)):
        return None
    reach = max(float(positions.max()) for positions, _ in sides)
    wide = max(max(grid.shape) * grid.voxel_spacing for _, grid in sides)
    times = min(1 / float(_parts(positions, grid).max()) for positions, grid in sides)
    hint = fits[0] if fits else f"multiplied by up to {times:.2g} they would still fit: is the pixel size right?"
    return f"all {n} picks lie within {reach:.0f} Å of the corner of a tomogram that is {wide:.0f} Å wide; {hint}"


def require_likely(found: Mapping[str, Picks], grids: Mapping[str, Grid], where: str, fix: str = "") -> None:
    """Raises `SelectionError` for picks that cannot be meant as they stand; of single runs among others it is said.

    Args:
        found, grids: as in `unlikely`.
        where: what the message begins with.
        fix: what to do, which only the caller knows.
    """
    why = unlikely(found, grids)
    if why is not None:
        raise SelectionError(f"{where}: {why}{'; ' + fix if fix else ''}")
    for line in unlikely_runs(found, grids):
        log.warning(line)


def _outside(sides: list[tuple[np.ndarray, Grid]], n: int) -> str:
    fits = [text for text, meant in _FAR if _fits(sides, meant)]
    z, y, x = sides[0][0][0]
    size = " x ".join(f"{v * sides[0][1].voxel_spacing:.0f}" for v in sides[0][1].shape[::-1])
    one = f"the first at {x:.0f}, {y:.0f}, {z:.0f} Å of {size} Å (x, y, z)"
    hint = listing(fits[:2]) if fits else "are pixel size, centre and run the right ones?"
    return f"all {n} picks lie outside the tomogram, {one}; {hint}"


def _are_parts(sides: list[tuple[np.ndarray, Grid]]) -> bool:
    """Whether positions are 0..1 and not whole, as numbers, or as voxels and several: nobody picks within a voxel."""
    if any(max(grid.shape) <= SPECK for _, grid in sides):
        return False
    as_numbers = all(within_one(positions) for positions, _ in sides)
    n = sum(len(positions) for positions, _ in sides)
    return as_numbers or (n >= FEW and all(within_one(grid.indices(positions)) for positions, grid in sides))


def within_one(numbers: np.ndarray) -> bool:
    """Whether coordinates are 0..1 of something, but for a little, and not all of them whole numbers."""
    within = len(numbers) > 0 and bool(numbers.min() >= -_OVER and numbers.max() <= 1 + _OVER)
    return within and bool(np.any(numbers % 1))


def _fits(sides: list[tuple[np.ndarray, Grid]], meant: Meant) -> bool:
    return all(grid.contains(meant(positions, grid)).all() for positions, grid in sides)


def _parts(positions: np.ndarray, grid: Grid) -> np.ndarray:
    """(n, 3) how far along each axis, 0..1."""
    return (grid.indices(positions) + 0.5) / np.asarray(grid.shape)


@dataclass(frozen=True)
class Filled:
    """The part of an axis that picks fill, where they leave much of one end empty.

    Attributes:
        axis: 1 or 2, y or x; along z the specimen is thin.
        low, high: where it begins and ends, as parts of the tomogram's size.
    """

    axis: int
    low: float
    high: float


def filled_part(found: Sequence[Picks], grids: Mapping[str, Grid]) -> Filled | None:
    """The part of their tomograms that picks of runs together fill, where they would hardly by chance; else None.

    Particles have other reasons too to be where they are: what lies beyond is to be looked at, and the user asked.
    """
    parts = np.concatenate([_parts(p.positions, grids[p.run]) for p in found]) if found else np.empty((0, 3))
    if len(parts) < MANY:
        return None
    for axis in (1, 2):
        low, high = float(parts[:, axis].min()), float(parts[:, axis].max())
        empty = max(low, 1 - high)
        if empty >= EMPTY and (1 - empty) ** len(parts) < CHANCE:
            return Filled(axis, low, high)
    return None


def filled_together(found: Sequence[Picks], grids: Mapping[str, Grid]) -> tuple[list[Picks], Filled | None]:
    """Those with too few picks to tell by themselves, and the part that they fill together."""
    few = [picks for picks in found if 0 < len(picks) < MANY]
    return few, filled_part(few, grids) if len(few) > 1 else None


def asked_of_one(picks: Picks, grid: Grid, part: Filled) -> str:
    """Asks whether a run is labelled in the part alone that its picks fill."""
    size = grid.shape[part.axis] * grid.voxel_spacing
    where = f"{'zyx'[part.axis]} {part.low * size:.0f} to {part.high * size:.0f} of {size:.0f} Å"
    asked = _asked(picks.run, part, size)
    return f"run {picks.run}: its {len(picks)} picks lie in {where}, and beyond it looks alike: {asked}"


def asked_of_all(found: Sequence[Picks], grids: Mapping[str, Grid], part: Filled) -> str:
    """Asks the same of runs with few picks each."""
    first = grids[found[0].run]
    asked = _asked(found[0].run, part, first.shape[part.axis] * first.voxel_spacing)
    n = sum(len(picks) for picks in found)
    where = f"{'zyx'[part.axis]} from {part.low:.0%} to {part.high:.0%} of its tomogram"
    runs = listing([picks.run for picks in found])
    return f"runs {runs}: their {n} picks lie in {where}, each, and beyond it looks alike: {asked}"


def _asked(run: str, part: Filled, size: float) -> str:
    first, last = (0 if part.low < EMPTY else part.low * size), (size if 1 - part.high < EMPTY else part.high * size)
    spans = [":"] * 3
    spans[part.axis] = f"{first:.0f}:{last:.0f}A"
    return (
        f"labelled only there? What was not picked is taught as background. Say where: "
        f"`regions={run}={','.join(spans)}`, or that it is all of it: `all_labelled`"
    )
