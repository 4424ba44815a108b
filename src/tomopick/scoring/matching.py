"""Which pick belongs to which true particle.

One-to-one matching is greedy by descending score, so the pairs of the picks above any threshold are a prefix of the
pairs of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import SelectionError, TomopickError
from ..core.messages import near_miss
from ..core.types import PickableObject, Picks

REACH = 0.5  # radii of an object within which a pick of it is right: the challenge's, and F1's first

_PAIRS_AT_ONCE = 1 << 21  # bounds the memory where far too many picks crowd around the truth


def fbeta(tp: np.ndarray, picks: np.ndarray, truths: np.ndarray | int, beta: float = 1.0) -> np.ndarray:
    """F-beta of counts, any shape: of hits, picks and true particles; 0 where there is neither pick nor truth."""
    square, tp = beta**2, np.asarray(tp, dtype=np.float64)
    below = np.asarray(square * truths + picks, dtype=np.float64)
    return np.divide((1 + square) * tp, below, out=np.zeros(np.broadcast(tp, below).shape), where=below > 0)


@dataclass(frozen=True)
class Counts:
    """Hits, false picks and misses, and the ratios that follow from them.

    Attributes:
        tp: references that were found.
        fp: picks without a reference; below 0 in the CZII score where one pick finds several references.
        fn: references that were missed.
        beta: weight of recall against precision in `fbeta`.
    """

    tp: int
    fp: int
    fn: int
    beta: float = 1.0

    @property
    def candidates(self) -> int:
        """Number of picks."""
        return self.tp + self.fp

    @property
    def references(self) -> int:
        """Number of true particles."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """Hits per pick; 0 where there are no picks."""
        return self.tp / self.candidates if self.candidates > 0 else 0.0

    @property
    def recall(self) -> float:
        """Hits per true particle; 0 where there are none."""
        return self.tp / self.references if self.references > 0 else 0.0

    @property
    def fbeta(self) -> float:
        """F-beta, as the function of that name; in the order of operations that gives published scores to the bit."""
        precision, recall, square = self.precision, self.recall, self.beta**2
        if precision + recall == 0:
            return 0.0
        return (1 + square) * precision * recall / (square * precision + recall)

    @property
    def bounded(self) -> Counts:
        """With no less than no false picks: then neither precision nor F-beta exceeds 1."""
        return replace(self, fp=max(0, self.fp))

    def to_json(self) -> dict[str, Any]:
        """Every figure, at full precision."""
        names = ("candidates", "references", "tp", "fp", "fn", "precision", "recall", "beta", "fbeta")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Matching:
    """Pairs of candidate and truth, none of them twice.

    Attributes:
        candidates: (m,) indices of candidates, by descending score.
        truths: (m,) the index of the truth of each.
        distances: (m,) between the two [Å].
        n_candidates: how many candidates there were.
        n_truths: how many truths there were.
    """

    candidates: np.ndarray
    truths: np.ndarray
    distances: np.ndarray
    n_candidates: int
    n_truths: int

    @property
    def counts(self) -> Counts:
        """Pairs, candidates left over, truths left over."""
        pairs = len(self.candidates)
        return Counts(pairs, self.n_candidates - pairs, self.n_truths - pairs)


def match(
    candidate_positions: np.ndarray, candidate_scores: np.ndarray, truth_positions: np.ndarray, distance: float
) -> Matching:
    """One-to-one matching, greedy: by descending score each candidate takes its nearest free truth.

    The pairs of the candidates above any threshold are a prefix of the pairs of all. Equal scores go by index.

    Args:
        candidate_positions: (n, 3) zyx [Å], finite.
        candidate_scores: (n,).
        truth_positions: (m, 3) zyx [Å], finite.
        distance: the farthest a pair may be apart, inclusive [Å].
    """
    candidate_positions, truth_positions = (
        np.reshape(candidate_positions, (-1, 3)),
        np.reshape(truth_positions, (-1, 3)),
    )
    order = np.argsort(-np.asarray(candidate_scores, dtype=np.float64), kind="stable")
    taken = bytearray(len(truth_positions))
    pairs: list[tuple[int, int, float]] = []
    last = -1
    for ranks, truths, distances in neighbours(candidate_positions[order], truth_positions, distance):
        for rank, j, d in zip(ranks.tolist(), truths.tolist(), distances.tolist()):
            if rank != last and not taken[j]:
                last, taken[j] = rank, 1
                pairs.append((rank, j, d))
        if len(pairs) == len(taken):  # nothing is left to take; where picks crowd, most batches still lie ahead
            break
    ranks, truths, distances = (np.array([p[k] for p in pairs], dtype=t) for k, t in enumerate((int, int, float)))
    return Matching(order[ranks], truths, distances, len(candidate_positions), len(truth_positions))


def neighbours(
    candidates: np.ndarray, truths: np.ndarray, distance: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs within `distance` as (candidate, truth, distance), by candidate and then by distance, in batches."""
    if not len(candidates) or not len(truths):
        return
    tree = cKDTree(truths)
    counts = tree.query_ball_point(candidates, distance, return_length=True)
    near = np.flatnonzero(counts)
    batch = np.cumsum(counts[near]) // _PAIRS_AT_ONCE
    for part in np.split(near, np.flatnonzero(np.diff(batch)) + 1):
        if len(part):
            pairs = cKDTree(candidates[part]).sparse_distance_matrix(tree, distance, output_type="ndarray")
            pairs = pairs[np.lexsort((pairs["j"], pairs["v"], pairs["i"]))]
            yield part[pairs["i"]], pairs["j"], pairs["v"]


def matchings(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject, radius: float = REACH
) -> list[tuple[np.ndarray, Matching]]:
    """For each run of the truth, of one object: (pairs, 3) pick minus truth, zyx [Å], and the matching."""
    result = []
    for run, references in truth.items():
        found, wanted = candidates.get(run, Picks.empty(run)).of(obj.name), references.of(obj.name)
        reach = radius * obj.radius_angstrom if len(found) and len(wanted) else 0.0
        m = match(found.positions, found.scores, wanted.positions, reach)
        result.append((found.positions[m.candidates] - wanted.positions[m.truths], m))
    return result


class ScoredPicks(NamedTuple):
    """All picks of an object: (n,) scores, (n,) whether each is right, and how many true particles there were."""

    scores: np.ndarray
    right: np.ndarray
    n_truth: int


def scored_picks(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], obj: PickableObject, radius: float = REACH
) -> ScoredPicks:
    """Which picks of an object are right in the runs of the truth, one-to-one and greedy by score."""
    scores, right, n_truth = [np.zeros(0)], [np.zeros(0, dtype=bool)], 0
    for run, (_, m) in zip(truth, matchings(candidates, truth, obj, radius)):
        mine = candidates.get(run, Picks.empty(run)).of(obj.name).scores
        hit = np.zeros(len(mine), dtype=bool)
        hit[m.candidates] = True
        scores.append(mine)
        right.append(hit)
        n_truth += m.n_truths
    return ScoredPicks(np.concatenate(scores), np.concatenate(right), n_truth)


def at_every_cut(scores: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, falling, and with each as the lowest that counts: how many hits and how many picks.

    Args:
        scores: (n,) of all picks.
        hits: (m,) the scores from which downwards something is hit.
    """
    cuts = np.unique(scores)[::-1]
    kept = len(scores) - np.searchsorted(np.sort(scores), cuts)
    return cuts, len(hits) - np.searchsorted(np.sort(hits), cuts), kept


def hit_references(found: np.ndarray, wanted: np.ndarray, reach: float) -> int:
    """The challenge's hits: true particles (m, 3) with a pick (n, 3) within reach [Å], whatever else that pick hits."""
    if not len(found) or not len(wanted):
        return 0
    return int(np.count_nonzero(cKDTree(found).query_ball_point(wanted, reach, return_length=True)))


def scorable(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    names: Sequence[str] = (),
) -> list[PickableObject]:
    """The particles among `objects`, after a look at what shall be compared.

    Raises:
        TomopickError: no truth, names (of picks, or in `names`) not among `objects`.
    """
    if not truth:
        raise TomopickError("there is no run with truth to evaluate against")
    known = [o.name for o in objects]
    for name in names:
        _check_name(name, known, "asked for")
    for side, runs in (("picks", candidates), ("truth", truth)):
        for run, picks in runs.items():
            if run not in truth:
                continue
            for name in np.unique(picks.names).tolist():
                _check_name(name, known, f"in the {side} of run {run}")
    return [o for o in objects if o.is_particle]


def _check_name(name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        raise SelectionError(f"unknown object '{name}' {where}; {near_miss(name, known)}")
