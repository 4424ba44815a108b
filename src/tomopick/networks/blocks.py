"""Building blocks shared by the families of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from ..core.errors import RecipeError
from .pretrained import load_pretrained


class Conv3d(nn.Conv3d):
    """A convolution whose training in bfloat16 can be relied on.

    Where a volume is no deeper than the kernel, oneDNN's bfloat16 gradient of the weights is not computed but whatever
    lay in memory (measured with torch 2.13 on a CPU: depth 2 for edge 3, 3 to 5 for edge 7). There it works in float32.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Conv3d`."""
        trained = torch.is_grad_enabled() and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if trained and self.kernel_size[0] > 1 and input.shape[2] <= self.kernel_size[0]:
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


def conv_norm_act(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU; size kept at stride 1, halved exactly at stride 2.

    An even kernel at stride 2 keeps the cells of the output centred on pairs of voxels.
    """
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    return nn.Sequential(
        Conv3d(n_in, n_out, kernel, stride=stride, padding=padding, bias=False),
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


class SlicesAndVolumes(nn.Module):
    """A network with two- and three-dimensional convolutions that can be laid out channels last as a whole."""

    def to(self, *args: Any, **options: Any) -> SlicesAndVolumes:
        """As any module's; of a memory format, each weight takes the one for its number of dimensions."""
        wanted = options.pop("memory_format", None)
        if wanted is not None:
            for p in self.parameters():
                if wanted is torch.contiguous_format or p.ndim not in (4, 5):
                    p.data = p.data.contiguous()
                else:
                    p.data = p.data.contiguous(
                        memory_format=torch.channels_last if p.ndim == 4 else torch.channels_last_3d
                    )
        return super().to(*args, **options) if args or options else self


def exactly(head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A head's logits in full precision: half precision's steps of 1/256 near 1 would move peaks."""
    with torch.autocast(x.device.type, enabled=False):
        return head(x.float())


def as_slices(x: torch.Tensor) -> torch.Tensor:
    """(b, c, z, y, x) -> (b * z, c, y, x)."""
    return x.transpose(1, 2).flatten(0, 1)


def as_volume(x: torch.Tensor, batch: int) -> torch.Tensor:
    """(b * z, c, y, x) -> (b, c, z, y, x)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def pad_to(x: torch.Tensor, multiples: Sequence[int]) -> torch.Tensor:
    """Zeros behind the end of z, y and x of (b, c, z, y, x), up to the next multiple of each."""
    lacking = [-n % m for n, m in zip(x.shape[2:], multiples)]
    return nn.functional.pad(x, (0, lacking[2], 0, lacking[1], 0, lacking[0])) if any(lacking) else x


def depth_to_space(x: torch.Tensor, factor: int) -> torch.Tensor:
    """(b, c f^3, z, y, x) -> (b, c, f z, f y, f x): channel c f^3 + (a f + b) f + d goes to offset (a, b, d).

    Source: the three-dimensional form of Shi et al. 2016, arXiv:1609.05158, as in the CZII challenge's 4th place.
    """
    f, (batch, _, z, y, w) = factor, x.shape
    x = x.reshape(batch, -1, f, f, f, z, y, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(batch, -1, f * z, f * y, f * w)


class NetworkSpec(Protocol):
    """What a recipe needs to know about a network before it is built."""

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by."""

    def build(self, n_objects: int) -> nn.Module:
        """A network with new random weights: (b, 1, z, y, x) -> logits (b, n_objects, ...)."""

    @property
    def background(self) -> bool:
        """Whether it has a channel for "none of the objects"; where that lies is the activation's business."""
        return False

    @property
    def takes_weights(self) -> bool:
        """Whether a new network has a place for pretrained weights, and the spec names none yet as `pretrained`."""
        return False

    def initialise(self, network: nn.Module) -> None:
        """Fills a new network with the pretrained weights that the spec names, if it names any; before training only.

        Raises:
            ModelError: the file is missing or of another network.
        """
        return


class ThreeLevelSpec(NetworkSpec):
    """What the specs of networks of three levels share that keep the volume's size: output stride 1, halved twice."""

    widths: tuple[int, int, int]

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise RecipeError(f"network.widths needs three positive widths, not {self.widths}")

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return 4


class SlicedSpec(NetworkSpec):
    """What the specs of 2.5D networks share: output stride 1, padding inside, a 2D `backbone` with weights to load."""

    width: float
    pretrained: str

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]; what else is missing is padded."""
        return 8

    def check_width(self) -> None:
        """Raises `RecipeError` for a factor that no network can have."""
        if not 0 < self.width <= 8:
            raise RecipeError(f"network.width is {self.width:g}; it must be a positive factor")

    @property
    def takes_weights(self) -> bool:
        """Whether the 2D network has its full width and no weights named."""
        return self.width == 1 and not self.pretrained

    def initialise(self, network: nn.Module) -> None:
        """Fills the 2D network with the pretrained weights, if the spec names any.

        Raises:
            ModelError: the file is missing or of another network.
        """
        if self.pretrained and isinstance(network, SlicesAndVolumes):
            load_pretrained(network.get_submodule("backbone"), self.pretrained)
