"""How good picks are: the CZII challenge's score, one-to-one matched precision, recall and F1, and their interval.

Picks and truth are mappings from the name of a run to its `Picks`. Only runs of the truth are scored; a run that the
truth maps to no picks is one known to be empty, where every pick is false. Distances are in Å and inclusive, and
nothing here builds a matrix of all pairs, so that a million picks take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import TomopickError
from ..core.types import PickableObject, Picks, Vector
from .matching import Counts, Matching, match, matchings, scorable

__all__ = [
    "Counts",
    "CziiScore",
    "Localisation",
    "MatchedScores",
    "Matching",
    "bootstrap_f1",
    "czii_score",
    "match",
    "matched_scores",
]


@dataclass(frozen=True)
class CziiScore:
    """The CZII challenge's score.

    Attributes:
        score: mean F-beta of the objects, weighted.
        objects: name -> counts, summed over the runs.
        weights: name -> weight in the score.
        distance_multiplier: radii from a reference within which a pick hits it.
        runs: the runs scored, those of the truth.
        ignored_runs: runs that only the candidates have.
    """

    score: float
    objects: Mapping[str, Counts]
    weights: Mapping[str, float]
    distance_multiplier: float
    runs: tuple[str, ...]
    ignored_runs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure, at full precision."""
        objects = {name: {**c.to_json(), "weight": float(self.weights[name])} for name, c in self.objects.items()}
        return {
            "score": self.score,
            "distance_multiplier": float(self.distance_multiplier),
            "objects": objects,
            "runs": list(self.runs),
            "ignored_runs": list(self.ignored_runs),
        }

    @property
    def bounded(self) -> float:
        """The score where no object counts for more than 1."""
        total = sum(c.bounded.fbeta * self.weights[n] for n, c in self.objects.items())
        return total / sum(self.weights.values())

    def table(self) -> str:
        """The figures as text for a terminal; what the challenge's formula takes beyond its bounds is said below."""
        beyond = [n for n, c in self.objects.items() if c.fp < 0]
        rows: list[list[Any]] = []
        for n, c in self.objects.items():
            name = n + ("*" if n in beyond else "")
            counts = [c.references, c.candidates, c.tp, c.bounded.fp, c.fn]
            rows.append([name, f"{self.weights[n]:g}", *counts, *_ratios(c.bounded)])
        rows.append(["score", "", "", "", "", "", "", "", "", f"{self.bounded:.4f}"])
        beta = next(iter(self.objects.values())).beta
        header = ["object", "weight", "truths", "picks", "tp", "fp", "fn", "precision", "recall", f"F{beta:g}"]
        return "\n".join([_table(rows, header), *self._beyond(beyond)])

    def _beyond(self, names: Sequence[str]) -> list[str]:
        if not names:
            return []
        own = ", ".join(f"{n} precision {self.objects[n].precision:.4f} and fp {self.objects[n].fp}" for n in names)
        return [
            "* one pick finds several true particles, which lie dense or were written down twice;",
            f"  by the challenge's own formula {own}, score {self.score:.4f} (as under --json)",
        ]


def czii_score(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    distance_multiplier: float = 0.5,
    beta: float = 4.0,
) -> CziiScore:
    """The official metric of the CZII challenge, quirks included.

    There is no assignment: a hit is a reference with at least one pick nearby, and every pick beyond the number of
    hits is false. A weighted object that the truth lacks counts as 0, as it does there.

    Raises:
        TomopickError: no truth, names that are not among `objects`, values that are not finite, no positive weight.

    Source: methods.md sections 2.1 and 15 (the metric of Kaggle's czii-cryo-et-object-identification).
    """
    particles = scorable(candidates, truth, objects)
    weights = {o.name: float(o.score_weight) for o in particles}
    if not sum(weights.values()) > 0:
        raise TomopickError("every object has score_weight 0, so there is no weighted score; give one of them a weight")
    counts = {}
    for o in particles:
        tp = n_candidates = n_references = 0
        for run, references in truth.items():
            found, wanted = candidates.get(run, Picks.empty(run)).of(o.name).positions, references.of(o.name).positions
            n_candidates, n_references = n_candidates + len(found), n_references + len(wanted)
            if len(found) and len(wanted):
                reach = o.radius_angstrom * distance_multiplier
                tp += int(np.count_nonzero(cKDTree(found).query_ball_point(wanted, reach, return_length=True)))
        counts[o.name] = Counts(tp, n_candidates - tp, n_references - tp, beta)
    total = sum(counts[name].fbeta * weight for name, weight in weights.items())
    ignored = tuple(run for run in candidates if run not in truth)
    return CziiScore(total / sum(weights.values()), counts, weights, distance_multiplier, tuple(truth), ignored)


@dataclass(frozen=True)
class Localisation:
    """Where matched picks lie relative to their truth; None where nothing matched.

    Attributes:
        n: number of pairs.
        mean: mean of pick minus truth, zyx [Å]; far from 0 where the two differ in their coordinate convention.
        median_distance: [Å].
    """

    n: int
    mean: Vector | None
    median_distance: float | None


@dataclass(frozen=True)
class MatchedScores:
    """Precision, recall and F1 after one-to-one matching.

    Attributes:
        radii: the distances of matching, in radii of the object.
        objects: name -> counts at each of `radii`, summed over the runs.
        macro_f1: at each of `radii` the plain mean of F1 over the objects that have truth and are not excluded.
        localisation: name -> localisation at the largest of `radii`.
        excluded: objects left out of the mean.
        runs: the runs scored, those of the truth.
        ignored_runs: runs that only the candidates have.
    """

    radii: tuple[float, ...]
    objects: Mapping[str, tuple[Counts, ...]]
    macro_f1: tuple[float, ...]
    localisation: Mapping[str, Localisation]
    excluded: tuple[str, ...]
    runs: tuple[str, ...]
    ignored_runs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure, at full precision; radii are keys, as in `at["0.5"]`."""
        keys = [f"{r:g}" for r in self.radii]
        objects = {
            name: {
                "at": {k: {**c.to_json(), "f1": c.fbeta} for k, c in zip(keys, counts)},
                "localisation": dict(vars(self.localisation[name])),
            }
            for name, counts in self.objects.items()
        }
        return {
            "macro_f1": dict(zip(keys, self.macro_f1)),
            "objects": objects,
            "excluded": list(self.excluded),
            "runs": list(self.runs),
            "ignored_runs": list(self.ignored_runs),
        }

    def table(self) -> str:
        """The figures as text for a terminal."""
        header, rows = ["object", "truths", "picks"], []
        for r in self.radii:
            header += [f"P@{r:g}", f"R@{r:g}", f"F1@{r:g}"]
        for name, counts in self.objects.items():
            row: list[Any] = [name + ("*" if name in self.excluded else ""), counts[0].references, counts[0].candidates]
            row += [v for c in counts for v in _ratios(c)]
            distance = self.localisation[name].median_distance
            rows.append([*row, "" if distance is None else f"{distance:.1f}"])
        scored = any(c[0].references for n, c in self.objects.items() if n not in self.excluded)
        rows.append(
            ["mean", "", ""] + [v for f in self.macro_f1 for v in ("", "", f"{f:.4f}" if scored else "-")] + [""]
        )
        note = "\n* not in the mean" if self.excluded else ""
        return _table(rows, [*header, "off [Å]"]) + note


def matched_scores(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    radii: Sequence[float] = (0.5, 0.75),
    exclude: Sequence[str] = (),
) -> MatchedScores:
    """Precision, recall and F1 of each object after greedy one-to-one matching, and where the picks lie.

    Args:
        candidates: run -> picks.
        truth: run -> true particles.
        objects: what is scored.
        radii: distances of matching, in radii of the object.
        exclude: names left out of the mean F1 (beta-amylase in SemiETPicker's figures).

    Raises:
        TomopickError: no truth, names that are not among `objects`, values that are not finite.

    Source: SemiETPicker, arXiv:2510.22454 (F1 at 0.5 and 0.75 radius); the matching rule is ours, methods.md 2.2.
    """
    particles = scorable(candidates, truth, objects, exclude)
    counts, places = {}, {}
    for o in particles:
        at = [matchings(candidates, truth, o, r) for r in radii]
        counts[o.name] = tuple(_total([m.counts for _, m in parts]) for parts in at)
        moved = np.concatenate([d for d, _ in at[int(np.argmax(radii))]])
        n = len(moved)
        mean = tuple(moved.mean(axis=0).tolist()) if n else None
        places[o.name] = Localisation(n, mean, float(np.median(np.linalg.norm(moved, axis=1))) if n else None)
    table = np.array([[[(c.tp, c.fp, c.fn) for c in counts[o.name]] for o in particles if o.name not in exclude]])
    macro = tuple(float(_macro_f1(table[:, :, k])[0]) for k in range(len(radii))) if table.size else (0.0,) * len(radii)
    ignored = tuple(run for run in candidates if run not in truth)
    return MatchedScores(tuple(radii), counts, macro, places, tuple(exclude), tuple(truth), ignored)


def bootstrap_f1(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    rng: np.random.Generator,
    radius: float = 0.5,
    exclude: Sequence[str] = (),
    samples: int = 2000,
) -> tuple[float, float]:
    """95 % interval of the mean F1 over `objects` (give one object for its own).

    Several runs are drawn with replacement; of one run it is the hits, false picks and misses of each object that
    are, which is blind to how tomograms differ. With two or three runs the interval is too narrow.

    Returns:
        (low, high); both nan where no object has truth.

    Raises:
        TomopickError: as `matched_scores`.
    """
    particles = [o for o in scorable(candidates, truth, objects, exclude) if o.name not in exclude]
    each = [[m.counts for _, m in matchings(candidates, truth, o, radius)] for o in particles]
    table = np.array([[(c.tp, c.fp, c.fn) for c in runs] for runs in each]).reshape(len(each), len(truth), 3)
    table = table[table[..., [0, 2]].sum(axis=(1, 2)) > 0]
    if not len(table):
        return float("nan"), float("nan")
    if len(truth) > 1:
        drawn = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=samples)
        resampled = np.einsum("sr,ork->sok", drawn, table)
    else:
        resampled = np.stack([rng.multinomial(n.sum(), n / n.sum(), size=samples) for n in table[:, 0]], axis=1)
    low, high = np.percentile(_macro_f1(resampled), (2.5, 97.5))
    return float(low), float(high)


def _total(counts: Sequence[Counts]) -> Counts:
    return Counts(sum(c.tp for c in counts), sum(c.fp for c in counts), sum(c.fn for c in counts))


def _macro_f1(table: np.ndarray) -> np.ndarray:
    """(samples, objects, tp fp fn) -> (samples,) mean F1 over the objects that have truth; 0 where none has."""
    tp, fp, fn = np.moveaxis(table.astype(np.float64), -1, 0)
    has_truth = tp + fn > 0
    f1 = np.divide(2 * tp, 2 * tp + fp + fn, out=np.zeros_like(tp), where=has_truth)
    return f1.sum(axis=1) / np.maximum(has_truth.sum(axis=1), 1)


def _ratios(counts: Counts) -> list[str]:
    """Precision, recall and F-beta for a table; `-` where there is nothing that they could be of."""
    able = (counts.candidates, counts.references, counts.candidates + counts.references)
    values = (counts.precision, counts.recall, counts.fbeta)
    return [f"{value:.4f}" if n > 0 else "-" for value, n in zip(values, able)]


def _table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=header, disable_numparse=True, colalign=("left", *["right"] * (len(header) - 1)))
