"""The 2.5D U-Net with depth reduction: a 2D network looks at slices, and its maps are averaged along z."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import (
    Conv3d,
    SlicedSpec,
    SlicesAndVolumes,
    as_slices,
    as_volume,
    conv_norm_act,
    depth_to_space,
    exactly,
    pad_to,
)
from .convnext import ConvNeXt

NEIGHBOURS = 5  # slices that the 2D network sees as its channels
_DEPTH_FACTORS = (4, 2, 2, 1)  # by which the maps' depth is divided behind each stage
_MULTIPLES = (16, 32, 32)  # what the network itself needs along z, y, x; smaller tiles are padded


@dataclass(frozen=True)
class UNet25DSpec(SlicedSpec):
    """A 2.5D U-Net on ConvNeXt-Nano; output stride 1.

    Each slice and two neighbours on either side are the channels of an image; behind each stage of the 2D network the
    maps are averaged along z; a 3D decoder joins them, and sub-voxel shuffling leads back to the voxels.

    Attributes:
        decoder: channels of the three decoder blocks, coarsest first.
        width: factor on all channels.
        pretrained: file of weights to start the 2D network from (timm's convnext_nano).

    Source: Uchida & Fukui 2025, arXiv:2502.13484; yu4u/kaggle-czii-4th (CZII challenge, 4th place).
    """

    decoder: tuple[int, int, int] = (1024, 768, 256)
    width: float = 1.0
    pretrained: str = ""

    def __post_init__(self) -> None:
        if len(self.decoder) != 3 or min(self.decoder) < 1:
            raise RecipeError(f"network.decoder needs three positive widths, not {self.decoder}")
        self.check_width()

    def build(self, n_objects: int) -> UNet25D:
        """A network with new random weights and one output channel an object."""
        return UNet25D(self, n_objects)


class UNet25D(SlicesAndVolumes):
    """See `UNet25DSpec`. (b, 1, z, y, x) -> logits (b, object, z, y, x)."""

    def __init__(self, spec: UNet25DSpec, n_objects: int):
        super().__init__()
        widths = [max(1, round(n * spec.width)) for n in (80, 160, 320, 640)]
        decoder = [max(1, round(n * spec.width)) for n in spec.decoder]
        self.slices = Conv3d(1, NEIGHBOURS, (NEIGHBOURS, 1, 1), padding=(NEIGHBOURS // 2, 0, 0), bias=False)
        self.slices.weight = nn.Parameter(torch.eye(NEIGHBOURS)[:, None, :, None, None].clone(), requires_grad=False)
        self.backbone = ConvNeXt(NEIGHBOURS, widths=widths)
        self.bridges = nn.ModuleList([_two_convolutions(n, n) for n in widths])
        skips = widths[2::-1]
        self.decoder = nn.ModuleList(
            [_two_convolutions(a + skip, b) for a, skip, b in zip((widths[3], *decoder), skips, decoder)]
        )
        self.head = Conv3d(decoder[-1], n_objects * 64, 1)

    def pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(b, 1, z, y, x) -> four maps, (b, 80, z/4, y/4, x/4) to (b, 640, z/16, y/32, x/32)."""
        x, maps = self.slices(x), []
        for i, (stage, factor) in enumerate(zip(self.backbone.stages, _DEPTH_FACTORS)):
            images = as_slices(x)
            images = stage(self.backbone.stem(images) if i == 0 else images)
            x = nn.functional.avg_pool3d(as_volume(images, len(x)), (factor, 1, 1))
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z, y, x)."""
        z, y, w = x.shape[2:]
        maps = [bridge(m) for bridge, m in zip(self.bridges, self.pyramid(pad_to(x, _MULTIPLES)))]
        x = maps[3]
        for block, skip, depth in zip(self.decoder, maps[2::-1], _DEPTH_FACTORS[:0:-1]):
            x = nn.functional.interpolate(x, scale_factor=(float(depth), 2.0, 2.0), mode="nearest")
            x = block(torch.cat([x, skip], dim=1))
        return depth_to_space(exactly(self.head, x), _DEPTH_FACTORS[0])[:, :, :z, :y, :w]


def _two_convolutions(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(conv_norm_act(n_in, n_out), conv_norm_act(n_out, n_out))
