"""What logits mean: from a network's output to a heatmap. All of a loss that picking needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from ..core.errors import RecipeError


class Activation(Protocol):
    """How the logits of a network become a heatmap."""

    @property
    def background(self) -> str:
        """Where the channel for "none of the objects" lies, "first" or "last"; "" where there is none."""
        return ""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ([b,] channel, z, y, x) -> heatmap ([b,] object, z, y, x), 0..1 unless a regression overshoots."""


@dataclass(frozen=True)
class Rectified(Activation):
    """The output is the heatmap itself from 0 upwards; above 1 it is left, for a cut-off top would move the peak."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """([b,] object, z, y, x) -> the same shape."""
        return logits.float().clamp(min=0)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """Each object by itself, 0..1."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """([b,] object, z, y, x) -> the same shape."""
        return logits.float().sigmoid()


@dataclass(frozen=True)
class Softmax(Activation):
    """Objects and background compete for every cell; the background's share is left out.

    Attributes:
        background: where its channel lies, "first" or "last".
    """

    background: str = "last"

    def __post_init__(self) -> None:
        require_background(self.background, "activation")

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """([b,] object + 1, z, y, x) -> ([b,] object, z, y, x)."""
        return without_background(logits.float().softmax(dim=-4), self.background)


def require_background(background: str, section: str) -> None:
    """Raises `RecipeError` where a section's `background` is no place for a channel."""
    if background not in ("first", "last"):
        raise RecipeError(f"{section}.background is '{background}'; it can be first or last")


def without_background(channels: torch.Tensor, background: str) -> torch.Tensor:
    """([b,] object + 1, z, y, x) -> ([b,] object, z, y, x)."""
    start = 1 if background == "first" else 0
    return channels.narrow(-4, start, channels.shape[-4] - 1)
