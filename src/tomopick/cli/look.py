"""Verbs that find mistakes in tomograms and picks and draw them; `cli` adds them to its group."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.errors import TomopickError
from ..core.messages import counted
from . import early
from .flags import with_flags
from .options import (
    FINITE,
    POSITIVE,
    TYPE,
    all_labelled_option,
    echo,
    labelled_options,
    numbers,
    opened,
    project_options,
    run_names,
    say,
)
from .outputs import OUT


@click.command("doctor")
@click.argument("place", metavar="PROJECT|FILE")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--runs", callback=run_names, help="Runs to look at, comma-separated, or @FILE. Default: all.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option(
    "--picks", metavar="OBJECT:USER/SESSION", help="Which picks to look at, where PROJECT is copick's. Default: all."
)
@click.option(
    "--examine",
    default=2,
    show_default=True,
    type=click.IntRange(0),
    help="How many runs are read voxel by voxel; of the others the headers are.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on standard output.")
@click.option(
    "--pictures", type=OUT, metavar="FOLDER", help="Draw sections of the runs whose voxels are read, as FOLDER/RUN.png."
)
@all_labelled_option
@labelled_options
@project_options
def doctor_command(
    place: str, model: str | None, runs: list[str] | None, tomo_type: str | None, picks: str | None, examine: int,
    as_json: bool, pictures: Path | None, all_labelled: bool, **project: Any,
) -> None:  # fmt: skip
    """Say what a PROJECT (or a volume, a CSV, a STAR file) holds, what is assumed of it, and what is wrong.

    ✓ is fine, ! a warning, ✗ an error; with errors the exit code is 1. With a MODEL, also how the two go together.

    \b
    Examples:
      tomopick doctor tomograms/ --object ribosome:150
      tomopick doctor copick.json default --tomo-type denoised --json
      tomopick doctor tomograms/ --object ribosome:150 --pictures look/
    """
    early.require_places([place])
    early.require_models([model] if model else [])
    from ..data.runs import Runs
    from ..look.doctor import Checkup, findings, has_errors, report, star_findings

    if Path(place).suffix.lower() == ".star" and Path(place).is_file():
        found = star_findings(Path(place))
    else:
        source = opened(place, project)
        detector = None
        if model is not None:
            from ..picking.load import load_model

            detector = load_model(model)
        meant = Runs(source, runs, tomo_type, picks)
        found = findings(meant, Checkup(examine, all_labelled=all_labelled), detector)
        if pictures is not None:
            for run in meant.check()[:examine]:
                _draw(meant, run, pictures)
    echo(with_flags(json.dumps([f.to_json() for f in found], indent=1) if as_json else report(found)))
    if has_errors(found):
        sys.exit(1)


def _draw(runs: Any, run: str, pictures: Path) -> None:
    """A picture of one run; one that cannot be drawn has its finding already."""
    from ..core.names import component
    from ..look.runs import draw_run

    try:
        out = pictures / f"{component(run, 'run')}.png"
        draw_run(replace(runs, names=[run]), out)
    except TomopickError as error:
        say(f"run {run}: no picture: {error}")


@click.command("show")
@click.argument("tomogram", metavar="TOMOGRAM")
@click.argument("picks_place", metavar="[PICKS]", required=False)
@click.option("--out", required=True, type=OUT, help="The PNG to write.")
@click.option("--run", help="The run to draw, where TOMOGRAM is a project of several.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks to draw, where they lie in a copick project.")
@click.option(
    "--truth",
    metavar="OBJECT:USER/SESSION",
    help="True picks of TOMOGRAM's project: hits are drawn solid, false picks dashed, misses dotted.",
)
@click.option("--min-score", type=FINITE, help="Leave out picks of a lower score.")
@click.option(
    "--thickness",
    default=100.0,
    show_default=True,
    type=POSITIVE,
    help="Thickness in Å of the slabs that are averaged into sections.",
)
@click.option(
    "--at", callback=numbers, metavar="Z,Y,X", help="Centre of the slabs in Å. Default: where most picks are."
)
@project_options
def show_command(
    tomogram: str, picks_place: str | None, out: Path, run: str | None, tomo_type: str | None, picks: str | None,
    truth: str | None, min_score: float | None, thickness: float, at: tuple[float, ...] | None, **project: Any,
) -> None:  # fmt: skip
    """Draw sections through TOMOGRAM (a volume, or one run of a project) with PICKS as circles of true radius.

    PICKS is a CSV or a project; without it the picks of TOMOGRAM's own project are drawn.

    \b
    Example:  tomopick show tomogram.mrc picks/tomogram.csv --object ribosome:150 --out section.png
    """
    if at is not None and len(at) != 3:
        raise TomopickError(f"--at has {counted(len(at), 'number')}; expected Z,Y,X in Å, such as 300,1500,1500")
    early.require_places([tomogram, picks_place])
    from ..data.open import open_taking
    from ..data.runs import Runs
    from ..look.runs import draw_run

    source = opened(tomogram, project)
    other = None if picks_place is None else open_taking(picks_place, **{**project, "voxel_spacing": None}).project
    meant = Runs(source, None if run is None else [run], tomo_type, picks)
    draw_run(meant, out, picks_from=other, truth=truth, min_score=min_score, thickness=thickness, at=at)
    echo(out)
