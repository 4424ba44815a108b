"""How the learning rate falls: factors of the largest rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import RecipeError


class Schedule(Protocol):
    """A factor of the learning rate behind the warm-up."""

    def __call__(self, progress: float, scores: Sequence[float]) -> float:
        """The factor at a share of the training, 0 to 1, after validations of the given scores (higher is better)."""


@dataclass(frozen=True)
class Cosine:
    """From 1 to 0 along a cosine."""

    def __call__(self, progress: float, scores: Sequence[float]) -> float:
        """The factor."""
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class StepDecay:
    """Times `factor` from one part of the training to the next.

    Attributes:
        parts: of equal length.
        factor: below 1.

    Source: the topcup package (CZII challenge, 1st place): halved after each 20 of 100 epochs.
    """

    parts: int = 5
    factor: float = 0.5

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        if self.parts < 1:
            raise RecipeError(f"train.schedule.parts is {self.parts}; it must be at least 1")

    def __call__(self, progress: float, scores: Sequence[float]) -> float:
        """The factor."""
        return self.factor ** min(self.parts - 1, int(progress * self.parts))


@dataclass(frozen=True)
class Plateau:
    """Times `factor` whenever more than `patience` validations in a row have brought no better score.

    Attributes:
        patience: validations.
        factor: below 1.
        least: of what counts as better, relative to the best score.

    Source: torch's ReduceLROnPlateau, as in the Ensemble 3D U-Net Soup (CZII challenge, 8th place), there on the
    validation's loss.
    """

    patience: int = 2
    factor: float = 0.5
    least: float = 1e-4

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        if self.patience < 0:
            raise RecipeError(f"train.schedule.patience is {self.patience}; it must be at least 0")

    def __call__(self, progress: float, scores: Sequence[float]) -> float:
        """The factor."""
        best, worse, factor = -math.inf, 0, 1.0
        for score in scores:
            if score > best * (1 + self.least) or best == -math.inf:
                best, worse = score, 0
            else:
                worse += 1
            if worse > self.patience:
                worse, factor = 0, factor * self.factor
        return factor


def _check_factor(factor: float) -> None:
    if not 0 < factor < 1:
        raise RecipeError(f"train.schedule.factor is {factor:g}; it must lie between 0 and 1")
