"""What is worth a look next: the picks that a model is least sure of, and the tomograms that have most of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import OutputError, SelectionError
from ..core.messages import listing
from ..core.names import component
from ..core.types import PickableObject, Picks
from ..data.runs import Runs
from ..data.sources.folder import tables_in
from ..data.tables import write_tables
from ..picking.familiar import trained_on
from ..picking.load import load_model
from .curation.decided import decided_in, undecided
from .curation.desk import DOUBTFUL
from .page.gather import ReportOptions, pick_with


@dataclass(frozen=True)
class Suggestions:
    """What is worth a look.

    Attributes:
        picks: run -> candidates down to a low score; the runs in order of doubt.
        doubtful: by run, how many scores lie near their threshold, of picks on which nothing was said.
        closest: (run, number of the pick in it) of the most doubtful picks of all, first the most doubtful.
        thresholds: by object.
        objects: of the model.
        learned_from: runs that were left out, for the model has learned from them.
    """

    picks: Mapping[str, Picks]
    doubtful: Mapping[str, int]
    closest: tuple[tuple[str, int], ...]
    thresholds: Mapping[str, float]
    objects: tuple[PickableObject, ...]
    learned_from: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The most doubtful picks; positions x, y, z [Å]."""
        found = []
        for run, i in self.closest:
            p = self.picks[run]
            name, (z, y, x) = str(p.names[i]), p.positions[i].tolist()
            cut = float(self.thresholds[name])
            found.append({"run": run, "object": name, "x": x, "y": y, "z": z, "score": float(p.scores[i]), "cut": cut})
        return found

    def to_json(self) -> dict[str, Any]:
        """Tomograms and picks, each in order of doubt."""
        tomograms = [
            {"run": run, "doubtful": n, "candidates": len(self.picks[run])} for run, n in self.doubtful.items()
        ]
        return {"tomograms": tomograms, "picks": self.rows(), "learned_from": list(self.learned_from)}

    def write(self, out: Path) -> None:
        """RUN.csv of the candidates, for `curate`; refuses a folder that holds others.

        Raises:
            OutputError: there are tables already, of these runs or others, or the folder cannot be written.
        """
        mine = {f"{component(run, 'run')}.csv" for run in self.picks}
        others = [p for p in tables_in(out) if p.name not in mine] if out.is_dir() else []
        if others:
            raise OutputError(f"{others[0]}: exists already, of another run; name another `out`")
        write_tables(out, self.picks, self.objects)


def suggest(
    model: str, runs: Runs, n: int = 50, metric: str = "f1", device: str = "auto", decided: Path | None = None
) -> Suggestions:
    """Picks the runs that a model has not learned from, and puts what it is unsure of first.

    Doubt is how near a score lies to the threshold of its object: there a person's word changes most.

    Args:
        model: its folder or name.
        runs: of a project; where some are named, these, learned from or not.
        n: picks.
        metric: whose thresholds.
        device: where the model runs.
        decided: folder of a curation, whose decisions are not asked for again; most picks of runs that were learned
            from may still be undecided, so that these are looked at too.

    Raises:
        SelectionError: no run is left, or no such folder.
        TomopickError: model or tomograms that cannot be read.
    """
    all_meant = runs.names is not None or decided is not None
    known: set[str] = set() if all_meant else trained_on(load_model(model), runs.project)
    names = runs.check()
    fresh = [run for run in names if run not in known]
    if not fresh:
        raise SelectionError(
            f"{runs.uri}: the model has learned from {listing(names)}; name the runs meant with `runs`"
        )
    said = {} if decided is None else decided_in(decided)
    made = pick_with(model, Runs(runs.project, fresh, runs.tomo_type), ReportOptions(metric=metric, device=device))
    away = {
        run: np.abs(p.scores - np.array([made.thresholds[name] for name in p.names.tolist()]))
        for run, p in made.picks.items()
    }
    for run, entries in said.items():
        if run in away:
            away[run][~undecided(made.picks[run], entries, made.objects)] = np.inf
    doubtful = {run: int((a < DOUBTFUL).sum()) for run, a in away.items()}
    order = sorted(fresh, key=lambda run: (-doubtful[run], run))
    every = [(float(a), run, i) for run in order for i, a in enumerate(away[run]) if np.isfinite(a)]
    closest = tuple((run, i) for _, run, i in sorted(every)[:n])
    return Suggestions(
        {run: made.picks[run] for run in order}, {run: doubtful[run] for run in order}, closest, made.thresholds,
        made.objects, tuple(sorted(set(names) & known)),
    )  # fmt: skip
