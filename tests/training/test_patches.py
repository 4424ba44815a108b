"""Training patches, losses and running averages."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from tomopick.core.types import Grid, Heatmap, PickableObject, Picks
from tomopick.networks.losses import HeatmapWeightedMSE
from tomopick.picking.peaks import LocalMaxima
from tomopick.training.augment import Augmentation, Flip, Rot90
from tomopick.training.averaging import RunningAverage
from tomopick.training.patches import LabelledVolume, PatchSampler, PatchSpec, batches
from tomopick.training.targets import GaussianTarget

OBJECTS = (PickableObject("common", 50.0), PickableObject("rare", 50.0), PickableObject("elsewhere", 50.0))
GRID = Grid((40, 60, 64), 10.0, (30.0, -50.0, 7.0))
STILL = Augmentation((), ())


def labelled(seed: int, names, known=("common", "rare"), grid=GRID) -> LabelledVolume:
    """Blobs of height 1 where the picks are, so that a patch shows its own truth."""
    rng = np.random.default_rng(seed)
    n = len(names)
    picks = Picks(f"TS_{seed}", grid.positions(rng.uniform(0, np.array(grid.shape) - 1, (n, 3))), names)
    drawn = GaussianTarget()(picks, grid, [PickableObject(o, 50.0) for o in sorted(set(names))])
    return LabelledVolume(drawn.values.max(axis=0), grid, picks, dict.fromkeys(known))


def sampler(**changes) -> PatchSampler:
    volumes = [labelled(0, ["common"] * 40 + ["rare"]), labelled(1, ["common"] * 20)]
    made = PatchSampler(
        volumes, OBJECTS[:2], PatchSpec((16, 20, 24), 0.75), GaussianTarget(), Augmentation(), stride=2, seed=3
    )
    return replace(made, **changes)


def same(a, b) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_batches_have_their_shapes_and_types():
    batch = next(batches(sampler(), 3, 0, 1))
    assert batch.volume.shape == (3, 1, 16, 20, 24) and batch.target.shape == (3, 2, 8, 10, 12)
    assert batch.known.tolist() == [[1, 1]] * 3
    assert {t.dtype for t in batch} == {torch.float32}
    assert all(torch.isfinite(t).all() for t in batch)


def test_batches_depend_on_seed_step_and_index_alone():
    whole = list(batches(sampler(), 2, 0, 5))
    assert len(whole) == 5
    for later, wanted in zip(batches(sampler(), 2, 3, 5), whole[3:], strict=True):  # resumed
        same(later, wanted)
    for other, wanted in zip(batches(sampler(), 2, 0, 5, workers=2), whole, strict=True):
        same(other, wanted)
    first = sampler()(4, 1)
    same(first, [t[1] for t in whole[4]])
    np.random.seed(0)
    torch.manual_seed(0)
    same(sampler()(4, 1), first)
    for step, index, seed in ((4, 0, 3), (1, 1, 3), (4, 1, 4)):
        assert not torch.equal(sampler(seed=seed)(step, index).volume, first.volume)


def test_a_volume_smaller_than_the_patch_is_padded_with_zero():
    small = labelled(2, ["common"], grid=Grid((6, 60, 9), 10.0))
    small = replace(small, values=small.values + 1)
    for index in range(8):
        made = sampler(volumes=[small], augment=STILL)(0, index)
        inside = made.volume[0] > 0
        assert inside.sum() == 6 * 20 * 9
        z, _, x = (np.flatnonzero(inside.numpy().any(axis=tuple({0, 1, 2} - {a}))) for a in range(3))
        assert (z[0], z[-1], x[0], x[-1]) == (5, 10, 8, 16) or (z[0], x[0]) == (5, 7)  # in the middle


def test_patches_lie_inside_a_volume_that_is_large_enough():
    full = [replace(v, values=np.ones(GRID.shape, np.float32)) for v in sampler().volumes]
    for index in range(30):
        assert (sampler(volumes=full, augment=STILL)(0, index).volume == 1).all()


def test_rare_objects_are_drawn_as_often_as_common_ones():
    """40 to 1 in a volume, and in one volume of five only."""
    volumes = [*(labelled(i, ["common"] * 30) for i in range(1, 5)), labelled(0, ["common"] * 40 + ["rare"])]
    # Patches so small that they hold the particle they were drawn for, and hardly another.
    spec = PatchSpec((4, 4, 4), around_particles=1.0, jitter=0.0)
    made = sampler(volumes=volumes, patch=spec, stride=1, augment=STILL, target=GaussianTarget(sigma_factor=0.2))
    seen = Counter()
    for index in range(300):
        heights = made(0, index).target.amax(dim=(1, 2, 3))
        seen[int(heights.argmax())] += 1
    assert 110 < seen[1] < 190  # 150 expected, deviation 9


def test_particles_lie_all_over_their_patches():
    spec = PatchSpec((16, 16, 16), around_particles=1.0, jitter=0.7)
    middle = labelled(0, ["common"])
    middle = replace(middle, picks=Picks("TS_0", GRID.positions([[20, 30, 30]]), ["common"]))
    made = sampler(volumes=[middle], patch=spec, stride=1, augment=STILL)
    places = np.array([np.unravel_index(int(made(0, i).target[0].argmax()), (16, 16, 16)) for i in range(100)])
    assert places.min() <= 3 and places.max() >= 12
    assert abs(places.mean() - 7.5) < 1


def test_share_around_particles():
    lonely = labelled(0, ["common"])
    for share, low, high in ((1.0, 100, 100), (0.0, 0, 40), (0.5, 40, 80)):
        made = sampler(volumes=[lonely], patch=PatchSpec((12, 12, 12), share, 0.5), stride=1, augment=STILL)
        hits = sum(bool(made(0, i).target[0].max() > 0.8) for i in range(100))
        assert low <= hits <= high


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("spatial", [(), (Flip(), Rot90())])
def test_the_target_has_its_maxima_where_the_patch_shows_particles(stride, spatial):
    """Volume and target are made apart: the one is cut and turned, the other drawn anew."""
    made = sampler(augment=Augmentation(spatial, ()), stride=stride, patch=PatchSpec((24, 24, 24), 1.0, 0.3))
    peaks, both, n = LocalMaxima(min_distance=0.5), PickableObject("both", 50.0), 0
    for index in range(14):
        patch = made(0, index)
        grid = Grid((24, 24, 24), 10.0)
        target = patch.target.numpy().max(axis=0, keepdims=True)
        found = [
            peaks(Heatmap("TS_0", values, at, ("both",)), [both], {"both": 0.6}).positions
            for values, at in ((patch.volume.numpy(), grid), (target, grid.downsample(stride)))
        ]
        inner = [p[((p > 40) & (p < 190)).all(axis=1)] for p in found]
        for position in inner[1]:
            distance = np.linalg.norm(found[0] - position, axis=1).min()
            assert distance < 1.5  # [Å]; overlapping blobs shift each other a little
            n += 1
    assert n > 5


def test_objects_without_labels_are_marked():
    partly = labelled(0, ["elsewhere"], known=("elsewhere",))
    made = sampler(volumes=[partly], objects=OBJECTS)
    assert made(0, 0).known.tolist() == [0, 0, 1]


def test_a_volume_without_picks_gives_patches():
    bare = LabelledVolume(np.ones(GRID.shape, np.float32), GRID, Picks.empty("TS_9"), {"common": None})
    patch = sampler(volumes=[bare])(0, 0)
    assert not patch.target.any() and patch.known.tolist() == [1, 0]


# -- losses --------------------------------------------------------------------------------------------------


def test_unlabelled_objects_have_no_gradient():
    logits = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    known = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    HeatmapWeightedMSE()(logits, torch.rand(2, 3, 4, 4, 4), known).backward()
    moved = logits.grad.abs().amax(dim=(2, 3, 4)) > 0
    assert moved.tolist() == [[True, False, True], [False, True, True]]
    logits.grad = None
    nothing = HeatmapWeightedMSE()(logits, torch.rand(2, 3, 4, 4, 4), torch.zeros(2, 3))
    nothing.backward()
    assert nothing.item() == 0 and not logits.grad.any()


def test_weighted_mse_by_hand():
    logits = torch.tensor([[0.5, 0.2], [1.0, 1.0]]).reshape(1, 2, 1, 1, 2)
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 1, 1, 2)
    first = (0.25 * 1.1 + 0.04 * 0.1) / 2
    loss = HeatmapWeightedMSE(floor=0.1)
    assert loss(logits, target, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(first)
    assert loss(logits, target, torch.ones(1, 2)).item() == pytest.approx((first + 0.1) / 2)
    assert loss(logits.bfloat16(), target, torch.ones(1, 2)).dtype == torch.float32
    assert loss.activate(torch.tensor([-0.5, 0.25, 1.5])).tolist() == [0, 0.25, 1.5]


# -- averages ------------------------------------------------------------------------------------------------


def test_a_running_average_forgets_its_start():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.BatchNorm3d(1))
    average = RunningAverage.of(network, decay=0.9)
    with torch.no_grad():
        network[0].weight.fill_(5.0)
        network[1].running_mean.fill_(2.0)
        network[1].num_batches_tracked.fill_(7)
    assert average.tensors["0.weight"].item() != 5.0  # a copy
    average.update(network)
    assert average.tensors["1.running_mean"].item() == pytest.approx(0.9 * 2)  # first decay is 1 / 10
    assert average.tensors["1.num_batches_tracked"].item() == 7
    for _ in range(200):
        average.update(network)
    assert average.tensors["0.weight"].item() == pytest.approx(5.0)
    with torch.no_grad():
        network[0].weight.fill_(6.0)
    average.update(network)
    assert average.tensors["0.weight"].item() == pytest.approx(5.1)  # now the decay asked for
    assert average.updates == 202


def test_leaving_the_batches_early_is_allowed():
    assert len(list(islice(batches(sampler(), 1, 0, 100, workers=1), 2))) == 2
