"""Whether picks can be meant in Å as they stand; all of them in one corner, or all outside, is a wrong unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import listing
from ..core.types import Grid, Picks

CORNER = 0.2  # of every axis: picks that all lie in it were counted in something larger than was thought
FEW, MANY = 3, 10  # picks that tell a corner from chance: where a known unit would fit, and in any case
EMPTY = 0.25  # of an axis at one end, without any pick, which may not have been looked at
CHANCE = 1e-4  # of so many picks leaving it empty where they might be anywhere
_FINE = 2.0  # [Å]; voxels and Å are told apart by numbers alone from this voxel size on

Meant = Callable[[np.ndarray, Grid], np.ndarray]
_NEAR: tuple[tuple[str, Meant], ...] = (
    ("are they in voxels? expected Å", lambda p, g: p * g.voxel_spacing),
    ("are they in nm? expected Å", lambda p, g: p * 10),
    ("are they parts of the tomogram's size? expected Å", lambda p, g: p * np.asarray(g.shape) * g.voxel_spacing),
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
    if not all(grid.contains(positions).all() for positions, grid in sides):
        return None
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
    """Raises `SelectionError` for picks that cannot be meant as they stand.

    Args:
        found, grids: as in `unlikely`.
        where: what the message begins with.
        fix: what to do, which only the caller knows.
    """
    why = unlikely(found, grids)
    if why is not None:
        raise SelectionError(f"{where}: {why}{'; ' + fix if fix else ''}")


def _outside(sides: list[tuple[np.ndarray, Grid]], n: int) -> str:
    fits = [text for text, meant in _FAR if _fits(sides, meant)]
    z, y, x = sides[0][0][0]
    size = " x ".join(f"{v * sides[0][1].voxel_spacing:.0f}" for v in sides[0][1].shape[::-1])
    one = f"the first at {x:.0f}, {y:.0f}, {z:.0f} Å of {size} Å (x, y, z)"
    hint = listing(fits[:2]) if fits else "are pixel size, centre and run the right ones?"
    return f"all {n} picks lie outside the tomogram, {one}; {hint}"


def _fits(sides: list[tuple[np.ndarray, Grid]], meant: Meant) -> bool:
    return all(grid.contains(meant(positions, grid)).all() for positions, grid in sides)


def _parts(positions: np.ndarray, grid: Grid) -> np.ndarray:
    """(n, 3) how far along each axis, 0..1."""
    return (grid.indices(positions) + 0.5) / np.asarray(grid.shape)


def filled_part(picks: Picks, grid: Grid) -> str | None:
    """Says where picks fill only a part of a run that they would hardly by chance; None where nothing is odd.

    Particles have other reasons too to be where they are, so this is to be asked and not to be acted on.
    """
    found = _filled(_parts(picks.positions, grid))
    if found is None:
        return None
    axis, low, high = found
    size = grid.shape[axis] * grid.voxel_spacing
    where = f"{'zyx'[axis]} {low * size:.0f} to {high * size:.0f} of {size:.0f} Å"
    return f"run {picks.run}: its {len(picks)} picks lie in {where}: {_asked(picks.run, axis, low, high, size)}"


def filled_parts(found: Sequence[Picks], grids: Mapping[str, Grid]) -> str | None:
    """As `filled_part`, of runs that have too few picks to tell by themselves, all together."""
    few = [picks for picks in found if 0 < len(picks) < MANY]
    if len(few) < 2:
        return None
    filled = _filled(np.concatenate([_parts(picks.positions, grids[picks.run]) for picks in few]))
    if filled is None:
        return None
    axis, low, high = filled
    first = grids[few[0].run]
    asked = _asked(few[0].run, axis, low, high, first.shape[axis] * first.voxel_spacing)
    n = sum(len(picks) for picks in few)
    where = f"{'zyx'[axis]} from {low:.0%} to {high:.0%} of its tomogram"
    return f"runs {listing([picks.run for picks in few])}: their {n} picks lie in {where}, each: {asked}"


def _filled(parts: np.ndarray) -> tuple[int, float, float] | None:
    """The axis along which places, as parts of a tomogram, leave much of an end empty; and where they begin and end."""
    if len(parts) < MANY:
        return None
    for axis in (1, 2):  # across; along z the specimen is thin
        low, high = float(parts[:, axis].min()), float(parts[:, axis].max())
        empty = max(low, 1 - high)
        if empty >= EMPTY and (1 - empty) ** len(parts) < CHANCE:
            return axis, low, high
    return None


def _asked(run: str, axis: int, low: float, high: float, size: float) -> str:
    first, last = (0 if low < EMPTY else low * size), (size if 1 - high < EMPTY else high * size)
    spans = [":"] * 3
    spans[axis] = f"{first:.0f}:{last:.0f}A"
    return (
        f"labelled only there? What was not picked is taught as background. Say where: "
        f"`regions={run}={','.join(spans)}`, or that it is all of it: `all_labelled`"
    )
