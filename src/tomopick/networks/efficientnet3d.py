"""The three-dimensional EfficientNet-B3, as an encoder."""

from __future__ import annotations

import math
import re
from collections import OrderedDict

import torch
from torch import nn

from .blocks import BatchNorm3d, Conv3d
from .pretrained import Weights

# Kernel, stride, expansion, channels and blocks of the stages of EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946,
# table 1); B3 is 1.2 times as wide and 1.4 times as deep.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_WIDTH, _DEPTH = 1.2, 1.4
_MAPS = (0, 1, 2, 4, 6)  # stages whose output is the last one of its stride
_DROP = 0.2  # chance that the last block of a training step is left out; the first never is


def _channels(n: int, width: float) -> int:
    """Scaled to the nearest multiple of 8, and no more than a tenth below."""
    scaled = n * _WIDTH * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _norm(n: int) -> BatchNorm3d:
    return BatchNorm3d(n, eps=1e-3, momentum=0.01)


def _pad(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Zeros so that the size is divided by the stride: behind the end where they cannot be shared out equally.

    The published network fixes them for an image of 300 pixels, where its inputs to the 5^3 kernels of stride 2 have
    an odd size; there they are equal on both sides, and so they are here for any size.
    """
    before = 0 if (kernel, stride) == (3, 2) else kernel // 2
    after = kernel // 2
    return nn.functional.pad(x, (before, after) * 3)


class MBConv(nn.Module):
    """Inverted bottleneck with squeeze-and-excitation.

    Source: Tan & Le 2019, arXiv:1905.11946; parameter names as in MONAI's EfficientNet.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int, drop: float):
        super().__init__()
        n, squeezed = n_in * expansion, max(1, n_in // 4)
        self.kernel, self.stride, self.drop = kernel, stride, drop
        self.skip = stride == 1 and n_in == n_out
        if expansion > 1:
            self._expand_conv = Conv3d(n_in, n, 1, bias=False)
            self._bn0 = _norm(n)
        self.expanded = expansion > 1
        self._depthwise_conv = Conv3d(n, n, kernel, stride=stride, groups=n, bias=False)
        self._bn1 = _norm(n)
        self._se_reduce = Conv3d(n, squeezed, 1)
        self._se_expand = Conv3d(squeezed, n, 1)
        self._project_conv = Conv3d(n, n_out, 1, bias=False)
        self._bn2 = _norm(n_out)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, z/stride, y/stride, x/stride)."""
        out = self.act(self._bn0(self._expand_conv(x))) if self.expanded else x
        out = self.act(self._bn1(self._depthwise_conv(_pad(out, self.kernel, self.stride))))
        gate = self._se_expand(self.act(self._se_reduce(out.mean(dim=(2, 3, 4), keepdim=True))))
        out = self._bn2(self._project_conv(out * torch.sigmoid(gate)))
        if not self.skip:
            return out
        if self.training and self.drop:  # stochastic depth: whole samples skip the block
            keep = torch.rand((len(x), 1, 1, 1, 1), device=x.device) >= self.drop
            out = out * keep.to(out.dtype) / (1 - self.drop)
        return out + x


class EfficientNet3D(nn.Module):
    """Maps of a volume at strides 2, 4, 8, 16 and 32, finest first.

    Args:
        width: factor on all channels.
        deepest: coarsest stride wanted; what only a coarser map needs is left out.
        classifier: with the layers behind the last map, which are never used but lie in published weights.
    """

    def __init__(self, width: float = 1.0, deepest: int = 32, classifier: bool = False):
        super().__init__()
        n_in = _channels(32, width)
        self._conv_stem = Conv3d(1, n_in, 3, stride=2, bias=False)
        self._bn0 = _norm(n_in)
        self.act = nn.SiLU(inplace=True)
        depths = [math.ceil(depth * _DEPTH) for *_, depth in _STAGES]
        stages, channels, index = [], [], 0
        for i, (kernel, stride, expansion, n, _) in enumerate(_STAGES[: 7 if deepest == 32 else 5]):
            n_out = _channels(n, width)
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for j in range(depths[i]):
                drop = _DROP * index / sum(depths)
                blocks[str(index)] = MBConv(n_in, n_out, kernel, 1 if j else stride, expansion, drop)
                n_in, index = n_out, index + 1
            stages.append(nn.Sequential(blocks))
            channels += [n_out] if i in _MAPS else []
        self._blocks = nn.Sequential(*stages)
        self.channels = tuple(channels)
        if classifier:
            head = _channels(1280, width)
            self._conv_head = Conv3d(n_in, head, 1, bias=False)
            self._bn1 = _norm(head)
            self._fc = nn.Linear(head, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                fan = module.kernel_size[0] ** 3 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(b, 1, z, y, x) -> maps (b, channels[i], z/stride, ...)."""
        x = self.act(self._bn0(self._conv_stem(_pad(x, 3, 2))))
        maps = []
        for i, stage in enumerate(self._blocks):
            x = stage(x)
            maps += [x] if i in _MAPS else []
        return maps


_OF_TIMM = {
    "conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc",
}  # fmt: skip
_OF_SEPARABLE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_OF_INVERTED = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip
_OF_BOTH = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}


def rename_timm(weights: Weights) -> Weights:
    """Weights under timm's names for efficientnet_b3 under ours; others as they are."""
    if "conv_stem.weight" not in weights:
        return weights
    starts = [0]
    for *_, depth in _STAGES:
        starts.append(starts[-1] + math.ceil(depth * _DEPTH))
    renamed = {}
    for name, tensor in weights.items():
        part, _, tail = name.rpartition(".")
        block = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", part)
        if block:
            stage, i, layer = int(block[1]), int(block[2]), block[3]
            layers = (_OF_INVERTED if stage else _OF_SEPARABLE) | _OF_BOTH
            part = f"_blocks.{stage}.{starts[stage] + i}.{layers.get(layer, layer)}"
        renamed[f"{_OF_TIMM.get(part, part)}.{tail}"] = tensor
    return renamed
