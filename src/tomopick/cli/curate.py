"""Picks corrected by a person: curate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..core.errors import SelectionError
from ..core.messages import counted
from ..core.shards import Shard
from . import early
from .options import (
    AS,
    TYPE,
    comma,
    device_option,
    echo,
    pairs,
    project_options,
    say,
    shard_option,
    true_runs_of,
)
from .outputs import OUT, identified


@click.command("curate")
@click.argument("what", metavar="PICKS|MODEL")
@click.argument("place", metavar="PROJECT")
@click.option("--out", type=OUT, metavar="FOLDER",
              help="Folder that keeps the decisions; the same command goes on there. Default: curation-USER, in the "
              "current "
              "folder.")  # fmt: skip
@click.option("--model", metavar="MODEL", help="A model whose thresholds the sliders open at and whose maxima clicks "
              "snap to.")  # fmt: skip
@click.option("--decided", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Folder that keeps the decisions of an earlier curation: they are taken over.")  # fmt: skip
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks to look at, where PICKS is a copick project.")
@click.option("--as", "name", metavar="OBJECT", help=AS)
@click.option(
    "--truth",
    metavar="OBJECT:USER/SESSION",
    help="Which picks of PROJECT are true, where some are known: the page shows scores.",
)
@click.option("--runs", callback=comma, help="Runs to curate, comma-separated. Default: all with picks.")
@shard_option("runs that MODEL picks; no page is opened, the command without it opens them all")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--threshold", "thresholds", multiple=True, callback=pairs, metavar="OBJECT=VALUE",
              help="The score that the slider of OBJECT opens at, in place of the model's; repeatable.")  # fmt: skip
@click.option("--metric", default="f1", show_default=True, callback=early.metric, metavar="f1|czii|precision=P",
              help="Which of the model's thresholds the sliders open at.")  # fmt: skip
@click.option(
    "--user-id",
    default="curator",
    callback=identified,
    show_default=True,
    help="Who decides: the user that picks are written under.",
)
@click.option(
    "--session-id",
    callback=identified,
    help="Session that picks are written under in a copick project. Default: the next free number.",
)
@click.option(
    "--light", is_flag=True, help="Particles are lighter than what surrounds them: clicks snap to what is light."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="one that is free",
    help="Port of this machine that the page is served at.",
)
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@device_option
@project_options
def curate_command(
    what: str, place: str, out: Path | None, model: str | None, light: bool, port: int, no_browser: bool,
    user_id: str, session_id: str | None, shard: Shard | None, decided: Path | None, **choices: Any,
) -> None:  # fmt: skip
    """Look at picks in the browser, accept, reject, correct and add; every decision is on disk at once.

    PICKS is what `report` takes: a folder of RUN.csv, a project, one CSV, a file of another program, or a MODEL that
    picks first, into FOLDER/prepared. The page is served to this machine alone. Ctrl-C ends it; the same command goes
    on where it was.

    In a copick project accepted picks are USER/SESSION, rejected ones USER/SESSION-rejected and unsure ones
    USER/SESSION-unsure. Otherwise FOLDER gets RUN.csv, RUN.negatives.csv and RUN.unsure.csv beside links to the
    volumes, so that it is a project to train on.

    \b
    Examples:
      tomopick curate picks/ tomograms/ --out curated/
      tomopick curate copick.json copick.json --picks '*:tomopick/1' --user-id me --tomo-type denoised
      tomopick curate next2/ tomograms/ --out curated2/ --decided curated/
    """
    early.require_sides(what, place, "curate")
    early.require_places([decided])
    early.require_models([model] if model else [])
    import asyncio

    from ..look.curation.begin import begin
    from ..look.curation.folder import require_own_folder
    from ..look.curation.server import Curation, serve
    from ..look.page.gather import ReportOptions
    from ..look.ports import bound
    from ..picking.folder import is_model

    opening = {key: choices.pop(key) for key in ("voxel_spacing", "objects", "coordinate_offset")}
    on = true_runs_of(place, opening, choices)
    options = ReportOptions(**choices)
    out = out or Path(f"curation-{user_id}")
    require_own_folder(out, what, on.project, on.check())
    listening = None if shard else bound(port)  # before anything is made or picked
    if listening is not None:
        click.get_current_context().call_on_close(listening.close)
    if is_model(what):
        what = _prepared(what, on, options, out, shard)
    elif shard is not None:
        raise SelectionError(f"--shard shares out what a MODEL picks, and {what} is picks already; leave it out")
    if listening is None:
        say(f"once all parts are there, the same command without --shard opens them: tomopick status {what} tells")
        return
    desk, finder = begin(what, on, opening, options, model, user_id, session_id, out, decided)

    try:
        asyncio.run(serve(Curation(desk, not light, finder), listening, lambda url: _tell(url, desk.out, no_browser)))
    except KeyboardInterrupt:
        done = sum(line["done"] for line in desk.overview())
        say(f"done: {done} of {counted(len(desk.runs()), 'tomogram')}; go on with the same command")
    finally:
        desk.close()


def _tell(url: str, out: Path, no_browser: bool) -> None:
    """Where the page is, and opens it."""
    say(f"decisions are kept in {out}; end with Ctrl-C")
    number = url.rpartition(":")[2].partition("/")[0]
    say(f"on another machine, first: ssh -L {number}:127.0.0.1:{number} THIS-MACHINE")
    echo(url)
    if not no_browser:
        import webbrowser

        webbrowser.open(url)


def _prepared(model: str, on: Any, options: Any, out: Path, shard: Shard | None) -> str:
    """The folder of a model's candidates, of which those that were missing have been picked."""
    from ..core.progress import bar
    from ..look.curation.prepare import FOLDER, prepare
    from .pick import tell_all

    names = on.check()
    wanted = names if shard is None else shard.part(names)
    if shard is not None:
        say(f"part {shard}: {len(wanted)} of {counted(len(names), 'run')}")
    with bar(len(wanted), "pick", "run") as shown:
        failed = tell_all(prepare(model, on, options, out, wanted), len(wanted), shown)
    if failed and (shard is not None or len(failed) == len(names)):
        sys.exit(1)  # else the other tomograms are there to be looked at
    return str(out / FOLDER)
