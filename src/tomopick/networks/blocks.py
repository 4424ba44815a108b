"""Building blocks shared by the families of networks."""

from __future__ import annotations

import torch
from torch import nn


def conv_norm_act(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU; size kept at stride 1, halved exactly at stride 2.

    An even kernel at stride 2 keeps the cells of the output centred on pairs of voxels.
    """
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    return nn.Sequential(
        nn.Conv3d(n_in, n_out, kernel, stride=stride, padding=padding, bias=False),
        nn.BatchNorm3d(n_out),
        nn.ReLU(inplace=True),
    )


class TrilinearUp(nn.Module):
    """Twice the size by trilinear interpolation, then a convolution block."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = conv_norm_act(n_in, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, 2z, 2y, 2x)."""
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False))
