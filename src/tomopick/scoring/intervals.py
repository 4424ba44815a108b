"""How sure a figure is: intervals over resampled runs, and paired differences of two pickers on the same runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import TomopickError
from ..core.types import PickableObject, Picks
from .matching import REACH, fbeta, hit_references, matchings, scorable
from .metrics import METRICS
from .scores import CZII_BETA


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval over resampled runs; (nan, nan) where there are fewer than two runs."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """None in place of nan."""
        return {k: None if np.isnan(v) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Difference:
    """Two pickers on the same runs.

    Attributes:
        a, b: the figure of each.
        difference: b minus a, with the interval of the *paired* difference: each resample draws the same runs for both.
    """

    a: float
    b: float
    difference: Interval


def bootstrap(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    rng: np.random.Generator,
    metric: str = "czii",
    radius: float = REACH,
    samples: int = 2000,
) -> Interval:
    """The CZII score (or the mean F1) and its interval over runs drawn with replacement.

    Of a sample it is the mean over the objects that have truth in it. With two or three runs the interval is too
    narrow; read it as a lower bound of the uncertainty.

    Raises:
        TomopickError: as `czii_score`, or an unknown metric.
    """
    table, score = _tables(candidates, truth, objects, metric, radius)
    draws = _draws(len(truth), rng, samples)
    return _interval(float(score(table.sum(axis=0)[None])[0]), score(_resample(draws, table)), len(truth))


def bootstrap_f1(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    rng: np.random.Generator,
    radius: float = REACH,
    exclude: Sequence[str] = (),
    samples: int = 2000,
) -> tuple[float, float]:
    """95 % interval of the mean F1 over `objects` (give one object for its own).

    Runs are drawn with replacement; one run tells nothing of how tomograms differ. With two or three the interval is
    too narrow.

    Returns:
        (low, high); both nan for one run, and where no object has truth.

    Raises:
        TomopickError: as `matched_scores`.
    """
    particles = [o for o in scorable(candidates, truth, objects, exclude) if o.name not in exclude]
    each = [[m.counts for _, m in matchings(candidates, truth, o, radius)] for o in particles]
    table = np.array([[(c.tp, c.fp, c.fn) for c in runs] for runs in each]).reshape(len(each), len(truth), 3)
    table = table[table[..., [0, 2]].sum(axis=(1, 2)) > 0].swapaxes(0, 1)  # (run, object, tp fp fn)
    if not table.shape[1] or len(truth) < 2:
        return float("nan"), float("nan")
    tp, fp, fn = np.moveaxis(_resample(_draws(len(truth), rng, samples), table), -1, 0)
    # Of a sample, the mean over the objects that have truth in it.
    values = np.where(tp + fn > 0, fbeta(tp, tp + fp, tp + fn), 0.0).sum(axis=1)
    there = (tp + fn > 0).sum(axis=1)
    return _quantiles(values / np.where(there > 0, there, np.nan))


def paired_difference(
    a: Mapping[str, Picks],
    b: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    rng: np.random.Generator,
    metric: str = "czii",
    radius: float = REACH,
    samples: int = 2000,
) -> Difference:
    """How much better picks `b` are than picks `a`; the runs' own difficulty cancels out.

    Raises:
        TomopickError: as `bootstrap`.
    """
    first, score = _tables(a, truth, objects, metric, radius)
    second, _ = _tables(b, truth, objects, metric, radius)
    draws = _draws(len(truth), rng, samples)
    one, two = (float(score(t.sum(axis=0)[None])[0]) for t in (first, second))
    moved = score(_resample(draws, second)) - score(_resample(draws, first))
    return Difference(one, two, _interval(two - one, moved, len(truth)))


def _tables(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    metric: str,
    radius: float,
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """(run, object, hits picks truths), and what makes (samples, object, 3) into (samples,) scores."""
    if metric not in METRICS:
        raise TomopickError(f"unknown metric '{metric}'; expected one of {', '.join(METRICS)}")
    particles = scorable(candidates, truth, objects)
    table = np.zeros((len(truth), len(particles), 3))
    for k, o in enumerate(particles):
        reach = o.radius_angstrom * radius
        pairs = matchings(candidates, truth, o, radius) if metric == "f1" else []
        for r, (run, references) in enumerate(truth.items()):
            found, wanted = candidates.get(run, Picks.empty(run)).of(o.name).positions, references.of(o.name).positions
            hits = len(pairs[r][1].candidates) if pairs else hit_references(found, wanted, reach)
            table[r, k] = hits, len(found), len(wanted)
    beta = CZII_BETA if metric == "czii" else 1.0
    weights = np.array([float(o.score_weight) if metric == "czii" else 1.0 for o in particles])
    if metric == "f1":
        weights = weights * (table[..., 2].sum(axis=0) > 0)
    if not weights.sum() > 0:
        raise TomopickError("no object with truth and a positive weight, so there is no score; check both sides")

    somewhere = table[..., 2].sum(axis=0) > 0

    def score(counts: np.ndarray) -> np.ndarray:
        tp, n, m = np.moveaxis(counts, -1, 0)
        # A sample tells nothing of an object that its runs lack; what no run has counts as 0, as in the score.
        counted = weights * ((m > 0) | ~somewhere)
        total = counted.sum(axis=-1)
        return np.asarray((fbeta(tp, n, m, beta) * counted).sum(axis=-1) / np.where(total > 0, total, np.nan))

    return table, score


def _draws(n: int, rng: np.random.Generator, samples: int) -> np.ndarray:
    return rng.multinomial(n, np.full(n, 1 / n), size=samples)


def _resample(draws: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.einsum("sr,rok->sok", draws.astype(np.float64), table)


def _interval(value: float, values: np.ndarray, n: int) -> Interval:
    if n < 2:
        return Interval(value, float("nan"), float("nan"))
    return Interval(value, *_quantiles(values))


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (2.5, 97.5))  # nan: of runs without any truth
    return float(low), float(high)
