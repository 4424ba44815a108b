"""Verbs of methods: train, recipes."""

from __future__ import annotations

import re
from pathlib import Path

import click

from .cli_options import comma, given_for, look_over, named_runs, project_options, say
from .errors import TomopickError


@click.command("train")
@click.argument("recipe")
@click.argument("arguments", nargs=-1, required=True, metavar="PROJECT... OUT [section.field=value ...]")
@click.option("--train-runs", callback=comma, help="Runs to learn from, comma-separated. Default: all with picks.")
@click.option("--val-runs", callback=comma, help="Runs to validate on. Default: a fifth of the labelled ones.")
@click.option("--tomo-type", multiple=True, metavar="TYPE[@SPACING]", help="What to read; once, or once a PROJECT.")
@click.option("--picks", multiple=True, metavar="OBJECT:USER/SESSION", help="The truth; once, or once a PROJECT.")
@click.option("--objects", "learn", callback=comma, help="Objects to learn, comma-separated. Default: all defined.")
@click.option("--drop-outside", is_flag=True, help="Leave out picks that lie outside their tomogram.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of weights and patches.")
@click.option(
    "--workers", default=0, show_default=True, type=click.IntRange(0),
    help="Processes that make patches; 0: none besides this one.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with an interrupted training in OUT.")
@click.option(
    "--init-from", default="", metavar="MODEL", help="Start from a model; heads of objects it knows are kept."
)
@project_options
def train_command(
    recipe: str, arguments: tuple[str, ...], tomo_type: tuple[str, ...], picks: tuple[str, ...],
    train_runs: list[str] | None, val_runs: list[str] | None, learn: list[str] | None, drop_outside: bool,
    device: str, seed: int, workers: int, resume: bool, init_from: str,
    voxel_spacing: float | None, objects: tuple[str, ...], coordinate_offset: str,
) -> None:  # fmt: skip
    """Train RECIPE on one or several PROJECTs and write the model folder OUT.

    \b
    Examples:
      tomopick train bpd tomograms/ model/ --object ribosome:150
      tomopick train bpd copick.json model/ --val-runs TS_6_4 --picks '*:curator/*' train.lr=3e-4
      tomopick train bpd real.json sim/copick.json model/ --tomo-type denoised --init-from default
    """
    from . import recipes
    from .checkpoints import read_log
    from .doctor import Checkup
    from .fitting import FitOptions, Source, fit
    from .io import open_project
    from .show import draw_training

    overrides = [a for a in arguments if re.match(r"[A-Za-z_][\w.-]*=", a)]
    places = [a for a in arguments if a not in overrides]
    if len(places) < 2:
        raise TomopickError("train needs at least one PROJECT and the folder OUT, in this order; see train --help")
    method = recipes.get(recipe).override(overrides)
    *projects, out = places
    opened = [
        open_project(p, voxel_spacing=voxel_spacing, objects=objects, coordinate_offset=coordinate_offset)
        for p in projects
    ]
    sources = [
        Source(
            project,
            given_for(tomo_type, i, len(projects), "--tomo-type"),
            given_for(picks, i, len(projects), "--picks"),
            named_runs(train_runs, project, opened),
            named_runs(val_runs, project, opened),
            drop_outside,
        )
        for i, project in enumerate(opened)
    ]
    for source in sources:
        named = None if source.train_runs is None else [*source.train_runs, *(source.val_runs or ())]
        look_over(source.project, Checkup(named, source.tomo_type, source.picks))
    options = FitOptions(
        device=device, seed=seed, workers=workers, resume=resume, init_from=init_from, objects=learn, say=say
    )
    detector = fit(method, sources, Path(out), options)
    draw_training(read_log(Path(out) / "log.jsonl"), Path(out) / "training.png")
    click.echo((Path(out) / "README.md").read_text().split("\nProvenance:")[0].rstrip())
    click.echo(f"\nmodel in {out} ({sum(p.numel() for p in detector.network.parameters()):,} parameters)")


@click.command("recipes")
@click.argument("name", required=False)
def recipes_command(name: str | None) -> None:
    """List the recipes, or show all fields of the one called NAME.

    \b
    Example:  tomopick recipes bpd
    """
    import json

    from . import recipes as all_recipes

    if name:
        click.echo(json.dumps(all_recipes.get(name).to_json(), indent=1))
        return
    from tabulate import tabulate

    from .networks import count_parameters

    rows = []
    for method in all_recipes.names():
        recipe = all_recipes.get(method)
        rows.append(
            [
                method,
                f"{count_parameters(recipe.network, 6):,}",
                recipe.network.stride,
                "x".join(map(str, recipe.patch.shape)),
                recipe.source,
            ]
        )
    click.echo(tabulate(rows, headers=["recipe", "parameters", "stride", "patch", "source"], disable_numparse=True))
