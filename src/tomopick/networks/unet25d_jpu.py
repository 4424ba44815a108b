"""The other 2.5D U-Net with depth reduction: ResNet-RS on slices, 3D joint pyramid up-sampling, scSE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import (
    BatchNorm3d,
    Conv3d,
    SlicedSpec,
    SlicesAndVolumes,
    as_slices,
    as_volume,
    conv_norm_act,
    exactly,
    pad_to,
)
from .resnetrs import ResNetRS

HALVED = 2  # stages whose maps are averaged to half their depth; behind the others neighbours are mixed
_DEPTH_FACTORS = (1, 2, 2)  # of the up-sampling blocks, coarsest first
_MULTIPLES = (4, 32, 32)  # what the network itself needs along z, y, x; smaller tiles are padded
DILATIONS = (1, 2, 4, 8)
REDUCTION = 16  # of the channel attention


@dataclass(frozen=True)
class JPUNet25DSpec(SlicedSpec):
    """A 2.5D U-Net on ResNet-RS 50; output stride 1.

    Every slice is an image; the maps of stem and first stage are averaged to half their depth, those of the others
    over three neighbours. The three coarsest are joined on the grid of the finest of them, and three up-sampling
    blocks with attention lead back to the voxels.

    Attributes:
        joint: channels that each of the three maps is brought to before they are joined.
        decoder: channels behind the joining and of the three up-sampling blocks.
        width: factor on all channels.
        pretrained: file of weights to start the 2D network from (timm's resnetrs50).

    Source: Uchida & Fukui 2025, arXiv:2502.13484 (tattaka's network of the CZII challenge's 4th place); joint pyramid
    up-sampling of Wu et al. 2019, arXiv:1903.11816; scSE of Roy et al. 2018, arXiv:1803.02579. The widths, which the
    paper leaves out, are ours.
    """

    joint: int = 128
    decoder: tuple[int, int, int, int] = (256, 128, 64, 32)
    width: float = 1.0
    pretrained: str = ""

    def __post_init__(self) -> None:
        if self.joint < 1:
            raise RecipeError(f"network.joint is {self.joint}; it must be at least 1")
        if len(self.decoder) != 4 or min(self.decoder) < 1:
            raise RecipeError(f"network.decoder needs four positive widths, not {self.decoder}")
        self.check_width()

    def build(self, n_objects: int) -> JPUNet25D:
        """A network with new random weights and one output channel an object."""
        return JPUNet25D(self, n_objects)


class JPUNet25D(SlicesAndVolumes):
    """See `JPUNet25DSpec`. (b, 1, z, y, x) -> logits (b, object, z, y, x)."""

    def __init__(self, spec: JPUNet25DSpec, n_objects: int):
        super().__init__()

        def scaled(n: int) -> int:
            return max(1, round(n * spec.width))

        self.backbone = ResNetRS(1, widths=[scaled(n) for n in (64, 128, 256, 512)])
        stem, first, *coarse = self.backbone.channels
        widths = [scaled(n) for n in spec.decoder]
        self.joint = JointPyramid(coarse, scaled(spec.joint), widths[0])
        inputs = (widths[0], widths[1] + first, widths[2] + stem)
        self.decoder = nn.ModuleList(
            [nn.Sequential(conv_norm_act(a, b), Attention(b)) for a, b in zip(inputs, widths[1:])]
        )
        self.head = Conv3d(widths[-1], n_objects, 1)

    def pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(b, 1, z, y, x) -> five maps, from (b, 64, z/2, y/2, x/2) to (b, 2048, z/4, y/32, x/32)."""
        maps = []
        for i in range(len(self.backbone.channels)):
            x = as_volume(self.backbone.stage(i, as_slices(x)), len(x))
            if i < HALVED:
                x = nn.functional.avg_pool3d(x, (2, 1, 1))
            else:
                x = mix_neighbours(x)
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z, y, x)."""
        z, y, w = x.shape[2:]
        stem, first, *coarse = self.pyramid(pad_to(x, _MULTIPLES))
        x = self.joint(coarse)
        for block, depth, skip in zip(self.decoder, _DEPTH_FACTORS, (first, stem, None)):
            size = (float(depth), 2.0, 2.0)
            x = nn.functional.interpolate(block(x), scale_factor=size, mode="nearest")
            x = x if skip is None else torch.cat([x, skip], dim=1)
        return exactly(self.head, x)[:, :, :z, :y, :w]


def mix_neighbours(x: torch.Tensor) -> torch.Tensor:
    """The mean over each slice of (b, c, z, y, x) and those beside it, fewer at the ends."""
    padded = nn.functional.pad(x, (0, 0, 0, 0, 1, 1))
    ones = x[:1, :1, :, :1, :1] * 0 + 1  # not ones_like: traced for ONNX that would be the depth of the traced tile
    counted = nn.functional.pad(ones, (0, 0, 0, 0, 1, 1))
    return _sum_of_three(padded) / _sum_of_three(counted)


def _sum_of_three(x: torch.Tensor) -> torch.Tensor:
    """(b, c, z + 2, y, x) -> (b, c, z, y, x)."""
    return x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]


class JointPyramid(nn.Module):
    """Joins maps of several strides on the grid of the finest, and looks at them with four dilations.

    Args:
        channels: of the maps, finest first.
        width: that each is brought to.
        n_out: channels that come out.
    """

    def __init__(self, channels: Sequence[int], width: int, n_out: int):
        super().__init__()
        self.convs = nn.ModuleList([conv_norm_act(n, width) for n in channels])
        self.dilated = nn.ModuleList([_separable(len(channels) * width, width, d) for d in DILATIONS])
        self.out = conv_norm_act(len(DILATIONS) * width, n_out, kernel=1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps, finest first -> (b, n_out, z, y, x) of the finest."""
        maps = [conv(m) for conv, m in zip(self.convs, maps)]
        size = maps[0].shape[2:]
        x = torch.cat([nn.functional.interpolate(m, size=size, mode="nearest") for m in maps], dim=1)
        return self.out(torch.cat([branch(x) for branch in self.dilated], dim=1))


def _separable(n_in: int, n_out: int, dilation: int) -> nn.Sequential:
    depthwise = Conv3d(n_in, n_in, 3, padding=dilation, dilation=dilation, groups=n_in, bias=False)
    pointwise = Conv3d(n_in, n_out, 1, bias=False)
    return nn.Sequential(depthwise, BatchNorm3d(n_in), pointwise, BatchNorm3d(n_out), nn.ReLU(inplace=True))


class Attention(nn.Module):
    """Gates by channel (from the mean over the volume) and by voxel, added."""

    def __init__(self, n: int):
        super().__init__()
        squeezed = max(1, n // REDUCTION)
        self.channel = nn.Sequential(Conv3d(n, squeezed, 1), nn.ReLU(inplace=True), Conv3d(squeezed, n, 1))
        self.voxel = Conv3d(n, n, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n, z, y, x) -> the same shape."""
        by_channel = torch.sigmoid(self.channel(x.mean(dim=(2, 3, 4), keepdim=True)))
        return x * by_channel + x * torch.sigmoid(self.voxel(x))
