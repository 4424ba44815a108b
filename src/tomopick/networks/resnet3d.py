"""Three-dimensional ResNets of basic blocks, as encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .blocks import BatchNorm3d, Conv3d


def _norm(n: int) -> BatchNorm3d:
    return BatchNorm3d(n)


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut; where the size changes, the shortcut is

    - "A": every second voxel, new channels zero (no parameters), or
    - "B": a 1^3 convolution and BatchNorm.

    Source: He et al. 2016, arXiv:1512.03385.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, shortcut: str):
        super().__init__()
        self.stride, self.added = stride, n_out - n_in
        self.conv1 = Conv3d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = _norm(n_out)
        self.conv2 = Conv3d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = _norm(n_out)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if shortcut == "B" and (stride > 1 or self.added):
            self.downsample = nn.Sequential(Conv3d(n_in, n_out, 1, stride=stride, bias=False), _norm(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, z/stride, y/stride, x/stride)."""
        out = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.stride > 1 or self.added:
            x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, 0, 0, self.added))
        return self.act(out + x)


class ResNet3D(nn.Module):
    """Maps of a volume at strides 2, 4, 8, 16 and 32 (one more than there are stages), finest first.

    Parameters are called as in MONAI's ResNet (and torchvision's and timm's of two dimensions).

    Args:
        depths: basic blocks of each stage.
        widths: their channels.
        stem: "plain", a 7^3 convolution; or "deep", three 3^3 ones (half, half, all of the channels).
        shortcut: see `BasicBlock`.

    Source: He et al. 2016, arXiv:1512.03385 (ResNet-34: 3, 4, 6, 3 blocks); the deep stem is ResNet-C of He et al.
    2019, arXiv:1812.01187.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: str = "plain",
        shortcut: str = "A",
    ):
        super().__init__()
        self.channels = (widths[0], *widths[: len(depths)])
        self.conv1 = _deep_stem(widths[0]) if stem == "deep" else Conv3d(1, widths[0], 7, 2, padding=3, bias=False)
        self.bn1 = _norm(widths[0])
        self.act = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        n_in, self.stages = widths[0], len(depths)
        for i, (depth, width) in enumerate(zip(depths, widths)):
            strides = [2 if i else 1] + [1] * (depth - 1)
            inputs = [n_in] + [width] * (depth - 1)
            blocks = [BasicBlock(n, width, s, shortcut) for n, s in zip(inputs, strides)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            n_in = width
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(b, 1, z, y, x) -> maps (b, channels[i], z/stride, ...)."""
        x = self.act(self.bn1(self.conv1(x)))
        maps = [x]
        x = self.maxpool(x)
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
            maps.append(x)
        return maps


def _deep_stem(width: int) -> nn.Sequential:
    half = max(1, width // 2)
    return nn.Sequential(
        *(Conv3d(1, half, 3, stride=2, padding=1, bias=False), _norm(half), nn.ReLU(inplace=True)),
        *(Conv3d(half, half, 3, padding=1, bias=False), _norm(half), nn.ReLU(inplace=True)),
        Conv3d(half, width, 3, padding=1, bias=False),
    )
