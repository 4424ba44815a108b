"""What a score alone does not say: curves, localisation, confusion, duplicates, intervals and paired differences.

Picks and truth are mappings from the name of a run to its `Picks`, as in `evaluate`; only runs of the truth count.
Everything rests on k-d trees and sparse pairs, so that a million picks take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from ..core.errors import TomopickError
from ..core.types import PickableObject, Picks, Vector
from .matching import Counts, Matching, matchings, neighbours, scorable

METRICS = ("czii", "f1")
_DENSE = 1 << 20  # entries of a component's cost matrix up to which it is solved as a dense one
Runs = Mapping[str, Picks]


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of one object as its threshold falls.

    Attributes:
        thresholds: (k,) the distinct scores, descending; a point counts the picks with that score or a higher one.
        tp: (k,) hits there.
        n: (k,) picks there.
        n_truth: true particles.
    """

    thresholds: np.ndarray
    tp: np.ndarray
    n: np.ndarray
    n_truth: int

    @property
    def precision(self) -> np.ndarray:
        """(k,) hits per pick."""
        return self.tp / self.n

    @property
    def recall(self) -> np.ndarray:
        """(k,) hits per true particle; 0 where there is none."""
        return self.tp / max(self.n_truth, 1)

    @property
    def average_precision(self) -> float:
        """Mean precision over the recall gained, step by step and not interpolated; nan without truth."""
        if not self.n_truth:
            return float("nan")
        return float(np.sum(np.diff(self.tp, prepend=0) / self.n_truth * self.precision))

    def at(self, threshold: float) -> Counts:
        """Hits, false picks and misses of the picks with `score >= threshold`."""
        k = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        tp, n = (int(self.tp[k - 1]), int(self.n[k - 1])) if k else (0, 0)
        return Counts(tp, n - tp, self.n_truth - tp)


def precision_recall(
    candidates: Runs, truth: Runs, objects: Sequence[PickableObject], *, radius: float = 0.5
) -> dict[str, PrecisionRecall]:
    """The curve of each object over all its scores, all runs together, one-to-one and greedy by score.

    Because that matching is nested in the threshold, each point is what `matched_scores` finds at it.

    Args:
        candidates: run -> picks, with scores.
        truth: run -> true particles.
        objects: what is scored.
        radius: within which a pick hits, in radii of the object.

    Raises:
        TomopickError: no truth, names not among `objects`, values that are not finite.

    Source: average precision as in scikit-learn's `average_precision_score`: sum of (R_k - R_{k-1}) P_k.
    """
    curves = {}
    for o in scorable(candidates, truth, objects):
        found = [m for _, m in matchings(candidates, truth, o, radius)]
        parts = [candidates.get(run, Picks.empty(run)).of(o.name).scores for run in truth]
        scores = np.concatenate(parts)
        hits = np.concatenate([s[m.candidates] for s, m in zip(parts, found)])
        cuts = np.unique(scores)[::-1]
        n = len(scores) - np.searchsorted(np.sort(scores), cuts)
        tp = len(hits) - np.searchsorted(np.sort(hits), cuts)
        curves[o.name] = PrecisionRecall(cuts, tp, n, sum(m.n_truths for m in found))
    return curves


@dataclass(frozen=True)
class LocalisationError:
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


def localisation_errors(
    candidates: Runs, truth: Runs, objects: Sequence[PickableObject], *, radius: float = 0.5
) -> dict[str, LocalisationError]:
    """How far the hits of each object lie from the truth, all runs together.

    Raises:
        TomopickError: as `precision_recall`.
    """
    result = {}
    for o in scorable(candidates, truth, objects):
        moved = np.concatenate([d for d, _ in matchings(candidates, truth, o, radius)])
        n = len(moved)
        if not n:
            gap = (float("nan"),) * 3
            result[o.name] = LocalisationError(0, float("nan"), float("nan"), gap, gap)
            continue
        median, p95 = np.percentile(np.linalg.norm(moved, axis=1), (50, 95)).tolist()
        spread = moved.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(3, np.nan)
        result[o.name] = LocalisationError(n, median, p95, _vector(moved.mean(axis=0)), _vector(spread))
    return result


@dataclass(frozen=True)
class Confusion:
    """Which object was picked where which one is.

    Attributes:
        names: the objects.
        counts: (truth, pick); the last row is picks where nothing is, the last column particles nobody picked.
    """

    names: tuple[str, ...]
    counts: np.ndarray


def confusion(candidates: Runs, truth: Runs, objects: Sequence[PickableObject], *, radius: float = 0.5) -> Confusion:
    """Picks against true particles of any object: one-to-one, greedy by score, within `radius` radii of the *true* one.

    Raises:
        TomopickError: as `precision_recall`, or an object without radius.
    """
    particles = scorable(candidates, truth, objects)
    names = tuple(o.name for o in particles)
    index = {name: i for i, name in enumerate(names)}
    reach = np.array([o.radius_angstrom * radius for o in particles])
    counts = np.zeros((len(names) + 1, len(names) + 1), dtype=np.int64)
    for run, references in truth.items():
        found = candidates.get(run, Picks.empty(run))
        found = found.select(np.argsort(-found.scores, kind="stable"))
        picked = np.array([index[n] for n in found.names.tolist()], dtype=int)
        wanted = np.array([index[n] for n in references.names.tolist()], dtype=int)
        free_pick, free_truth = np.ones(len(found), dtype=bool), np.ones(len(references), dtype=bool)
        farthest = float(reach[wanted].max()) if len(wanted) else 0.0
        for i, j, d in neighbours(found.positions, references.positions, farthest):
            near = d <= reach[wanted[j]]
            for a, b in zip(i[near].tolist(), j[near].tolist()):
                if free_pick[a] and free_truth[b]:
                    free_pick[a] = free_truth[b] = False
                    counts[wanted[b], picked[a]] += 1
        counts[:-1, -1] += np.bincount(wanted[free_truth], minlength=len(names))
        counts[-1, :-1] += np.bincount(picked[free_pick], minlength=len(names))
    return Confusion(names, counts)


def duplicates(runs: Runs, objects: Sequence[PickableObject], *, radius: float = 0.5) -> dict[str, int]:
    """Picks of each object that lie within `radius` radii of a better one of it (equal scores: of an earlier one).

    Given true particles, which have no scores, it counts those that were written down twice.
    """
    total = {}
    for o in objects:
        total[o.name] = 0
        for picks in runs.values():
            mine = picks.of(o.name)
            order = np.argsort(-mine.scores, kind="stable")
            if len(mine) > 1:
                pairs = cKDTree(mine.positions[order]).query_pairs(o.radius_angstrom * radius, output_type="ndarray")
                total[o.name] += len(np.unique(pairs[:, 1]))  # query_pairs gives i < j
    return total


def counts_per_run(
    candidates: Runs, truth: Runs, objects: Sequence[PickableObject], *, radius: float = 0.5
) -> dict[str, dict[str, Counts]]:
    """run -> object -> hits, false picks and misses, one-to-one and greedy by score.

    Raises:
        TomopickError: as `precision_recall`.
    """
    table: dict[str, dict[str, Counts]] = {run: {} for run in truth}
    for o in scorable(candidates, truth, objects):
        for run, (_, m) in zip(truth, matchings(candidates, truth, o, radius)):
            table[run][o.name] = m.counts
    return table


def match_optimal(
    candidate_positions: np.ndarray, candidate_scores: np.ndarray, truth_positions: np.ndarray, distance: float
) -> Matching:
    """One-to-one matching with the most pairs, and among those the smallest sum of distances.

    Scores only order the result. Unlike `match` it is not nested in the threshold, but it never has fewer pairs. Pairs
    within reach fall apart into small groups, each of which is an assignment problem of its own.

    Args:
        candidate_positions: (n, 3) zyx [Å], finite.
        candidate_scores: (n,).
        truth_positions: (m, 3) zyx [Å], finite.
        distance: the farthest a pair may be apart, inclusive [Å].
    """
    a, b = (np.reshape(v, (-1, 3)) for v in (candidate_positions, truth_positions))
    parts = [np.zeros((3, 0)), *(np.stack(p) for p in neighbours(a, b, distance))]
    joined = np.concatenate(parts, axis=1)
    i, j, d = joined[0].astype(int), joined[1].astype(int), joined[2]
    graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, len(a) + j)), shape=(len(a) + len(b),) * 2)
    group = connected_components(graph, directed=False)[1][i] if len(i) else i
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    alone = np.diff(starts, append=len(order)) == 1
    chosen = [order[starts[alone]]]
    for start, stop in zip(starts[~alone], np.append(starts, len(order))[1:][~alone]):
        edges = order[start:stop]
        chosen.append(edges[_assign(i[edges], j[edges], d[edges], distance)])
    kept = np.concatenate(chosen).astype(int)
    kept = kept[np.lexsort((i[kept], -np.asarray(candidate_scores, dtype=np.float64)[i[kept]]))]
    return Matching(i[kept], j[kept], d[kept], len(a), len(b))


def _assign(i: np.ndarray, j: np.ndarray, d: np.ndarray, distance: float) -> np.ndarray:
    """Of the edges of one group, those of the best assignment."""
    rows, r = np.unique(i, return_inverse=True)
    columns, c = np.unique(j, return_inverse=True)
    apart = (distance + 1.0) * (min(len(rows), len(columns)) + 1)  # leaving a pair out never pays
    if len(rows) * len(columns) <= _DENSE:
        cost, edge = np.zeros((len(rows), len(columns))), np.full((len(rows), len(columns)), -1)
        cost[r, c], edge[r, c] = d - apart, np.arange(len(i))
        picked = edge[linear_sum_assignment(cost)]
        return picked[picked >= 0]
    # Each row may also take a column of its own, which stands for being left over.
    own = np.arange(len(rows))
    values = np.concatenate([d + 1.0, np.full(len(rows), apart + 1.0)])
    at = (np.concatenate([r, own]), np.concatenate([c, len(columns) + own]))
    one, other = min_weight_full_bipartite_matching(coo_matrix((values, at)).tocsr())
    found = np.flatnonzero(other < len(columns))
    number = {(x, y): k for k, (x, y) in enumerate(zip(r.tolist(), c.tolist()))}
    return np.array([number[x, y] for x, y in zip(one[found].tolist(), other[found].tolist())], dtype=int)


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
    candidates: Runs,
    truth: Runs,
    objects: Sequence[PickableObject],
    *,
    rng: np.random.Generator,
    metric: str = "czii",
    radius: float = 0.5,
    samples: int = 2000,
) -> Interval:
    """The CZII score (or the mean F1) and its interval over runs drawn with replacement.

    With two or three runs the interval is too narrow; read it as a lower bound of the uncertainty.

    Raises:
        TomopickError: as `czii_score`, or an unknown metric.
    """
    table, score = _tables(candidates, truth, objects, metric, radius)
    draws = _draws(len(truth), rng, samples)
    return _interval(float(score(table.sum(axis=0)[None])[0]), score(_resample(draws, table)), len(truth))


def paired_difference(
    a: Runs,
    b: Runs,
    truth: Runs,
    objects: Sequence[PickableObject],
    *,
    rng: np.random.Generator,
    metric: str = "czii",
    radius: float = 0.5,
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
    candidates: Runs, truth: Runs, objects: Sequence[PickableObject], metric: str, radius: float
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
            hits = len(pairs[r][1].candidates) if pairs else _hit(found, wanted, reach)
            table[r, k] = hits, len(found), len(wanted)
    square = 16.0 if metric == "czii" else 1.0
    weights = np.array([float(o.score_weight) if metric == "czii" else 1.0 for o in particles])
    if metric == "f1":
        weights = weights * (table[..., 2].sum(axis=0) > 0)
    if not weights.sum() > 0:
        raise TomopickError("no object with truth and a positive weight, so there is no score; check both sides")

    def score(counts: np.ndarray) -> np.ndarray:
        tp, n, m = np.moveaxis(counts, -1, 0)
        below = square * m + n
        return np.divide((1 + square) * tp, below, out=np.zeros_like(tp), where=below > 0) @ weights / weights.sum()

    return table, score


def _hit(found: np.ndarray, wanted: np.ndarray, reach: float) -> int:
    """True particles with a pick nearby: the challenge's hits."""
    if not len(found) or not len(wanted):
        return 0
    return int(np.count_nonzero(cKDTree(found).query_ball_point(wanted, reach, return_length=True)))


def _draws(n: int, rng: np.random.Generator, samples: int) -> np.ndarray:
    return rng.multinomial(n, np.full(n, 1 / n), size=samples)


def _resample(draws: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.einsum("sr,rok->sok", draws.astype(np.float64), table)


def _interval(value: float, values: np.ndarray, n: int) -> Interval:
    if n < 2:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def _vector(values: Any) -> Vector:
    z, y, x = (float(v) for v in values)
    return z, y, x
