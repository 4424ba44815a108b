"""CUDA: what a network launches is recorded once a shape of tile, and played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .device import half_precision
from .eager import TorchEngine

WARM_UP = 3  # runs in which cuDNN chooses its kernels


@dataclass(frozen=True)
class _Recording:
    """What was launched, the tile that it reads and the logits that it leaves."""

    graph: torch.cuda.CUDAGraph
    tile: torch.Tensor
    logits: torch.Tensor


class CudaGraphEngine(TorchEngine):
    """Half precision and a CUDA graph: a small network's hundreds of launches cost more time than its arithmetic."""

    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    name = "cuda graph"
    _recorded: _Recording | None = None

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
        dtype = half_precision(self.device) if self.half else None
        # Weights cast once outside of the recording would be freed with autocast's cache.
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            return self.network(tile).float()
