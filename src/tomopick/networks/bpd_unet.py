"""The light 3D U-Net that BPD released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from .blocks import BatchNorm3d, Conv3d, ThreeLevelSpec, conv_norm_act, exactly


@dataclass(frozen=True)
class BPDUNetSpec(ThreeLevelSpec):
    """A 3D U-Net of three levels without a skip at the finest; output stride 1.

    The input is normalised by BatchNorm, halved twice by averaging, doubled by trilinear interpolation and then by a
    transposed convolution.

    Attributes:
        widths: channels of the three levels, finest first.
        background: with a channel for "none of the objects".

    Source: BPD as released (CZII challenge, 5th place), y284/biological-particle-detector.
    """

    widths: tuple[int, int, int] = (28, 32, 36)
    background: bool = True

    def build(self, n_objects: int) -> BPDUNet:
        """A network with new random weights and one output channel an object (and one for the background)."""
        return BPDUNet(self, n_objects + int(self.background))


class BPDUNet(nn.Module):
    """See `BPDUNetSpec`. (b, 1, z, y, x) -> logits (b, channel, z, y, x)."""

    def __init__(self, spec: BPDUNetSpec, n_out: int):
        super().__init__()
        a, b, c = spec.widths
        self.input_norm = nn.BatchNorm3d(1)
        self.encoder1 = _convolutions([1, a, a])
        self.encoder2 = _convolutions([a, b, b])
        self.bottleneck = _convolutions([b, c, c, c, c])
        self.decoder2 = _convolutions([b + c, b, b])
        up = nn.ConvTranspose3d(b, b, 2, stride=2, bias=False)
        self.up = nn.Sequential(up, BatchNorm3d(b), nn.ReLU(inplace=True))
        self.final = _convolutions([b, a, a])
        self.logits = Conv3d(a, n_out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, channel, z, y, x)."""
        # Halving by trilinear interpolation lies in the middle of eight voxels: their mean.
        half = self.encoder2(nn.functional.avg_pool3d(self.encoder1(self.input_norm(x)), 2))
        deep = self.bottleneck(nn.functional.avg_pool3d(half, 2))
        deep = nn.functional.interpolate(deep, scale_factor=2, mode="trilinear", align_corners=False)
        return exactly(self.logits, self.final(self.up(self.decoder2(torch.cat([half, deep], dim=1)))))


def _convolutions(widths: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*(conv_norm_act(a, b) for a, b in pairwise(widths)))
