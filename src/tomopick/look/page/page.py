"""The page itself: data, pictures, style and script in one file that asks nothing of the network."""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from ...core.errors import SelectionError
from ...core.messages import near_miss
from ...core.types import Picks
from ...data import atomic_write
from .pictures import Averages, stack
from .tables import Report, tables

_SCRIPTS = ("shared.js", "core.js", "charts.js", "viewer.js", "main.js")
_SHELL = 0.4e6  # bytes of everything but tomograms, at most, where picks are not very many


def write_report(report: Report, out: str | Path) -> Path:
    """Writes the page, whole or not at all.

    Raises:
        SelectionError: no runs, or a run to embed that is not there.
        TomopickError: picks or truth that cannot be scored, an object without radius, `out` cannot be written.
    """
    if not report.runs:
        raise SelectionError("no run with picks or truth, so there is nothing to report")
    for run in report.embedded:
        if run not in report.runs:
            raise SelectionError(f"no run '{run}' to embed; {near_miss(run, report.runs)}")
    data = tables(report)
    _embed(report, data)
    out = Path(out)
    with atomic_write(out) as file:
        file.write(page(data))
    return out


def _embed(report: Report, data: dict[str, Any]) -> None:
    """Adds the tomograms and the averages; holds one volume at a time."""
    averages = Averages(report.particles, report.openings())
    spent = len(json.dumps(data)) + _SHELL
    places = {run["name"]: run for run in data["runs"]}
    for i, run in enumerate(report.embedded):
        assert report.tomogram is not None
        tomogram = report.tomogram(run)
        left = (report.megabytes * 1e6 - spent) / (len(report.embedded) - i)
        volume = stack(tomogram, max(left, 2e5))
        places[run]["volume"] = volume
        spent += sum(map(len, volume["slabs"]))
        averages.add(tomogram, report.picks.get(run, Picks.empty(run)), report.truth.get(run))
    data["averages"] = averages.to_json()


def page(data: dict[str, Any]) -> str:
    """The HTML of prepared data."""
    parts = resources.files(__package__)

    def text(name: str) -> str:
        return (parts / name).read_text(encoding="utf-8")

    # Whatever a name contains, the data cannot end its element.
    packed = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    filling = {
        "title": html.escape(data["title"]),
        "style": text("report.css"),
        "script": "\n".join(text(name) for name in _SCRIPTS),
        "data": packed,
    }
    return re.sub(r"\{\{(title|style|script|data)\}\}", lambda m: filling[m[1]], text("report.html"))
