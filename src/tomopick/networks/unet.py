"""Light 3D U-Nets: BPD's, and DeepFinder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import Conv3d, NetworkSpec, ThreeLevelSpec, TrilinearUp, conv_norm_act, exactly


@dataclass(frozen=True)
class UNetSpec(NetworkSpec):
    """A 3D U-Net: strided convolutions down, trilinear interpolation and convolutions up, skips, linear head.

    Attributes:
        widths: channels of each level, finest first.
        convolutions: convolution blocks a level.
        stride: of the output. 1: one cell a voxel. 2 or 4: the input is first reduced by strided convolutions, so
            that everything runs on 8 or 64 times fewer cells; sub-voxel peaks keep the accuracy.

    Source: BPD (CZII challenge, 5th place) as described: 28, 32, 36 channels, two convolutions a level, stride 1.
    """

    widths: tuple[int, ...] = (28, 32, 36)
    convolutions: int = 2
    stride: int = 1

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or self.convolutions < 1:
            raise RecipeError(
                f"network needs at least one positive width and one convolution, not {self.widths}, {self.convolutions}"
            )
        if self.stride not in (1, 2, 4):
            raise RecipeError(f"network.stride is {self.stride}; it can be 1, 2 or 4")

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return int(self.stride * 2 ** (len(self.widths) - 1))

    def build(self, n_objects: int) -> UNet:
        """A network with new random weights and one output channel an object."""
        return UNet(self, n_objects)


class UNet(nn.Module):
    """See `UNetSpec`. (b, 1, z, y, x) -> logits (b, object, z/stride, y/stride, x/stride)."""

    def __init__(self, spec: UNetSpec, n_objects: int):
        super().__init__()
        widths = spec.widths
        self.stem = _stem(spec.stride, widths[0])
        first = 1 if spec.stride == 1 else widths[0]
        self.encoders = nn.ModuleList(
            [_level(n_in, n_out, spec.convolutions) for n_in, n_out in zip((first, *widths[1:]), widths)]
        )
        self.downs = nn.ModuleList([conv_norm_act(a, b, stride=2) for a, b in pairwise(widths)])
        self.ups = nn.ModuleList([TrilinearUp(b, a) for a, b in pairwise(widths)])
        self.decoders = nn.ModuleList([_level(2 * a, a, spec.convolutions) for a in widths[:-1]])
        self.head = Conv3d(widths[0], n_objects, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z/stride, y/stride, x/stride)."""
        x = self.stem(x)
        skips: list[torch.Tensor] = []
        for level, encoder in enumerate(self.encoders):
            if level:
                x = self.downs[level - 1](x)
            x = encoder(x)
            skips.append(x)
        for level in range(len(self.ups) - 1, -1, -1):
            x = self.decoders[level](torch.cat([skips[level], self.ups[level](x)], dim=1))
        # Not in half precision: its steps of 1/256 near 1 would move peaks by a tenth of a voxel.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float())


def _stem(stride: int, width: int) -> nn.Module:
    """Reduces the input to the output's grid; edge 4 at stride 2 keeps a cell centred on its pair of voxels."""
    if stride == 1:
        return nn.Identity()
    blocks = [conv_norm_act(1, width, kernel=4, stride=2)]
    return nn.Sequential(*blocks, *([conv_norm_act(width, width, kernel=4, stride=2)] if stride == 4 else []))


def _level(n_in: int, n_out: int, convolutions: int) -> nn.Sequential:
    widths: Sequence[int] = [n_in] + [n_out] * convolutions
    return nn.Sequential(*(conv_norm_act(a, b) for a, b in pairwise(widths)))


@dataclass(frozen=True)
class DeepFinderUNetSpec(ThreeLevelSpec):
    """A 3D U-Net of three levels without normalisation: halved by maxima, doubled by nearest neighbours; stride 1.

    Attributes:
        widths: channels of the three levels, finest first.
        background: with a channel for "none of the objects".

    Source: DeepFinder, Moebel et al. 2021, doi:10.1038/s41592-021-01275-4 (32, 48, 64 channels, four convolutions at
    the bottom, a convolution of edge 2 behind each doubling), whose network DeepFindET trains.
    """

    widths: tuple[int, int, int] = (32, 48, 64)
    background: bool = True

    def build(self, n_objects: int) -> DeepFinderUNet:
        """A network with new random weights and one output channel an object (and one for the background)."""
        return DeepFinderUNet(self, n_objects + int(self.background))


class DeepFinderUNet(nn.Module):
    """See `DeepFinderUNetSpec`. (b, 1, z, y, x) -> logits (b, channel, z, y, x)."""

    def __init__(self, spec: DeepFinderUNetSpec, n_out: int):
        super().__init__()
        a, b, c = spec.widths
        self.fine, self.middle = _plain([1, a, a]), _plain([a, b, b])
        self.bottom = _plain([b, c, c, c, c])
        self.up_middle, self.up_fine = _Doubled(c, c), _Doubled(b, b)
        self.joined_middle, self.joined_fine = _plain([b + c, b, b]), _plain([a + b, a, a])
        self.head = Conv3d(a, n_out, 1)

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


def _plain(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [Conv3d(a, b, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
