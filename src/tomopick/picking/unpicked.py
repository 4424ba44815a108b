"""Whether the part of a run that its picks leave empty looks as if it held as many particles as the part they fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from ..core.types import Grid, PickableObject, Picks
from ..data.plausible import Filled, asked_of_all, asked_of_one, filled_part, filled_together

_COARSE = 4.0  # voxels to a radius at which volumes are looked at
_ALIKE = (
    0.7  # times the spread of where picks are; simulated runs: 0.2 to 0.55 where nothing lies beyond, else over 0.8
)
_BRIGHT = 0.999  # of where picks are; what stands out more, such as gold or the edge of a carbon film, counts no more
_EACH = 3  # runs with few picks that are looked at, at most

# Normalised values (z, y, x) of a run, and (z, y, x) bool where it holds no specimen, if it does anywhere.
ReadRun = Callable[[str], tuple[np.ndarray, np.ndarray | None]]


def unpicked(
    found: Sequence[Picks], grids: Mapping[str, Grid], objects: Sequence[PickableObject], seen: ReadRun
) -> list[str]:
    """Asks, a line each, whether runs are labelled only where picks fill a part of them, and the rest looks like it.

    What picks leave empty may well be empty; so voxels are looked at, of those runs whose picks leave a part empty
    that they hardly would by chance: beyond a specimen's edge, or where particles are missing, grey values vary less at
    the size of particles.

    Args:
        found: the picks of each run that nobody said to be labelled in a part.
        grids: of their tomograms.
        objects: their radii; where one has none the picks alone decide.
        seen: reads a run; called for those in doubt only.
    """
    lines, few = [], []
    for picks in found:
        part = filled_part([picks], grids)
        if part is None:
            few.append(picks)
        elif _goes_on([picks], grids, objects, seen, part):
            lines.append(asked_of_one(picks, grids[picks.run], part))
    few, part = filled_together(few, grids)
    if part is not None and _goes_on(few[:_EACH], grids, objects, seen, part):
        lines.append(asked_of_all(few, grids, part))
    return lines


def _goes_on(
    found: Sequence[Picks], grids: Mapping[str, Grid], objects: Sequence[PickableObject], seen: ReadRun, part: Filled
) -> bool:
    """Whether volumes vary as much beyond the part that picks fill as in it, at the size of what is picked."""
    radii = [o.radius for o in objects if o.radius and any((p.names == o.name).any() for p in found)]
    volumes = [seen(picks.run) for picks in found] if radii else []
    shares = []
    for radius in radii:
        sides = [_sides(*v, grids[p.run], radius, part) for v, p in zip(volumes, found)]
        within, beyond = (np.concatenate(side) for side in zip(*sides))
        if len(within) and len(beyond):
            most = np.quantile(np.abs(within), _BRIGHT)
            spread = [float(np.clip(side, -most, most).std()) for side in (beyond, within)]
            shares.append(spread[0] / max(spread[1], 1e-9))
    return not shares or float(np.mean(shares)) >= _ALIKE


def _sides(
    values: np.ndarray, void: np.ndarray | None, grid: Grid, radius: float, part: Filled
) -> tuple[np.ndarray, np.ndarray]:
    """What balls of a radius stand out by in a volume, within the part and beyond it, a radius off its borders."""
    every = max(1, int(radius / grid.voxel_spacing / _COARSE))
    kept = values if void is None else np.where(void, np.float32(0), values)
    reach = radius / grid.voxel_spacing / every
    small = _binned(np.asarray(kept, dtype=np.float32), every)
    stand = np.moveaxis(gaussian_filter(small, 1.2 * reach) - gaussian_filter(small, 0.6 * reach), part.axis, 0)
    along = np.arange(len(stand)) + 0.5
    low, high = part.low * len(stand), part.high * len(stand)
    within, beyond = (along >= low) & (along <= high), (along < low - reach) | (along > high + reach)
    return stand[within].ravel(), stand[beyond].ravel()


def _binned(values: np.ndarray, factor: int) -> np.ndarray:
    """Mean of cubes of so many voxels; what is left over at the end is cut off, or one cube where that is all."""
    if factor == 1 or min(values.shape) < factor:
        return values
    z, y, x = (n // factor for n in values.shape)
    cut = values[: z * factor, : y * factor, : x * factor]
    return np.asarray(cut.reshape(z, factor, y, factor, x, factor).mean(axis=(1, 3, 5)), dtype=np.float32)
