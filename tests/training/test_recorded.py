"""Losses that are fetched together, and gradients that are taken another way; recordings themselves need a GPU."""

import json
import math

import pytest
import torch

from small import memory, recipe
from tomopick import FitOptions, Source, fit
from tomopick.core.errors import RecipeError
from tomopick.picking.folder import read_log
from tomopick.training import checkpoints
from tomopick.training.checkpoints import FIRST, StepLog
from tomopick.training.loop import StepReport, TrainSpec, TrainState, train
from tomopick.training.objectives import SupervisedSpec
from tomopick.training.patches import Batch
from tomopick.training.recorded import Recorder, recordable


def report(step, value):
    return StepReport(step, torch.tensor(value), 0.1, 0.0)


def test_losses_are_fetched_together(tmp_path):
    log = StepLog(tmp_path / "log.jsonl", TrainSpec(), 4)
    asked = []
    for step in range(1, FIRST + 11):
        log.add({"step": step, "loss": None}, report(step, step / 2))
        if log.due():
            asked.append(step)
            log.fetch()
            assert log.loss == step / 2
            log.write()
    assert asked == [*range(1, FIRST + 1), FIRST + 4, FIRST + 8]
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["step"], r["loss"]) for r in rows] == [(step, step / 2) for step in range(1, FIRST + 11)]


def test_a_loss_that_is_no_number_is_named_with_its_step(tmp_path):
    log = StepLog(tmp_path / "log.jsonl", TrainSpec(lr=0.5), 100)
    for step, value in enumerate((1.0, 2.0, math.nan, 3.0), 1):
        log.add({"step": step}, report(step, value))
    with pytest.raises(
        RecipeError, match=r"the loss is nan at step 3; expected a number: lower train.lr \(it is 0.5\)"
    ):
        log.fetch()
    log.close()
    assert not (tmp_path / "log.jsonl").exists()


def test_a_training_whose_losses_come_late_writes_the_same_log(tmp_path, monkeypatch):
    def rows(out):
        fit(
            recipe("train.steps=7", "train.validate_every=5"),
            [Source(memory(), val_runs=["C"])],
            out,
            FitOptions("cpu"),
        )
        return [(r["step"], r["loss"], r.get("val_score")) for r in read_log(out / "log.jsonl")]

    wanted = rows(tmp_path / "at_once")
    monkeypatch.setattr(checkpoints, "FIRST", 0)
    monkeypatch.setattr(StepLog, "due", lambda log: False)
    assert rows(tmp_path / "late") == wanted


class Line(torch.nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.layer, self.dropout = torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.layer(x))


def state_of(dropout=0.0):
    torch.manual_seed(0)
    return TrainState.start(Line(dropout), TrainSpec(lr=0.1, warmup_steps=0), torch.device("cpu"))


def batches(n=4):
    rng = torch.Generator().manual_seed(1)
    for _ in range(n):
        volume = torch.randn((2, 1, 6, 6, 6), generator=rng)
        yield Batch(volume, (volume > 1).float(), torch.ones((2, 1)))


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_gradients_that_are_not_recorded_are_those_of_the_loop(mixup):
    from tomopick.networks.losses import HeatmapWeightedMSE

    objective = SupervisedSpec(mixup=mixup).build(HeatmapWeightedMSE())
    spec, states = TrainSpec(lr=0.1, warmup_steps=0), [state_of(0.3), state_of(0.3)]
    one = [r.loss for r in train(states[0], objective, batches(), spec)]
    other = [r.loss for r in train(states[1], objective, batches(), spec, Recorder(objective))]
    assert one == other
    for a, b in zip(*(s.network.state_dict().values() for s in states)):
        assert torch.equal(a, b)


def test_what_draws_at_random_is_not_recorded():
    assert recordable(state_of())
    assert not recordable(state_of(0.3))
    scaled = state_of()
    scaled.scaler.is_enabled = lambda: True
    assert not recordable(scaled)
