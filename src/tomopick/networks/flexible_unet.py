"""3D U-Nets on a ResNet or EfficientNet, with a head at several strides."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..core.errors import RecipeError
from .blocks import BatchNorm3d, Conv3d, NetworkSpec, exactly
from .efficientnet3d import EfficientNet3D, rename_timm
from .pretrained import load_pretrained
from .resnet3d import ResNet3D

ENCODERS = ("efficientnet-b3", "resnet34")
UPSAMPLING = ("nearest", "transposed")
DECODER = (256, 128, 64, 32, 16)  # channels at strides 16, 8, 4, 2, 1


@dataclass(frozen=True)
class FlexibleUNetSpec(NetworkSpec):
    """A 3D U-Net on a classification network; output stride 2.

    Attributes:
        encoder: "resnet34" or "efficientnet-b3".
        upsample: "nearest": a 1^3 convolution halves the channels, then every cell is doubled; "transposed": a
            transposed convolution does both.
        deepest: stride of the coarsest map that is used, 32 or 16.
        heads: how many outputs in training, at strides 2, 4, 8 and 16; picking uses the finest alone.
        background: with a channel for "none of the objects".
        width: factor on all channels.
        unused: with the layers that published weights hold and nothing uses, so that they load whole.
        pretrained: file of the encoder's weights to start from (of 2D networks too; their kernels are inflated).

    Source: FlexibleUNet of MONAI as in TopCUP (CZII challenge, 1st place): decoder 256, 128, 64, 32.
    """

    encoder: str = "resnet34"
    upsample: str = "nearest"
    deepest: int = 32
    heads: int = 4
    background: bool = True
    width: float = 1.0
    unused: bool = False
    pretrained: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (("encoder", ENCODERS), ("upsample", UPSAMPLING), ("deepest", (16, 32))):
            if getattr(self, name) not in allowed:
                expected = " or ".join(map(str, allowed))
                raise RecipeError(f"network.{name} is {getattr(self, name)}; it can be {expected}")
        most = 4 if self.deepest == 32 else 3
        if not 1 <= self.heads <= most:
            raise RecipeError(f"network.heads is {self.heads}; it can be 1 to {most}, one an up-sampling stage")
        if not 0 < self.width <= 8:
            raise RecipeError(f"network.width is {self.width:g}; it must be a positive factor")

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 2

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return self.deepest

    def build(self, n_objects: int) -> FlexibleUNet:
        """A network with new random weights and one output channel an object (and one for the background)."""
        return FlexibleUNet(self, n_objects)

    @property
    def takes_weights(self) -> bool:
        """Whether the encoder has its full width and no weights named."""
        return self.width == 1 and not self.pretrained

    def initialise(self, network: nn.Module) -> None:
        """Fills the encoder of a new network with the pretrained weights, if the spec names any.

        Raises:
            ModelError: the file is missing or of another network.
        """
        if self.pretrained and isinstance(network, FlexibleUNet):
            load_pretrained(network.encoder, self.pretrained, rename_timm)


class FlexibleUNet(nn.Module):
    """See `FlexibleUNetSpec`. (b, 1, z, y, x) -> logits (b, channel, z/2, y/2, x/2).

    In training a tuple of them where there are several heads, coarsest first.
    """

    def __init__(self, spec: FlexibleUNetSpec, n_objects: int):
        super().__init__()
        self.encoder = _encoder(spec)
        first = 0 if spec.deepest == 32 else 1
        widths = [max(1, round(n * spec.width)) for n in DECODER[first : 5 if spec.unused else 4]]
        skips = [*self.encoder.channels[-2::-1], 0]
        inputs = [self.encoder.channels[-1], *widths]
        self.decoder = Decoder(inputs, skips, widths, spec.upsample)
        with_heads = widths[: 4 - first][-spec.heads :]
        n_out = n_objects + int(spec.background)
        self.segmentation_heads = nn.ModuleList([_head(n, n_out) for n in with_heads])

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """(b, 1, z, y, x) -> logits (b, channel, z/2, y/2, x/2); in training those of all heads, coarsest first."""
        maps = self.decoder(self.encoder(x))
        heads = list(zip(self.segmentation_heads, maps[-len(self.segmentation_heads) :]))
        if self.training and len(heads) > 1:
            return tuple(exactly(head, m) for head, m in heads)
        head, finest = heads[-1]
        return exactly(head, finest)


def _encoder(spec: FlexibleUNetSpec) -> ResNet3D | EfficientNet3D:
    if spec.encoder == "efficientnet-b3":
        return EfficientNet3D(spec.width, spec.deepest, classifier=spec.unused)
    widths = [max(1, round(n * spec.width)) for n in (64, 128, 256, 512)]
    return ResNet3D((3, 4, 6, 3) if spec.deepest == 32 else (3, 4, 6), widths)


def _head(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(Conv3d(n_in, n_out, 3, padding=1))


class Decoder(nn.Module):
    """Joins an encoder's maps from coarse to fine, one block a stage; blocks beyond the finest map lie unused.

    Args:
        inputs: channels that each block starts from.
        skips: channels of the map that it joins.
        widths: channels that it gives.
        upsample: see `FlexibleUNetSpec`.
    """

    def __init__(self, inputs: Sequence[int], skips: Sequence[int], widths: Sequence[int], upsample: str):
        super().__init__()
        blocks = [_UpCat(a, skip, b, upsample) for a, skip, b in zip(inputs, skips, widths)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """An encoder's maps, finest first -> decoded ones, coarsest first, down to the encoder's finest."""
        x, decoded = maps[-1], []
        for block, skip in zip(self.blocks, maps[-2::-1]):
            x = block(x, skip)
            decoded.append(x)
        return decoded


class _UpCat(nn.Module):
    def __init__(self, n_in: int, n_skip: int, n_out: int, upsample: str):
        super().__init__()
        n = n_in // 2 if n_skip else n_in
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if upsample == "transposed":
            layers["deconv"] = nn.ConvTranspose3d(n_in, n, 2, stride=2)
        else:
            if n_skip:
                layers["preconv"] = Conv3d(n_in, n, 1)
            layers["up"] = nn.Upsample(scale_factor=2, mode="nearest")
        self.upsample = nn.Sequential(layers)
        self.convs = nn.Sequential(
            OrderedDict(conv_0=_convolution(n + n_skip, n_out), conv_1=_convolution(n_out, n_out))
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) and a map of twice its size -> (b, n_out, 2z, 2y, 2x)."""
        return self.convs(torch.cat([skip, self.upsample(x)], dim=1))


def _convolution(n_in: int, n_out: int) -> nn.Sequential:
    after = nn.Sequential(OrderedDict(N=BatchNorm3d(n_out, eps=1e-3), A=nn.ReLU(inplace=True)))
    return nn.Sequential(OrderedDict(conv=Conv3d(n_in, n_out, 3, padding=1, bias=False), adn=after))
