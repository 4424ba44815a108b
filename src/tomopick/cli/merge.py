"""What several pickers agree on: merge."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.errors import TomopickError
from ..core.messages import counted
from . import early
from .options import OFFSET, POSITIVE, comma, echo, objects_option, run_names
from .outputs import OUT


@click.command("merge")
@click.argument("places", nargs=-1, required=True, metavar="PICKS...")
@click.option("--out", required=True, type=OUT,
              help="What to write: one table of all runs (a name ending in .csv), or a folder with a RUN.csv of "
              "each.")  # fmt: skip
@click.option("--agree", default=2, show_default=True, type=click.IntRange(1),
              help="Keep particles that this many of the PICKS have.")  # fmt: skip
@click.option("--within", default=0.5, show_default=True, type=POSITIVE,
              help="Picks are of one particle within this many of its radii.")  # fmt: skip
@click.option("--picks", multiple=True, metavar="OBJECT:USER/SESSION",
              help="Which picks to take, where PICKS are copick projects; once, or once for each.")  # fmt: skip
@click.option("--runs", callback=run_names, help="Runs to merge, comma-separated, or @FILE of them. Default: all.")
@click.option("--objects", "only", callback=comma, help="Objects to merge, comma-separated. Default: all.")
@objects_option
@click.option("--coordinate-offset", default="none", show_default=True, metavar="none|czii|Z,Y,X",
              help=OFFSET)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace picks that are there.")
def merge_command(
    places: tuple[str, ...], out: Path, agree: int, within: float, picks: tuple[str, ...], runs: list[str] | None,
    only: list[str] | None, objects: tuple[str, ...], coordinate_offset: str, overwrite: bool,
) -> None:  # fmt: skip
    """Keep what several PICKS (projects, folders of RUN.csv, tables) agree on, and remove doubles.

    Of picks of one particle the middle is kept, with the mean of their scores. With --agree 1 everything is kept that
    anybody picked, once.

    \b
    Examples:
      tomopick merge picks_a/ picks_b/ --agree 2 --out agreed/
      tomopick merge copick.json copick.json --picks '*:tomopick/1' --picks '*:relion/0' --out agreed.csv
    """
    if len(picks) not in (0, 1, len(places)):
        raise TomopickError(f"--picks was given {len(picks)} times for {len(places)} PICKS; give it once, or once each")
    early.require_places(places)
    from ..scoring.agreement import MergeOptions, merge_picks

    options = MergeOptions(agree, within, picks, runs, only, objects, coordinate_offset, overwrite)
    found = merge_picks(places, out, options)
    for run, kept in found.items():
        names = dict.fromkeys(kept.names.tolist())
        echo(f"{run}: {', '.join(f'{len(kept.of(name))} {name}' for name in names) or 'no picks'}")
    echo(f"{counted(sum(map(len, found.values())), 'pick')} in {out}")
