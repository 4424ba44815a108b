"""Running averages of weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class RunningAverage:
    """Exponential moving average of a network's parameters and buffers (BatchNorm statistics included).

    Attributes:
        decay: of the average.
        tensors: the averages by parameter or buffer name; counters among them (BatchNorm's of its batches) are the
            network's present ones.
        updates: how many there have been.
        forgets_start: early on the decay is (1 + n) / (10 + n), for a start that is random; a start that is worth
            keeping has the full decay from the first update on.
    """

    decay: float
    tensors: dict[str, torch.Tensor]
    updates: int = 0
    forgets_start: bool = True

    @classmethod
    def of(cls, network: nn.Module, decay: float, forgets_start: bool = True) -> RunningAverage:
        """Starts at the network's present weights."""
        tensors = {k: v.detach().clone() for k, v in network.state_dict().items()}
        return cls(decay, tensors, forgets_start=forgets_start)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes the network's present weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.forgets_start else self.decay
        present = network.state_dict()
        averaged = [name for name, value in present.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in averaged], [present[n].detach() for n in averaged], 1 - decay)
        for name in present.keys() - set(averaged):
            self.tensors[name].copy_(present[name])
        self.updates += 1
