"""A tomogram and its picks in another program: view."""

from __future__ import annotations

import signal
import webbrowser
from typing import Any

import click

from ..core.errors import SelectionError
from . import early
from .options import TYPE, device_option, pairs, project_options, say


@click.command("view")
@click.argument("what", metavar="PICKS|MODEL")
@click.argument("place", metavar="PROJECT")
@click.option("--with", "program", default="neuroglancer", show_default=True,
              type=click.Choice(["neuroglancer", "napari"]),
              help="The program to look with: neuroglancer, in the browser (pip install 'tomopick[view]'), or "
              "napari, where it "
              "is installed.")  # fmt: skip
@click.option("--run", help="The run to look at, where there are several.")
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks to show, where PICKS is a copick project.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--threshold", "thresholds", multiple=True, callback=pairs, metavar="OBJECT=VALUE",
              help="The score that the slider of OBJECT opens at, in place of the model's; repeatable.")  # fmt: skip
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="one that is free",
    help="Port of this machine that neuroglancer is served at.",
)
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@device_option
@project_options
def view_command(
    what: str, place: str, program: str, run: str | None, port: int, no_browser: bool, voxel_spacing: float | None,
    objects: tuple[str, ...], coordinate_offset: str, **choices: Any,
) -> None:  # fmt: skip
    """Look at a tomogram and its picks in 3D, with a slider for the score of each object; Ctrl-C ends it.

    PICKS is what `report` takes. Spheres have the objects' true radii.

    \b
    Examples:
      tomopick view picks/ tomograms/ --run TS_07
      tomopick view copick.json copick.json --picks '*:tomopick/1' --tomo-type denoised --with napari
    """
    early.require_sides(what, place, "view")
    from ..data import open_project
    from ..data.runs import Runs
    from ..look.page.gather import ReportOptions, gather_report
    from ..look.viewing import napari_layers, neuroglancer_state, show_in_napari, shown_in_neuroglancer

    opening = {"voxel_spacing": voxel_spacing, "objects": objects, "coordinate_offset": coordinate_offset}
    on = Runs(open_project(place, **opening), None if run is None else [run], choices.pop("tomo_type"))  # type: ignore[arg-type]
    report = gather_report(what, on, opening, ReportOptions(**choices))
    if run is None and len(report.picks) > 1:
        raise SelectionError(
            f"{what}: picks of {len(report.picks)} runs; name one with --run: {', '.join(report.picks)}"
        )
    (name,) = report.picks
    if report.tomogram is None or name not in report.embedded:
        raise SelectionError(f"{place}: run {name} has no tomogram; there is nothing to look at")
    given = report.tomogram(name), report.picks[name], report.particles, report.openings()
    if program == "napari":
        show_in_napari(napari_layers(*given))
        return
    viewer, address = shown_in_neuroglancer(neuroglancer_state(*given), port)
    say(address)
    say("Ctrl-C ends it")
    if not no_browser:
        webbrowser.open(address)
    try:
        while viewer is not None:
            signal.pause()
    except KeyboardInterrupt:
        return  # looking has no other end, and leaves nothing to go on with
