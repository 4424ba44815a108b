"""The 3D U-Net of DeepFinder and DeepFindET."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import Conv3d, NetworkSpec, exactly


@dataclass(frozen=True)
class DeepFinderUNetSpec(NetworkSpec):
    """A 3D U-Net of three levels without normalisation: halved by maxima, doubled by nearest neighbours; stride 1.

    Attributes:
        widths: channels of the three levels, finest first.
        background: with a channel for "none of the objects".

    Source: DeepFinder, Moebel et al. 2021, doi:10.1038/s41592-021-01275-4 (32, 48, 64 channels, four convolutions at
    the bottom, a convolution of edge 2 behind each doubling), whose network DeepFindET trains.
    """

    widths: tuple[int, int, int] = (32, 48, 64)
    background: bool = True

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise RecipeError(f"network.widths needs three positive widths, not {self.widths}")

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return 4

    def build(self, n_objects: int) -> DeepFinderUNet:
        """A network with new random weights and one output channel an object (and one for the background)."""
        return DeepFinderUNet(self, n_objects + int(self.background))


class DeepFinderUNet(nn.Module):
    """See `DeepFinderUNetSpec`. (b, 1, z, y, x) -> logits (b, channel, z, y, x)."""

    def __init__(self, spec: DeepFinderUNetSpec, n_out: int):
        super().__init__()
        a, b, c = spec.widths
        self.fine, self.middle = _convolutions([1, a, a]), _convolutions([a, b, b])
        self.bottom = _convolutions([b, c, c, c, c])
        self.up_middle, self.up_fine = _Doubled(c, c), _Doubled(b, b)
        self.joined_middle, self.joined_fine = _convolutions([b + c, b, b]), _convolutions([a + b, a, a])
        self.head = nn.Conv3d(a, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, channel, z, y, x)."""
        fine = self.fine(x)
        middle = self.middle(nn.functional.max_pool3d(fine, 2))
        x = self.up_middle(self.bottom(nn.functional.max_pool3d(middle, 2)))
        x = self.up_fine(self.joined_middle(torch.cat([x, middle], dim=1)))
        return exactly(self.head, self.joined_fine(torch.cat([x, fine], dim=1)))


class _Doubled(nn.Module):
    """Every cell twice along each axis, then a convolution of edge 2 that sees it and the next."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = Conv3d(n_in, n_out, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, 2z, 2y, 2x)."""
        x = nn.functional.pad(nn.functional.interpolate(x, scale_factor=2, mode="nearest"), (0, 1, 0, 1, 0, 1))
        return nn.functional.relu(self.conv(x))


def _convolutions(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [Conv3d(a, b, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
