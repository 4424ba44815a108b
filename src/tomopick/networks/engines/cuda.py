"""CUDA: what a network launches is recorded once a shape of tile, and played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from .device import RECORDING, half_precision
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

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """(1, 1, z, y, x) float32 anywhere -> (1, channel, ...) float32 on the device."""
        if self._recorded is None or self._recorded.tile.shape != batch.shape:
            self._recorded = None  # first, for each holds the memory of all its layers
            with RECORDING:
                self._recorded = self._record(batch.to(self.device, copy=True, memory_format=torch.contiguous_format))
        self._recorded.tile.copy_(batch, non_blocking=True)
        self._recorded.graph.replay()
        return self._recorded.logits.clone()  # the next tile's are written over them

    def _record(self, tile: torch.Tensor) -> _Recording:
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        # Flags that are not named are off in here, cuDNN itself among them.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self._run(tile)
            torch.cuda.current_stream(self.device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Its own stream may be of another GPU. Other threads may send volumes up meanwhile.
            with torch.cuda.graph(graph, stream=torch.cuda.Stream(self.device), capture_error_mode="thread_local"):
                logits = self._run(tile)
        return _Recording(graph, tile, logits)

    def _run(self, tile: torch.Tensor) -> torch.Tensor:
        dtype = half_precision(self.device) if self.half else None
        # Weights cast once outside of the recording would be freed with autocast's cache.
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            return self.network(tile).float()
