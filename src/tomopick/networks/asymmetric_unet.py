"""3D networks on a ResNet-34 that end before the voxels: an asymmetric U-Net, and a feature pyramid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import Conv3d, NetworkSpec, exactly
from .flexible_unet import DECODER, Decoder
from .pretrained import load_pretrained
from .resnet3d import ResNet3D


@dataclass(frozen=True)
class AsymmetricUNetSpec(NetworkSpec):
    """A 3D ResNet-34 with a stem of three convolutions, and a decoder that ends at the output's grid.

    Attributes:
        stride: of the output, 2 or 4.
        bias: what the head's logits start at: with a sigmoid, the logarithm of how rare particles are.
        width: factor on all channels.
        pretrained: file of the encoder's weights to start from (of timm's resnet34 with a deep stem too; its kernels
            are inflated).

    Source: SemiETPicker, arXiv:2510.22454; the stride, the decoder's widths and the bias, which the paper leaves out,
    are ours.
    """

    stride: int = 2
    bias: float = -4.0
    width: float = 1.0
    pretrained: str = ""

    def __post_init__(self) -> None:
        if self.stride not in (2, 4):
            raise RecipeError(f"network.stride is {self.stride}; it can be 2 or 4")
        if not 0 < self.width <= 8:
            raise RecipeError(f"network.width is {self.width:g}; it must be a positive factor")

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return 32

    def build(self, n_objects: int) -> AsymmetricUNet:
        """A network with new random weights and one output channel an object."""
        return AsymmetricUNet(self, n_objects)

    @property
    def takes_weights(self) -> bool:
        """Whether the encoder has its full width and no weights named."""
        return self.width == 1 and not self.pretrained

    def initialise(self, network: nn.Module) -> None:
        """Fills the encoder of a new network with the pretrained weights, if the spec names any.

        Raises:
            ModelError: the file is missing or of another network.
        """
        if self.pretrained and isinstance(network, AsymmetricUNet):
            load_pretrained(network.encoder, self.pretrained)


class AsymmetricUNet(nn.Module):
    """See `AsymmetricUNetSpec`. (b, 1, z, y, x) -> logits (b, object, z/stride, y/stride, x/stride)."""

    def __init__(self, spec: AsymmetricUNetSpec, n_objects: int):
        super().__init__()
        widths = [max(1, round(n * spec.width)) for n in (64, 128, 256, 512)]
        self.encoder = ResNet3D(widths=widths, stem="deep", shortcut="B")
        stages = 4 if spec.stride == 2 else 3
        decoder = [max(1, round(n * spec.width)) for n in DECODER[:stages]]
        channels = self.encoder.channels
        self.decoder = Decoder([channels[-1], *decoder], channels[-2::-1], decoder, "nearest")
        self.head = Conv3d(decoder[-1], n_objects, 3, padding=1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, spec.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z/stride, y/stride, x/stride)."""
        return exactly(self.head, self.decoder(self.encoder(x))[-1])


@dataclass(frozen=True)
class FeaturePyramidSpec(NetworkSpec):
    """A 3D ResNet-34 whose maps, brought to one width, are summed from coarse to fine down to the output's grid.

    The encoder is that of `AsymmetricUNetSpec`, so that the two differ in how maps are joined and in nothing else.

    Attributes:
        stride: of the output, 2 or 4.
        channels: of the pyramid.
        bias: what the head's logits start at: with a sigmoid, the logarithm of how rare particles are.
        width: factor on the encoder's channels.

    Source: Lin et al. 2017, arXiv:1612.03144 (1^3 convolutions across, nearest neighbours up, sums, a 3^3 convolution
    behind them); its 256 channels are half as many here, for the third dimension.
    """

    stride: int = 2
    channels: int = 128
    bias: float = -4.0
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.stride not in (2, 4):
            raise RecipeError(f"network.stride is {self.stride}; it can be 2 or 4")
        if self.channels < 1 or not 0 < self.width <= 8:
            raise RecipeError(
                f"network.channels and network.width must be positive, not {self.channels} and {self.width:g}"
            )

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return 32

    def build(self, n_objects: int) -> FeaturePyramid:
        """A network with new random weights and one output channel an object."""
        return FeaturePyramid(self, n_objects)


class FeaturePyramid(nn.Module):
    """See `FeaturePyramidSpec`. (b, 1, z, y, x) -> logits (b, object, z/stride, y/stride, x/stride)."""

    def __init__(self, spec: FeaturePyramidSpec, n_objects: int):
        super().__init__()
        widths = [max(1, round(n * spec.width)) for n in (64, 128, 256, 512)]
        self.encoder = ResNet3D(widths=widths, stem="deep", shortcut="B")
        self.first = 0 if spec.stride == 2 else 1  # of the encoder's maps, the finest that is used
        used = self.encoder.channels[self.first :]
        self.across = nn.ModuleList([Conv3d(n, spec.channels, 1) for n in used])
        self.smooth = Conv3d(spec.channels, spec.channels, 3, padding=1)
        self.head = Conv3d(spec.channels, n_objects, 3, padding=1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, spec.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) -> logits (b, object, z/stride, y/stride, x/stride)."""
        maps = [across(m) for across, m in zip(self.across, self.encoder(x)[self.first :])]
        x = maps[-1]
        for finer in maps[-2::-1]:
            x = finer + nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        return exactly(self.head, nn.functional.relu(self.smooth(x)))
