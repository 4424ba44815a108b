"""3D U-Nets of residual units with instance normalisation."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import Conv3d, NetworkSpec


@dataclass(frozen=True)
class ResidualUNetSpec(NetworkSpec):
    """A 3D U-Net: residual units down, transposed convolutions up, instance norm, PReLU; output stride 1.

    Attributes:
        widths: channels of each level, finest first; the last is the bottom.
        strides: of each level but the last; a level of stride 1 is as fine as the one above it.
        residual_units: convolutions in each unit on the way down.
        dropout: share of the values that a training step leaves out behind each normalisation.
        background: with a channel for "none of the objects".

    Source: MONAI's `UNet` (Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40), as the Ensemble 3D U-Net Soup uses
    it (CZII challenge, 8th place).
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    strides: tuple[int, ...] = (2, 2, 1)
    residual_units: int = 2
    dropout: float = 0.3
    background: bool = True

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise RecipeError(f"network.widths needs at least two positive widths, not {self.widths}")
        if len(self.strides) != len(self.widths) - 1 or not set(self.strides) <= {1, 2}:
            raise RecipeError(
                f"network.strides is {self.strides}; expected {len(self.widths) - 1} of them for "
                f"{len(self.widths)} widths, each 1 or 2"
            )
        if self.residual_units < 1:
            raise RecipeError(f"network.residual_units is {self.residual_units}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"network.dropout is {self.dropout:g}; it must be from 0 to just below 1")

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return prod(self.strides)

    def build(self, n_objects: int) -> ResidualUNet:
        """A network with new random weights and one output channel an object (and one for the background)."""
        return ResidualUNet(self, n_objects + int(self.background))


class ResidualUNet(nn.Module):
    """See `ResidualUNetSpec`. (b, 1, z, y, x) -> logits (b, channel, z, y, x)."""

    def __init__(self, spec: ResidualUNetSpec, n_out: int):
        super().__init__()
        self.model = _level(spec, 0, 1, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, channel, z, y, x)."""
        return self.model(x)


def _level(spec: ResidualUNetSpec, level: int, n_in: int, n_out: int) -> nn.Sequential:
    """Down, everything below beside a skip, and up again."""
    width, stride, units, dropout = spec.widths[level], spec.strides[level], spec.residual_units, spec.dropout
    below: nn.Module
    if level + 2 == len(spec.widths):
        n_below = spec.widths[-1]
        below = _ResidualUnit(width, n_below, 1, units, dropout)
    else:
        n_below = width
        below = _level(spec, level + 1, width, width)
    up = nn.Sequential(
        _convolution(width + n_below, n_out, stride, dropout, transposed=True),
        _ResidualUnit(n_out, n_out, 1, 1, dropout, last_bare=level == 0),
    )
    return nn.Sequential(_ResidualUnit(n_in, width, stride, units, dropout), _Skip(below), up)


class _Skip(nn.Module):
    def __init__(self, submodule: nn.Module):
        super().__init__()
        self.submodule = submodule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, z, y, x) -> (b, c + those of what is below, z, y, x)."""
        return torch.cat([x, self.submodule(x)], dim=1)


class _ResidualUnit(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int, units: int, dropout: float, last_bare: bool = False):
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(units):
            bare = last_bare and i == units - 1
            layers[f"unit{i}"] = _convolution(n_out if i else n_in, n_out, 1 if i else stride, dropout, bare=bare)
        self.conv = nn.Sequential(layers)
        self.residual: nn.Module = nn.Identity()
        if stride > 1:
            self.residual = Conv3d(n_in, n_out, 3, stride=stride, padding=1)
        elif n_in != n_out:
            self.residual = Conv3d(n_in, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, z/stride, y/stride, x/stride)."""
        return self.conv(x) + self.residual(x)


def _convolution(
    n_in: int, n_out: int, stride: int, dropout: float, transposed: bool = False, bare: bool = False
) -> nn.Sequential:
    conv: nn.Module = Conv3d(n_in, n_out, 3, stride=stride, padding=1)
    if transposed:
        conv = nn.ConvTranspose3d(n_in, n_out, 3, stride=stride, padding=1, output_padding=stride - 1)
    if bare:
        return nn.Sequential(OrderedDict(conv=conv))
    norm, drop = nn.InstanceNorm3d(n_out), nn.Dropout(dropout)
    return nn.Sequential(OrderedDict(conv=conv, adn=nn.Sequential(OrderedDict(N=norm, D=drop, A=nn.PReLU()))))
