"""The main verb: pick."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.errors import ReadError, SelectionError, TomopickError
from ..core.messages import counted
from ..core.shards import Shard
from . import early
from .on import OnCommand, pick_work
from .options import (
    DEVICE,
    TYPE,
    USER,
    echo,
    invert_option,
    named_runs,
    pairs,
    project_options,
    run_names,
    say,
    shard_option,
    tta_option,
    without_overrides,
)  # fmt: skip
from .outputs import OUT, identified
from .places import places_of, places_options


@click.command("pick", cls=OnCommand, plan=pick_work)
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL... INPUT [section.field=value ...]")
@click.option(
    "--out",
    required=True,
    type=OUT,
    help="Folder for the picks, a RUN.csv of each run, and for the records that repeating goes by.",
)
@click.option("--runs", callback=run_names, help="Runs to pick, comma-separated, or @FILE of them. Default: all.")
@shard_option("runs")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option(
    "--metric",
    default="f1",
    show_default=True,
    callback=early.metric,
    metavar="f1|czii|precision=P",
    help="Which of the model's thresholds decide what is a pick: f1 balances false against missed, czii finds "
    "nearly everything, precision=P was measured by calibrate.",
)
@click.option(
    "--threshold",
    multiple=True,
    callback=pairs,
    metavar="OBJECT=VALUE",
    help="The lowest score that is a pick of OBJECT, 0 to 1, in place of the model's; repeatable.",
)
@click.option("--min-distance", "min_distances", multiple=True, callback=pairs, metavar="OBJECT=Å",
              help="Smallest distance between picks of OBJECT, in place of the model's (often 1.2 radii).")  # fmt: skip
@click.option(
    "--keep-below",
    is_flag=True,
    help="Write picks below the threshold too, down to a score of 0.02, with the threshold in a column: for "
    "sliders, and for export by --at-thresholds.",
)
@click.option("--exclude/--no-exclude", default=None,
              help="Where several objects are picked on one density, keep the surest alone. Default: as the method "
              "says.")  # fmt: skip
@tta_option
@invert_option
@click.option(
    "--offset",
    default="none",
    show_default=True,
    type=click.Choice(["none", "fitted"]),
    help="fitted: shift picks back by the mean displacement that the model showed on its validation runs.",
)
@click.option(
    "--save-heatmaps", is_flag=True, help="Write the network's heatmaps too, as heatmaps/RUN_OBJECT_heatmap.mrc."
)
@click.option("--user-id", default="tomopick", callback=identified, show_default=True, help=USER)
@click.option("--session-id", callback=identified,
              help="Session that picks are written under in a copick project. Default: the next free number, the same "
              "for one --out.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Pick again what was finished before, and replace it.")
@click.option("--device", default="auto", show_default=True, callback=early.devices,
              help=f"{DEVICE} Several GPUs, with a process each: cuda:0,cuda:1 or cuda:all.")  # fmt: skip
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1),
    help="Processes that pick side by side and share runs, cores and GPUs; one that dies is replaced.",
)  # fmt: skip
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "torch", "compile", "openvino", "onnx", "cuda", "tensorrt"]),
    metavar="NAME",
    help="What runs the network: auto (the best installed), torch, compile, openvino, onnx, cuda. "
    "Experimental, nobody has run them: tensorrt, and onnx on a GPU.",
)
@click.option(
    "--precision",
    default="half",
    show_default=True,
    type=click.Choice(["half", "f32", "int8"]),
    help="What the network computes in: half (16 bits where the device is faster in them), f32, or int8 (eight "
    "bits, with openvino: nearly twice as fast, scores differ a little).",
)
@places_options
@project_options
def pick_command(
    arguments: tuple[str, ...], out: Path, runs: list[str] | None, shard: Shard | None, threshold: dict[str, float],
    overwrite: bool, workers: int, dask: str = "", **choices: Any,
) -> None:  # fmt: skip
    """Pick INPUT (a volume, a folder of volumes, a copick project) with one MODEL, or the mean of several.

    MODEL is a model folder, an ensemble folder, or `default`, which ships with tomopick. Runs finished before with the
    same model and settings are skipped. Settings of `tiling` and `peaks` (`tomopick recipes NAME` shows them) can be
    given behind INPUT, as to train.

    \b
    Examples:
      tomopick pick default tomogram.mrc --out picks/
      tomopick pick model/ copick.json --out records/ --tomo-type denoised --tta flips
      tomopick pick seed0/ seed1/ tomograms/ --out picks/ --metric czii --threshold ribosome=0.2
      tomopick pick model/ copick.json --out records/ --inside membrane:me/1 --within 150 --orient-to membrane:me/1
      tomopick pick unet25d/ copick.json --out picks/ tiling.step=8,64,64 tiling.flat=true
    """
    places, overrides = without_overrides(arguments)
    if len(places) < 2:
        raise TomopickError("pick needs a MODEL and an INPUT, in this order; see pick --help")
    *models, source = places
    choices["places"] = places_of(choices)
    _refuse_early(models, source, overrides)  # before torch is loaded
    from ..core.records import expect
    from ..picking.fleet import Job, devices_of
    from ..picking.options import PickOptions
    from ..picking.output import records_of
    from ..picking.runs import check_places, pick_run

    opening = {key: choices.pop(key) for key in ("voxel_spacing", "objects", "coordinate_offset")}
    devices = devices_of(choices["device"], workers)
    _refuse_unknown(models, devices, choices)
    tomo_type = choices.pop("tomo_type")
    session = choices.pop("session_id")
    options = PickOptions(thresholds=threshold, overrides=tuple(overrides), **choices)
    job = Job(tuple(models), source, opening, options, str(out), overwrite, tomo_type)
    batch = job.runs()
    project = batch.project
    wanted = project.runs() if runs is None else named_runs(runs, project, [project]) or []
    if not isinstance(choices["invert"], bool):
        named_runs(list(choices["invert"]), project, [project])  # says which is not there
    if not wanted:
        raise TomopickError(f"{source}: no runs to pick; expected at least one tomogram")
    everything = wanted
    if shard is not None:
        wanted = shard.part(everything)
        say(f"part {shard}: {len(wanted)} of {counted(len(everything), 'run')}")
        if not wanted:
            return
    batch = replace(batch, names=wanted)
    _refuse_type(batch)
    check_places(choices["places"], replace(batch, names=everything))
    picker = _set_up(job, batch, 2 if dask else len(devices))
    job = _with_session(job, project, session, picker)  # not before all else is known to be right
    expect(records_of(project, out).folder, everything)
    if len(everything) == 1:
        _told(pick_run(picker, batch, wanted[0], out, overwrite))
    else:
        _batch(job, picker, batch, devices, dask)


def _with_session(job: Any, project: Any, session: str | None, picker: Any) -> Any:
    """The job, and its picker, with the session that was asked for, or the one of its folder."""
    from dataclasses import replace

    from ..picking.session import session_for

    session = session or session_for(project, Path(job.out), job.options.user_id)
    picker.options = replace(picker.options, session_id=session)
    return replace(job, options=replace(job.options, session_id=session))


def _set_up(job: Any, batch: Any, workers: int) -> Any:
    """The picker, which has been looked over together with the project; of several workers one for that alone."""
    from ..data.objects import write_objects
    from ..look.doctor import before_picking
    from ..picking.runs import check_objects

    if workers > 1:
        job = replace(job, options=replace(job.options, device="cpu", engine="torch"))
    picker = job.picker()
    check_objects(picker, batch.project)
    for finding in before_picking(batch, picker.model):
        say(finding.line())
    if workers > 1:
        if not batch.project.keeps_picks:  # once, by us: workers find it there
            write_objects(Path(job.out) / "objects.json", picker.objects)
    else:
        say(f"engine: {', '.join(picker.engines())}")
    if len(job.models) > 1:
        say(f"{len(job.models)} models: equal weights, mean of their thresholds; better ones: tomopick ensemble")
        for line in picker.differences():
            say(line)
    return picker


def _batch(job: Any, picker: Any, batch: Any, devices: list[str], dask: str) -> None:
    """Many runs, here or by workers; asked to end by a scheduler, what is being predicted is finished first."""
    from ..core.crowding import Waiting
    from ..core.progress import bar
    from ..core.signals import ASKING, held_interrupt
    from ..picking.fleet import pick_with_workers
    from ..picking.runs import pick_runs

    wanted = batch.names
    with held_interrupt(ASKING) as asked, bar(len(wanted), "pick", "run") as shown:

        def stopped() -> bool:
            return asked() is not None

        if dask:
            from ..picking.on_dask import pick_on_dask

            results = pick_on_dask(job, wanted, dask, stopped)
        elif len(devices) > 1:
            say(counted(len(devices), "worker"))
            results = pick_with_workers(job, wanted, devices, stopped)
        else:
            results = pick_runs(picker, batch, wanted, job.out, job.overwrite, stopped)
        waiting = Waiting()
        failed = tell_all(results, len(wanted), shown)
        if line := waiting.line():
            say(f"warning: {line}")
        if failed:
            sys.exit(1)
        ended = asked()
    if ended:
        raise ended


def _refuse_unknown(models: list[str], devices: list[str], choices: dict[str, Any]) -> None:
    """What is plainly not there is said before a project is opened and looked over."""
    from ..networks.engines import EngineSpec, choose_device
    from ..picking.folder import is_model
    from ..picking.load import load_model

    for device in dict.fromkeys(devices):
        choose_device(device)
    EngineSpec(choices["engine"], choices["precision"])
    for model in models:
        if not is_model(model):
            load_model(model)  # says what is missing


def _refuse_early(models: list[str], source: str, overrides: list[str]) -> None:
    """Raises for a word that is no model, for several volumes where one is read, and for settings that are none."""
    from ..picking.folder import is_model

    several = [name for name in (*models[1:], source) if Path(name).is_file()]
    if len(several) > 1 and is_model(models[0]):
        raise TomopickError(_by_folder(models[0], [Path(name) for name in several]))
    for model in models:
        early.require_order(model, source, "pick")
    early.require_models(models)
    early.require_places([source])
    early.require_picking_settings(models, overrides)


def _by_folder(model: str, files: list[Path]) -> str:
    """How several volumes, which a shell may have made of an asterisk, are given."""
    from ..data.volumes.volumes import volume_run

    runs = list(dict.fromkeys(run for path in files if (run := volume_run(path)) is not None))
    found = f"{len(files)} files, where INPUT is one volume or a folder"
    if len({path.absolute().parent for path in files}) > 1:
        return f"{found}; put the volumes, or links to them, into one folder and give that"
    return f"{found}; write: tomopick pick {model} {files[0].parent}/ --runs {','.join(runs)}"


def _refuse_type(batch: Any) -> None:
    """Raises where no run at all has the tomogram that is meant: said once, and before anything is loaded."""
    refusal: SelectionError | None = None
    for run in batch.names:
        try:
            batch.grid(run)
            return
        except SelectionError as error:
            refusal = refusal or error
        except ReadError:  # a file of its own, which is that run's failure
            return
    if refusal is not None:
        n = len(batch.names)
        raise SelectionError(f"none of {n} runs can be picked: {refusal}" if n > 1 else str(refusal))


def tell_all(results: Iterable[Any], total: int, shown: Any) -> list[Any]:
    """Each result as it comes; at the end which runs failed and why, and these are what it gives."""
    failed = []
    for result in results:
        _told(result)
        shown.update(1)
        if result.status == "failed":
            failed.append(result)
    if failed:
        say(f"{len(failed)} of {total} runs failed:")
        for result in failed:
            say(f"  {result.run}: {' '.join(result.messages[0].splitlines())}")
    return failed


def _told(result: Any) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in result.counts.items() if n) or "no picks"
    text = f"{counts} in {result.seconds:.1f} s" if result.status == "picked" else counts
    if result.status == "failed":
        say(f"{result.run}: failed, see the end")
        return
    for line in result.messages:
        say(f"{result.run}: warning: {line}")
    echo(f"{result.run}: {text}{' (finished before)' if result.status == 'skipped' else ''}")
