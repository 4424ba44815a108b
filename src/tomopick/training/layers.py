"""The particles of a batch in layers, no two of which are of one heatmap: each layer is drawn at once, on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Particles:
    """The particles of a batch.

    Attributes:
        table: (n, 6) on a device: number of the patch, channel, z, y, x and size [cells]; layer by layer.
        counts: how many each layer has, known without asking the device.
    """

    table: torch.Tensor
    counts: tuple[int, ...]

    @classmethod
    def on(cls, device: torch.device, table: torch.Tensor) -> Particles:
        """From an (n, 6) table on the host, in any order."""
        rows = table.numpy()
        _, heatmap, counts = np.unique(rows[:, :2], axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(heatmap.reshape(-1), kind="stable")
        layer = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = order[np.argsort(layer, kind="stable")]
        there = torch.from_numpy(rows[order]).to(device, non_blocking=True)
        return cls(there, tuple(np.bincount(layer).tolist()))

    def layers(self, shape: Sequence[int], *rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
        """Of each layer the numbers of its heatmaps, and its part of what there is of each particle.

        Args:
            shape: (b, object, ...) of the heatmaps.
            rows: tensors with one entry a particle.
        """
        heatmaps = (self.table[:, 0] * shape[1] + self.table[:, 1]).long()
        first = 0
        for n in self.counts:
            own = slice(first, first + n)
            yield heatmaps[own], [row[own] for row in rows]
            first += n

    def offsets(self, shape: Sequence[int]) -> list[torch.Tensor]:
        """Along z, y and x, (n, edge) from each particle's centre to each cell of (b, object, z, y, x) heatmaps."""
        cells = [torch.arange(n, device=self.table.device, dtype=self.table.dtype) for n in shape[2:]]
        return [at - self.table[:, 2 + axis, None] for axis, at in enumerate(cells)]

    @property
    def sizes(self) -> torch.Tensor:
        """(n, 1) [cells]."""
        return self.table[:, 5:6]


def over_axes(z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three (n, edge) tensors, shaped such that what is computed of them is (n, z, y, x)."""
    return z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]


def flat_cells(
    patch: torch.Tensor, channel: torch.Tensor, cells: Sequence[torch.Tensor], shape: Sequence[int]
) -> torch.Tensor:
    """Where cells lie among all of (b, object, z, y, x) heatmaps.

    Args:
        patch, channel: (n, ...) of each.
        cells: their z, y and x.
        shape: of the heatmaps.
    """
    _, channels, z, y, x = shape
    row = (patch * channels + channel) * z + cells[0]
    return (row * y + cells[1]) * x + cells[2]
