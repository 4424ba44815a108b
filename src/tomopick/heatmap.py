"""Encode: picks -> target heatmap. The inverse is `peaks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .types import Grid, Heatmap, PickableObject, Picks


@dataclass(frozen=True)
class GaussianTarget:
    """One Gaussian of height 1 per particle, drawn at its exact (sub-voxel) centre; overlaps keep the larger value.

    Attributes:
        sigma_factor: standard deviation as a fraction of the object's radius.
        sigmas: standard deviation by object name [Å], in place of the factor.
        truncate: how far a Gaussian is drawn [standard deviations]; at least one and a half cells.

    Source: BPD and the 4th place of the CZII challenge train on such heatmaps (arXiv:2502.13484, section 2.3).
    """

    sigma_factor: float = 1 / 3
    sigmas: Mapping[str, float] = field(default_factory=dict)
    truncate: float = 4.0

    def sigma(self, obj: PickableObject) -> float:
        """Standard deviation for one object [Å]."""
        return float(self.sigmas.get(obj.name, 0.0)) or self.sigma_factor * obj.radius_angstrom

    def __call__(self, picks: Picks, grid: Grid, objects: Sequence[PickableObject]) -> Heatmap:
        """Picks of one run -> (object, z, y, x) on `grid`; picks outside reach in as far as their Gaussian does."""
        values = np.zeros((len(objects), *grid.shape), dtype=np.float32)
        indices = grid.indices(picks.positions)
        for channel, obj in enumerate(objects):
            sigma_voxels = self.sigma(obj) / grid.voxel_spacing
            # However narrow, the three cells around a centre are drawn: refining a peak needs them.
            reach = max(self.truncate * sigma_voxels, 1.5)
            own = indices[picks.names == obj.name]
            near = ((own > -reach) & (own < np.asarray(grid.shape) - 1 + reach)).all(axis=1)
            for index in own[near]:
                _stamp(values[channel], index, sigma_voxels, reach)
        return Heatmap(picks.run, values, grid, tuple(o.name for o in objects))


def _stamp(values: np.ndarray, index: np.ndarray, sigma_voxels: float, reach: float) -> None:
    """Draw one Gaussian into (z, y, x) `values` around the fractional `index`, in place."""
    box, factors = [], []
    for centre, n in zip(index, values.shape):
        start, stop = max(0, int(np.ceil(centre - reach))), min(n, int(np.floor(centre + reach)) + 1)
        if start >= stop:
            return
        offsets = np.arange(start, stop) - centre
        box.append(slice(start, stop))
        factors.append(np.exp(-0.5 * (offsets / sigma_voxels) ** 2).astype(np.float32))
    target = values[tuple(box)]
    np.maximum(target, np.einsum("i,j,k->ijk", *factors), out=target)
