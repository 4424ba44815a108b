"""The command line: thin verbs. Flags say where and which; `section.field=value` says what."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from . import __version__
from .cli_files import doctor_command, export_command, import_command, init_command, show_command
from .cli_options import comma, pairs, project_options, say
from .cli_report import calibrate_command, evaluate_command, report_command
from .errors import TomopickError

LOOKED_AT = 20  # runs whose headers are looked over before a batch is picked


class _Group(click.Group):
    """Turns what a user can cause into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _plain_log():
                return super().invoke(ctx)
        except TomopickError as error:
            say(f"error: {' '.join(str(error).splitlines())}")
        except KeyboardInterrupt:
            say("interrupted; what was finished is kept: repeat the command to go on (train: add --resume)")
            ctx.exit(130)
        except BrokenPipeError:
            raise  # click's business: whoever read our output has gone
        except OSError as error:
            say(f"error: {error.filename or 'a file'}: {error.strerror or error}; check place, space and permissions")
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            say(
                "error: not enough memory; smaller tiling.shape, patch.shape and train.batch_size (at training) need "
                "less, and so do a smaller volume and --device cpu where a GPU's is meant"
            )
        ctx.exit(2)


@contextmanager
def _plain_log() -> Iterator[None]:
    """Our warnings as plain lines while a verb runs (copick sets up a log of its own, in columns)."""
    log, handler = logging.getLogger("tomopick"), _Lines()
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def _out_of_memory(error: Exception) -> bool:
    """Whether NumPy, PyTorch on a CPU or a GPU ran out of it; torch is not imported to ask."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(word in text for word in words)
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tomopick")
def main() -> None:
    """Pick protein particles in cryo-electron tomograms with heatmap networks.

    \b
    A first look, with no data of your own:   tomopick demo
    Picks with the shipped model:             tomopick pick default tomograms/ --out picks/
    Train on your own picks:                  tomopick train bpd tomograms/ model/ --object ribosome:150
    """


@main.command()
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
def simulate(out: Path, runs: int, shape: str, seed: int, tomo_type: str, preset: str, workers: int) -> None:
    """Simulate labelled tomograms of the six CZII objects as a copick project in OUT.

    \b
    Example:  tomopick simulate sim/ --runs 4 --shape 96,256,256 --seed 1
    """
    from .simulation import simulate_project

    sizes = _shape(shape)
    types = tuple(part.strip() for part in tomo_type.split(","))
    names = simulate_project(out, sizes, runs=runs, seed=seed, tomo_types=types, preset=preset, workers=workers)
    click.echo(f"{len(names)} runs in {out / 'copick.json'}")


def _shape(text: str) -> tuple[int, int, int]:
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise TomopickError(f"--shape '{text}' is not z,y,x in voxels; write for example 96,256,256") from None
    return z, y, x


@main.command()
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
def train(
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
            _each(tomo_type, i, len(projects), "--tomo-type"),
            _each(picks, i, len(projects), "--picks"),
            _named(train_runs, project, opened),
            _named(val_runs, project, opened),
            drop_outside,
        )
        for i, project in enumerate(opened)
    ]
    for source in sources:
        named = None if source.train_runs is None else [*source.train_runs, *(source.val_runs or ())]
        _look_over(source.project, Checkup(named, source.tomo_type, source.picks))
    options = FitOptions(
        device=device, seed=seed, workers=workers, resume=resume, init_from=init_from, objects=learn, say=say
    )
    detector = fit(method, sources, Path(out), options)
    draw_training(read_log(Path(out) / "log.jsonl"), Path(out) / "training.png")
    click.echo((Path(out) / "README.md").read_text().split("\nProvenance:")[0].rstrip())
    click.echo(f"\nmodel in {out} ({sum(p.numel() for p in detector.network.parameters()):,} parameters)")


def _look_over(project: Any, checkup: Any, detector: Any = None) -> None:
    """The doctor's cheap part: its warnings. What is plainly wrong the verb itself refuses, with its own words."""
    from .checks import WARNING
    from .doctor import cheap_findings

    for finding in cheap_findings(project, checkup, detector):
        if finding.level == WARNING:
            say(finding.line())


def _each(values: tuple[str, ...], i: int, n: int, flag: str) -> str | None:
    if len(values) not in (0, 1, n):
        raise TomopickError(f"{flag} was given {len(values)} times for {n} projects; give it once, or once a project")
    return None if not values else values[i if len(values) > 1 else 0]


def _named(runs: list[str] | None, project: Any, projects: list[Any]) -> list[str] | None:
    """The named runs that this project has; each must be in one of them."""
    if runs is None:
        return None
    from .io.select import near_miss

    known = {run for p in projects for run in p.runs()}
    for run in runs:
        if run not in known:
            raise TomopickError(
                f"no run '{run}' in {', '.join(p.uri for p in projects)}; {near_miss(run, sorted(known))}"
            )
    return [run for run in runs if run in project.runs()]


@main.command()
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL... INPUT")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for RUN.csv and records.")
@click.option("--runs", callback=comma, help="Runs to pick, comma-separated. Default: all.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help="What to read.")
@click.option("--metric", default="f1", show_default=True, type=click.Choice(["f1", "czii"]), help="Whose thresholds.")
@click.option("--threshold", multiple=True, callback=pairs, metavar="OBJECT=VALUE", help="In place of the model's.")
@click.option("--keep-below", is_flag=True, help="Write picks below the threshold too, down to a score of 0.02.")
@click.option(
    "--tta",
    "views",
    default="none",
    show_default=True,
    type=click.Choice(["none", "flips", "all"]),
    help="Average over 4 (flips) or 8 (all) mirrored views.",
)
@click.option("--invert", is_flag=True, help="The tomograms have light particles on dark.")
@click.option(
    "--offset",
    default="none",
    show_default=True,
    type=click.Choice(["none", "fitted"]),
    help="Take out the displacement that training measured.",
)
@click.option("--save-heatmaps", is_flag=True, help="Write heatmaps/RUN_OBJECT_heatmap.mrc too.")
@click.option("--user-id", default="tomopick", show_default=True, help="Of picks in a copick project.")
@click.option("--session-id", default="0", show_default=True, help="Of picks in a copick project.")
@click.option("--overwrite", is_flag=True, help="Replace output that is there.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@project_options
def pick(
    arguments: tuple[str, ...], out: Path, runs: list[str] | None, threshold: dict[str, float], overwrite: bool,
    voxel_spacing: float | None, objects: tuple[str, ...], coordinate_offset: str, **choices: Any,
) -> None:  # fmt: skip
    """Pick INPUT (a volume, a folder of volumes, a copick project) with one MODEL, or the mean of several.

    MODEL is a model folder, or `default`, which ships with tomopick. Runs finished before with the same model and
    settings are skipped.

    \b
    Examples:
      tomopick pick default tomogram.mrc --out picks/
      tomopick pick model/ copick.json --out records/ --tomo-type denoised --session-id 1 --tta flips
      tomopick pick seed0/ seed1/ tomograms/ --out picks/ --metric czii --threshold ribosome=0.2
    """
    from .doctor import Checkup
    from .io import open_project
    from .pick import Picker, PickOptions, check_objects, pick_run, pick_runs
    from .registry import load_detector

    if len(arguments) < 2:
        raise TomopickError("pick needs a MODEL and an INPUT, in this order; see pick --help")
    *models, source = arguments
    project = open_project(source, voxel_spacing=voxel_spacing, objects=objects, coordinate_offset=coordinate_offset)
    wanted = project.runs() if runs is None else _named(runs, project, [project]) or []
    if not wanted:
        raise TomopickError(f"{source}: no runs to pick; expected at least one tomogram")
    detectors = [load_detector(model) for model in models]
    _look_over(project, Checkup(wanted[:LOOKED_AT], choices["tomo_type"], truth=False), detectors[0])
    picker = Picker(detectors, PickOptions(thresholds=threshold, **choices))
    check_objects(picker, project)
    if len(detectors) > 1:
        say(f"{len(detectors)} models: equal weights, mean of their thresholds")
        for line in picker.differences():
            say(line)
    if len(wanted) == 1:
        _told(pick_run(picker, project, wanted[0], out, overwrite))
        return
    failed = []
    for result in pick_runs(picker, project, wanted, out, overwrite):
        _told(result)
        if result.status == "failed":
            failed.append(result)
    if failed:
        say(f"{len(failed)} of {len(wanted)} runs failed:")
        for result in failed:
            say(f"  {result.run}: {' '.join(result.messages[0].splitlines())}")
        sys.exit(1)


def _told(result: Any) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in result.counts.items() if n) or "no picks"
    text = f"{counts} in {result.seconds:.1f} s" if result.status == "picked" else counts
    if result.status == "failed":
        say(f"{result.run}: failed, see the end")
        return
    for line in result.messages:
        say(f"{result.run}: warning: {line}")
    click.echo(f"{result.run}: {text}{' (finished before)' if result.status == 'skipped' else ''}")


@main.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
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
    for each in all_recipes.names():
        recipe = all_recipes.get(each)
        rows.append(
            [
                each,
                f"{count_parameters(recipe.network, 6):,}",
                recipe.network.stride,
                "x".join(map(str, recipe.patch.shape)),
                recipe.source,
            ]
        )
    click.echo(tabulate(rows, headers=["recipe", "parameters", "stride", "patch", "source"], disable_numparse=True))


@main.command()
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--shape", default="128,512,512", show_default=True, help="z,y,x in voxels.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the phantom.")
@click.option("--model", default="default", show_default=True, help="Model to pick with.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def demo(out: Path, shape: str, seed: int, model: str, device: str) -> None:
    """Simulate a tomogram, pick it, score the picks and draw them; everything lands in --out.

    \b
    Example:  tomopick demo --shape 96,256,256 --seed 7
    """
    from .demo import run_demo

    run_demo(out, _shape(shape), seed, model, device, click.echo)


for _command in (
    calibrate_command, doctor_command, evaluate_command, export_command, import_command, init_command, report_command,
    show_command,
):  # fmt: skip
    main.add_command(_command)
