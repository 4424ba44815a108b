"""3D U-Nets of residual units: with instance normalisation, and V-Net."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import BatchNorm3d, Conv3d, NetworkSpec, exactly


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


@dataclass(frozen=True)
class VNetSpec(NetworkSpec):
    """A 3D U-Net whose levels learn residuals: strided convolutions down, transposed ones up; output stride 1.

    Attributes:
        widths: channels of each level, finest first.
        depths: convolutions of each level on the way down; on the way up each but the last has as many.
        kernel: edge of the convolutions [voxels], odd.

    Source: Milletari et al. 2016, arXiv:1606.04797: 16 to 256 channels, one to three convolutions of edge 5 a level,
    PReLU; with BatchNorm, as in the networks that semi-supervised methods are compared with.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 2, 3, 3, 3)
    kernel: int = 5

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or len(self.depths) != len(self.widths) or min(*self.widths, *self.depths) < 1:
            raise RecipeError(
                f"network.widths {self.widths} and network.depths {self.depths}: expected two or more positive numbers "
                "each, and as many"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise RecipeError(f"network.kernel is {self.kernel}; it must be odd")

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return int(2 ** (len(self.widths) - 1))

    def build(self, n_objects: int) -> VNet:
        """A network with new random weights and one output channel an object."""
        return VNet(self, n_objects)


class VNet(nn.Module):
    """See `VNetSpec`. (b, 1, z, y, x) -> logits (b, object, z, y, x)."""

    def __init__(self, spec: VNetSpec, n_objects: int):
        super().__init__()
        widths, kernel = spec.widths, spec.kernel
        self.levels = nn.ModuleList([_Residuals(1, widths[0], spec.depths[0], kernel)])
        self.downs, self.ups, self.joined = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = widths[-1]  # channels that arrive from the level below
        for (a, b), depth in zip(pairwise(widths), spec.depths[1:]):
            self.downs.append(_normed(Conv3d(a, b, 2, stride=2, bias=False)))
            self.levels.append(_Residuals(b, b, depth, kernel))
        for a, depth in zip(widths[-2::-1], spec.depths[-2::-1]):
            self.ups.append(_normed(nn.ConvTranspose3d(below, a, 2, stride=2, bias=False)))
            self.joined.append(_Residuals(2 * a, 2 * a, depth, kernel))
            below = 2 * a
        self.head = Conv3d(below, n_objects, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z, y, x)."""
        skips = [self.levels[0](x)]
        for down, level in zip(self.downs, self.levels[1:]):
            skips.append(level(down(skips[-1])))
        x = skips.pop()
        for up, joined in zip(self.ups, self.joined):
            x = joined(torch.cat([up(x), skips.pop()], dim=1))
        return exactly(self.head, x)


class _Residuals(nn.Module):
    """Convolutions whose last adds what came in, on each channel alike where that is one, before its activation."""

    def __init__(self, n_in: int, n_out: int, depth: int, kernel: int):
        super().__init__()
        inputs = [n_in] + [n_out] * (depth - 1)
        convs = [Conv3d(n, n_out, kernel, padding=kernel // 2, bias=False) for n in inputs]
        self.body = nn.Sequential(*map(_normed, convs[:-1]), convs[-1], BatchNorm3d(n_out))
        self.act = nn.PReLU(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, z, y, x)."""
        return self.act(self.body(x) + x)


def _normed(convolution: nn.Module) -> nn.Sequential:
    n = int(convolution.out_channels)  # type: ignore[arg-type]
    return nn.Sequential(convolution, BatchNorm3d(n), nn.PReLU(n))
