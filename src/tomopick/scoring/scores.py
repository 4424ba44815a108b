"""How good picks are: the CZII challenge's score, one-to-one matched precision, recall and F1.

Picks and truth are mappings from the name of a run to its `Picks`. Only runs of the truth are scored; a run that the
truth maps to no picks is one known to be empty, where every pick is false. Distances are in Å and inclusive, and
nothing here builds a matrix of all pairs, so that a million picks take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import TomopickError
from ..core.types import PickableObject, Picks
from .localisation import Localisation
from .matching import REACH, Counts, Matching, fbeta, hit_references, match, matchings, scorable

__all__ = [
    "Counts",
    "CziiScore",
    "MatchedScores",
    "Matching",
    "czii_score",
    "match",
    "matched_scores",
]


CZII_BETA = 4.0  # the challenge weighs recall so much


RADII = (REACH, 0.75)  # of one-to-one matching, in radii of the object


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
            f"  by the challenge's own formula {own}, score {self.score:.4f} (as in the JSON)",
        ]


def czii_score(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    *,
    distance_multiplier: float = REACH,
    beta: float = CZII_BETA,
) -> CziiScore:
    """The official metric of the CZII challenge, quirks included.

    There is no assignment: a hit is a reference with at least one pick nearby, and every pick beyond the number of
    hits is false. A weighted object that the truth lacks counts as 0, as it does there.

    Raises:
        TomopickError: no truth, names that are not among `objects`, values that are not finite, no positive weight.

    Source: docs/conventions.md section 3 (the metric of Kaggle's czii-cryo-et-object-identification).
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
            tp += hit_references(found, wanted, o.radius_angstrom * distance_multiplier)
        counts[o.name] = Counts(tp, n_candidates - tp, n_references - tp, beta)
    total = sum(counts[name].fbeta * weight for name, weight in weights.items())
    ignored = tuple(run for run in candidates if run not in truth)
    return CziiScore(total / sum(weights.values()), counts, weights, distance_multiplier, tuple(truth), ignored)


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
                "localisation": _known(self.localisation[name]),
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
            place = self.localisation[name]
            rows.append([*row, f"{place.median:.1f}" if place.n else ""])
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
    radii: Sequence[float] = RADII,
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

    Source: SemiETPicker, arXiv:2510.22454 (F1 at 0.5 and 0.75 radius); the matching rule is ours, docs/conventions.md
    section 4.
    """
    particles = scorable(candidates, truth, objects, exclude)
    counts, places = {}, {}
    for o in particles:
        at = [matchings(candidates, truth, o, r) for r in radii]
        counts[o.name] = tuple(summed([m.counts for _, m in parts]) for parts in at)
        places[o.name] = Localisation.of(np.concatenate([d for d, _ in at[int(np.argmax(radii))]]))
    kept = [counts[o.name] for o in particles if o.name not in exclude]
    macro = tuple(_macro_f1([each[k] for each in kept]) for k in range(len(radii)))
    ignored = tuple(run for run in candidates if run not in truth)
    return MatchedScores(tuple(radii), counts, macro, places, tuple(exclude), tuple(truth), ignored)


def summed(counts: Sequence[Counts]) -> Counts:
    """Hits, false picks and misses added up."""
    return Counts(sum(c.tp for c in counts), sum(c.fp for c in counts), sum(c.fn for c in counts))


def _macro_f1(counts: Sequence[Counts]) -> float:
    """The mean over the objects that have truth; 0 where none has."""
    tp, picks, truths = np.array([(c.tp, c.candidates, c.references) for c in counts]).reshape(-1, 3).T
    return float(fbeta(tp, picks, truths)[truths > 0].sum() / max(np.count_nonzero(truths), 1))


def _known(place: Localisation) -> dict[str, Any]:
    """As JSON; None where nothing matched."""
    mean, median = (list(place.mean), place.median) if place.n else (None, None)
    return {"n": place.n, "mean": mean, "median_distance": median}


def _ratios(counts: Counts) -> list[str]:
    """Precision, recall and F-beta for a table; `-` where there is nothing that they could be of."""
    able = (counts.candidates, counts.references, counts.candidates + counts.references)
    values = (counts.precision, counts.recall, counts.fbeta)
    return [f"{value:.4f}" if n > 0 else "-" for value, n in zip(values, able)]


def _table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=header, disable_numparse=True, colalign=("left", *["right"] * (len(header) - 1)))
