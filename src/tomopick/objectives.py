"""What is learned: an objective turns the training state and a batch into a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from .engines import autocast
from .losses import Loss
from .patches import Batch

if TYPE_CHECKING:
    from .train import TrainState


class Objective(Protocol):
    """One method; the training loop knows no other."""

    def loss(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """Scalar loss of a batch that is already on the network's device."""


@dataclass(frozen=True)
class SupervisedSpec:
    """Learns from labels alone."""

    def build(self, loss: Loss) -> Supervised:
        """The objective for a loss."""
        return Supervised(self, loss)


@dataclass(frozen=True)
class Supervised:
    """See `SupervisedSpec`."""

    spec: SupervisedSpec
    criterion: Loss

    def loss(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """Loss of the network's prediction."""
        with autocast(batch.volume.device):
            logits = state.network(batch.volume)
        return self.criterion(logits, batch.target, batch.known)
