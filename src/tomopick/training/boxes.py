"""Boxes around particles in the heatmaps of a batch, on a device: all of one size are drawn together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Particles:
    """The particles of a batch.

    Attributes:
        table: (n, 6) on a device: number of the patch, channel, z, y, x and size [cells]; those of one size together.
        sizes: of each group its size and how many there are, known without asking the device.
    """

    table: torch.Tensor
    sizes: tuple[tuple[float, int], ...]

    @classmethod
    def on(cls, device: torch.device, table: torch.Tensor) -> Particles:
        """From an (n, 6) table on the host, whose groups lie together."""
        sizes, counts = table[:, 5].unique_consecutive(return_counts=True)
        return cls(table.to(device, non_blocking=True), tuple(zip(sizes.tolist(), counts.tolist())))

    def groups(self) -> Iterator[tuple[float, torch.Tensor]]:
        """Each size, and the particles of it."""
        first = 0
        for size, n in self.sizes:
            yield size, self.table[first : first + n]
            first += n


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


@dataclass(frozen=True)
class Boxes:
    """The cells within reach of each of n particles, along z, y and x.

    Attributes:
        offsets: (n, edge) from the particle's centre, of each axis [cells].
        inside: (n, edge) whether they are within reach and in the heatmap, of each axis.
        cells: (n edge^3) where they lie among all of the batch's heatmaps; what is not inside lies on others.
    """

    offsets: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    inside: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    cells: torch.Tensor

    @classmethod
    def around(cls, particles: torch.Tensor, reach: float, shape: Sequence[int]) -> Boxes:
        """Of (n, 6) particles.

        Args:
            particles: patch, channel, z, y, x and size.
            reach: how far from a centre cells count, along each axis [cells].
            shape: (b, object, z, y, x) of the heatmaps.
        """
        steps = torch.arange(math.floor(2 * reach) + 1, device=particles.device)
        offsets, inside, places = [], [], []
        for axis, n in enumerate(shape[2:]):
            centre = particles[:, 2 + axis, None]
            cell = (centre - reach).ceil() + steps  # (n, edge)
            offsets.append(cell - centre)
            inside.append((cell >= 0) & (cell < n) & (cell <= (centre + reach).floor()))
            places.append(cell.clamp(0, n - 1).long())
        patch, channel = (particles[:, k, None, None, None].long() for k in (0, 1))
        z, y, x = places
        cells = flat_cells(patch, channel, (z[:, :, None, None], y[:, None, :, None], x[:, None, None]), shape)
        return cls((offsets[0], offsets[1], offsets[2]), (inside[0], inside[1], inside[2]), cells.reshape(-1))

    def products(self, factors: Sequence[torch.Tensor]) -> torch.Tensor:
        """(n edge^3) products of (n, edge) factors along z, y and x."""
        z, y, x = factors
        return (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None]).reshape(-1)
