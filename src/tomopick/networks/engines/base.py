"""What an engine is. It is called with an array and answers with an array."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

import torch
from torch import nn

from ...core.arrays import Array

PRECISIONS = ("half", "f32", "int8")


class Engine(Protocol):
    """Runs a network."""

    def __call__(self, tile: Array) -> Array:
        """(z, y, x) float32 -> logits (channel, z/stride, y/stride, x/stride) float32.

        A tensor on the device `tensors_on` is answered with a tensor there, an array with an array.
        """

    @property
    def tensors_on(self) -> torch.device | None:
        """The device whose tensors it takes beside arrays; None: it takes arrays alone."""
        return None


class EngineKind(Protocol):
    """A way of running networks; called with a network it makes it ready to run.

    Attributes:
        devices: types of device that it runs on.
        precisions: of `PRECISIONS`, those that it knows. `half` is 16 bits where the device computes faster in them.
    """

    devices: tuple[str, ...]
    precisions: tuple[str, ...]

    @staticmethod
    def lacking(device: torch.device) -> str:
        """What has to be installed before it runs on a device, in words; empty where nothing has."""

    def __call__(self, network: nn.Module, device: torch.device, precision: str = "half", multiple: int = 8) -> Engine:
        """An engine for a network.

        Args:
            network: trained; its weights stay as they are, their device and layout may not.
            device: of a type in `devices`.
            precision: one of `precisions`.
            multiple: what the edges of tiles are divisible by [voxels].
        """


def lacking_package(package: str, extra: str = "") -> str:
    """Empty if a package can be imported, else what to install; `extra` is ours that brings it, if one does."""
    if find_spec(package) is not None:
        return ""
    ours = f"pip install 'tomopick[{extra}]' (or pip install {package})" if extra else f"pip install {package}"
    return f"it needs the package {package}: {ours}"
