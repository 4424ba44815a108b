"""The only labelled run of a training in two parts: one to learn from, one to validate on, and a gap between them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import counted
from ..core.types import PickableObject, Picks
from .patches import LabelledVolume
from .sources import HELD_BACK

log = logging.getLogger("tomopick")

_LEAST = 16  # voxels that are learned from


def split_run(volume: LabelledVolume, objects: Sequence[PickableObject]) -> tuple[LabelledVolume, LabelledVolume]:
    """Keeps the high-y end of what is labelled for validation; or the cut is moved to where both have some of all.

    Args:
        volume: the run.
        objects: that are learned; the parts lie the largest one's diameter apart, and nothing is seen on both sides.

    Raises:
        SelectionError: no cut leaves enough, or picks on both sides.
    """
    run, n = volume.picks.run, volume.grid.shape[1]
    widest = max(2 * o.radius_angstrom for o in objects)
    gap = math.ceil(widest / volume.grid.voxel_spacing)
    low, high = _extent(volume)
    if not len(volume.picks) and any(mask is not None for mask in volume.known.values()):
        raise SelectionError(
            f"run {run}: none of its picks lies where it is labelled: there is nothing to learn from; mend the "
            "region or mask (`regions`, `labelled_in`)"
        )
    start = high - max(1, round(HELD_BACK * (high - low)))
    if start - gap - low < _LEAST:
        raise SelectionError(
            f"run {run}: {high - low} voxels in y are too few to keep a part for validation; name `val_runs`"
        )
    rows = volume.grid.indices(volume.picks.positions)[:, 1]
    if len(rows):
        start = _moved(volume.picks, rows, start, range(low + gap + _LEAST, high), gap)
    log.info(
        f"only one labelled run: y from {start} of {n} is kept for validation, {gap} voxels before it are left out"
    )
    return _rows(volume, 0, start - gap), _rows(volume, start, n)


def _extent(volume: LabelledVolume) -> tuple[int, int]:
    """From which y to before which any object is labelled."""
    masks = list(volume.known.values())
    if not masks or any(mask is None for mask in masks):
        return 0, volume.grid.shape[1]
    rows = np.flatnonzero(np.any([mask.any(axis=(0, 2)) for mask in masks if mask is not None], axis=0))
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


def _moved(picks: Picks, rows: np.ndarray, start: int, choices: range, gap: int) -> int:
    """The cut itself where both sides have some of every object, else the one that shares them out best."""

    def shares(cut: int) -> list[float]:
        """Of each object, the part behind the cut; 0 or 1 where one side has none."""
        found = []
        for name in np.unique(picks.names):
            own = rows[picks.names == name]
            behind, before = np.count_nonzero(own >= cut - 0.5), np.count_nonzero(own < cut - gap - 0.5)
            found.append(behind / len(own) if before else 1.0)
        return found

    def fair(cut: int) -> tuple[int, float]:
        """How many objects both sides have, and how near the shares are to the one that is wanted."""
        found = shares(cut)
        return sum(0 < share < 1 for share in found), -max(abs(share - HELD_BACK) for share in found)

    objects = len(np.unique(picks.names))
    if fair(start)[0] == objects:
        return start
    best = max(choices, key=fair, default=start)
    if fair(best)[0] == 0:
        raise SelectionError(
            f"run {picks.run}: no cut along y leaves some of its {counted(len(picks), 'pick')} on both sides of a gap "
            f"of {gap} voxels, to learn from and to validate on; label more, or name `val_runs`"
        )
    return best if fair(best)[0] > fair(start)[0] else start


def _rows(volume: LabelledVolume, start: int, stop: int) -> LabelledVolume:
    z, _, x = volume.grid.shape
    grid = volume.grid.crop((0, start, 0), (z, stop - start, x))
    there = slice(None), slice(start, stop)
    masks = {id(mask): None if mask is None else mask[there] for mask in volume.known.values()}  # objects share them
    negatives = volume.negatives
    return replace(
        volume,
        values=volume.values[there],
        grid=grid,
        picks=volume.picks.select(grid.contains(volume.picks.positions)),
        known={name: masks[id(mask)] for name, mask in volume.known.items()},
        void=None if volume.void is None else volume.void[there],
        negatives=None if negatives is None else negatives.select(grid.contains(negatives.positions)),
    )
