"""Where picks lie relative to their truth: how far, and whether to one side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.types import PickableObject, Picks, Vector
from .matching import REACH, matchings, scorable


@dataclass(frozen=True)
class Localisation:
    """Where matched picks lie relative to their truth; nan where nothing matched.

    Attributes:
        n: pairs.
        median, p95: of the distance [Å].
        mean: of pick minus truth, zyx [Å]; a vector far from 0 is a coordinate offset.
        error: standard error of `mean`, zyx [Å].
    """

    n: int
    median: float
    p95: float
    mean: Vector
    error: Vector

    @classmethod
    def of(cls, moved: np.ndarray) -> Localisation:
        """Of pairs, (n, 3) pick minus truth, zyx [Å]."""
        n = len(moved)
        if not n:
            gap = (float("nan"),) * 3
            return cls(0, float("nan"), float("nan"), gap, gap)
        median, p95 = np.percentile(np.linalg.norm(moved, axis=1), (50, 95)).tolist()
        spread = moved.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(3, np.nan)
        return cls(n, median, p95, _vector(moved.mean(axis=0)), _vector(spread))


def localisations(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    radius: float = REACH,
) -> dict[str, Localisation]:
    """How far the hits of each object lie from the truth, all runs together.

    Raises:
        TomopickError: no truth, names not among `objects`, values that are not finite.
    """
    return {
        o.name: Localisation.of(np.concatenate([d for d, _ in matchings(candidates, truth, o, radius)]))
        for o in scorable(candidates, truth, objects)
    }


def median_shift(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    thresholds: Mapping[str, float],
) -> tuple[Vector, int]:
    """Where picks lie relative to the truth, all objects and runs together.

    Args:
        candidates: run -> picks.
        truth: run -> true particles.
        objects: what is compared.
        thresholds: name -> the score from which picks count; objects without one count in full.

    Returns:
        Median of pick minus truth, zyx [Å], and the number of pairs; zeros where there is none.

    Raises:
        TomopickError: no truth, names not among `objects`, values that are not finite.
    """
    kept = {run: picks.above(thresholds) for run, picks in candidates.items()}
    parts = [moved for o in scorable(kept, truth, objects) for moved, _ in matchings(kept, truth, o)]
    moved = np.concatenate([np.zeros((0, 3)), *parts])
    return (_vector(np.median(moved, axis=0)), len(moved)) if len(moved) else ((0.0, 0.0, 0.0), 0)


def _vector(values: np.ndarray) -> Vector:
    z, y, x = values.tolist()
    return z, y, x
