"""How the learning rate falls."""

import pytest
import torch

from tomopick.core.errors import RecipeError
from tomopick.training.loop import TrainSpec
from tomopick.training.schedules import Cosine, Plateau, StepDecay


def test_cosine():
    assert [round(Cosine()(p, ()), 6) for p in (0, 0.5, 1)] == [1, 0.5, 0]


def test_steps_are_topcups():
    """Halved every 20 of 100 epochs."""
    optimizer = torch.optim.Adam([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 20, 0.5)
    for epoch in range(100):
        assert StepDecay()(epoch / 100, ()) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert StepDecay()(1.0, ()) == 0.5**4


def test_plateaus_are_torchs():
    scores = [0.1, 0.3, 0.3, 0.29, 0.2, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3, 0.5, 0.5, 0.5, 0.5, -1.0, 0.51]
    for patience in (0, 1, 2, 3):
        optimizer = torch.optim.Adam([torch.zeros(1)], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience, 1e-4)
        for i, score in enumerate(scores):
            theirs.step(score)
            mine = Plateau(patience)(0.5, scores[: i + 1])
            assert mine == pytest.approx(optimizer.param_groups[0]["lr"]), (patience, i)


def test_a_training_follows_its_schedule():
    spec = TrainSpec(steps=100, warmup_steps=10, lr=2.0, schedule=Plateau(0))
    assert spec.lr_at(4) == pytest.approx(1.0)  # half way through the warm-up
    assert spec.lr_at(50) == 2.0 and spec.lr_at(50, [0.5, 0.4]) == 1.0
    assert TrainSpec(steps=100, warmup_steps=0, lr=1.0).lr_at(50) == pytest.approx(0.5)
    assert TrainSpec(steps=100, warmup_steps=0, lr=1.0, schedule=StepDecay()).lr_at(99) == 0.5**4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(parts=0), r"train.schedule.parts is 0; it must be at least 1"),
        (lambda: StepDecay(factor=1.0), r"train.schedule.factor is 1; it must lie between 0 and 1"),
        (lambda: Plateau(patience=-1), r"train.schedule.patience is -1"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
