"""Verbs of methods: train, recipes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.claims import claimed
from ..core.errors import TomopickError
from ..core.files import is_vacant
from ..core.shards import Shard
from ..core.text import read_text
from . import early
from .grounds import asked_plan, fit_options, grounds_of, hold, is_planned
from .maps import with_simulated
from .on import OnCommand
from .options import (
    DEVICE,
    DROP,
    MINUTES,
    TYPE,
    all_labelled_option,
    comma,
    counts,
    echo,
    invert_option,
    labelled_options,
    projects_options,
    run_names,
    say,
    shard_option,
)
from .train_jobs import train_places, train_work
from .train_ranks import follow, led, named_devices, side_by_side


@click.command("train", cls=OnCommand, plan=train_work)
@click.argument("recipe", metavar="METHOD")
@click.argument("arguments", nargs=-1, required=True, metavar="PROJECT... OUT [section.field=value ...]")
@click.option(
    "--train-runs",
    callback=run_names,
    help="Runs to learn from, comma-separated, or @FILE of them. Default: all with picks.",
)
@click.option(
    "--val-runs", callback=run_names,
    help="Runs to validate on, comma-separated, or @FILE of them. Default: a fifth of the first PROJECT's; all runs "
    "of the others are learned from.",
)  # fmt: skip
@click.option("--tomo-type", multiple=True, metavar="TYPE[@SPACING][,...]",
              help=f"{TYPE} Once, or once a PROJECT; several of one (wbp,denoised) are learned together.")  # fmt: skip
@click.option(
    "--picks",
    multiple=True,
    metavar="OBJECT:USER/SESSION",
    help="Which picks to learn from, where PROJECT is copick's ('*:curator/1'); once, or once a PROJECT.",
)
@click.option(
    "--objects",
    "learn",
    callback=comma,
    help="Objects to learn, comma-separated. Default: all that the first PROJECT defines.",
)
@click.option("--add", multiple=True, callback=early.objects, metavar="NAME[:RADIUS]",
              help="Learn this object beside all that --init-from knows, which it does not forget.")  # fmt: skip
@click.option("--from-map", "maps", multiple=True, callback=early.densities,
              metavar="[NAME=]FILE[,radius=Å][,mass=kDa][,voxel=Å]",
              help="Learn this map or atomic model, from runs simulated for it; no PROJECT is needed.")  # fmt: skip
@click.option(
    "--like",
    metavar="TOMOGRAMS",
    help="With --from-map: simulate with voxel size, thickness, power spectrum, contrast and tilts of these tomograms.",
)
@click.option("--like-tomo-type", metavar="TYPE[@SPACING]",
              help="The kind of tomogram to read of --like. Default: the only one there.")  # fmt: skip
@click.option("--drop-outside", is_flag=True, help=DROP)
@invert_option
@click.option("--unlabelled-runs", callback=comma,
              help="Runs that a semi-supervised METHOD learns from without picks, comma-separated.")  # fmt: skip
@click.option("--unlabelled", multiple=True, metavar="PROJECT",
              help="A project of runs without picks, for a semi-supervised METHOD: those of --unlabelled-runs that "
              "it has, "
              "else all.")  # fmt: skip
@click.option("--unlabelled-tomo-type", metavar="TYPE[@SPACING]",
              help="The kind of tomogram to read of --unlabelled runs. Default: as of the first PROJECT.")  # fmt: skip
@click.option(
    "--as-published",
    is_flag=True,
    help="Carry out all trainings of the published METHOD, into one ensemble; see --dry-run.",
)
@click.option("--dry-run", is_flag=True,
              help="Print the trainings with their runs, steps, time and memory on this machine, and train "
              "nothing.")  # fmt: skip
@click.option(
    "--seeds", type=click.IntRange(1), help="Train this many members, with seeds from --seed on, into one ensemble."
)
@click.option("--folds", type=click.IntRange(2),
              help="Divide the runs by name into so many parts; each validates one member of an ensemble.")  # fmt: skip
@click.option("--subset", callback=counts, metavar="N[,N...]",
              help="Learn from the first N runs of a shuffled order; of several N, an ensemble.")  # fmt: skip
@click.option(
    "--pretrain",
    metavar="PROJECT",
    help="Simulated runs to train on first; the training on PROJECT starts from what they gave.",
)
@click.option(
    "--pretrain-tomo-type",
    metavar="TYPE[@SPACING]",
    help="The kind of tomogram to read of the --pretrain runs. Default: the only one there.",
)
@click.option("--pretrain-picks", metavar="OBJECT:USER/SESSION", help="Which picks of the --pretrain runs are true.")
@click.option(
    "--pretrain-val-runs", callback=run_names,
    help="Runs of --pretrain to validate on, comma-separated, or @FILE of them. Default: none; the first PROJECT's "
    "validation runs choose.",
)  # fmt: skip
@click.option(
    "--pretrained-weights", "weights_folder", default="", metavar="DIR",
    help="Folder with the ImageNet weights that some recipes start from, under timm's names. Default: they are fetched "
    "from Hugging Face.",
)  # fmt: skip
@shard_option("trainings of a method of several")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=early.devices,
    metavar="NAME[,NAME...]",
    help=f"{DEVICE} Several (cuda:0,cuda:1; cuda:all): each computes its share of every batch; of a method of several "
    "trainings each has one at a time.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Decides the first weights and the order of patches; the same seed gives the same training.",
)
@click.option(
    "--workers", default=0, show_default=True, type=click.IntRange(0),
    help="Processes that cut and augment patches beside the training; 0: none.",
)  # fmt: skip
@click.option(
    "--minutes",
    type=MINUTES,
    help="How long it may take; how many steps fit follows from how long the first ones took. Default: the recipe's "
    "train.steps.",
)
@click.option("--patience", default=0, show_default=True, type=click.IntRange(0), metavar="N",
              help="End after N validations in a row that brought nothing better; 0: at the last step.")  # fmt: skip
@click.option(
    "--resume", is_flag=True, help="Go on with an interrupted training in OUT; with train.steps=N, longer than planned."
)
@click.option(
    "--init-from",
    default="",
    metavar="MODEL",
    help="Start from the weights of this model (`default`, a folder); what it knows of its objects is kept.",
)
@click.option(
    "--negatives", multiple=True, metavar="OBJECT:USER/SESSION",
    help="Picks that mark what the object is not, to learn from, where PROJECT is copick's; once, or once a PROJECT. "
    "Where it is the same as --picks, what a curation rejected beside them. A folder has its RUN.negatives.csv.",
)  # fmt: skip
@all_labelled_option
@labelled_options
@projects_options
def train_command(
    recipe: str, arguments: tuple[str, ...], learn: list[str] | None, shard: Shard | None, **choices: Any
) -> None:
    """Train METHOD on one or several PROJECTs and write the model folder OUT.

    METHOD is a recipe (`tomopick recipes` lists them). Several members (--as-published, --seeds, --folds, --subset)
    become an ensemble in OUT, which is a model wherever one is asked for; what was interrupted goes on with --resume.
    As published: bpd (four seeds), soup (three sizes, a member a tomogram type, from --pretrain), topcup (6, 12 and 24
    runs, from --pretrain), unet25d (seven folds, two networks), semietpicker (with unlabelled runs).

    \b
    Examples:
      tomopick train light tomograms/ model/ --object ribosome:150
      tomopick train bpd copick.json model/ --val-runs TS_6_4 --picks '*:curator/*' train.lr=3e-4
      tomopick train light real.json sim/copick.json model/ --tomo-type denoised --init-from default
      tomopick train light tomograms/ model/ --init-from default --add my-protein:75
      tomopick train light model/ --from-map my-protein.mrc,radius=60 --like tomograms/ --minutes 15
      tomopick train soup copick.json soup/ --as-published --pretrain sim/copick.json --pretrain-tomo-type wbp
      tomopick train semietpicker copick.json model/ --train-runs TS_5_4,TS_69_2 --unlabelled rest.json
    """
    projects, out, overrides = train_places(recipe, arguments, **choices)
    from ..picking.cards import card_of
    from ..training.rank_processes import among_ranks, rank_here

    devices = named_devices(choices, shard)
    if rank_here():
        follow(_recipe(recipe, overrides, choices), projects, Path(out), learn, choices)
        return
    method = _recipe(recipe, overrides, choices)
    if shard is None:
        _require_start(Path(out), learn, choices)
    with among_ranks(choices["device"]) as ranks:
        projects, learn = with_simulated(projects, Path(out), learn, choices)
        options = replace(fit_options(choices, learn), ranks=ranks)
        if choices["dry_run"]:
            echo(_looked_ahead(recipe, overrides, grounds_of(projects, choices, options.objects), options, choices))
            return
        choices["shard"] = shard
        # Parts of a plan are trained side by side, each in a folder that it claims itself.
        with claimed(out) if shard is None else nullcontext(), _resumable(Path(out)):
            made = _made(recipe, overrides, method, projects, Path(out), options, choices, devices)
    if made is None:
        return
    echo(card_of(Path(out)))
    n = sum(p.numel() for d in made.detectors for p in d.network.parameters())
    what = f"ensemble of {len(made.detectors)}" if len(made.detectors) > 1 else "model"
    echo(f"\n{what} in {out} ({n:,} parameters)")


def _made(
    recipe: str, overrides: list[str], method: Any, projects: list[str], out: Path, options: Any,
    choices: dict[str, Any], devices: list[str],
) -> Any:  # fmt: skip
    """What is trained; None of a part of a plan."""
    from ..look.sections import draw_training
    from ..picking.folder import read_log
    from ..training.fit import fit

    shard, grounds = choices["shard"], grounds_of(projects, choices, options.objects)
    if is_planned(choices) or any(len(kinds) > 1 for kinds in grounds.tomo_types):
        made = _carry_out(recipe, overrides, grounds, out, options, choices, devices)
        if shard is not None:
            say(f"part {shard}: {', '.join(made) or 'nothing'}; when all are trained: --resume without --shard")
            return None
        return made
    if shard is not None:
        raise TomopickError(f"--shard {shard}: this is one training, which has no parts; leave it out")
    with led(devices, options) as options:
        options.ranks.says(True)  # which the others wait for
        made = fit(method, grounds.sources, out, options)
    draw_training(read_log(out / "log.jsonl"), out / "training.png")
    return made


def _recipe(name: str, overrides: list[str], choices: dict[str, Any]) -> Any:
    """A recipe by name; None for a published method whole."""
    from .. import recipes

    if choices["as_published"]:
        return None
    recipe = recipes.get(name)
    if choices["maps"]:
        from ..recipes.from_maps import for_other_volumes

        recipe = for_other_volumes(recipe)
    return recipe.override(overrides)


def _require_start(out: Path, learn: list[str] | None, choices: dict[str, Any]) -> None:
    """What refuses a training at a glance, before the projects are opened and looked over."""
    from ..networks.engines import choose_device
    from ..picking.load import load_detector
    from ..training.resuming import require_place

    # What a plan of one member starts from lies beside OUT and may be there alone.
    if not (choices["resume"] and choices["pretrain"] and is_vacant(out)):
        require_place(out, choices["resume"])
    choose_device(choices["device"])
    if choices["init_from"]:
        load_detector(choices["init_from"])
    hold(choices, learn)


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Ctrl-C says how to go on, which depends on whether the training has begun."""
    try:
        yield
    except KeyboardInterrupt as stop:
        # What a plan of one member starts from lies beside OUT.
        begun = not is_vacant(out) or any(out.absolute().parent.glob(f"{out.name}-pretrained*"))
        kept = str(stop) or f"interrupted; what was finished is kept in {out}"
        line = f"{kept}: repeat the command with --resume to go on"
        raise type(stop)(line if begun else f"interrupted before {out} was begun; repeat the command") from None


def _looked_ahead(method: str, overrides: list[str], grounds: Any, options: Any, choices: dict[str, Any]) -> str:
    """A table of what the trainings learn from and cost."""
    from ..recipes.dry_run import look_ahead, table

    return table(look_ahead(asked_plan(method, overrides, grounds, options, choices), grounds, options))


def _carry_out(
    method: str, overrides: list[str], grounds: Any, out: Path, options: Any, choices: dict[str, Any],
    devices: list[str],
) -> Any:  # fmt: skip
    """A method of several trainings."""
    from ..recipes.as_published import carry_out, carry_out_part

    plan = asked_plan(method, overrides, grounds, options, choices)
    if len(plan.trainings) > 1:
        say(f"{plan.name}: {len(plan.trainings)} trainings: {', '.join(t.name for t in plan.trainings)}")
    if choices["shard"] is not None:
        return carry_out_part(plan, grounds, out, options, choices["shard"])
    if options.ranks.size > 1:
        raise TomopickError(
            f"{plan.name}: {len(plan.trainings)} trainings are trained side by side, not each in several processes; "
            "leave torchrun out and name the devices: --device cuda:0,cuda:1, or --shard"
        )
    if len(devices) > 1:
        return side_by_side(plan, grounds, out, options, devices)
    return carry_out(plan, grounds, out, options)


@click.command("finish")
@click.argument("model", type=click.Path(path_type=Path))
def finish_command(model: Path) -> None:
    """Make a model of an interrupted training: its best weights so far, with the thresholds measured for them.

    MODEL is the folder that train was writing; of several trainings each has its own, MODEL/members/NAME. A training
    that was not interrupted finishes by itself.

    \b
    Example:  tomopick finish model/
    """
    early.require_places([model])
    from ..training.fit import finish_early

    finish_early(model)
    echo(read_text(model / "README.md", "a model's card").split("\nProvenance:")[0].rstrip())
    echo(f"\nmodel in {model}")


@click.command("recipes")
@click.argument("name", required=False)
def recipes_command(name: str | None) -> None:
    """List the recipes and what each is good for, or show all fields of the one called NAME.

    The score is the one published on the challenge's private test runs (weighted F-beta 4), which needs its data; the
    docs compare all on simulated runs. Of a method of several recipes, such as soup, what it is made of is told.

    \b
    Examples:
      tomopick recipes bpd
      tomopick recipes soup
    """
    import json

    from .. import recipes as all_recipes

    if name:
        all_recipes.require_method(name)
        if name in all_recipes.names():
            echo(json.dumps(all_recipes.get(name).to_json(), indent=1))
            return
        from ..recipes.plans import told_of

        echo(f"{told_of(name)}\nall of it: tomopick train {name} PROJECT OUT --as-published")
        return
    from tabulate import tabulate

    from ..recipes.catalogue import LISTED_COLUMNS, START, listed

    echo(tabulate(listed(), headers=LISTED_COLUMNS, disable_numparse=True))
    echo("\nTFLOP: of one view of 184 x 630 x 630 voxels. Weights of others: tomopick convert FILE OUT --as RECIPE")
    echo(f"Start with {START}: tomopick train {START} PROJECT OUT; or pick with a model that ships: `default`.")
