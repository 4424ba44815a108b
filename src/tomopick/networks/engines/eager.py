"""torch, as it is and compiled."""

from __future__ import annotations

import os
import shutil
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from ...core.arrays import Array, is_tensor
from .base import Engine
from .convert import quietly
from .device import autocast, place, type_name


class TorchEngine(Engine):
    """Eager torch in mixed precision, channels last.

    BatchNorm is not folded into the convolutions: with bf16 that made 2 % here.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    precisions: ClassVar[tuple[str, ...]] = ("half", "f32")
    name = "torch"

    def __init__(self, network: nn.Module, device: torch.device, precision: str = "half", multiple: int = 8):
        self.network = place(network, device).eval()
        self.device = device
        self.half = precision == "half"

    def __str__(self) -> str:
        return f"{self.name} {type_name(self.device, 'half' if self.half else 'f32')} on {self.device}"

    @staticmethod
    def lacking(device: torch.device) -> str:
        """Nothing."""
        return ""

    @property
    def tensors_on(self) -> torch.device:
        """Of tiles that may be tensors."""
        return self.device

    @torch.inference_mode()
    def __call__(self, tile: Array) -> Array:
        """(z, y, x) float32 -> logits (channel, ...) float32."""
        if is_tensor(tile):
            return self.logits(tile[None, None])[0]
        return self.logits(torch.from_numpy(np.ascontiguousarray(tile))[None, None])[0].cpu().numpy()

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """(1, 1, z, y, x) float32 anywhere -> (1, channel, ...) float32 on the device."""
        with autocast(self.device, self.half):
            return self.network(batch.to(self.device)).float()


class CompiledEngine(TorchEngine):
    """torch.compile, once a shape of tile; all tiles of a volume have one shape.

    Not once for all shapes (`dynamic=True`): in torch 2.13 that fails on three-dimensional convolutions.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    name = "compile"

    def __init__(self, network: nn.Module, device: torch.device, precision: str = "half", multiple: int = 8):
        super().__init__(network, device, precision, multiple)
        with quietly():
            self.network = torch.compile(self.network, dynamic=False)  # type: ignore[assignment]

    @staticmethod
    def lacking(device: torch.device) -> str:
        """A C++ compiler, on a CPU."""
        if device.type != "cpu" or any(map(shutil.which, (os.environ.get("CXX") or "g++", "g++", "clang++", "cl"))):
            return ""
        return "it needs a C++ compiler: install g++ or clang++"
