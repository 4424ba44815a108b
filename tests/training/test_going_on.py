"""Trainings that are interrupted early, gone on with on other grounds, without an end in sight, or one of several."""

import json
import os
import signal

import numpy as np
import pytest

from small import memory, recipe
from tomopick import FitOptions, Source, fit
from tomopick.core.errors import ModelError, RecipeError
from tomopick.core.progress import MOST_MINUTES
from tomopick.data.regions import Regions
from tomopick.picking.folder import PLAN
from tomopick.picking.load import load_detector
from tomopick.training import checkpoints
from tomopick.training.fit import finish_early
from tomopick.training.loop import MOST_COUNTED, TrainSpec
from tomopick.training.pace import MEASURED, fitted
from tomopick.training.patches import LabelledVolume
from tomopick.training.resuming import _parts_of
from trainings import fit_until, losses, options, sources


def in_part(region):
    (source,) = sources()
    project = memory(source.project.runs())
    project.regions = Regions.parse([f"A={region}", f"C={region}"])
    return [Source(project, val_runs=["C"])]


@pytest.fixture(scope="module")
def labelled_in_part(tmp_path_factory):
    out = tmp_path_factory.mktemp("part") / "model"
    fit(recipe("train.steps=2"), in_part(":,0:32,:"), out, options())
    return out


def test_another_region_of_the_same_size_is_other_data(labelled_in_part, monkeypatch, told):
    before = (labelled_in_part / "recipe.json").read_bytes()
    monkeypatch.setattr("tomopick.training.resuming._told_of", lambda volumes: "as many picks")
    state = labelled_in_part / "last" / "state.json"
    facts = json.loads(state.read_text())
    begun = facts["notes"]["data"]
    begun["labels"] = "as many picks"
    state.write_text(json.dumps(facts))
    longer = recipe("train.steps=4")
    with pytest.raises(ModelError, match=r"begun with labelled parts \d+ voxels \(\w+\), not \d+ voxels"):
        fit(longer, in_part(":,32:64,:"), labelled_in_part, options(resume=True))
    assert not any("goes on to step" in line for line in told)  # what is refused does not go on
    assert (labelled_in_part / "recipe.json").read_bytes() == before
    del begun["labelled parts"]  # as older versions wrote it
    state.write_text(json.dumps(facts))
    fit(longer, in_part(":,0:32,:"), labelled_in_part, options(resume=True))
    assert "goes on to step 4, not 2; the schedule is stretched over all" in told


def test_masks_of_the_same_volume_are_told_apart():
    project = memory()
    grid, picks = project.grid("A"), project.picks("A")

    def told(where):
        mask = np.zeros(grid.shape, bool)
        mask[where] = True
        return _parts_of([LabelledVolume(np.zeros(grid.shape), grid, picks, {"ball": mask})])

    assert told(np.s_[:4]) != told(np.s_[4:8]) and told(np.s_[:4]) == told(np.s_[:4])
    assert _parts_of([LabelledVolume(np.zeros(grid.shape), grid, picks, {"ball": None})]) == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_steps_that_are_measured_are_interrupted_too(number, tmp_path, monkeypatch):
    keep, out = checkpoints.append_log, tmp_path / "model"

    def press(path, rows, lasting=False):
        keep(path, rows, lasting)
        if any(row["step"] == 3 for row in rows):
            os.kill(os.getpid(), number)

    method = recipe("train.steps=100000")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "append_log", press)
        with pytest.raises(KeyboardInterrupt, match=f"interrupted at step 3 of 100000; kept in {out}"):
            fit(method, sources(), out, options(minutes=0.05))
    assert len(losses(out)) == 3 and load_detector(out / "best").facts.provenance["step"] == 3
    fit(method, sources(), out, options(minutes=0.05, resume=True))
    assert 3 + MEASURED < len(losses(out)) < 5000 and load_detector(out)


@pytest.mark.parametrize(
    "name", ["steps", "batch_size", "validate_every", "keep_top", "steps_from_model", "warmup_steps"]
)
def test_counts_have_a_limit(name):
    with pytest.raises(RecipeError, match=rf"^train\.{name} is 1e\+20; it must be at most 1,000,000,000$"):
        recipe(f"train.{name}={10**20}")


def test_minutes_have_a_limit():
    for minutes in (1e300, float("nan"), 0.0, MOST_MINUTES + 1.0):
        with pytest.raises(RecipeError, match=r"^`minutes=.*`: expected more than 0 and at most 525,600, a year$"):
            FitOptions(minutes=minutes)
    assert fitted(TrainSpec(), 1e-9, 60.0 * MOST_MINUTES, 0).steps == MOST_COUNTED


def test_an_interrupted_plan_is_not_finished_as_one_training(tmp_path):
    fit_until(2, recipe("train.steps=8", "train.validate_every=2"), tmp_path / "plan" / "members" / "seed0")
    (tmp_path / "plan" / PLAN).write_text("{}")
    with pytest.raises(ModelError, match=r"its trainings are not finished; go on with them: train \.\.\. `resume"):
        finish_early(tmp_path / "plan")
    assert finish_early(tmp_path / "plan" / "members" / "seed0").facts.provenance["step"] == 2
