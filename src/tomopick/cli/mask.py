"""Masks that a model makes: mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import early
from .options import TYPE, comma, device_option, echo, pairs, project_options, run_names
from .outputs import identified


@click.command("mask")
@click.argument("model", metavar="MODEL")
@click.argument("place", metavar="PROJECT")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write FOLDER/NAME/RUN.mrc. Default: segmentations of PROJECT, where it is copick's.")  # fmt: skip
@click.option("--runs", callback=run_names, help="Runs to mark, comma-separated, or @FILE of them. Default: all.")
@click.option("--objects", "only", callback=comma, help="What to mark, comma-separated. Default: all that MODEL knows.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--threshold", "thresholds", multiple=True, callback=pairs, metavar="NAME=VALUE",
              help="How high the heatmap of NAME must be to be marked, 0 to 1, in place of MODEL's threshold; "
              "repeatable.")  # fmt: skip
@click.option(
    "--user-id",
    default="tomopick",
    callback=identified,
    show_default=True,
    help="User that segmentations are written under in a copick project.",
)
@click.option(
    "--session-id",
    default="1",
    callback=identified,
    show_default=True,
    help="Session that segmentations are written under in a copick project.",
)
@click.option("--overwrite", is_flag=True, help="Replace masks that are there.")
@device_option
@project_options
def mask_command(
    model: str, place: str, runs: list[str] | None, only: list[str] | None, tomo_type: str | None,
    voxel_spacing: float | None, objects: tuple[str, ...], coordinate_offset: str, **choices: Any,
) -> None:  # fmt: skip
    """Mark in PROJECT's tomograms where MODEL's heatmaps are high: as copick segmentations, or as volumes.

    `surroundings` knows sample, gold, carbon and membranes; any model folder will do. What is written is what
    `pick --inside`, `--outside` and `--orient-to` take.

    \b
    Examples:
      tomopick mask surroundings copick.json --tomo-type denoised
      tomopick mask surroundings tomograms/ --out masks/ --objects membrane --threshold membrane=0.3
    """
    early.require_order(model, place, "mask")
    early.require_models([model])
    early.require_places([place])
    from ..core.progress import bar
    from ..data import open_project
    from ..data.runs import Runs
    from ..models.masks import MaskOptions, make_masks

    project = open_project(place, voxel_spacing=voxel_spacing, objects=objects, coordinate_offset=coordinate_offset)
    chosen = Runs(project, runs, tomo_type)
    with bar(len(runs or project.runs()), "mask", "run") as shown:
        for run, shares in make_masks(model, chosen, MaskOptions(names=only, **choices)):
            shown.update(1)
            echo(f"{run}: {', '.join(f'{name} {share:.2%}' for name, share in shares.items())}")
