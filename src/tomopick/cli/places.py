"""Where picks may lie: the options of `pick` for masks, the border and the range of z."""

from __future__ import annotations

from typing import Any

import click

from .options import POSITIVE

_NAMES = ("inside", "outside", "within", "beyond", "border", "z_range", "orient_to", "clean")
_OPTIONS = (
    click.option("--clean", is_flag=True,
                 help="Pick in the sample alone, not on gold and carbon, as the shipped model of these says."),
    click.option("--orient-to", default="", metavar="MASK",
                 help="Turn picks to the nearest surface of MASK, their z outward."),
    click.option("--z-range", default="", metavar="FROM:TO", help="Sections, as 40:140, or Å, as 400:1400A."),
    click.option("--border", type=POSITIVE, metavar="Å", help="Keep that far away from the volume's faces."),
    click.option("--beyond", type=float, default=0.0, metavar="Å", help="Keep that far away from --outside masks."),
    click.option("--within", type=float, default=0.0, metavar="Å",
                 help="Pick that far out of --inside masks too; below 0: only that deep in them."),
    click.option("--outside", multiple=True, metavar="MASK", help="Pick outside of MASK, as for --inside; several."),
    click.option("--inside", multiple=True, metavar="MASK",
                 help="Pick in MASK alone: a volume (of any voxel size), a folder of RUN.mrc, a mesh, or a copick "
                 "segmentation NAME:user/session@spacing; in one of several."),
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
