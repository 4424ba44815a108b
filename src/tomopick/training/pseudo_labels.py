"""What a network says of a patch -> the labels that a person would have made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..core.types import Grid, Heatmap, PickableObject
from ..picking.peaks import PeakFinder
from ..scoring.metrics import DEFAULT_THRESHOLDS
from .targets import Target


@dataclass(frozen=True)
class Annotator:
    """Picks heatmaps as the method does and draws the picks as labels are drawn.

    Attributes:
        peaks, target: of the method.
        objects: in channel order.
        spacing: of the heatmaps' cells [Å].
    """

    peaks: PeakFinder
    target: Target
    objects: tuple[PickableObject, ...]
    spacing: float

    def __call__(self, heatmaps: torch.Tensor, cuts: Mapping[str, float]) -> torch.Tensor:
        """(b, object, z, y, x) -> targets of the same shape, of what is picked above the cuts.

        Args:
            heatmaps: of patches.
            cuts: lowest height of a pick, by object; the default threshold for F1 where there is none.
        """
        floor = {o.name: cuts.get(o.name, DEFAULT_THRESHOLDS["f1"]) for o in self.objects}
        z, y, x = heatmaps.shape[2:]
        names, grid = tuple(o.name for o in self.objects), Grid((z, y, x), self.spacing)
        drawn = np.empty(heatmaps.shape, dtype=np.float32)
        for patch, values in zip(drawn, heatmaps.float().cpu().numpy()):
            picks = self.peaks(Heatmap("", values, grid, names), self.objects, floor)
            patch[:] = self.target(picks, grid, self.objects).values
        return torch.from_numpy(drawn).to(heatmaps.device)
