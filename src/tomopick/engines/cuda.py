"""CUDA: what a network launches is recorded once a shape of tile, and played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from .device import half_precision, place, type_name

WARM_UP = 3  # runs in which cuDNN chooses its kernels


@dataclass(frozen=True)
class _Recording:
    """What was launched, the tile that it reads and the logits that it leaves."""

    graph: torch.cuda.CUDAGraph
    tile: torch.Tensor
    logits: torch.Tensor


class CudaGraphEngine:
    """Half precision and a CUDA graph: a small network's hundreds of launches cost more time than its arithmetic."""

    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    precisions: ClassVar[tuple[str, ...]] = ("half", "f32")

    def __init__(self, network: nn.Module, device: torch.device, precision: str = "half", multiple: int = 8):
        self.network = place(network, device).eval()
        self.device = device
        self.precision = precision
        self._recorded: _Recording | None = None

    def __str__(self) -> str:
        return f"cuda graph {type_name(self.device, self.precision)} on {self.device}"

    @staticmethod
    def lacking(device: torch.device) -> str:
        """Nothing."""
        return ""

    @torch.inference_mode()
    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """(z, y, x) float32 -> logits (channel, ...) float32."""
        values = torch.from_numpy(np.ascontiguousarray(tile))[None, None]
        if self._recorded is None or self._recorded.tile.shape != values.shape:
            self._recorded = None  # first, for each holds the memory of all its layers
            self._recorded = self._record(values.to(self.device))
        self._recorded.tile.copy_(values, non_blocking=True)
        self._recorded.graph.replay()
        return self._recorded.logits[0].cpu().numpy()

    def _record(self, tile: torch.Tensor) -> _Recording:
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside), torch.backends.cudnn.flags(benchmark=True):
            for _ in range(WARM_UP):
                self._run(tile)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(self.device)):  # its own may be of another GPU
            logits = self._run(tile)
        return _Recording(graph, tile, logits)

    def _run(self, tile: torch.Tensor) -> torch.Tensor:
        dtype = half_precision(self.device) if self.precision == "half" else None
        # Weights cast once outside of the recording would be freed with autocast's cache.
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            return self.network(tile).float()
