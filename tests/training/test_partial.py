"""Volumes that are labelled in parts: what is outside teaches nothing, is not drawn, and is not judged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from small import BALL, folder, memory, recipe, tomogram, untrained
from tomopick import FitOptions, Runs, Source, fit
from tomopick.core.errors import RecipeError, SelectionError
from tomopick.core.types import Grid, PickableObject, Picks
from tomopick.data import MemoryProject, open_project
from tomopick.data.regions import Regions
from tomopick.networks.losses import (
    DenseCrossEntropy,
    DiceCrossEntropy,
    FocalTversky,
    HeatmapWeightedMSE,
    ReweightedMSE,
)
from tomopick.networks.unlabelled import risk
from tomopick.scoring.metrics import metric_name
from tomopick.scoring.thresholds import choose_thresholds
from tomopick.training.augment import Augmentation, Flip, Rot90
from tomopick.training.dataset import gather
from tomopick.training.labelling import labelled
from tomopick.training.patches import NEGATIVE, LabelledVolume, PatchSampler, PatchSpec, batches
from tomopick.training.split import split_run
from tomopick.training.targets import GaussianTarget

LOSSES = [
    HeatmapWeightedMSE(),
    ReweightedMSE(sigmoid=True),
    DenseCrossEntropy(label_smoothing=0.01),
    DenseCrossEntropy(head_weights=(1.0, 1.0)),
    DiceCrossEntropy(head_weights=(1.0, 1.0)),
    FocalTversky(),
]


def drawn(loss, seed=0):
    rng = torch.Generator().manual_seed(seed)
    channels = 2 + bool(loss.activation.background)
    logits = torch.randn(2, channels, 4, 8, 8, generator=rng)
    if getattr(loss, "head_weights", ()):
        logits = (torch.randn(2, channels, 2, 4, 4, generator=rng), logits)
    target = torch.rand(2, 2, 4, 8, 8, generator=rng)
    return logits, target


def value(loss, logits, target, known):
    logits = tuple(t.requires_grad_() for t in logits) if isinstance(logits, tuple) else logits.requires_grad_()
    found = loss(logits, target, known)
    every = logits if isinstance(logits, tuple) else (logits,)
    return found, torch.autograd.grad(found, every)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_patch_that_is_known_all_over_costs_as_before(loss):
    logits, target = drawn(loss)
    whole = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    cells = whole[:, :, None, None, None].expand(2, 2, 4, 8, 8)
    torch.testing.assert_close(loss(logits, target, cells), loss(logits, target, whole))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_what_is_not_known_moves_nothing(loss):
    logits, target = drawn(loss)
    known = torch.ones(2, 2, 4, 8, 8)
    known[:, :, :, 4:] = 0
    cost, slopes = value(loss, logits, target, known)
    assert cost > 0
    for slope in slopes:
        half = slope.shape[3] // 2
        assert slope[:, :, :, :half].abs().sum() > 0 and not slope[:, :, :, half:].abs().sum()
    changed = target.clone()
    changed[:, :, :, 4:] = 1 - changed[:, :, :, 4:]
    torch.testing.assert_close(loss(logits, changed, known), cost)


def volume(**changes):
    grid = Grid((24, 40, 40), 10.0)
    rng = np.random.default_rng(0)
    picks = Picks("A", grid.positions(rng.uniform((2, 0, 0), (21, 19, 19), (30, 3))), ["ball"] * 15 + ["ring"] * 15)
    return replace(
        LabelledVolume(np.zeros(grid.shape, np.float32), grid, picks, {"ball": None, "ring": None}), **changes
    )


def sampler(made, **changes):
    objects = (PickableObject("ball", 40.0), PickableObject("ring", 40.0))
    return PatchSampler(
        [made], objects, PatchSpec((16, 16, 16), **changes), GaussianTarget(), Augmentation((Flip(), Rot90()), ()), 2, 1
    )


def test_masks_turn_with_their_patches_and_patches_stay_where_something_is_known():
    low = np.zeros((24, 40, 40), dtype=bool)
    low[:, :20] = True
    values = low.astype(np.float32) + 1  # so that a patch shows what is labelled
    draw = sampler(volume(values=values, known={"ball": low, "ring": None}))
    for index in range(6):
        batch = draw(0, index)
        assert batch.known.shape == batch.target.shape
        shown = batch.volume[0].reshape(8, 2, 8, 2, 8, 2).amin(dim=(1, 3, 5)) == 2
        assert ((batch.known[0] == 1) == shown).all() and (batch.known[1] == 1).all()
    both = volume(values=values, known={"ball": low, "ring": low})
    both = replace(both, picks=both.picks.select(both.labelled_at(both.picks)))
    draw = sampler(both, around_particles=0.0)
    assert all(draw(0, index).known.any() for index in range(20))
    stacked = next(batches(draw, 3, 0, 1))
    assert stacked.known.shape == (3, 2, 8, 8, 8)


def test_places_that_are_none_are_drawn_and_count_more():
    none = Picks("A", np.array([[120.0, 350.0, 350.0]]), ["ring"])
    made = volume(negatives=none)
    draw = sampler(made, around_particles=1.0, around_negatives=0.5, jitter=0.2)
    marked = [(draw(0, index).known == NEGATIVE) for index in range(40)]
    share = np.mean([m.any() for m in marked])
    assert 0.3 < share < 0.7  # the particles lie too far from it to be on the same patch
    one = next(m for m in marked if m.any())
    assert not one[0].any() and 20 <= one[1].sum() <= 40  # a ball of two cells, of its object alone
    assert not any((sampler(volume())(0, i).known == NEGATIVE).any() for i in range(3))


def test_training_on_a_part_reads_and_judges_that_part_alone(tmp_path):
    project = memory(runs=("A", "B", "C"))
    project.regions = Regions.parse(["A=:,0:32,:", "C=:,0:32,:"])
    data = gather(recipe(), [Source(project, val_runs=["C"])])
    a, b = data.train
    assert a.known["ball"][:, :32].all() and not a.known["ball"][:, 32:].any() and b.known == {"ball": None}
    assert (a.picks.positions[:, 1] < 315).all() and len(b.picks) == 14
    (c,) = data.val
    everywhere = project.picks("C")
    assert c.labelled_at(everywhere).sum() == len(c.picks) < 14
    model = fit(recipe(), [Source(project, val_runs=["C"])], tmp_path / "model", FitOptions("cpu"))
    assert model.facts.provenance["labelled_in_part"] == ["A"]
    assert "1 of them labelled in part" in (tmp_path / "model" / "README.md").read_text()


def test_picks_that_fill_a_part_are_asked_about(caplog):
    t, p = tomogram(shape=(24, 400, 48), n=60)
    project = MemoryProject([BALL])
    project.add(t, p.select(p.positions[:, 1] < 1500))
    with caplog.at_level("WARNING", "tomopick"):
        gather(recipe(), [Source(project)])
    assert "labelled only there" in caplog.text and "`all_labelled`" in caplog.text
    caplog.clear()
    gather(recipe(), [Source(project, all_labelled=True)])
    assert "labelled only there" not in caplog.text


def test_the_only_run_is_cut_where_picks_are():
    grid = Grid((8, 200, 8), 10.0)
    made = LabelledVolume(np.zeros(grid.shape, np.float32), grid, Picks.empty("A"), {"ball": None, "ring": None})

    def cut(ball, ring=()):
        rows = [*ball, *ring]
        positions = np.array([[40.0, 10.0 * y, 40.0] for y in rows])
        picks = Picks("A", positions, ["ball"] * len(ball) + ["ring"] * len(ring))
        return split_run(replace(made, picks=picks), [BALL, PickableObject("ring", 100.0)])

    train, val = cut([10, 60, 100, 190], [20, 170])
    assert (train.grid.shape[1], val.grid.shape[1]) == (140, 40)  # as where nobody looked at the picks
    train, val = cut([10, 20, 30, 40, 50, 60, 70, 80], [15, 90])  # nothing in the upper half
    assert {"ball", "ring"} == set(train.picks.names) == set(val.picks.names)
    first, last = train.picks.positions[:, 1].max(), val.picks.positions[:, 1].min()
    assert last - first >= 200
    with pytest.raises(SelectionError, match="no cut along y leaves some"):
        cut([10])
    nowhere = np.zeros(grid.shape, dtype=bool)
    with pytest.raises(SelectionError, match="run A: none of its picks lies where it is labelled"):
        split_run(replace(made, known={"ball": nowhere}), [BALL])


def test_nothing_true_to_validate_on_is_refused(tmp_path):
    project = memory(runs=("A", "B"))
    t, _ = tomogram("C", 2)
    project.add(t, Picks.empty("C"))
    with pytest.raises(SelectionError, match="no true ball in what is kept for validation"):
        fit(recipe(), [Source(project, val_runs=["C"])], tmp_path / "model", FitOptions("cpu"))
    assert not (tmp_path / "model").exists()


def test_negatives_of_a_folder_and_of_a_session(tmp_path):
    place = folder(tmp_path / "vols")
    (place / "A.negatives.csv").write_text("object,x,y,z\nball,100,200,120\nball,130,300,120\n")
    project = open_project(place)
    assert project.runs() == ["A", "B"]
    data = gather(recipe(), [Source(project, val_runs=["B"])])
    assert len(data.train[0].negatives) == 2 and data.facts.provenance["negatives"] == {"ball": 2}
    held = memory()
    held.write_picks(Picks("A", np.array([[120.0, 200.0, 100.0]]), ["ball"]), "me", "cured-rejected")
    source = Source(Runs(held, picks="*:truth/0"), negatives="*:me/cured-rejected", val_runs=["C"])
    data = gather(recipe(), [source])
    assert [v.negatives is not None for v in data.train] == [True, False]
    # A curation's own session for both: what it accepted is never taken for what it rejected.
    held.write_picks(held.picks("A", "*:truth/0").select(np.arange(10)), "me", "cured")
    held.write_picks(held.picks("B", "*:truth/0").select(np.arange(10)), "me", "cured")
    source = Source(Runs(held, ["A", "B"], picks="*:me/cured"), negatives="*:me/cured", val_runs=[])
    data = gather(recipe(), [source])
    assert [v.negatives is None or len(v.negatives) for v in data.train] == [1, True]


TABLE = "object,x,y,z\n"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (None, r"run A: 14 of 14 negatives of ball lie within \d+ Å \(half a radius\) of its picks"),
        ("bal,100,200,120\n", "1 negative of 'bal', which is no object there; did you mean 'ball'"),
        ("ball,100,2000,120\nball,100,200,120\n", r"run A: 1 of 2 negatives \(1 ball\) lie outside the volume"),
        ("".join(f"ball,{4 * i},{4 * i},{2 * i}\n" for i in range(10)), "the negatives all 10 picks lie within 36 Å"),
    ],
)
def test_negatives_that_cannot_be_meant_are_refused_before_anything_is_read(tmp_path, rows, why):
    place = folder(tmp_path / "vols")
    (place / "A.negatives.csv").write_text((place / "A.csv").read_text() if rows is None else TABLE + rows)
    with pytest.raises(SelectionError, match=why):
        gather(recipe(), [Source(open_project(place), val_runs=["B"])])


def test_negatives_that_are_asked_for_and_not_there(tmp_path, caplog):
    place = folder(tmp_path / "vols")
    with pytest.raises(SelectionError, match=r"`negatives=ball`: .*a folder, whose negatives are its tables"):
        gather(recipe(), [Source(open_project(place), val_runs=["B"], negatives="ball")])
    held = memory()
    held.write_picks(Picks("A", [[120.0, 200.0, 100.0]], ["ball"]), "me", "no")
    own = Runs(held, picks="*:truth/0")
    with pytest.raises(SelectionError, match=r"`negatives=ball:me/on`: .*no picks 'ball:me/on'; did you mean 'ball:me"):
        gather(recipe(), [Source(own, negatives="ball:me/on", val_runs=["C"])])
    with pytest.raises(SelectionError, match=r"run A: \d+ of \d+ negatives of ball lie within"):
        gather(recipe(), [Source(own, negatives="ball:truth/0", val_runs=["C"])])
    with caplog.at_level("INFO", "tomopick"):
        gather(recipe(), [Source(own, negatives="ball:me/no", val_runs=["C"])])
        gather(recipe(), [Source(own, negatives="*:truth/0", val_runs=["C"])])
    said = [line for line in caplog.messages if "negatives" in line]
    assert said == ["memory: negatives: 1 of ball", said[1]] and "nothing was rejected beside" in said[1]


def test_who_ignores_what_was_not_picked_needs_somebody_to_say_what_is_none():
    method = recipe()
    method = replace(method, loss=replace(method.loss, unlabelled="ignore"))
    held = memory()
    with pytest.raises(SelectionError, match="nothing else says what is no particle: give negatives"):
        gather(method, [Source(Runs(held, picks="*:truth/0"), val_runs=["C"])])
    gather(method, [Source(Runs(held, picks="*:truth/0"), val_runs=["C"])], goes_on=True)
    held.write_picks(Picks("A", [[120.0, 200.0, 100.0]], ["ball"]), "me", "no")
    gather(method, [Source(Runs(held, picks="*:truth/0"), val_runs=["C"], negatives="*:me/no")])


def test_of_the_unlabelled_a_share_is_taken_for_particles():
    loss = HeatmapWeightedMSE(unlabelled="pu", prior=0.25)
    # 8 picked cells, 8 that nobody picked and that look alike, 24 of background.
    logits = torch.cat([torch.full((16,), 0.7), torch.full((24,), 0.2)]).reshape(1, 1, 1, 1, 40)
    target = torch.zeros(1, 1, 1, 1, 40)
    target[..., :8] = 1
    known = torch.ones(1, 1)
    wanted = 0.25 * (0.3**2 * 1.1) + 0.75 * (0.2**2 * 0.1)
    assert risk(loss, logits, target, known).item() == pytest.approx(wanted)
    plain = replace(loss, unlabelled="negative")
    assert torch.equal(risk(plain, logits, target, known), plain(logits, target, known))
    too_many = replace(loss, prior=0.9)  # what would be below 0 is 0
    assert risk(too_many, logits, target, known).item() == pytest.approx(0.9 * 0.3**2 * 1.1)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("how", ["ignore", "pu"])
def test_every_loss_takes_unlabelled_places(loss, how):
    logits, target = drawn(loss)
    target = torch.zeros_like(target)
    target[:, :, 1, 1, 1] = 1
    known = torch.ones(2, 2)
    finest = (logits[-1] if isinstance(logits, tuple) else logits).requires_grad_()
    found = risk(replace(loss, unlabelled=how), finest, target, known)
    (slope,) = torch.autograd.grad(found, finest)
    assert torch.isfinite(found) and torch.isfinite(slope).all() and slope[..., 1, 1, 1].abs().sum() > 0
    if how == "ignore":
        assert not slope[..., 6:].abs().sum()  # further than the surroundings of the pick


def test_ignored_places_count_where_somebody_said_that_there_is_none():
    logits, target = drawn(HeatmapWeightedMSE())
    known = torch.ones(2, 2, 4, 8, 8)
    known[:, :, 3, 7, 7] = NEGATIVE
    loss = HeatmapWeightedMSE(unlabelled="ignore")
    (slope,) = torch.autograd.grad(risk(loss, logits.requires_grad_(), target * 0, known), logits)
    assert (slope != 0).sum() == 4 and (slope[:, :, 3, 7, 7] != 0).all()


def test_few_picks_and_the_rest_unknown(tmp_path, caplog):
    with pytest.raises(RecipeError, match="expected negative, ignore or pu"):
        recipe("loss.unlabelled=maybe")
    t, p = tomogram("A")
    project = MemoryProject([BALL])
    project.add(t, p.select(np.arange(0, 14, 2)))
    made = fit(recipe("loss.unlabelled=pu"), [Source(project)], tmp_path / "model", FitOptions("cpu"))
    assert made.facts.scores == {"f1": {}, "czii": {}}  # of what was not picked nobody knows


def test_a_threshold_for_positives_alone():
    grid = Grid((10, 10, 100), 10.0)
    there = grid.positions(np.array([[5, 5, x] for x in range(5, 95, 10)]))
    truth = {"A": Picks("A", there[:3], ["ball"] * 3)}  # of nine
    scores = np.array([0.9, 0.8, 0.5, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1])
    found = {0.02: {"A": Picks("A", there, ["ball"] * 9, scores)}}
    best = choose_thresholds(found, truth, [BALL], "positives", tolerance=0.0)["ball"]
    assert best.threshold == pytest.approx(0.75) and best.value == pytest.approx(2 / 3)
    assert metric_name("positives") == "positives"


def test_few_that_validate_do_not_set_a_threshold_alone(monkeypatch):
    """One doubtful place of a small part would; places that were learned from show others, and scores stay honest."""
    from tomopick.training import validate as judging

    project = memory(runs=("A", "B"))
    data = gather(recipe(), [Source(project, val_runs=["B"])])
    b, a = data.val[0].picks, data.train[0].picks
    heights = {"B": np.linspace(0.8, 0.95, len(b)), "A": np.linspace(0.75, 0.95, len(a))}
    heights["B"][0] = 0.45  # the doubtful one

    def seen(detector, predictor, of, metrics):
        found = {}
        for i, v in enumerate(of.val):
            off = v.picks.positions.copy()[:4] + 200.0  # four wrong ones
            wrong = [0.4, 0.3, 0.2, 0.1] if v.picks.run == "B" else [0.7, 0.6, 0.55, 0.5]
            found[str(i)] = Picks(str(i), np.concatenate([v.picks.positions, off]), ["ball"] * (len(v.picks) + 4),
                                  np.concatenate([heights[v.picks.run], wrong]))  # fmt: skip
        return {judging.LOWEST_SCORE: found}

    monkeypatch.setattr(judging, "validation_picks", seen)
    made = judging.measured(untrained((BALL,)), data, torch.device("cpu"))
    assert 0.7 < made.thresholds["f1"]["ball"] < 0.75  # by validation alone: between 0.4 and 0.45
    assert made.facts.scores["f1"]["ball"] == pytest.approx(2 * 13 / (13 + 14))  # of validation, with that threshold
    monkeypatch.setattr(judging, "ENOUGH", 10)
    assert 0.4 < judging.measured(untrained((BALL,)), data, torch.device("cpu")).thresholds["f1"]["ball"] < 0.45


def test_candidates_below_their_threshold_are_no_labels(told):
    """What `pick` wrote with what it did not keep may be learned from: from what it kept."""
    project = memory("AB")
    for name in project.runs():
        picks = project.picks(name)
        cuts = np.where(np.arange(len(picks)) % 3, 0.5, 2.0)  # every third lies below its own
        project.add(project.tomogram(name), picks.with_column("threshold", cuts))
    kept = {name: int(project.picks(name).is_kept.sum()) for name in project.runs()}
    _, (labels,), _ = labelled(recipe(), [Source(project)])
    assert {name: len(p) for name, p in labels.items()} == kept
    assert sum(" below the threshold of the model that found them" in line for line in told) == len(kept)
