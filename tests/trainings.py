"""Trainings of a few steps, whole or cut off, that several tests share."""

import atexit
import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import mrcfile
import torch
from click.testing import CliRunner

from small import BALL, memory, narrowed, tomogram, untrained
from tomopick import FitOptions, Source
from tomopick.cli import main
from tomopick.picking.cards import provenance
from tomopick.picking.folder import read_log
from tomopick.training import fit as fitting
from tomopick.training.dataset import gather
from tomopick.training.loop import TrainState
from tomopick.training.resuming import begin_training


def options(**more):
    return FitOptions(**{"device": "cpu", **more})


def sources(method=None):
    """Two labelled runs, one to validate on, and an unlabelled one for a method that learns from such."""
    project = memory()
    if method is None or not method.objective.semi_supervised:
        return [Source(project, val_runs=["C"])]
    project.write_tomogram(tomogram("D", 3)[0])
    return [Source(project, val_runs=["C"], unlabelled_runs=["D"])]


def losses(out):
    return [row["loss"] for row in read_log(out / "log.jsonl")]


STEPS = 10


@functools.cache
def _data() -> Path:
    """Folders of MRC files and CSV: two labelled runs, and one without picks."""
    place = Path(tempfile.mkdtemp(prefix="tomopick-tests-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    folder, unlabelled = place / "data", place / "unlabelled"
    folder.mkdir()
    unlabelled.mkdir()
    project = memory(runs=("A", "B", "C"), objects=(BALL,))
    for run in project.runs():
        t = project.tomogram(run)
        with mrcfile.new((unlabelled if run == "C" else folder) / f"{run}.mrc") as file:
            file.set_data(t.values)
            file.voxel_size = t.grid.voxel_spacing
        rows = [f"ball,{x:.6f},{y:.6f},{z:.6f}" for z, y, x in project.picks(run).positions]
        if run != "C":
            (folder / f"{run}.csv").write_text("\n".join(["object,x,y,z", *rows]) + "\n")
    return place


@functools.cache
def brief(name: str) -> Path:
    """A model folder by the first steps of a recipe, its network narrowed; trained once in a process.

    In float32 on every processor: what bfloat16 leaves out, training makes larger from step to step.
    """
    place = _data()
    more = [*narrowed(name), f"train.steps={STEPS}", f"train.validate_every={STEPS}"]
    further = ("--unlabelled", place / "unlabelled") if name == "semietpicker" else ()
    call = ["train", name, place / "data", place / name, *more, "--object", "ball:40", "--train-runs", "A",
            "--val-runs", "B", "--device", "cpu", *further]  # fmt: skip
    with mock.patch("tomopick.networks.engines.device.half_precision", lambda device: None):
        done = CliRunner().invoke(main, [str(part) for part in call])
    assert done.exit_code == 0, done.output
    return place / name


def fit_until(step, method, out, **more):
    """A training that is cut off behind a step, as a kill would: whatever was not on disk is gone."""

    data = gather(method, sources(method))
    method = replace(method, voxel_spacing=data.voxel_spacing)
    torch.manual_seed(0)
    network = method.network.build(len(data.objects))
    state = TrainState.start(network, method.train, torch.device("cpu"))
    facts = replace(data.facts, provenance=provenance(options().seed))
    detector = replace(untrained(), method=method.method, recipe_json=method.to_json(), network=network, facts=facts)
    begin_training(method, detector, state, out, options().seed, data)
    for row in fitting.fit_steps(method, detector, state, data, out, options(**more)):
        if row["step"] == step:
            return
