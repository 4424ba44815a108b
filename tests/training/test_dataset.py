"""What a training makes of its projects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from small import BALL, RING, memory, recipe, tomogram
from telling import heard
from tomopick import FitOptions, Heatmap, PickableObject, Runs, Source, fit
from tomopick.core.errors import ModelError, RecipeError, SelectionError
from tomopick.core.types import Grid
from tomopick.data import MemoryProject
from tomopick.picking.folder import read_log
from tomopick.picking.peaks import LocalMaxima
from tomopick.scoring.metrics import DEFAULT_THRESHOLDS
from tomopick.training.dataset import gather
from tomopick.training.sources import plans_of


def told_by(sources, **more):
    with heard() as told:
        return gather(recipe(), sources, **more), told


def test_an_object_that_a_project_never_labels_is_not_learned_from_it():
    real = MemoryProject((BALL, RING), "real")
    for seed, run in enumerate(("A", "B")):
        real.add(*tomogram(run, seed))  # balls alone, though rings are defined
    sim = memory(("S", "T"), (BALL, RING))
    data, told = told_by([Source(real, val_runs=["B"]), Source(sim, val_runs=["T"])])
    assert {v.picks.run: set(v.known) for v in data.train} == {"A": {"ball"}, "S": {"ball", "ring"}}
    assert "real: not labelled there, so not learned from it: ring" in told


def test_a_lone_run_gives_a_part_for_validation():
    data, told = told_by([Source(memory(("A",))), Source(memory(("S", "T", "U")))])
    assert sorted(v.picks.run for v in data.train) == ["A", "S", "T", "U"]
    assert [v.picks.run for v in data.val] == ["A"]
    assert any(line.startswith("only one labelled run: y from") for line in told)
    counted = {o.name: sum(int((v.picks.names == o.name).sum()) for v in data.val) for o in data.objects}
    assert data.facts.provenance["validated_within"] and data.facts.provenance["validation_particles"] == counted


def test_only_the_first_project_holds_runs_back():
    simulated = memory([f"S{i:02}" for i in range(7)])
    data, told = told_by([Source(memory("ABCDE")), Source(simulated), Source(memory(("Z",)))])
    assert len(data.train) == 4 + 7 + 1 and len(data.val) == 1 and data.val[0].picks.run in "ABCDE"
    assert sum("validation on" in line for line in told) == 1 and not any("only one" in line for line in told)
    named, _ = told_by([Source(memory("ABCDE")), Source(simulated, val_runs=["S03"])])
    assert [v.picks.run for v in named.val][1:] == ["S03"] and len(named.train) == 4 + 6
    # Runs without labels come first where a semi-supervised method is given them first: they hold nothing.
    hidden = Source.unlabelled(memory(("U",)))
    assert [p.alone for p in plans_of([hidden, Source(memory(("A",)))], 0)] == [False, True]


def test_without_any_validation_all_is_learned_from_and_the_last_weights_are_kept(tmp_path, told):
    source = Source(memory(("A", "B")), val_runs=())
    made = fit(recipe("train.steps=4", "train.validate_every=2"), [source], tmp_path / "m", FitOptions("cpu"))
    assert made.facts.learned_from[0].train == ("A", "B") and not made.facts.scores
    assert made.thresholds == {metric: {"ball": cut} for metric, cut in DEFAULT_THRESHOLDS.items()}
    assert "no run is validated on: the last weights are kept, with thresholds that nothing has measured" in told
    kept, last = (load_file(tmp_path / "m" / f) for f in ("weights.safetensors", "top/4.safetensors"))
    assert all(torch.equal(kept[name], last[name]) for name in kept)
    assert not any("val_score" in row for row in read_log(tmp_path / "m" / "log.jsonl"))


def test_a_project_without_a_named_run_is_said():
    _, told = told_by([Source(memory(), val_runs=["C"]), Source(Runs(memory(("S",)), []), val_runs=[])])
    assert any("none of its runs is named" in line for line in told)


def test_other_voxel_spacings_are_resampled_and_said_or_refused():
    project = memory(("A", "B"))
    other, picks = tomogram("C", 5)
    fine = replace(other, grid=replace(other.grid, voxel_spacing=8.0))
    project.add(fine, replace(picks, positions=picks.positions * 0.8))
    data, told = told_by([Source(project, val_runs=["B"])])
    assert "memory: run C: voxel spacing 8 Å resampled to 10 Å" in told
    assert {v.grid.voxel_spacing for v in data.train} == {10.0}
    coarse = replace(other, run="D", grid=replace(other.grid, voxel_spacing=45.0))
    project.add(coarse, replace(picks, run="D", positions=picks.positions * 4.5))
    with pytest.raises(ModelError, match=r"run D: voxel spacing 45 Å, but the training runs at 10 Å"):
        told_by([Source(project, val_runs=["B"])])


def test_one_object_with_two_radii_is_refused():
    wide = memory(("S",), (PickableObject("ball", 80.0),))
    with pytest.raises(SelectionError, match=r"'ball' has a radius of 40 Å in one project and 80 Å in"):
        told_by([Source(memory()), Source(wide)])


def test_a_fine_tuning_stays_at_the_voxel_spacing_of_its_start(tmp_path, told):
    start = fit(recipe(), [Source(memory(), val_runs=["C"])], tmp_path / "start", FitOptions("cpu"))
    fine = MemoryProject((BALL,))
    for seed, run in enumerate(("A", "B")):
        volume, picks = tomogram(run, seed, (30, 80, 60))
        fine.add(
            replace(volume, grid=replace(volume.grid, voxel_spacing=8.0)),
            replace(picks, positions=picks.positions * 0.8),
        )
    made = fit(
        recipe(), [Source(fine, val_runs=["B"])], tmp_path / "tuned",
        FitOptions("cpu", init_from=str(tmp_path / "start")),
    )  # fmt: skip
    assert made.facts.voxel_spacing == start.facts.voxel_spacing == 10.0
    assert any("8 Å resampled to 10 Å" in line for line in told)


def test_of_two_peaks_above_one_the_higher_wins():
    values = np.zeros((1, 20, 20, 20), np.float32)
    grid = Grid((20, 20, 20), 10.0)
    axes = np.meshgrid(*[np.arange(20)] * 3, indexing="ij")
    for centre, height in (((10, 10, 8), 1.05), ((10, 10, 12), 1.3)):
        r2 = sum((a - c) ** 2 for a, c in zip(axes, centre))
        values[0] = np.maximum(values[0], height * np.exp(-0.5 * r2 / 1.0))
    picks = LocalMaxima(min_distance=1.2)(Heatmap("A", values, grid, ("ball",)), (BALL,), {"ball": 0.3})
    assert len(picks) == 1
    assert np.abs(picks.positions[0] - (100, 100, 120)).max() < 0.5
    assert picks.scores[0] == 1


@pytest.mark.parametrize(
    "override",
    [
        *("tiling.overlap=-64", "tiling.shape=0,32,32", "patch.shape=-16,16,16", "patch.around_particles=7"),
        *("normalize.low=2", "normalize.soft=0", "network.convolutions=0", "train.keep_top=-1"),
    ],
)
def test_values_that_no_training_can_use_are_refused(override):
    with pytest.raises(RecipeError):
        recipe(override)
