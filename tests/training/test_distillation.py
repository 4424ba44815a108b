"""An object is added to a model that knows others, and these are held."""

import numpy as np
import pytest
import torch

from small import BALL, RING, memory, recipe, tomogram, trained
from telling import heard
from tomopick import Detector, FitOptions, Runs, Source, fit
from tomopick.core.errors import SelectionError
from tomopick.data import MemoryProject
from tomopick.networks.activations import Rectified
from tomopick.training.distillation import Distilled
from tomopick.training.patches import Batch


class Teacher(torch.nn.Module):
    """Answers 0.1 for its first object and 0.2 for its second."""

    def forward(self, volume):
        return torch.ones(len(volume), 2, 2, 2, 2) * torch.tensor([0.1, 0.2])[:, None, None, None]


class Keeps:
    """An objective that gives back what it is shown."""

    def loss(self, state, batch):
        self.batch = batch
        return torch.zeros(())


def test_the_models_answer_stands_where_nobody_labelled():
    seen = Keeps()
    # New order: ring (old 1), added, ball (old 0).
    made = Distilled(seen, Teacher(), Rectified(), ((0, 1), (2, 0)))
    target = torch.full((2, 3, 2, 2, 2), 0.9)
    known = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    made.loss(None, Batch(torch.zeros(2, 1, 4, 4, 4), target, known))
    at = seen.batch.target[:, :, 0, 0, 0]
    torch.testing.assert_close(at, torch.tensor([[0.2, 0.9, 0.9], [0.2, 0.9, 0.1]]))
    assert seen.batch.known[:, :, 0, 0, 0].tolist() == [[1, 1, 1], [1, 0, 1]]
    cells = known[:, :, None, None, None].repeat(1, 1, 2, 2, 2)
    cells[0, 0, 0] = 5  # a part that is labelled keeps its label and what it counts
    made.loss(None, Batch(torch.zeros(2, 1, 4, 4, 4), target, cells))
    assert (seen.batch.known[0, 0, 0] == 5).all() and torch.equal(seen.batch.target[0, 0, 0], target[0, 0, 0])
    assert seen.batch.target[0, 0, 1, 0, 0].item() == pytest.approx(0.2)


def rings_alone():
    """Tomograms with balls and rings of which only the rings are labelled, and balls are not defined."""
    project = MemoryProject([RING])
    for seed, run in enumerate(("A", "B", "C")):
        t, picks = tomogram(run, seed, objects=(BALL, RING))
        project.add(t, picks.of("ring"))
    return project


def test_an_added_object_leaves_the_old_ones_as_they_were(tmp_path):
    before = Detector.load(trained(BALL))
    how = FitOptions("cpu", init_from=str(trained(BALL)), add=["ring"])
    method = recipe("train.steps=60", "train.validate_every=60", "train.lr=3e-3", "train.warmup_steps=5",
                    "train.ema_decay=0.9")  # fmt: skip
    with heard() as told:
        made = fit(method, [Source(rings_alone(), val_runs=["C"])], tmp_path / "m", how)
    assert f"warning: no true ball to validate on; its thresholds are those of {before.name}" in told
    assert [o.name for o in made.objects] == ["ball", "ring"]
    assert made.thresholds["f1"]["ball"] == before.thresholds["f1"]["ball"]
    assert made.facts.provenance["thresholds_of_before"] == ["ball"]
    assert "whose thresholds of ball are kept" in (tmp_path / "m" / "README.md").read_text()
    t, truth = tomogram("D", 7, objects=(BALL, RING))
    old, new = (m.heatmap(t, device="cpu").values[0] for m in (before, made))
    at = np.rint(t.grid.indices(truth.of("ball").positions) / 2).astype(int)
    at = np.clip(at, 0, np.array(old.shape) - 1)
    assert np.abs(new[tuple(at.T)] - old[tuple(at.T)]).mean() < 0.2


def test_what_cannot_be_added(tmp_path):
    source = [Source(Runs(memory()), val_runs=["C"])]
    for how, text in (
        (FitOptions("cpu", add=["ball"]), "expected a model to add it to"),
        (FitOptions("cpu", add=["ball"], init_from=str(trained(BALL))), "knows it already"),
        (FitOptions("cpu", add=["ring"], objects=["ball"], init_from=str(trained(BALL))), "leave `FitOptions.obj"),
        (FitOptions("cpu", add=["rung"], init_from=str(trained(BALL))), "no object 'rung'"),
    ):  # fmt: skip
        with pytest.raises(SelectionError, match=text):
            fit(recipe(), source, tmp_path / "m", how)
    assert not (tmp_path / "m").exists()
