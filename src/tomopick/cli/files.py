"""Verbs that bring picks and tomograms in and out: export, import, init."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..core.errors import TomopickError
from ..core.messages import counted
from .options import (
    POSITIVE,
    USER,
    VOXEL_SIZE,
    comma,
    echo,
    foreign_options,
    numbers,
    opened,
    project_options,
    run_names,
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
                help="Session that picks are written under in a copick project.",
            ),
            click.option("--user-id", default=user, callback=identified, show_default=True, help=USER),
        ):
            command = option(command)
        return command

    return add


def _open_counted(place: str, project: dict[str, Any]) -> Any:
    """As `opened`, where a voxel spacing may be of coordinates alone: projects that state theirs do not take it."""
    from ..data import FolderProject

    found = opened(place, {**project, "voxel_spacing": None})
    takes = project["voxel_spacing"] is not None and isinstance(found, FolderProject)
    return opened(place, project) if takes else found


@click.command("export")
@click.argument("picks_place", metavar="PICKS")
@click.argument("out", type=OUT_TEXT)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="FORMAT",
    help="What to write: relion5, relion4, warp, dynamo, imod, imod-text, csv, ndjson, artiax, em, coords, copick; "
    "docs/formats.md says what is stored how.",
)
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks to write, where PICKS is a copick project.")
@click.option(
    "--runs", callback=run_names, help="Runs to write, comma-separated, or @FILE of them. Default: all with picks."
)
@click.option("--objects", "wanted", callback=comma, help="Objects to write, comma-separated. Default: all.")
@click.option(
    "--tomograms",
    metavar="PROJECT",
    help="Folder or project of the tomograms, whose size and voxels a format counts in. Default: that of PICKS.",
)
@click.option(
    "--tomo-type", metavar="TYPE[@SPACING]", help="The tomogram whose voxels are counted in, where runs have several."
)
@click.option(
    "--tomograms-star",
    type=click.Path(path_type=Path),
    help="RELION's tomograms.star, for the sizes and the names of its tomograms.",
)
@click.option(
    "--tilt-series-pixel-size", type=POSITIVE, help="Pixel size of the tilt series in Å: RELION counts in these."
)
@click.option("--min-score", multiple=True, callback=scores, metavar="VALUE|OBJECT=VALUE",
              help="Leave out picks of a lower score: of all objects, or of one, whose own counts before that of all; "
              "repeatable.")  # fmt: skip
@click.option("--at-thresholds", is_flag=True,
              help="Leave out picks below the thresholds that they were picked with (pick --keep-below).")  # fmt: skip
@click.option(
    "--together/--per-object",
    default=None,
    help="One file for all objects, or one for each. Default: one for each where the format cannot tell objects apart.",
)
@click.option(
    "--star-layout",
    type=click.Choice(["particles", "import"]),
    help="RELION: particles, one table for Extract; or import, for the job Import coordinates. Default: particles.",
)
@click.option("--coords-angpix", type=POSITIVE, help="Warp: voxel size in Å to count in. Default: the tomograms'.")
@click.option("--dynamo-origin", type=click.IntRange(0, 1), help="Dynamo: number of the first voxel. Default: 0.")
@click.option(
    "--tilt-range",
    callback=numbers,
    metavar="MIN,MAX",
    help="Dynamo: the lowest and the highest tilt in degrees, for its missing wedge, such as -60,60.",
)
@click.option("--names", "names_file", type=click.Path(path_type=Path), metavar="FILE",
              help="A text file, a line 'NAME RUN' for each run that the other program calls otherwise.")  # fmt: skip
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

    OUT is a file, or a folder where each run has its own file (a format that holds all runs: one file in it). Where one
    file holds one object, each has its own, with its name behind OUT's: particles_ribosome.star.

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
        raise TomopickError(f"--tilt-range has {counted(len(tilt_range), 'number')}; expected MIN,MAX, such as -60,60")
    require_target(target)
    given = {"objects": objects, "coordinate_offset": coordinate_offset}
    project = _open_counted(picks_place, {**given, "voxel_spacing": None if tomograms else voxel_spacing})
    place = None
    if tomograms:
        place = opened(tomograms, {"voxel_spacing": voxel_spacing, "objects": (), "coordinate_offset": "none"})
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
    help="What FILE is: relion5, relion4, warp, dynamo, imod, imod-text, em, coords, cbox, deepfinder, eman2, "
    "copick-json, ndjson, csv. Default: as its name and its contents say.",
)
@click.option("--as", "name", metavar="OBJECT", help="The object of all picks, where the files do not say.")
@click.option(
    "--tomo-type",
    metavar="TYPE[@SPACING]",
    help="The tomogram whose voxels the files count in, where runs have several.",
)
@foreign_options
@click.option("--dynamo-origin", type=click.IntRange(0, 1), help="Dynamo: number of the first voxel. Default: 0.")
@click.option(
    "--drop-outside",
    is_flag=True,
    help="Leave out picks that lie outside their tomogram; without it they are counted and kept.",
)
@click.option("--overwrite", is_flag=True, help="Replace the picks of this user and session; in a folder, RUN.csv.")
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
        echo(f"no run for {counted(len(report.unmatched), 'tomogram')} of the files: {', '.join(report.unmatched)}")


@click.command("init")
@click.argument("tomograms", required=False, type=click.Path(path_type=Path))
@click.argument("out", required=False, type=OUT)
@click.option("--object", "objects", multiple=True, metavar="NAME:RADIUS",
              help="An object and the radius of its particles in Å; repeatable. Of the portal also "
              "NAME:RADIUS:IDENTIFIER, by "
              "which it knows the object (GO:...).")  # fmt: skip
@click.option(
    "--preset", default="", metavar="czii", help="Begin with the six objects of the CZII challenge. Default: with none."
)
@click.option(
    "--tomo-type",
    default="tomogram",
    show_default=True,
    help="What kind of tomogram the copied volumes are called: denoised, wbp ...",
)
@click.option("--voxel-spacing", type=float, help=VOXEL_SIZE)
@click.option(
    "--keep-names",
    is_flag=True,
    help="Keep what programs add to the names of volumes (rec_, _10.00Apx) in the names of runs.",
)
@click.option(
    "--portal",
    multiple=True,
    type=int,
    metavar="DATASET_ID",
    help="A data set of the CryoET Data Portal to read over the network, in place of TOMOGRAMS; repeatable.",
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
