"""Two-dimensional ResNet-RS stages under timm's parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

EXPANSION = 4


class _SqueezeExcite(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        squeezed = max(8, (n // 4 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(n, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, n, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n, y, x) -> the same shape."""
        gate = self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class _Bottleneck(nn.Module):
    def __init__(self, n_in: int, width: int, stride: int):
        super().__init__()
        n_out = width * EXPANSION
        self.conv1 = nn.Conv2d(n_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.se = _SqueezeExcite(n_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
            conv = nn.Conv2d(n_in, n_out, 1, bias=False)
            self.downsample = nn.Sequential(pool, conv, nn.BatchNorm2d(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, y, x) -> (b, 4 width, y/stride, x/stride)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        return torch.relu(out + self.downsample(x))


class ResNetRS(nn.Module):
    """Stem and stages of a ResNet-RS; their maps lie at strides 2 (stem), 4, 8, 16 and 32.

    Args:
        n_in: input channels.
        depths: bottlenecks of each stage.
        widths: inner channels of each stage; four times as many come out.

    Source: Bello et al. 2021, arXiv:2103.07579; the defaults are timm's resnetrs50.
    """

    def __init__(self, n_in: int, depths: Sequence[int] = (3, 4, 6, 3), widths: Sequence[int] = (64, 128, 256, 512)):
        super().__init__()
        first, half = widths[0], max(1, widths[0] // 2)
        self.conv1 = nn.Sequential(
            *(nn.Conv2d(n_in, half, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True)),
            *(nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True)),
            nn.Conv2d(half, first, 3, padding=1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(first)
        pool = nn.Conv2d(first, first, 3, stride=2, padding=1, bias=False)
        self.maxpool = nn.Sequential(pool, nn.BatchNorm2d(first), nn.ReLU(inplace=True))
        self.channels = (first, *(EXPANSION * n for n in widths))
        for i, (before, width, depth) in enumerate(zip(self.channels, widths, depths)):
            inputs = [before] + [EXPANSION * width] * (depth - 1)
            strides = [2 if i else 1] + [1] * (depth - 1)
            blocks = [_Bottleneck(n, width, s) for n, s in zip(inputs, strides)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, _Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def stage(self, i: int, x: torch.Tensor) -> torch.Tensor:
        """The map of stage `i` (0: the stem) from that of the stage before, or the image: (b, channels[i], y, x)."""
        if i == 0:
            return torch.relu(self.bn1(self.conv1(x)))
        return self.get_submodule(f"layer{i}")(self.maxpool(x) if i == 1 else x)
