"""The families of networks. A network's spec has `build(n_objects)`, `stride` and `multiple`."""

from typing import Protocol

from torch import nn

from .unet import UNet, UNetSpec

__all__ = ["NetworkSpec", "UNet", "UNetSpec"]


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
