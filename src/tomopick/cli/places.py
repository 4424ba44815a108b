"""Where picks may lie: the options of `pick` for masks, the border and the range of z."""

from __future__ import annotations

from typing import Any

import click

from .options import FINITE, POSITIVE

_NAMES = ("inside", "outside", "within", "beyond", "border", "z_range", "orient_to", "clean")
_OPTIONS = (
    click.option("--clean", is_flag=True,
                 help="Pick in the sample alone, not on gold and carbon, as the shipped model `surroundings` finds "
                 "them."),
    click.option("--orient-to", default="", metavar="MASK",
                 help="Give picks a rotation: their z axis along the normal of MASK's nearest surface, outward."),
    click.option("--z-range", default="", metavar="FROM:TO",
                 help="Pick between these sections alone, as 40:140, or in Å, as 400:1400A."),
    click.option("--border", type=POSITIVE, metavar="Å",
                 help="Drop picks that are nearer than this to a face of the volume."),
    click.option("--beyond", type=FINITE, default=0.0, metavar="Å", show_default=True,
                 help="Drop picks that are nearer than this to an --outside mask."),
    click.option("--within", type=FINITE, default=0.0, metavar="Å",
                 show_default=True,
                 help="Pick up to this far outside of --inside masks too; below 0: only where it is that deep inside."),
    click.option("--outside", multiple=True, metavar="MASK",
                 help="Pick outside of MASK alone, given as to --inside; repeatable, and then outside of all."),
    click.option("--inside", multiple=True, metavar="MASK",
                 help="Pick in MASK alone: a volume (of any voxel size), a folder of RUN.mrc, a mesh, or a copick "
                 "segmentation NAME:user/session@spacing; repeatable, and then in any of them."),
)  # fmt: skip


def places_options(command: Any) -> Any:
    """Fields of `Places`."""
    for option in _OPTIONS:
        command = option(command)
    return command


def places_of(choices: dict[str, Any]) -> Any:
    """`Places` of the options, which are taken out of `choices`."""
    from ..picking.places import Places

    given = {name: choices.pop(name) for name in _NAMES}
    clean = "surroundings" if given["clean"] else ""
    return Places(**{**given, "border": given["border"] or 0.0, "clean": clean})
