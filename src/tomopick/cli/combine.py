"""Verbs that make one model of several: ensemble, soup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..core.errors import TomopickError
from ..core.files import require_writable
from . import early
from .options import (
    TYPE,
    WHERE_LABELLED,
    comma,
    device_option,
    echo,
    labelled_options,
    named_runs,
    project_options,
    tta_option,
)


def _shared(command: Any) -> Any:
    """What both verbs measure on."""
    for option in (
        click.option("--project", "place", metavar="PROJECT",
                     help="Tomograms and true picks to measure weights and thresholds on. Default: none, all weights "
                     "alike."),
        click.option("--val-runs", callback=comma,
                     help="Runs of PROJECT to measure on, comma-separated. Default: those with picks that a MODEL "
                     "has not "
                     "learned from."),
        click.option("--truth", metavar="OBJECT:USER/SESSION",
                     help="Which of PROJECT's picks are true, where it is copick's."),
        click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE),
        click.option("--metric", default="f1", show_default=True, type=click.Choice(["f1", "czii"]),
                     help="What the weights make best: F1, or the CZII challenge's F-beta 4."),
        tta_option,
        device_option,
    )[::-1]:  # fmt: skip
        command = option(command)
    return project_options(labelled_options(command))


@click.command("ensemble")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL... OUT")
@click.option("--weights", default="uniform", show_default=True, type=click.Choice(["uniform", "grid"]),
              help="How much each model counts: all alike, or the best shares found on the runs.")  # fmt: skip
@click.option("--per-object", is_flag=True, help="Find the best shares of each object by itself.")
@click.option(
    "--mean",
    type=click.Choice(["probabilities", "logits"]),
    help="What is averaged: heatmaps of 0 to 1, or logits before the sigmoid. Default: probabilities.",
)
@click.option(
    "--align",
    is_flag=True,
    help="Map each model's scores first so that equal ranks score alike: for models taught with unlike losses.",
)
@_shared
def ensemble_command(
    arguments: tuple[str, ...], place: str | None, val_runs: list[str] | None, truth: str | None,
    tomo_type: str | None, **choices: Any,
) -> None:  # fmt: skip
    """Write the ensemble folder OUT: several MODELs whose heatmaps are averaged, with thresholds of its own.

    MODELs may be of any family, size, stride and voxel spacing; OUT is a model wherever one is asked for. With a
    PROJECT the weights and the thresholds are measured on its runs, each predicted by the members that have not learned
    from it; without one the weights are equal and the thresholds the mean of the models'. The heatmaps of the runs are
    kept in the temporary folder (TMPDIR) meanwhile: two bytes a voxel, object and member.

    \b
    Examples:
      tomopick ensemble seed0/ seed1/ seed2/ ensemble/ --project copick.json --val-runs TS_6_4
      tomopick ensemble tiny/ medium/ large/ soup/ --weights grid --project copick.json --val-runs TS_6_4,TS_6_6
      tomopick ensemble bpd/ topcup/ both/ --align --weights grid --per-object --project copick.json --metric czii
    """
    *names, out = _two_or_more(arguments, "ensemble", place)
    if len(names) < 2 and not (choices["align"] or place):
        raise TomopickError(f"{names[0]}: a single model is no ensemble; give two or more before OUT")
    from ..models.combine import CombineOptions, combine
    from ..picking.cards import card_of
    from ..picking.load import load_model

    options = CombineOptions(**_only(choices, ("weights", "per_object", "mean", "align", "metric", "views", "device")))
    runs = _validation(place, val_runs, truth, tomo_type, choices)
    made = combine([load_model(name) for name in names], Path(out), options, runs)
    echo(card_of(Path(out)))
    echo(f"\nensemble of {len(made.members)} in {out}")


@click.command("soup")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL... OUT")
@click.option("--weights", default="uniform", show_default=True, type=click.Choice(["uniform", "greedy", "grid"]),
              help="All alike; from the best on while it helps; or the best shares found on the runs.")  # fmt: skip
@click.option("--norm", default="average", show_default=True, type=click.Choice(["average", "estimate"]),
              help="BatchNorm statistics: averaged too, or estimated anew on the runs.")  # fmt: skip
@_shared
def soup_command(
    arguments: tuple[str, ...], place: str | None, val_runs: list[str] | None, truth: str | None,
    tomo_type: str | None, **choices: Any,
) -> None:  # fmt: skip
    """Write the model folder OUT: one network whose weights are the mean of several MODELs' of one family.

    It picks as fast as one of them. A single MODEL means the best weights of its own training, which it keeps in top/.
    Thresholds are measured anew on the runs of PROJECT; without one they are the mean of the models'.

    \b
    Examples:
      tomopick soup fold0/ fold1/ fold2/ soup/ --project copick.json --val-runs TS_6_4
      tomopick soup model/ averaged/ --weights greedy --project copick.json --norm estimate
    """
    *names, out = _two_or_more(arguments, "soup", place)
    from ..models.soup import SoupOptions, make_soup, top_candidates
    from ..picking.cards import card_of
    from ..picking.load import load_detector

    models = [load_detector(name) for name in names]
    if len(models) == 1:
        models = top_candidates(models[0])
    options = SoupOptions(**_only(choices, ("weights", "norm", "metric", "views", "device")))
    runs = _validation(place, val_runs, truth, tomo_type, choices)
    make_soup(models, Path(out), options, runs)
    echo(card_of(Path(out)))
    echo(f"\nmodel in {out}, of {len(models)}")


def _two_or_more(arguments: tuple[str, ...], verb: str, place: str | None) -> tuple[str, ...]:
    """The models and the place of what is made of them, which can be made there; the project is there, too."""
    from ..core.files import require_new
    from ..picking.folder import is_model

    if len(arguments) < 2:
        raise TomopickError(f"{verb} needs MODELs and the folder OUT to write, in this order; see {verb} --help")
    if is_model(arguments[-1]):
        last = arguments[-1]
        raise TomopickError(f"{last}: exists already, and is a model; name a new folder OUT behind the MODELs")
    require_new(arguments[-1])
    require_writable(arguments[-1])
    early.require_models(arguments[:-1])
    early.require_places([place])
    return arguments


def _only(choices: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: choices[name] for name in names}


def _validation(
    place: str | None, val_runs: list[str] | None, truth: str | None, tomo_type: str | None, choices: dict[str, Any]
) -> Any:
    """The runs to measure on; None where no project is given."""
    from ..data import open_project
    from ..data.runs import Runs

    if place is None:
        if val_runs is not None:
            raise TomopickError("--val-runs are runs of a project; say which with --project PROJECT")
        return None
    opened = open_project(place, **_only(choices, ("voxel_spacing", "objects", "coordinate_offset", *WHERE_LABELLED)))
    return Runs(opened, named_runs(val_runs, opened, [opened]), tomo_type, truth)
