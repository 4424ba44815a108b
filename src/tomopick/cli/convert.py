"""The verb that takes published weights: convert."""

from __future__ import annotations

import click

from . import early
from .options import echo
from .outputs import OUT_TEXT


@click.command("convert")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--as",
    "kind",
    required=True,
    type=click.Choice(
        [
            "bpd_released",
            "soup_released_tiny",
            "soup_released_medium",
            "soup_released_big",
            "topcup_released",
            "unet25d_convnext",
        ]
    ),
    metavar="RECIPE",
    help="The recipe that the weights belong to: topcup_released, bpd_released ...",
)
@click.argument("out", type=OUT_TEXT)
@click.option(
    "--object", "objects", multiple=True, callback=early.objects, metavar="NAME:RADIUS",
    help="The object of each channel and its radius in Å, in the channels' order; repeatable. Default: as published.",
)  # fmt: skip
@click.option(
    "--member",
    type=click.IntRange(1),
    help="Which network of a FILE with several: 1, 2, ... Default: all, as an ensemble.",
)
def convert_command(file: str, kind: str, out: str, objects: tuple[str, ...], member: int | None) -> None:
    """Turn published weights in FILE into the model folder OUT (of several networks: into an ensemble's).

    FILE is a Lightning checkpoint or a state_dict that torch.save wrote. Only tensors and plain values are read from
    it, and nothing in it is run. RECIPE is one of bpd_released, soup_released_tiny, soup_released_medium,
    soup_released_big, topcup_released and unet25d_convnext.

    \b
    Examples:
      tomopick convert best_model.ckpt --as topcup_released model/
      tomopick convert mine.ckpt --as topcup_released model/ --object ribosome:150 --object virus:135
    """
    early.require_places([file])
    from ..data.objects import with_specs
    from ..recipes.weights import convert

    made = convert(file, kind, out, with_specs((), objects, extend=True), member)
    n = sum(p.numel() for d in made.detectors for p in d.network.parameters())
    cuts = ", ".join(f"{name} {cut:g}" for name, cut in made.thresholds["czii"].items())
    what = "model" if len(made.detectors) == 1 else f"ensemble of {len(made.detectors)} networks"
    echo(f"{what} in {out} ({n:,} parameters); thresholds: {cuts}")
