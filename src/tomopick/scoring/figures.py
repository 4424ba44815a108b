"""All figures of one set of picks against another, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.messages import counted
from ..core.types import PickableObject, Picks
from .curves import precision_recall
from .intervals import Difference
from .localisation import Localisation
from .matching import REACH, Counts, matchings, scorable, scored_picks
from .score_maps import reliability
from .scores import CziiScore, MatchedScores, summed

_ROUNDED = 1e-6  # of scores in files
_RUNS_SHOWN = 40  # in a terminal; more are nothing to read
_OF_RANKING = (
    "AP: area under precision against recall, over all scores; ECE: how far scores are from the fraction of picks that "
    "are right"
)
_OF_INTERVALS = "intervals: where 95 % of 2000 draws of as many runs, with replacement, lie"


@dataclass(frozen=True)
class Ranking:
    """How well the scores of one object tell right from wrong, over all its picks, those below a threshold included.

    Attributes:
        average_precision: area under the curve of precision and recall; it ends at the lowest score there is.
        expected_error: of the scores, taken for the fraction of picks that are right (ECE); nan where all are
            alike, or beyond 0..1.
    """

    average_precision: float
    expected_error: float


@dataclass(frozen=True)
class RunFigures:
    """One run by itself, at half a radius, one to one.

    Attributes:
        counts: hits, false picks and misses, by object.
        f1: mean over the objects that have truth in it and are not excluded; nan where none has.
    """

    counts: Mapping[str, Counts]
    f1: float

    @property
    def total(self) -> Counts:
        """Of all objects together."""
        return summed(list(self.counts.values()))

    def to_json(self) -> dict[str, Any]:
        """Every figure at full precision."""
        objects = {name: {**c.to_json(), "f1": c.fbeta} for name, c in self.counts.items()}
        return {"f1": None if np.isnan(self.f1) else self.f1, "all": self.total.to_json(), "objects": objects}


@dataclass(frozen=True, repr=False)
class Scores:
    """Both ways of scoring, with 95 % intervals of the mean F1 at half a radius and of the CZII score.

    Attributes:
        czii, matched: the scores.
        interval, czii_interval: of the mean F1, and of the CZII score.
        rankings: by object.
        places: by object, how far hits within half a radius lie from the truth.
        runs: by run, what it scores by itself.
        dropped_outside: picks left out.
        sharing: picks that lie within half the smaller radius of another object's.
        differences: by metric, how much better the picks are than those of `against`.
        against: what others the picks were compared with.
    """

    czii: CziiScore
    matched: MatchedScores
    interval: tuple[float, float]
    czii_interval: tuple[float, float]
    rankings: Mapping[str, Ranking]
    places: Mapping[str, Localisation]
    runs: Mapping[str, RunFigures] = field(default_factory=dict)
    dropped_outside: int = 0
    sharing: int = 0
    differences: Mapping[str, Difference] = field(default_factory=dict)
    against: str = ""

    def beside(self, against: str, differences: Mapping[str, Difference]) -> Scores:
        """With the comparison to other picks."""
        return replace(self, against=against, differences=differences)

    def text(self) -> str:
        """Tables for a terminal."""
        distance = self.czii.distance_multiplier
        spread = [*_interval("score", self.czii_interval), *_interval("mean F1 at 0.5 radii", self.interval)]
        return "\n".join(
            [
                f"CZII score (a hit lies within {distance:g} radii; no one-to-one matching)",
                self.czii.table(),
                "",
                "one-to-one matching, best score first",
                self.matched.table(),
                *(spread or ["one run: no interval"] if len(self.czii.runs) < 2 else spread),
                *([_OF_INTERVALS] if spread else []),
                "",
                "ranking by score, and where hits within 0.5 radii lie",
                self._ranking_table(),
                *self._run_table(),
                *self._sharing(),
                *self._comparison(),
            ]
        )

    def _sharing(self) -> list[str]:
        if not self.sharing:
            return []
        share = f"{counted(self.sharing, 'pick')} share{'s' if self.sharing == 1 else ''}"
        return [f"\n{share} a density: another object's lies within half the smaller radius"]

    def _comparison(self) -> list[str]:
        lines = [f"\ncompared with {self.against}, on the same runs"] if self.differences else []
        for metric, d in self.differences.items():
            name, drawn = {"czii": "CZII score", "f1": "mean F1"}[metric], d.difference
            interval = "" if np.isnan(drawn.low) else f", 95 % interval over runs {drawn.low:+.4f} to {drawn.high:+.4f}"
            lines.append(f"{name} {d.b:.4f} and {d.a:.4f}: {drawn.value:+.4f}{interval}")
        return lines

    def _ranking_table(self) -> str:
        from tabulate import tabulate

        rows = []
        for name, r in self.rankings.items():
            place = self.places[name]
            values = [r.average_precision, r.expected_error]
            shifts = [place.median, place.p95, *place.mean]
            rows.append([name, *(_shown(v, ".4f") for v in values), *(_shown(v, ".1f") for v in shifts)])
        header = ["object", "AP", "ECE", "off [Å]", "95 % [Å]", "shift z", "y", "x"]
        table = tabulate(rows, headers=header, disable_numparse=True, colalign=("left", *["right"] * 7))
        table += f"\n{_OF_RANKING}"
        needed = "\n-: AP and ECE need true particles and picks of different scores, ECE from 0 to 1; the others hits"
        return table + (needed if any("-" in row for row in rows) else "")

    def _run_table(self) -> list[str]:
        from tabulate import tabulate

        if len(self.runs) < 2:
            return []
        worst = sorted(self.runs.items(), key=lambda pair: (not pair[1].f1 >= 0, pair[1].f1))
        shown = worst[:_RUNS_SHOWN] if len(worst) > _RUNS_SHOWN else list(self.runs.items())
        rows = []
        for name, run in shown:
            c = run.total
            ratios = [
                _shown(v if n else np.nan, ".4f") for v, n in ((c.precision, c.candidates), (c.recall, c.references))
            ]
            rows.append([name, c.references, c.candidates, c.tp, *ratios, _shown(run.f1, ".4f")])
        header = ["run", "truths", "picks", "hits", "precision", "recall", "mean F1"]
        title = "runs, one-to-one at 0.5 radii"
        if len(worst) > _RUNS_SHOWN:
            title += f": the {_RUNS_SHOWN} worst of {len(worst)} (all of them as JSON)"
        return ["", title, tabulate(rows, headers=header, disable_numparse=True, colalign=("left", *["right"] * 6))]

    @property
    def f1(self) -> float:
        """The mean F1 of the objects at half a radius, that of `interval`."""
        return self.matched.macro_f1[self.matched.radii.index(REACH)]

    def __repr__(self) -> str:
        low, high = self.interval
        spread = "" if np.isnan(low) else f", 95 % {low:.4f} to {high:.4f}"
        return f"Scores(czii {self.czii.score:.4f}, f1 {self.f1:.4f}{spread})"

    def json_text(self) -> str:
        """`to_json` as text."""
        return json.dumps(self.to_json(), indent=1)

    def to_json(self) -> dict[str, Any]:
        """Every figure at full precision; None where there is none."""
        f1, czii = ([None if np.isnan(v) else v for v in drawn] for drawn in (self.interval, self.czii_interval))
        data: dict[str, Any] = {
            "czii": self.czii.to_json(),
            "czii_interval": czii,
            "matched": self.matched.to_json(),
            "f1_interval": f1,
        }
        data["rankings"] = {name: _plain(vars(r)) for name, r in self.rankings.items()}
        data["localisation"] = {name: _plain(vars(p)) for name, p in self.places.items()}
        data["runs"] = {name: run.to_json() for name, run in self.runs.items()}
        if self.differences:
            told = {m: {"other": d.a, **d.difference.to_json()} for m, d in self.differences.items()}
            data["against"] = {"picks": self.against, "difference": told}
        return data | {"dropped_outside": self.dropped_outside, "sharing": self.sharing}


def _interval(what: str, drawn: tuple[float, float]) -> list[str]:
    return [] if np.isnan(drawn).any() else [f"{what}, 95 % interval over runs: {drawn[0]:.4f} to {drawn[1]:.4f}"]


def _are_fractions(scores: np.ndarray) -> bool:
    """Whether scores can be read as how often picks are right; correlations and those of other programs need not."""
    return bool(scores.min() >= -_ROUNDED and scores.max() <= 1 + _ROUNDED)


def _shown(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """With null in place of nan, as JSON wants it."""
    return {k: None if np.isnan(v).any() else v for k, v in values.items()}


def rankings(
    picks: Mapping[str, Picks], truth: Mapping[str, Picks], objects: Sequence[PickableObject]
) -> dict[str, Ranking]:
    """By object, over all picks there are.

    Raises:
        TomopickError: as `precision_recall`.
    """
    result = {}
    for name, curve in precision_recall(picks, truth, objects).items():
        scores, hits, _ = scored_picks(picks, truth, next(o for o in objects if o.name == name))
        told = len(np.unique(scores)) > 1
        result[name] = Ranking(
            curve.average_precision if told else float("nan"),
            reliability(scores, hits).expected_error if told and _are_fractions(scores) else float("nan"),
        )
    return result


def run_figures(
    picks: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    objects: Sequence[PickableObject],
    exclude: Sequence[str] = (),
) -> dict[str, RunFigures]:
    """By run of the truth, what it scores by itself; arguments are those of `matched_scores`.

    Raises:
        TomopickError: as `matched_scores`.
    """
    counts: dict[str, dict[str, Counts]] = {run: {} for run in truth}
    for o in scorable(picks, truth, objects, exclude):
        for run, (_, matching) in zip(truth, matchings(picks, truth, o, REACH)):
            counts[run][o.name] = matching.counts
    result = {}
    for run, by_object in counts.items():
        counted = [c.fbeta for name, c in by_object.items() if c.references and name not in exclude]
        result[run] = RunFigures(by_object, float(np.mean(counted)) if counted else float("nan"))
    return result
