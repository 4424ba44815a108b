"""V-Net: a residual 3D U-Net of wide kernels at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import Conv3d, NetworkSpec, exactly


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
        self.levels = nn.ModuleList([_Residual(1, widths[0], spec.depths[0], kernel)])
        self.downs, self.ups, self.joined = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = widths[-1]  # channels that arrive from the level below
        for (a, b), depth in zip(pairwise(widths), spec.depths[1:]):
            self.downs.append(_block(Conv3d(a, b, 2, stride=2, bias=False)))
            self.levels.append(_Residual(b, b, depth, kernel))
        for a, depth in zip(widths[-2::-1], spec.depths[-2::-1]):
            self.ups.append(_block(nn.ConvTranspose3d(below, a, 2, stride=2, bias=False)))
            self.joined.append(_Residual(2 * a, 2 * a, depth, kernel))
            below = 2 * a
        self.head = nn.Conv3d(below, n_objects, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z, y, x)."""
        skips = [self.levels[0](x)]
        for down, level in zip(self.downs, self.levels[1:]):
            skips.append(level(down(skips[-1])))
        x = skips.pop()
        for up, joined in zip(self.ups, self.joined):
            x = joined(torch.cat([up(x), skips.pop()], dim=1))
        return exactly(self.head, x)


class _Residual(nn.Module):
    """Convolutions whose last adds what came in, on each channel alike where that is one, before its activation."""

    def __init__(self, n_in: int, n_out: int, depth: int, kernel: int):
        super().__init__()
        inputs = [n_in] + [n_out] * (depth - 1)
        convs = [Conv3d(n, n_out, kernel, padding=kernel // 2, bias=False) for n in inputs]
        self.body = nn.Sequential(*map(_block, convs[:-1]), convs[-1], nn.BatchNorm3d(n_out))
        self.act = nn.PReLU(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, z, y, x)."""
        return self.act(self.body(x) + x)


def _block(convolution: nn.Module) -> nn.Sequential:
    n = int(convolution.out_channels)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.BatchNorm3d(n), nn.PReLU(n))
