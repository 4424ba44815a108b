"""Verbs that make data: simulate, demo."""

from __future__ import annotations

from pathlib import Path

import click

from .cli_options import shape_of


@click.command("simulate")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1), help="How many tomograms.")
@click.option("--shape", default="184,630,630", show_default=True, help="z,y,x in voxels.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed gives the same tomograms."
)
@click.option(
    "--tomo-type", default="denoised", show_default=True, help="wbp, ctfdeconvolved, denoised; comma-separated."
)
@click.option(
    "--preset",
    default="czii",
    show_default=True,
    type=click.Choice(["czii", "varied"]),
    help="czii: runs like the challenge's. varied: much varied from run to run, to train on.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def simulate_command(out: Path, runs: int, shape: str, seed: int, tomo_type: str, preset: str, workers: int) -> None:
    """Simulate labelled tomograms of the six CZII objects as a copick project in OUT.

    \b
    Example:  tomopick simulate sim/ --runs 4 --shape 96,256,256 --seed 1
    """
    from .simulation import simulate_project

    sizes = shape_of(shape)
    types = tuple(part.strip() for part in tomo_type.split(","))
    names = simulate_project(out, sizes, runs=runs, seed=seed, tomo_types=types, preset=preset, workers=workers)
    click.echo(f"{len(names)} runs in {out / 'copick.json'}")


@click.command("demo")
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--shape", default="128,512,512", show_default=True, help="z,y,x in voxels.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the phantom.")
@click.option("--model", default="default", show_default=True, help="Model to pick with.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def demo_command(out: Path, shape: str, seed: int, model: str, device: str) -> None:
    """Simulate a tomogram, pick it, score the picks and draw them; everything lands in --out.

    \b
    Example:  tomopick demo --shape 96,256,256 --seed 7
    """
    from .demo import run_demo

    run_demo(out, shape_of(shape), seed, model, device, click.echo)
