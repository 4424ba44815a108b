"""How far scores can be believed, and the map that makes a score of 0.8 right four times in five."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from ..core.errors import ModelError, SelectionError
from ..core.types import Picks

_SLOPE = 0.01  # share of the score itself in its map, so that no two scores become one
_LEAST = 20  # picks, and
_FEWEST = 3  # of them right and wrong each, that a map can be fitted on


@dataclass(frozen=True)
class Reliability:
    """How often picks of a score are right.

    Attributes:
        score: (k,) mean score of each bin.
        fraction: (k,) of the bin's picks that are hits.
        n: (k,) picks in the bin.
        expected_error: mean of |fraction - score| over the picks (ECE); nan without picks.
    """

    score: np.ndarray
    fraction: np.ndarray
    n: np.ndarray
    expected_error: float


@dataclass(frozen=True)
class Believed:
    """How far the scores of one object can be believed on the runs that were measured on.

    Attributes:
        now: with the scores that the model gave so far.
        held_out: with new maps, each fitted without the run that it is tried on; without picks where nothing is mapped
            or there is too little for that.
    """

    now: Reliability
    held_out: Reliability


def reliability(scores: np.ndarray, hits: np.ndarray, bins: int = 10) -> Reliability:
    """Bins of equal width over 0..1 (scores beyond are counted at the ends); empty ones are left out.

    Args:
        scores: (n,).
        hits: (n,) bool, whether the pick is right.
        bins: how many.

    Source: Naeini et al. 2015 and Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    scores, hits = np.asarray(scores, dtype=np.float64), np.asarray(hits, dtype=bool)
    which = np.clip((scores * bins).astype(int), 0, bins - 1)
    n = np.bincount(which, minlength=bins)
    kept = n > 0
    mean = np.bincount(which, scores, bins)[kept] / n[kept]
    fraction = np.bincount(which, hits, bins)[kept] / n[kept]
    error = float(np.sum(n[kept] * np.abs(fraction - mean)) / len(scores)) if len(scores) else float("nan")
    return Reliability(mean, fraction, n[kept], error)


@dataclass(frozen=True)
class ScoreMap:
    """A peak's height -> how often picks of that height are right: linear between knots and always rising.

    No two heights get one score, so that the order of picks stays what it was and a threshold that is moved along
    keeps the same picks.

    Attributes:
        heights: (k,) knots, rising, from 0 to 1.
        scores: (k,) rising, within 0..1.

    Raises:
        ModelError: knots that do not rise, or not from 0 to 1.
    """

    heights: tuple[float, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.asarray(self.heights, dtype=np.float64), np.asarray(self.scores, dtype=np.float64)
        whole = len(x) == len(y) >= 2 and np.isfinite([*x, *y]).all()
        if not whole or (np.diff(x) <= 0).any() or (np.diff(y) <= 0).any() or (x[0], x[-1]) != (0, 1):
            raise ModelError(
                f"a map of scores needs knots that rise from 0 to 1, found {len(x)} heights and {len(y)} scores that "
                "do not; calibrate again"
            )

    def __call__(self, heights: np.ndarray) -> np.ndarray:
        """(n,) heights, 0..1 -> (n,) scores."""
        return np.interp(heights, self.heights, self.scores)

    def inverse(self, scores: np.ndarray) -> np.ndarray:
        """(n,) scores -> (n,) heights; beyond the lowest and the highest score, 0 and 1."""
        return np.interp(scores, self.scores, self.heights)

    def to_json(self) -> dict[str, list[float]]:
        """Knots as lists; `from_json` is the inverse."""
        return {"heights": list(self.heights), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, data: Any) -> ScoreMap:
        """What `to_json` wrote.

        Raises:
            ModelError: it is not that.
        """
        try:
            return cls(tuple(map(float, data["heights"])), tuple(map(float, data["scores"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not a map of scores ({error}); calibrate again") from error

    @classmethod
    def fit(cls, heights: np.ndarray, hits: np.ndarray) -> ScoreMap:
        """The rising map that fits the hits best.

        Isotonic regression gives steps, with lines between; a little of the height itself makes the steps rise too.

        Args:
            heights: (n,) 0..1.
            hits: (n,) bool, whether the pick is right.

        Raises:
            SelectionError: too few picks, or too few of them right or wrong.

        Source: Zadrozny & Elkan 2002 for isotonic calibration, pool adjacent violators as in
            `scipy.optimize.isotonic_regression`.
        """
        heights, hits = np.clip(np.asarray(heights, dtype=np.float64), 0, 1), np.asarray(hits, dtype=bool)
        right, wrong = int(hits.sum()), int((~hits).sum())
        if len(hits) < _LEAST or min(right, wrong) < _FEWEST:
            raise SelectionError(
                f"{right} right and {wrong} false picks are too few to map scores by; expected {_LEAST} and of either "
                f"at least {_FEWEST}: give more runs"
            )
        knots, which = np.unique(heights, return_inverse=True)
        n = np.bincount(which).astype(np.float64)
        level = isotonic_regression(np.bincount(which, hits) / n, weights=n).x
        rises = np.diff(level) > 0
        ends = np.concatenate([[True], rises]) | np.concatenate([rises, [True]])  # of the steps
        x = np.unique(np.concatenate([[0.0], knots[ends], [1.0]]))
        y = (1 - _SLOPE) * np.interp(x, knots[ends], level[ends]) + _SLOPE * x
        return cls(tuple(x.tolist()), tuple(np.clip(y, 0, 1).tolist()))


ScoreMaps = Mapping[str, ScoreMap]  # by object; one without keeps its heights as scores


def mapped(picks: Picks, maps: ScoreMaps) -> Picks:
    """The picks with heights made scores; their order stays."""
    scores = picks.scores.copy()
    for name, to_score in maps.items():
        mine = picks.names == name
        scores[mine] = to_score(scores[mine])
    return replace(picks, scores=scores)


def heights(thresholds: Mapping[str, float], maps: ScoreMaps) -> dict[str, float]:
    """The heights that thresholds of scores stand for."""
    return {k: float(maps[k].inverse(np.array(t))) if k in maps else float(t) for k, t in thresholds.items()}


def rescaled(thresholds: Mapping[str, float], before: ScoreMaps, after: ScoreMaps) -> dict[str, float]:
    """Thresholds of scores by the maps `before`, as scores by the maps `after`: they keep the same picks."""
    known = heights(thresholds, before)
    return {k: float(after[k](np.array(t))) if k in after else t for k, t in known.items()}
