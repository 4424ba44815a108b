"""Running averages of weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class RunningAverage:
    """Exponential moving average of a network's parameters and buffers (BatchNorm statistics included).

    Attributes:
        decay: of the average; early on it is (1 + n) / (10 + n), so that the random start is forgotten.
        tensors: the averages by parameter or buffer name.
        updates: how many there have been.
    """

    decay: float
    tensors: dict[str, torch.Tensor]
    updates: int = 0

    @classmethod
    def of(cls, network: nn.Module, decay: float) -> RunningAverage:
        """Starts at the network's present weights."""
        return cls(decay, {k: v.detach().clone() for k, v in network.state_dict().items()})

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes the network's present weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value.detach(), 1 - decay)
            else:
                self.tensors[name].copy_(value)
        self.updates += 1
