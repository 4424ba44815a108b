"""What the page counts with: scores, hits and truth of every run, exact, as packed arrays.

Matching is one-to-one and greedy by score, so the hits above any threshold are a prefix of all hits. The page finds
them by bisection, which is why its numbers are those of `tomopick evaluate` at that threshold, to the last digit.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.colours import APART, distance, palette
from ...core.types import PickableObject, Picks, Tomogram
from ...scoring.curves import confusion
from ...scoring.matching import REACH, match, neighbours, scorable
from ...scoring.scores import RADII


@dataclass(frozen=True)
class Report:
    """What a page is made of.

    Attributes:
        title: its heading.
        picks: run -> picks with scores, those below the thresholds included where they are to be looked at.
        truth: run -> true particles; a run that is not in it counts as unlabelled and is not scored.
        objects: what is shown and scored; radii are needed.
        thresholds: where the sliders open, by object; the lowest score (all is kept) where there is none.
        tomogram: what reads the tomogram of a run; None: no sections.
        embed: runs whose tomograms go into the page; None: the first three.
        card: the model's card, Markdown.
        log: rows of a training's log.
        unknown: objects that the model which picked has never learned.
        notes: lines for the reader, such as what was left out.
        megabytes: the page's size is kept below.
    """

    title: str
    picks: Mapping[str, Picks]
    truth: Mapping[str, Picks]
    objects: Sequence[PickableObject]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tomogram: Callable[[str], Tomogram] | None = None
    embed: Sequence[str] | None = None
    card: str = ""
    log: Sequence[Mapping[str, Any]] = ()
    unknown: Sequence[str] = ()
    notes: Sequence[str] = ()
    megabytes: float = 14.0

    @property
    def runs(self) -> tuple[str, ...]:
        """All runs, sorted."""
        return tuple(sorted({*self.picks, *self.truth}))

    @property
    def embedded(self) -> tuple[str, ...]:
        """The runs whose tomograms are embedded."""
        if self.tomogram is None:
            return ()
        return tuple(self.runs[:3] if self.embed is None else self.embed)

    @property
    def particles(self) -> tuple[PickableObject, ...]:
        """The objects that are picked."""
        return tuple(o for o in self.objects if o.is_particle)

    def openings(self) -> dict[str, float]:
        """The thresholds at which the sliders open."""
        lowest = {}
        for o in self.particles:
            scores = np.concatenate([np.zeros(0), *(p.of(o.name).scores for p in self.picks.values())])
            lowest[o.name] = float(self.thresholds.get(o.name, scores.min() if len(scores) else 0.0))
        return lowest


def tables(report: Report) -> dict[str, Any]:
    """Everything on the page but pictures, as JSON values.

    Raises:
        TomopickError: names not among the objects, values that are not finite, an object without radius.
    """
    # Unlabelled runs are looked at like the others, against nothing.
    everything = {run: report.truth.get(run, Picks.empty(run)) for run in report.runs}
    scorable(report.picks, everything, report.objects)
    openings, colors = report.openings(), safe_colors(report.particles)
    objects = [
        {
            "name": o.name,
            "radius": o.radius_angstrom,
            "weight": float(o.score_weight),
            "color": color,
            "threshold": openings[o.name],
            "unknown": o.name in report.unknown,
        }
        for o, color in zip(report.particles, colors)
    ]
    return {
        "title": report.title,
        "radii": list(RADII),
        "objects": objects,
        "runs": [_run(report, run) for run in report.runs],
        "confusion": _confusion(report, openings),
        "card": report.card,
        "log": [{k: row.get(k) for k in ("step", "loss", "val_score")} for row in report.log],
        "notes": list(report.notes),
    }


def safe_colors(objects: Sequence[PickableObject]) -> list[str]:
    """The objects' own colours where all readers tell them apart, the colour-blind too; else those that they do."""
    own = [o.color for o in objects]
    if distance(own) < APART:
        own = list(palette(len(own)))
    return ["#" + "".join(f"{v:02x}" for v in color[:3]) for color in own]


def pack(values: np.ndarray, kind: str) -> str:
    """An array as base64 of its little-endian bytes; `kind` is a NumPy type such as `<f8`."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def _run(report: Report, run: str) -> dict[str, Any]:
    picks, truth = report.picks.get(run, Picks.empty(run)), report.truth.get(run)
    places = run in report.embedded
    return {
        "name": run,
        "labelled": truth is not None,
        "objects": [_object(o, picks.of(o.name), truth and truth.of(o.name), places) for o in report.particles],
    }


def _object(o: PickableObject, picks: Picks, truth: Picks | None, places: bool) -> dict[str, Any]:
    """Picks by descending score; at each radius the ranks of the hits, the truths they hit and where they lie."""
    picks = picks.select(np.argsort(-picks.scores, kind="stable"))
    data: dict[str, Any] = {"scores": pack(picks.scores, "<f8")}
    if places:
        data["at"] = pack(picks.positions, "<f4")
    if truth is None:
        return data
    data["truths"] = len(truth)
    data["hits"] = []
    for radius in RADII:
        m = match(picks.positions, picks.scores, truth.positions, o.radius_angstrom * radius)
        moved = picks.positions[m.candidates] - truth.positions[m.truths]
        hit = {"rank": pack(m.candidates, "<i4"), "truth": pack(m.truths, "<i4"), "moved": pack(moved, "<f4")}
        data["hits"].append(hit)
    best = np.full(len(truth), -np.inf)
    for i, j, _ in neighbours(picks.positions, truth.positions, o.radius_angstrom * REACH):
        np.maximum.at(best, j, picks.scores[i])
    data["best"] = pack(np.sort(best[np.isfinite(best)])[::-1], "<f8")
    if places:
        data["truth_at"] = pack(truth.positions, "<f4")
    return data


def _confusion(report: Report, openings: Mapping[str, float]) -> dict[str, Any] | None:
    there = {name for truth in report.truth.values() for name in truth.names.tolist()}
    scored = [o for o in report.particles if o.name in there]  # picks of the others are neither right nor wrong
    if len(scored) < 2:
        return None
    kept = {run: p.above(openings).among([o.name for o in scored]) for run, p in report.picks.items()}
    table = confusion(kept, report.truth, scored)
    return {"names": list(table.names), "counts": table.counts.tolist()}
