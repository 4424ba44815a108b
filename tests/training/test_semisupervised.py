"""Learning from runs without labels: what the teacher says, what the student sees, both stages, and bad input."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from small import BALL, RING, SPACING, TINY, folder, memory, recipe, tomogram
from telling import heard
from tomopick import Detector, Grid, Picks, Runs, Source, fit, recipes
from tomopick.cli import main
from tomopick.core.errors import RecipeError, SelectionError
from tomopick.data import MemoryProject
from tomopick.networks.losses import (
    DenseCrossEntropy,
    DiceCrossEntropy,
    FocalTversky,
    HeatmapWeightedMSE,
    ReweightedMSE,
)
from tomopick.picking.folder import LearnedFrom, read_log
from tomopick.picking.peaks import LocalMaxima
from tomopick.training.augment import Augmentation, DropBlock, Flip, Noise, Rot90
from tomopick.training.averaging import RunningAverage
from tomopick.training.dataset import gather
from tomopick.training.loop import TrainSpec, TrainState
from tomopick.training.mean_teacher import MeanTeacher, MeanTeacherSpec, PairSampler, gated
from tomopick.training.objectives import SupervisedSpec
from tomopick.training.patches import Batch, PatchSampler, batches
from tomopick.training.pseudo_labels import Annotator
from tomopick.training.recipe import Recipe
from tomopick.training.targets import GaussianTarget, VoxelTarget
from tomopick.training.validate import validate
from trainings import fit_until, losses, options, sources

SEMI = ("objective=MeanTeacherSpec", "objective.ramp=2", "objective.decay=0.5")
LOSSES = [
    HeatmapWeightedMSE(), ReweightedMSE(10.0, sigmoid=True), ReweightedMSE(hard=True), DenseCrossEntropy(1.0, 1.0),
    DiceCrossEntropy(dice=0.0), FocalTversky(),
]  # fmt: skip


class Line(nn.Module):
    """Logits that follow from a cell alone, so that a mirrored volume has a mirrored answer."""

    def __init__(self, channels=2, stride=1):
        super().__init__()
        self.pool, self.line = nn.AvgPool3d(stride), nn.Conv3d(1, channels, 1)

    def forward(self, x):
        return self.line(self.pool(x))


class Ramp(Line):
    """An answer that also rises along x: its mirror images disagree."""

    def forward(self, x):
        return super().forward(x) + torch.linspace(0, 0.5, x.shape[-1])


def state_of(network, **more):
    spec = TrainSpec(**{"lr": 0.05, "warmup_steps": 0, "ema_decay": 0.9, **more})
    return TrainState.start(network, spec, torch.device("cpu"))


PLAIN = HeatmapWeightedMSE()


def co_training(network, criterion=PLAIN, **more):
    """A state with a teacher that has this network's weights, and the objective."""
    state = state_of(network)
    state.averages["teacher"] = RunningAverage.of(network, 0.5, forgets_start=False)
    state.stage = "co-training"
    return state, MeanTeacherSpec(**{"gate": 0.0, **more}).build(criterion)


def channels(criterion):
    return 3 if hasattr(criterion, "background") else 2


def batch_of(n=2, edge=8, pairs=True, known=None, seed=0):
    rng = torch.Generator().manual_seed(seed)
    volume = torch.randn(n, 1, edge, edge, edge, generator=rng)
    target = torch.rand(n, 2, edge, edge, edge, generator=rng) * 0.4
    beside = torch.randn(n, 2, edge, edge, edge, generator=rng) if pairs else torch.empty(n, 0)
    return Batch(volume, target, torch.ones(n, 2) if known is None else known, beside)


# --- the teacher's labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", LOSSES, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_mirrored_views_are_turned_back_onto_the_same_cells(stride, criterion):
    """A network without a preferred direction answers the same in every view, whatever its stride."""
    torch.manual_seed(1)
    volume = torch.randn(2, 1, 8, 16, 24)
    state, one = co_training(Line(channels(criterion), stride), criterion, views=1)
    found = one.pseudo_labels(state, volume)
    assert found.shape == (2, 2, 8 // stride, 16 // stride, 24 // stride) and found.std() > 0
    assert found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    for views in (2, 3, 4):
        many = MeanTeacherSpec(views=views, gate=0.0).build(criterion)
        torch.testing.assert_close(many.pseudo_labels(state, volume), found, atol=2e-3, rtol=2e-2)  # bf16
    assert state.network.training


def test_views_are_averaged_where_they_disagree():
    network = Ramp(1)
    nn.init.zeros_(network.line.weight)
    nn.init.zeros_(network.line.bias)
    volume, ramp = torch.zeros(1, 1, 4, 4, 8), torch.linspace(0, 0.5, 8)
    for views, wanted in ((1, ramp), (2, torch.full((8,), 0.25)), (4, (3 * ramp + ramp.flip(0)) / 4)):
        state, objective = co_training(network, views=views)
        found = objective.pseudo_labels(state, volume)[0, 0]
        torch.testing.assert_close(found, wanted.expand(4, 4, 8), atol=3e-3, rtol=0)


def test_the_gate_keeps_confident_peaks_with_their_flanks():
    values = torch.zeros(1, 1, 1, 1, 12)
    values[..., :5] = torch.tensor([0.02, 0.08, 0.3, 0.08, 0.02])
    values[..., 8:11] = torch.tensor([0.03, 0.09, 0.03])
    kept = gated(values, 0.1)
    torch.testing.assert_close(kept[..., :5], values[..., :5])
    assert kept[..., 5:].sum() == 0
    assert gated(values, 0.0) is values


def test_labels_that_are_picks_hold_what_is_picked_as_labels_are_drawn_and_nothing_doubtful():
    """Faint answers all over, whose sum is far above the truth's, leave no trace; soft labels teach them."""
    objects, grid = (BALL, RING), Grid((16, 20, 24), 20.0)
    target = GaussianTarget(sigma_factor=0.5)
    true = Picks("", np.array([[110.0, 205.0, 131.0], [220.0, 98.0, 300.0]]), np.array(["ball", "ring"]))
    doubtful = np.random.default_rng(0).uniform(0, [320, 400, 480], (40, 3))
    wanted = target(true, grid, objects).values
    faint = 0.4 * target(Picks("", doubtful, np.full(40, "ball")), grid, objects).values
    said = torch.from_numpy(np.maximum(0.97 * wanted, faint))[None]
    assert said[0, 0].sum() > 5 * wanted[0].sum()
    annotator = Annotator(LocalMaxima(window=0.25, min_distance=0.0), target, objects, 20.0)
    found = annotator(said, {"ball": 0.9, "ring": 0.9})
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=0.02)
    assert gated(said, 0.1)[0, 0].sum() > 5 * wanted[0].sum()
    assert annotator(said, {"ball": 0.99, "ring": 0.99}).abs().sum() == 0
    assert annotator(said, {"ring": 0.9})[0, 0].sum() > 3 * wanted[0].sum()  # the default of an object without one


def test_the_objective_asks_for_picks_at_the_thresholds_of_the_last_validation():
    volume = torch.zeros(1, 1, 8, 8, 12)
    volume[..., 4, 4, 3], volume[..., 4, 4, 9] = 0.8, 0.5
    state, _ = co_training(Line(1))
    nn.init.ones_(state.averages["teacher"].tensors["line.weight"])
    nn.init.zeros_(state.averages["teacher"].tensors["line.bias"])
    annotator = Annotator(LocalMaxima(), VoxelTarget(), (BALL,), SPACING)
    objective = MeanTeacherSpec(labels="picks").build(PLAIN, annotator)
    for cuts, cells in (({}, [3, 9]), ({"ball": 0.7}, [3]), ({"ball": 0.9}, [])):
        state.notes["cuts"] = cuts
        found = objective.pseudo_labels(state, volume)
        assert found.shape == volume.shape and found.nonzero()[:, -1].tolist() == cells


@pytest.mark.parametrize("criterion", [DenseCrossEntropy(1.0, 1.0), DenseCrossEntropy(1.0, 1.0, "first"),
                                       DiceCrossEntropy(dice=0.0), HeatmapWeightedMSE()], ids=str)  # fmt: skip
def test_a_student_that_agrees_with_its_teacher_learns_nothing(criterion):
    """Softmax losses too: what the teacher leaves of 1 is background."""
    torch.manual_seed(0)
    state, objective = co_training(Line(channels(criterion)), criterion, views=1)
    nn.init.uniform_(state.network.line.bias, 0.4, 0.6)
    state.averages["teacher"] = RunningAverage.of(state.network, 0.5)
    volume = torch.randn(1, 1, 4, 4, 4) * 0.1
    target = objective.pseudo_labels(state, volume)
    logits = state.network(volume).detach().requires_grad_()
    (slope,) = torch.autograd.grad(criterion(logits, target, torch.ones(1, 2)), logits)
    other = criterion(logits, (target * 0.5), torch.ones(1, 2))
    (away,) = torch.autograd.grad(other, logits)
    assert slope.abs().max() < 0.03 * away.abs().max()


# --- the student ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", LOSSES, ids=str)
def test_the_loss_is_the_labelled_one_plus_the_weighted_other(criterion):
    torch.manual_seed(0)
    network, batch = Line(channels(criterion)), batch_of()
    state, objective = co_training(network, criterion, weight=3.0, ramp=4)
    labelled = SupervisedSpec().build(criterion).loss(state, batch)
    target = objective.pseudo_labels(state, batch.pairs[:, :1])
    beside = SupervisedSpec().build(criterion).loss(state, Batch(batch.pairs[:, 1:], target, torch.ones(2, 2)))
    for updates, ramp in ((0, 0.25), (2, 0.75), (9, 1.0)):
        state.averages["teacher"].updates = updates
        found = objective.loss(state, batch)
        torch.testing.assert_close(found, labelled + 3 * ramp * beside, rtol=2e-3, atol=1e-5)
    assert beside > 0


def test_objects_that_are_not_labelled_are_learned_from_the_teacher_alone():
    torch.manual_seed(0)
    batch = batch_of(known=torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    state, objective = co_training(Line(), weight=1.0, ramp=0)
    objective.loss(state, batch._replace(target=batch.target * 0)).backward()
    (with_one, other) = (state.network.line.weight.grad.clone(), state.network.line.weight.grad)
    state.network.zero_grad()
    objective.loss(state, batch._replace(target=batch.target * torch.tensor([0, 1])[:, None, None, None])).backward()
    other = state.network.line.weight.grad
    assert with_one[1].abs().item() > 0
    torch.testing.assert_close(other, with_one)  # a target of an object that is not labelled says nothing


def test_deep_supervision_is_divided_level_by_level():
    class Levels(Line):
        def forward(self, x):
            fine = super().forward(x)
            return (nn.functional.avg_pool3d(fine, 2), fine) if self.training else fine

    torch.manual_seed(0)
    criterion = DenseCrossEntropy(head_weights=(1.0, 1.0))
    state, objective = co_training(Levels(3), criterion)
    assert objective.loss(state, batch_of()).item() > SupervisedSpec().build(criterion).loss(state, batch_of()).item()


def test_both_start_from_the_average_of_the_burn_in_and_the_teacher_follows_slowly():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    state, spec = state_of(network), MeanTeacherSpec(decay=0.75, gate=0.0, views=1)
    objective = spec.build(HeatmapWeightedMSE())
    from tomopick.training.loop import train

    burn_in = [batch_of(pairs=False, seed=i) for i in range(3)]
    for _ in train(state, objective, burn_in, TrainSpec(steps=8, lr=0.05, warmup_steps=0)):
        assert state.stage == "burn-in" and set(state.averages) == {"ema"}
    average = {k: v.clone() for k, v in state.averages["ema"].tensors.items()}
    assert any(not torch.equal(v, network.state_dict()[k]) for k, v in average.items())

    seen = []

    class Watched:
        def loss(self, state, batch):
            value = objective.loss(state, batch)
            seen.append({k: v.clone() for k, v in state.averages["teacher"].tensors.items()})
            return value

    after = []
    pairs = [batch_of(seed=i) for i in range(3, 6)]
    for _ in train(state, Watched(), pairs, TrainSpec(steps=8, lr=0.05, warmup_steps=0)):
        after.append({k: v.clone() for k, v in network.state_dict().items()})
    assert state.stage == "co-training"
    for key, value in average.items():
        torch.testing.assert_close(seen[0][key], value)
        if not value.is_floating_point():
            assert torch.equal(seen[1][key], after[0][key])  # a counter
            continue
        # Weights and BatchNorm's statistics alike, with the full decay from the first step on.
        for (old, new), student in zip(pairwise(s[key] for s in seen), after):
            torch.testing.assert_close(new, 0.75 * old + 0.25 * student[key])


STRONG = (DropBlock(), Noise(p=1.0))


# --- patches ----------------------------------------------------------------------------------------------------------


def pair_sampler(burn_in=0.5, strong=STRONG, seed=3):
    method = replace(recipe(), augment=Augmentation((Flip(), Rot90()), (Noise(p=1.0),)))
    data = gather(recipe(*SEMI), sources(recipe(*SEMI)))
    labelled = PatchSampler(data.train, data.objects, method.patch, method.target, method.augment, 2, seed)
    spec = MeanTeacherSpec(burn_in=burn_in, strong=strong)
    return labelled, data, spec.sampler(labelled, data.unlabelled, 4)


def test_pairs_come_after_the_burn_in_and_leave_the_labelled_patches_alone():
    labelled, _, sampler = pair_sampler()
    assert isinstance(sampler, PairSampler) and sampler.first == 2
    made = list(batches(sampler, 3, 0, 4))
    assert [b.pairs.shape for b in made] == [(3, 0), (3, 0), (3, 2, 16, 16, 16), (3, 2, 16, 16, 16)]
    for step, batch in enumerate(made):
        for index in range(3):
            assert torch.equal(batch.volume[index], labelled(step, index).volume)
            assert torch.equal(batch.target[index], labelled(step, index).target)
    for workers in (0, 2):
        (again,) = batches(sampler, 3, 3, 4, workers)  # resumed
        assert torch.equal(again.pairs, made[3].pairs)
    assert not torch.equal(made[2].pairs, made[3].pairs)


def test_teacher_and_student_see_the_same_place_the_same_way_round():
    _, data, sampler = pair_sampler(0.0, strong=(DropBlock(0.01),))
    volume = data.unlabelled[0].values
    for index in range(6):
        weak, strong = sampler(0, index).pairs.numpy()
        dropped = strong == 0
        assert 0.05 < dropped.mean() < 0.5
        np.testing.assert_array_equal(strong[~dropped], weak[~dropped])
        # Grey values as they are: the patch holds voxels of the volume and nothing else.
        assert np.isin(weak, volume).all()


def test_without_strong_steps_both_see_the_same():
    weak, strong = pair_sampler(0.0, strong=())[2](0, 0).pairs
    assert torch.equal(weak, strong)


# --- whole trainings --------------------------------------------------------------------------------------------------

METHOD = recipe("train.steps=8", "train.validate_every=3", *SEMI)  # from step 5 on with the unlabelled run

PICKS = METHOD.override(["objective.labels=picks"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("semi") / "model"
    with heard() as told:
        fit(METHOD, sources(METHOD), out, options())
    assert "step 5 of 8: co-training begins" in told
    return out


@pytest.fixture(scope="module")
def taught_by_picks(tmp_path_factory):
    out = tmp_path_factory.mktemp("semi") / "model"
    fit(PICKS, sources(PICKS), out, options())
    return out


def test_labels_that_are_picks_go_on_after_an_interruption_too(taught_by_picks, tmp_path):
    out = tmp_path / "model"
    fit_until(7, PICKS, out)
    fit(PICKS, sources(PICKS), out, options(resume=True))
    assert losses(out) == losses(taught_by_picks)


def test_labels_of_a_precision_are_cut_where_picks_were_right_that_often(taught_by_picks):
    """Higher than for F1 where that is less precise; where nothing is ever right so often it is F1's threshold."""
    (source,) = sources(PICKS)
    data, start = gather(PICKS, [source]), Detector.load(taught_by_picks)
    state = state_of(start.network)
    cuts = {}
    for cut_by in ("f1", "precision=0.01", "precision=0.999"):
        detector = validate(start, state, data, cut_by=cut_by)[2]
        assert set(detector.thresholds) == {"f1", "czii", cut_by}
        cuts[cut_by] = detector.thresholds[cut_by]["ball"]
    assert cuts["precision=0.01"] <= cuts["f1"]
    assert cuts["precision=0.999"] >= cuts["precision=0.01"]
    (never,) = validate(start, state, replace(data, val=[_without_truth(data.val[0])]), cut_by="precision=0.5")[2:]
    assert never.thresholds["precision=0.5"] == never.thresholds["f1"]
    assert MeanTeacherSpec(precision=0.8).cut_by == "precision=0.8" and MeanTeacherSpec().cut_by == "f1"


def _without_truth(volume):
    return replace(volume, picks=Picks.empty(volume.picks.run))


def test_the_thresholds_that_picks_are_taken_at_are_the_last_ones_and_at_first_those_of_the_model(
    taught_by_picks, tmp_path, monkeypatch
):
    notes = json.loads((taught_by_picks / "last" / "state.json").read_text())["notes"]
    assert set(notes["cuts"]) == {"ball"} and 0 < notes["cuts"]["ball"] < 1
    start = Detector.load(taught_by_picks)
    method = PICKS.override(["objective.burn_in=0", "train.steps=2", "train.validate_every=2"])
    seen, loss = [], MeanTeacher.loss
    monkeypatch.setattr(
        MeanTeacher, "loss", lambda me, state, batch: seen.append(state.notes["cuts"]) or loss(me, state, batch)
    )
    fit(method, sources(method), tmp_path / "m", options(init_from=str(taught_by_picks)))
    assert seen[0] == start.thresholds["f1"]


@pytest.mark.parametrize("step", [3, 5, 7])  # saved in the burn-in, cut after the change of stage, saved after it
def test_an_interrupted_training_goes_on_to_the_last_bit(whole, tmp_path, step):
    out = tmp_path / "model"
    fit_until(step, METHOD, out)
    fit(METHOD, sources(METHOD), out, options(resume=True))
    assert losses(out) == losses(whole)
    mine, wanted = (load_file(place / "last" / "state.safetensors") for place in (out, whole))
    assert any(key.startswith("average/teacher/") for key in wanted)
    assert mine.keys() == wanted.keys() and all(torch.equal(mine[k], wanted[k]) for k in wanted)
    kept = json.loads((out / "last" / "state.json").read_text())
    assert kept["stage"] == "co-training"
    assert kept["averages"]["teacher"] == {"decay": 0.5, "updates": 4, "forgets_start": False}


def test_what_was_learned_from_is_recorded(whole):
    detector = Detector.load(whole)
    assert detector.facts.learned_from[0] == LearnedFrom("memory", ("A", "B"), ("C",), ("D",))
    assert "learned from 2 labelled runs, 1 unlabelled run, 1 validation run" in (whole / "README.md").read_text()
    assert [row["stage"] for row in read_log(whole / "log.jsonl")] == ["burn-in"] * 4 + ["co-training"] * 4
    assert Recipe.from_json(detector.recipe_json).objective == METHOD.objective


QUICK = ["patch.shape=32,32,32", "tiling=TilingSpec", "tiling.shape=32,32,32", "tiling.overlap=8", "train.steps=2",
         "train.batch_size=2", "train.validate_every=2", "objective=MeanTeacherSpec"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("bpd_released", ["network.widths=4,6,8"]),
        ("topcup", ["network.width=0.1"]),
        ("light", ["network.widths=4,6,8", "loss=FocalTversky", "objective.labelled.mixup=1"]),
    ],
)
def test_any_recipe_becomes_semi_supervised(name, more, tmp_path):
    method = recipes.get(name).override([*QUICK, *more])
    made = fit(method, sources(method), tmp_path / "m", options())
    assert np.isfinite(losses(tmp_path / "m")).all()
    assert [row["stage"] for row in read_log(tmp_path / "m" / "log.jsonl")] == ["burn-in", "co-training"]
    assert Detector.load(tmp_path / "m").recipe_json == made.recipe_json


def test_the_method_uses_it_unless_told_otherwise():
    method = recipes.get("semietpicker")
    assert method.objective.semi_supervised and method.objective.views == 4
    assert any(isinstance(step, DropBlock) for step in method.objective.strong)
    assert not method.override(["objective=SupervisedSpec"]).objective.semi_supervised


# --- the unlabelled runs ----------------------------------------------------------------------------------------------


def test_another_project_gives_runs_of_its_own_type_spacing_and_objects(told):
    other = MemoryProject((RING,), "others")
    other.write_tomogram(tomogram("X", 4, (30, 80, 60), spacing=8.0, tomo_type="wbp")[0])
    other.write_tomogram(tomogram("Y", 5, spacing=10.0, tomo_type="wbp")[0])
    data = gather(recipe(*SEMI), [Source(memory(), val_runs=["C"]), Source.unlabelled(Runs(other, tomo_type="wbp"))])
    assert "others: run X: voxel spacing 8 Å resampled to 10 Å" in told
    assert [v.picks.run for v in data.unlabelled] == ["X", "Y"] and len(data.train) == 2
    assert [o.name for o in data.objects] == ["ball"]
    for volume in data.unlabelled:
        assert len(volume.picks) == 0 and volume.known == {}
    wanted = recipe().normalize(other.tomogram("Y", "wbp"))  # like the labelled ones
    np.testing.assert_array_equal(data.unlabelled[1].values, wanted)
    assert data.facts.tomo_types == ("denoised", "wbp")
    assert data.facts.learned_from[1] == LearnedFrom("others", unlabelled=("X", "Y"))
    assert not any("nothing is learned" in line for line in told)


@pytest.mark.parametrize(
    ("more", "chosen", "message"),
    [
        ((), {}, r"has no use for unlabelled runs \(D\); leave them out, or .*objective=MeanTeacherSpec"),
        (SEMI, {"unlabelled_runs": []}, r"recipe light learns from unlabelled runs too.*objective=SupervisedSpec"),
        (SEMI, {"unlabelled_runs": ["E"]}, "memory: no run 'E'"),
        (SEMI, {"unlabelled_runs": ["C"]}, "run C is unlabelled by name, but its picks are used for validation"),
        (SEMI, {"unlabelled_runs": ["D", "A"]}, "run A is unlabelled by name, but its picks are used for training"),
        (SEMI, {"unlabelled_runs": ["D", "D"]}, "run D is named twice as unlabelled"),
    ],
)  # fmt: skip
def test_bad_choices(more, chosen, message, tmp_path):
    (source,) = sources(recipe(*SEMI))
    with pytest.raises(SelectionError, match=message):
        fit(recipe(*more), [replace(source, **chosen)], tmp_path / "m", options())
    assert not (tmp_path / "m").exists()


def test_one_project_opened_twice_is_one_project(tmp_path):
    from tomopick.data import open_project

    place = folder(tmp_path / "p", ("A", "B", "C"))
    twice = open_project(tmp_path / "p" / ".." / "p")
    with pytest.raises(SelectionError, match="run A is unlabelled by name"):
        gather(recipe(*SEMI), [Source(open_project(place), val_runs=["C"]), Source.unlabelled(twice)])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.weight=0", "objective.weight is 0"),
        ("objective.burn_in=1", "objective.burn_in is 1; it must be from 0"),
        ("objective.decay=-0.1", "objective.decay"),
        ("objective.gate=2", "objective.gate is 2"),
        ("objective.precision=1", "objective.precision is 1; it must be from 0"),
        ("objective.labels=hard", "objective.labels is hard; it can be soft or picks"),
        ("objective.ramp=-1", "objective.ramp is -1"),
        ("objective.views=5", r"objective.views is 5; it must be from 1 \(no mirror image\) to 4"),
        ("objective.strong.dropblock.kernel=4", "DropBlock has gamma 0.004 and kernel 4"),
    ],
)
def test_impossible_settings(override, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*SEMI, override)


def test_from_the_command_line(tmp_path):
    real, more = folder(tmp_path / "real", ("A", "B")), folder(tmp_path / "more", ("U", "V"), picks=False)
    base = ["tiling.shape=32,32,32", "tiling.overlap=8", *TINY, "train.steps=2", "train.validate_every=2"]
    train = ["train", "light", str(real), str(tmp_path / "m"), "--val-runs", "B", "--device", "cpu"]
    found = CliRunner().invoke(main, [*train, "--unlabelled", str(more), *base, *SEMI])
    assert found.exit_code == 0, found.output
    assert "learned from 1 labelled run, 2 unlabelled runs, 1 validation run" in found.output
    train[3] = str(tmp_path / "n")
    found = CliRunner().invoke(main, [*train, *base, *SEMI])
    assert found.exit_code == 2 and "--unlabelled-runs or a whole project with --unlabelled" in found.output
    found = CliRunner().invoke(main, [*train, "--unlabelled-tomo-type", "wbp", *base])
    assert found.exit_code == 2 and "say which: --unlabelled PROJECT" in found.output
    assert not (tmp_path / "n").exists()
