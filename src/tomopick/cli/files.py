"""Verbs that bring picks and tomograms in and out, look at them, and find mistakes; `cli` adds them to its group."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.errors import TomopickError
from .flags import with_flags
from .options import (
    POSITIVE,
    all_labelled_option,
    comma,
    echo,
    foreign_options,
    labelled_options,
    numbers,
    project_options,
    run_names,
    say,
    scores,
)
from .outputs import OUT, OUT_TEXT, identified


def _copick_options(user: str) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in (
            click.option(
                "--session-id",
                default="0",
                callback=identified,
                show_default=True,
                help="Of picks in a copick project.",
            ),
            click.option(
                "--user-id", default=user, callback=identified, show_default=True, help="Of picks in a copick project."
            ),
        ):
            command = option(command)
        return command

    return add


def _open(place: str, project: dict[str, Any]) -> Any:
    from ..data import open_project

    return open_project(place, **project)


def _open_counted(place: str, project: dict[str, Any]) -> Any:
    """As `_open`, where a voxel spacing may be of coordinates alone: projects that state theirs do not take it."""
    from ..data import FolderProject

    found = _open(place, {**project, "voxel_spacing": None})
    takes = project["voxel_spacing"] is not None and isinstance(found, FolderProject)
    return _open(place, project) if takes else found


@click.command("export")
@click.argument("picks_place", metavar="PICKS")
@click.argument("out", type=OUT_TEXT)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="FORMAT",
    help="relion5, relion4, warp, dynamo, imod, imod-text, csv, ndjson, artiax, em, coords, copick.",
)
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks, where PICKS is a project.")
@click.option("--runs", callback=run_names, help="Runs, comma-separated, or @FILE of them. Default: all with picks.")
@click.option("--objects", "wanted", callback=comma, help="Objects, comma-separated. Default: all.")
@click.option("--tomograms", metavar="PROJECT", help="Where the tomograms are, if not beside the picks.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help="The tomogram whose voxels are counted.")
@click.option("--tomograms-star", type=click.Path(path_type=Path), help="RELION's tomograms.star: sizes and names.")
@click.option("--tilt-series-pixel-size", type=POSITIVE, help="In Å; RELION 4 counts in these.")
@click.option("--min-score", multiple=True, callback=scores, metavar="VALUE|OBJECT=VALUE",
              help="Leave lower scores out: of all objects, or of one.")  # fmt: skip
@click.option("--at-thresholds", is_flag=True,
              help="Leave out picks below the thresholds that they were picked with (pick --keep-below).")  # fmt: skip
@click.option("--together/--per-object", default=None, help="One file for all objects, or one for each.")
@click.option("--star-layout", type=click.Choice(["particles", "import"]), help="import: for RELION's import job.")
@click.option("--coords-angpix", type=POSITIVE, help="Warp: voxel size to count in. Default: the tomograms'.")
@click.option("--dynamo-origin", type=click.IntRange(0, 1), help="Dynamo: number of the first voxel. Default: 0.")
@click.option("--tilt-range", callback=numbers, metavar="MIN,MAX", help="Dynamo: tilts, for its missing wedge.")
@click.option("--names", "names_file", type=click.Path(path_type=Path), metavar="FILE",
              help="List 'NAME RUN': what the other program calls runs that are called otherwise here.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@_copick_options("tomopick")
@project_options
def export_command(
    picks_place: str, out: str, target: str, tomograms: str | None, wanted: list[str] | None,
    star_layout: str | None, coords_angpix: float | None, dynamo_origin: int | None,
    tilt_range: tuple[float, ...] | None, voxel_spacing: float | None, objects: tuple[str, ...],
    coordinate_offset: str, names_file: Path | None, **choices: Any,
) -> None:  # fmt: skip
    """Write PICKS (a project, a folder of RUN.csv, one CSV) as OUT for another program.

    OUT is a file, or a folder where each run has its own file (a format that holds all runs: one file in it).

    \b
    Examples:
      tomopick export picks/ particles.star --to relion5 --tomograms tomograms/ --tomograms-star tomograms.star
      tomopick export copick.json ribosomes.star --to warp --picks 'ribosome:tomopick/1' --min-score 0.3
      tomopick export copick.json models/ --to imod --tomo-type denoised@10
    """
    from ..data.exporting import ExportOptions, export_picks, require_target
    from ..data.names import read_names
    from ..data.runs import Runs

    if tilt_range is not None and len(tilt_range) != 2:
        raise TomopickError(f"--tilt-range has {len(tilt_range)} numbers; expected MIN,MAX, such as -60,60")
    require_target(target)
    given = {"objects": objects, "coordinate_offset": coordinate_offset}
    project = _open_counted(picks_place, {**given, "voxel_spacing": None if tomograms else voxel_spacing})
    place = None
    if tomograms:
        place = _open(tomograms, {"voxel_spacing": voxel_spacing, "objects": (), "coordinate_offset": "none"})
    own = {"layout": star_layout, "coords_angpix": coords_angpix, "origin": dynamo_origin, "tilt_range": tilt_range}
    theirs = {run: name for name, run in read_names(names_file).items()} if names_file else {}
    meant = Runs(project, choices.pop("runs"), choices.pop("tomo_type"), choices.pop("picks"))
    options = ExportOptions(
        names=theirs, tomograms=place, voxel_spacing=voxel_spacing, objects=wanted, choices=own,
        folder=out.endswith("/"), **choices,
    )  # fmt: skip
    for path in export_picks(meant, target, Path(out), options):
        echo(path)


@click.command("import")
@click.argument("arguments", nargs=-1, required=True, metavar="FILE... PROJECT", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    metavar="FORMAT",
    help="relion5, relion4, warp, dynamo, imod, imod-text, em, coords, cbox, deepfinder, eman2, copick-json, ndjson, "
    "csv. Default: by the file.",
)
@click.option("--as", "name", metavar="OBJECT", help="The object of all picks, where the files do not say.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help="The tomogram whose voxels were counted.")
@foreign_options
@click.option("--dynamo-origin", type=click.IntRange(0, 1), help="Dynamo: number of the first voxel. Default: 0.")
@click.option("--drop-outside", is_flag=True, help="Leave out picks that lie outside their tomogram.")
@click.option("--overwrite", is_flag=True, help="Replace picks of this user and session; in a folder, RUN.csv.")
@_copick_options("imported")
@project_options
def import_command(
    arguments: tuple[Path, ...], source: str | None, dynamo_origin: int | None, voxel_spacing: float | None,
    objects: tuple[str, ...], coordinate_offset: str, name: str | None, tomo_type: str | None, **choices: Any,
) -> None:  # fmt: skip
    """Bring FILEs of other programs into PROJECT as picks, for training or scoring.

    Runs are found by name; `rec_TS_1.mrc`, `TS_1_10.00Apx.mrc` and `TS_1.tomostar` all mean TS_1.

    \b
    Examples:
      tomopick import run_data.star copick.json --as ribosome --user-id relion
      tomopick import TS_*.mod tomograms/ --object ribosome:150 --as ribosome
    """
    from ..data import FolderProject
    from ..data.formats import get_format
    from ..data.importing import ImportOptions, import_picks
    from ..data.runs import Runs

    if len(arguments) < 2:
        raise TomopickError("import needs one FILE or more and a PROJECT, in this order; see import --help")
    *files, place = arguments
    if source is not None:
        get_format(source, origin=dynamo_origin)
    given = {"voxel_spacing": voxel_spacing, "objects": objects, "coordinate_offset": coordinate_offset}
    project = _open_counted(str(place), given)
    if isinstance(project, FolderProject) and name and name not in [o.name for o in project.objects]:
        project = _open_counted(str(place), {**given, "objects": (*objects, name)})
    own = {"origin": dynamo_origin}
    options = ImportOptions(format=source, name=name, voxel_spacing=voxel_spacing, choices=own, **choices)
    report = import_picks(files, Runs(project, tomo_type=tomo_type), options)
    for run, counts in report.counts.items():
        echo(f"{run}: {', '.join(f'{n} {o}' for o, n in counts.items()) or 'no picks'}")
    if report.unmatched:
        echo(f"no run for {len(report.unmatched)} tomograms of the files: {', '.join(report.unmatched)}")


@click.command("doctor")
@click.argument("place", metavar="PROJECT|FILE")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--runs", callback=run_names, help="Runs to look at, comma-separated, or @FILE. Default: all.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help="The tomograms meant.")
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="The picks meant.")
@click.option("--examine", default=2, show_default=True, type=click.IntRange(0), help="Runs whose voxels are read.")
@click.option("--json", "as_json", is_flag=True, help="On standard output, as JSON.")
@click.option("--pictures", type=OUT, metavar="FOLDER", help="Draw the runs that are read.")
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
    from ..data.runs import Runs
    from ..look.doctor import Checkup, findings, has_errors, report, star_findings

    if Path(place).suffix.lower() == ".star" and Path(place).is_file():
        found = star_findings(Path(place))
    else:
        opened = _open(place, project)
        detector = None
        if model is not None:
            from ..picking.load import load_model

            detector = load_model(model)
        meant = Runs(opened, runs, tomo_type, picks)
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


@click.command("init")
@click.argument("tomograms", required=False, type=click.Path(path_type=Path))
@click.argument("out", required=False, type=OUT)
@click.option("--object", "objects", multiple=True, metavar="NAME:RADIUS",
              help="An object, radius in Å. Of the portal: NAME:RADIUS:IDENTIFIER (GO:...).")  # fmt: skip
@click.option("--preset", default="", metavar="czii", help="Objects to begin with.")
@click.option("--tomo-type", default="tomogram", show_default=True, help="What to call volumes that are copied.")
@click.option("--voxel-spacing", type=float, help="Voxel size in Å, in place of the file header's.")
@click.option("--keep-names", is_flag=True, help="Keep rec_ and _10.00Apx in the names of runs.")
@click.option(
    "--portal", multiple=True, type=int, metavar="DATASET_ID", help="Of the CryoET Data Portal; no TOMOGRAMS."
)
def init_command(
    tomograms: Path | None, out: Path | None, objects: tuple[str, ...], preset: str, tomo_type: str,
    voxel_spacing: float | None, keep_names: bool, portal: tuple[int, ...],
) -> None:  # fmt: skip
    """Write a copick configuration for a folder of TOMOGRAMS and a list of objects, in the new folder OUT.

    \b
    Examples:
      tomopick init tomograms/ project/ --object ribosome:150 --object apo-ferritin:60 --tomo-type denoised
      tomopick init project/ --portal 10440 --object ribosome:150
      tomopick init cells/ --portal 10301 --object ribosome:150 --object rubisco:60:GO:0009573
    """
    from ..data.new_project import init_project, portal_config

    if portal:
        if tomograms is None or out is not None:
            raise TomopickError("init --portal needs the folder OUT alone; see init --help")
        echo(portal_config(portal, tomograms, objects))
        return
    if tomograms is None or out is None:
        raise TomopickError("init needs TOMOGRAMS and the folder OUT, in this order; see init --help")
    path = init_project(
        tomograms, out, objects, preset=preset, tomo_type=tomo_type, voxel_spacing=voxel_spacing,
        plain_names=not keep_names,
    )  # fmt: skip
    echo(path)


@click.command("show")
@click.argument("tomogram", metavar="TOMOGRAM")
@click.argument("picks_place", metavar="[PICKS]", required=False)
@click.option("--out", required=True, type=OUT, help="The PNG to write.")
@click.option("--run", help="Which run, where TOMOGRAM is a project of several.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help="Which tomogram.")
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks, where they lie in a project.")
@click.option(
    "--truth", metavar="OBJECT:USER/SESSION", help="True picks of TOMOGRAM's project, to tell hits from misses."
)
@click.option("--min-score", type=float, help="Leave lower scores out.")
@click.option(
    "--thickness", default=100.0, show_default=True, type=POSITIVE, help="Of the slabs that are averaged, in Å."
)
@click.option("--at", callback=numbers, metavar="Z,Y,X", help="Where the slabs are centred, in Å.")
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
    from ..data.open import open_taking
    from ..data.runs import Runs
    from ..look.runs import draw_run

    if at is not None and len(at) != 3:
        raise TomopickError(f"--at has {len(at)} numbers; expected Z,Y,X in Å, such as 300,1500,1500")
    source = _open(tomogram, project)
    other = None if picks_place is None else open_taking(picks_place, **{**project, "voxel_spacing": None}).project
    meant = Runs(source, None if run is None else [run], tomo_type, picks)
    draw_run(meant, out, picks_from=other, truth=truth, min_score=min_score, thickness=thickness, at=at)
    echo(out)
