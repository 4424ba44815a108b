"""Whether the part of a run that its picks leave empty looks as if it held as many particles as the part they fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from ..core.types import Grid, PickableObject, Picks
from ..data.plausible import Filled, asked_of_all, asked_of_one, filled_part, filled_together

_COARSE = 4.0  # voxels to a radius at which volumes are looked at
_ALIKE = 0.3  # of as many a square as where picks are: as many places that look like picks speak of particles
_BRIGHTEST = 1.5  # times the most of any pick: what stands out more is gold, or the edge of a carbon film
_EACH = 3  # runs with few picks that are looked at, at most

# Normalised values (z, y, x) of a run, and (z, y, x) bool where it holds no specimen, if it does anywhere.
ReadRun = Callable[[str], tuple[np.ndarray, np.ndarray | None]]


def unpicked(
    found: Sequence[Picks], grids: Mapping[str, Grid], objects: Sequence[PickableObject], seen: ReadRun
) -> list[str]:
    """Asks, a line each, whether runs are labelled only where picks fill a part of them, and the rest looks like it.

    What picks leave empty may well be empty; so voxels are looked at, of those runs whose picks leave a part empty
    that they hardly would by chance. Places where a ball is darker than its surroundings as it is at picks are counted
    on both sides.

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
    """Whether what looks like a pick is as frequent beyond the part that picks fill."""
    kinds = [(o.name, o.radius) for o in objects if o.radius and any((p.names == o.name).any() for p in found)]
    inside = outside = 0
    volumes = [seen(picks.run) for picks in found] if kinds else []
    for name, radius in kinds:
        looks = [_places(*v, grids[p.run], p.of(name), radius) for v, p in zip(volumes, found)]
        at_picks = np.concatenate([own for _, _, own in looks])
        least, most = np.median(at_picks), _BRIGHTEST * at_picks.max()
        for places, heights, _ in looks:
            along = places[(heights >= least) & (heights <= most), part.axis]
            within = (along >= part.low) & (along <= part.high)
            inside += int(np.count_nonzero(within))
            outside += int(np.count_nonzero(~within))
    share = part.high - part.low
    return outside / (1 - share) >= _ALIKE * inside / share


def _places(
    values: np.ndarray, void: np.ndarray | None, grid: Grid, picks: Picks, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where balls are darkest: (n, 3) parts of the volume's size, (n,) how dark they are, and how dark at the picks."""
    every = max(1, int(radius / grid.voxel_spacing / _COARSE))
    kept = values if void is None else np.where(void, np.float32(0), values)
    reach = radius / grid.voxel_spacing / every
    small = _binned(np.asarray(kept, dtype=np.float32), every)
    dark = gaussian_filter(small, 1.2 * reach) - gaussian_filter(small, 0.6 * reach)
    side = 2 * max(1, round(0.7 * reach)) + 1
    best = maximum_filter(dark, side)
    at = np.argwhere((dark == best) & (dark > 0))
    cells = (grid.indices(picks.positions) + 0.5) / every - 0.5
    near = np.clip(np.rint(cells).astype(int), 0, np.array(small.shape) - 1)
    return (at + 0.5) / np.array(small.shape), dark[tuple(at.T)], best[tuple(near.T)]


def _binned(values: np.ndarray, factor: int) -> np.ndarray:
    """Mean of cubes of so many voxels; what is left over at the end is cut off, or one cube where that is all."""
    if factor == 1 or min(values.shape) < factor:
        return values
    z, y, x = (n // factor for n in values.shape)
    cut = values[: z * factor, : y * factor, : x * factor]
    return np.asarray(cut.reshape(z, factor, y, factor, x, factor).mean(axis=(1, 3, 5)), dtype=np.float32)
