"""What is worth a look next: suggest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import early
from .options import TYPE, device_option, echo, project_options, run_names, say


@click.command("suggest")
@click.argument("model", metavar="MODEL")
@click.argument("place", metavar="PROJECT")
@click.option("--number", "n", default=50, show_default=True, type=click.IntRange(1), help="How many picks to name.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write the candidates as FOLDER/RUN.csv, to be curated.")  # fmt: skip
@click.option("--runs", callback=run_names,
              help="Runs to look through, comma-separated, or @FILE of them. Default: all that MODEL has not learned "
              "from.")  # fmt: skip
@click.option("--decided", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Folder that keeps the decisions of a curation: nothing is asked twice, and tomograms that MODEL "
              "has learned from are looked through too.")  # fmt: skip
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--metric", default="f1", show_default=True, callback=early.metric, metavar="f1|czii|precision=P",
              help="Which of MODEL's thresholds count: a score near its threshold is in doubt.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@device_option
@project_options
def suggest_command(
    model: str, place: str, n: int, out: Path | None, runs: list[str] | None, tomo_type: str | None, metric: str,
    as_json: bool, device: str, decided: Path | None, voxel_spacing: float | None, objects: tuple[str, ...],
    coordinate_offset: str,
) -> None:  # fmt: skip
    """Say which tomograms and picks of PROJECT are worth a look next: those that MODEL is least sure of.

    \b
    Examples:
      tomopick suggest model/ tomograms/ --out next/
      tomopick curate next/ tomograms/ --out curated/
      tomopick suggest model2/ tomograms/ --decided curated/ --out next2/
    """
    early.require_order(model, place, "suggest")
    early.require_models([model])
    early.require_places([place, decided])
    from ..data import open_project
    from ..data.runs import Runs
    from ..look.suggest import suggest

    project = open_project(place, voxel_spacing=voxel_spacing, objects=objects, coordinate_offset=coordinate_offset)
    found = suggest(model, Runs(project, runs, tomo_type), n, metric, device, decided)
    if out is not None:
        found.write(out)
    echo(json.dumps(found.to_json(), indent=1) if as_json else _text(found.to_json()))
    if out is not None:
        more = f" --decided {decided}" if decided else ""
        say(f"candidates in {out}: tomopick curate {out} {place}{more}")


def _text(data: dict[str, Any]) -> str:
    from tabulate import tabulate

    how: dict[str, Any] = {"disable_numparse": True}
    tomograms = [[t["run"], t["doubtful"], t["candidates"]] for t in data["tomograms"]]
    picks = [
        [p["run"], p["object"], *(f"{p[a]:.1f}" for a in "xyz"), f"{p['score']:.4f}", f"{p['cut']:.4f}"]
        for p in data["picks"]
    ]
    lines = [
        "tomograms, the most doubtful first",
        tabulate(tomograms, headers=["run", "in doubt", "candidates"], colalign=("left", "right", "right"), **how),
        "",
        "picks, the most doubtful first",
        tabulate(picks, headers=["run", "object", "x [Å]", "y", "z", "score", "threshold"], **how),
    ]
    if data["learned_from"]:
        lines += ["", f"left out, for the model has learned from it: {', '.join(data['learned_from'])}"]
    return "\n".join(lines)
