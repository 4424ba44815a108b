"""Two-dimensional ConvNeXt stages under timm's parameter names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of (b, c, y, x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, y, x) -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(n, n, 7, padding=3, groups=n)
        self.norm = LayerNorm2d(n, eps=1e-6)
        layers = OrderedDict(fc1=nn.Conv2d(n, 4 * n, 1), act=nn.GELU(), fc2=nn.Conv2d(4 * n, n, 1))
        self.mlp = nn.Sequential(layers)
        self.gamma = nn.Parameter(1e-6 * torch.ones(n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n, y, x) -> the same shape."""
        return x + self.mlp(self.norm(self.conv_dw(x))) * self.gamma[:, None, None]


class _Stage(nn.Module):
    def __init__(self, n_in: int, n_out: int, depth: int, halve: bool):
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if halve:
            self.downsample = nn.Sequential(LayerNorm2d(n_in, eps=1e-6), nn.Conv2d(n_in, n_out, 2, stride=2))
        self.blocks = nn.Sequential(*(_Block(n_out) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, y, x) -> (b, n_out, y, x), or half that size."""
        return self.blocks(self.downsample(x))


class ConvNeXt(nn.Module):
    """Stages of a ConvNeXt whose MLPs are 1 x 1 convolutions; their maps lie at strides 4, 8, 16 and 32.

    Args:
        n_in: input channels.
        depths: blocks of each stage.
        widths: channels of each stage.

    Source: Liu et al. 2022, arXiv:2201.03545; the defaults are timm's convnext_nano.
    """

    def __init__(self, n_in: int, depths: Sequence[int] = (2, 2, 8, 2), widths: Sequence[int] = (80, 160, 320, 640)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(n_in, widths[0], 4, stride=4), LayerNorm2d(widths[0], eps=1e-6))
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            [_Stage(a, b, depth, i > 0) for i, (a, b, depth) in enumerate(zip(inputs, widths, depths))]
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
