"""Losses. Each is called with (logits, target, known) and says how its logits become a heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Loss(Protocol):
    """What an objective minimises."""

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean loss (scalar) of logits and target (b, object, z, y, x); `known` (b, object) is 1 where labelled."""

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits -> heatmap, 0..1 but for what a regression overshoots."""


@dataclass(frozen=True)
class HeatmapWeightedMSE:
    """Squared error weighted with target + floor, so that particles count more than the background around them.

    Attributes:
        floor: weight of the background.

    Source: CZII 4th place (yu4u), mean[(prediction - target)^2 (target + 0.1)], on a linear output.
    """

    floor: float = 0.1

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean over the channels that are known."""
        error = ((logits.float() - target).square() * (target + self.floor)).mean(dim=(2, 3, 4))
        return (error * known).sum() / known.sum().clamp(min=1)

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """The output is the heatmap itself; above 1 it is left as it is, for a cut-off top would move the peak."""
        return logits.float().clamp(min=0)
