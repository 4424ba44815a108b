"""Verbs that make data: simulate, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..core.messages import counted
from . import early
from .on import OnCommand, simulate_work
from .options import UP_TO_ONE, device_option, echo, shape_of, shard_option
from .outputs import OUT


@click.command("simulate", cls=OnCommand, plan=simulate_work)
@click.argument("out", type=OUT)
@click.argument("settings", nargs=-1)
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1), help="How many tomograms to simulate.")
@click.option("--shape", default="184,630,630", show_default=True, help="Size of each tomogram: z,y,x in voxels.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed gives the same tomograms."
)
@click.option(
    "--tomo-type",
    default="wbp,ctfdeconvolved,denoised",
    show_default=True,
    help="What to reconstruct of each tilt series, comma-separated: wbp, ctfdeconvolved, denoised, isonetcorrected.",
)
@click.option(
    "--halves",
    is_flag=True,
    help="Reconstruct from the even and from the odd tilts too: wbp-even, wbp-odd and so on, to denoise with.",
)
@click.option(
    "--preset",
    default="czii",
    show_default=True,
    type=click.Choice(["czii", "varied"]),
    help="czii: runs like the challenge's. varied: much varied from run to run, to train on.",
)
@click.option(
    "--vary",
    default=1.0,
    show_default=True,
    type=UP_TO_ONE,
    help="How much runs differ from one another: 0, not at all (the middles of the preset's ranges); 1, as much as "
    "the ranges allow.",
)
@click.option(
    "--density",
    "densities",
    multiple=True,
    callback=early.densities,
    metavar="NAME=FILE[,radius=Å][,mass=kDa][,voxel=Å]",
    help="A map or atomic model (MRC, PDB, mmCIF) of an object; a new name is a new object. Repeatable.",
)
@click.option(
    "--templates",
    type=click.Path(path_type=Path),
    help="Folder of maps named after PDB entries: the objects' own, and unlabelled others.",
)
@click.option(
    "--positions",
    help="A project whose picks say where particles lie and how they are turned: each run becomes the twin of one of "
    "its runs.",
)
@click.option("--device", default="cpu", show_default=True, callback=early.one_device,
              help="Where to compute: cpu, cuda or cuda:N.")  # fmt: skip
@shard_option("runs")
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Processes that simulate side by side, a run each.",
)
def simulate_command(out: Path, settings: tuple[str, ...], shape: str, tomo_type: str, **options: Any) -> None:
    """Simulate labelled tomograms of the six CZII objects as a copick project in OUT.

    SETTINGS are section.field=value, for example microscope.defocus=25000,45000 (a range that each run draws from) or
    voxel_spacing=7.84; docs/simulation.md lists them. Repeated after an interruption, only missing runs are made.

    \b
    Example:  tomopick simulate sim/ --runs 4 --shape 96,256,256 --seed 1
    """
    sizes = shape_of(shape)
    types = tuple(part.strip() for part in tomo_type.split(","))
    early.require_simulated(types, settings)
    early.require_places([options["positions"], options["templates"]])
    from ..look.simulated import draw_simulated
    from ..simulation.projects import simulate_project

    names = simulate_project(out, sizes, tomo_types=types, settings=settings, draw=draw_simulated, **options)
    echo(f"{counted(len(names), 'run')} in {out / 'copick.json'}")


@click.command("demo")
@click.option("--out", default="demo", show_default=True, type=OUT, help="Folder that everything lands in.")
@click.option("--shape", default="128,512,512", show_default=True, help="Size of the tomogram: z,y,x in voxels.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Another seed, another tomogram; the same seed, the same.",
)
@click.option(
    "--model", default="default", show_default=True, help="The model to pick with: a folder, or a name that ships."
)
@device_option
def demo_command(out: Path, shape: str, seed: int, model: str, device: str) -> None:
    """Simulate a tomogram, pick it, score the picks and draw them; everything lands in --out.

    \b
    Example:  tomopick demo --shape 96,256,256 --seed 7
    """
    sizes = shape_of(shape)
    early.require_models([model])
    from .demo import run_demo

    run_demo(out, sizes, seed, model, device, click.echo)
