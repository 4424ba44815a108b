"""Losses: known answers, what their slopes pull at, objects that are not labelled, several outputs."""

import math

import pytest
import torch

from tomopick.core.errors import RecipeError
from tomopick.networks import BPDUNetSpec, ResidualUNetSpec
from tomopick.networks.losses import (
    DenseCrossEntropy,
    DiceCrossEntropy,
    FocalTversky,
    HeatmapWeightedMSE,
    ReweightedMSE,
    coarser,
    distribution,
    marginal,
)
from tomopick.training.loop import TrainSpec, TrainState
from tomopick.training.objectives import Mixture, SupervisedSpec
from tomopick.training.patches import Batch

ALL = [
    HeatmapWeightedMSE(),
    ReweightedMSE(),
    ReweightedMSE(alpha=10.0, sigmoid=True),
    DenseCrossEntropy(),
    DenseCrossEntropy(1.0, 1.0, "first", 0.01),
    DiceCrossEntropy(),
    FocalTversky(),
]


def channels(loss, n_objects):
    return n_objects + (1 if hasattr(loss, "background") else 0)


def case(loss, n_objects=2, batch=2, seed=0):
    """Logits, target and known, all objects labelled."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, channels(loss, n_objects), 4, 5, 6, generator=generator, requires_grad=True)
    # At most one object claims a voxel.
    which = torch.randint(0, 10 * n_objects, (batch, 1, 4, 5, 6), generator=generator)
    target = (which == torch.arange(n_objects)[:, None, None, None]).float() * 0.8
    return logits, target, torch.ones(batch, n_objects)


def perfect(loss, target):
    """Logits that say the target as clearly as they can."""
    if not hasattr(loss, "background"):
        linear = isinstance(loss, HeatmapWeightedMSE) or not getattr(loss, "sigmoid", True)
        return target.clone() if linear else torch.where(target > 0.5, 20.0, -20.0)
    return 20 * distribution(target, torch.ones(target.shape[:2]), loss.background)


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_a_heatmap_has_one_channel_an_object(loss):
    logits = case(loss, 3)[0].detach()
    for given in (logits, logits[0]):  # with the batch's axis and without
        found = loss.activate(given.to(torch.bfloat16))
        assert found.shape == (*given.shape[:-4], 3, 4, 5, 6) and found.dtype == torch.float32
        assert found.min() >= 0
    if hasattr(loss, "background"):
        rest = 1 - loss.activate(logits).sum(dim=1)
        nothing = logits.softmax(dim=1)[:, 0 if loss.background == "first" else -1]
        torch.testing.assert_close(rest, nothing)


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_the_truth_costs_least_and_descending_leads_to_it(loss):
    logits, target, known = case(loss)
    target = (target > 0).float()
    least = loss(perfect(loss, target), target, known)
    smoothed = getattr(loss, "label_smoothing", 0.0)
    assert least < (0.3 if smoothed else 1e-3) and least < 0.5 * loss(logits, target, known)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(logits, target, known)
        assert torch.isfinite(value)
        value.backward()
        optimizer.step()
    heat = loss.activate(logits)
    assert heat[target == 1].min() > 0.5 > heat[target == 0].max()


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_objects_that_are_not_labelled_say_nothing(loss):
    logits, target, known = case(loss)
    known[0, 1] = 0
    value = loss(logits, target, known)
    value.backward()
    other = target.clone()
    other[0, 1] = 1 - other[0, 1]
    torch.testing.assert_close(loss(logits, other, known), value)
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
    # Nothing at all is known: no loss, and no slope.
    nothing = loss(logits, target, torch.zeros_like(known))
    logits.grad = None
    nothing.backward()
    if hasattr(loss, "background"):
        # All that is left is one class, the sum of all, whose probability is 1 whatever the logits are.
        assert logits.grad.abs().max() < 1e-5
    else:
        assert nothing == 0 and not logits.grad.any()


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_an_unlabelled_object_where_it_may_be_costs_nothing(loss):
    """A network that sees an object which is not labelled in this volume is not punished for it."""
    target, known = torch.zeros(1, 2, 2, 2, 2), torch.tensor([[1.0, 0.0]])
    sees = torch.zeros(1, 2, 2, 2, 2)
    sees[0, 1] = 1.0
    quiet, loud = (loss(perfect(loss, t), target, known) for t in (target, sees))
    assert loud < quiet + 1e-4
    punished = loss(perfect(loss, sees), target, torch.ones(1, 2))
    assert punished > loud + 0.04


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_of_several_outputs_the_finest_counts(loss):
    logits, target, known = case(loss)
    coarse = torch.zeros(2, logits.shape[1], 2, 2, 3)
    torch.testing.assert_close(loss((coarse, logits), target, known), loss(logits, target, known))


@pytest.mark.parametrize("kind", [DenseCrossEntropy, DiceCrossEntropy])
def test_deep_supervision(kind):
    generator = torch.Generator().manual_seed(0)
    heads = tuple(torch.randn(2, 3, n, n, n, generator=generator) for n in (1, 2, 4, 8))
    target, known = torch.zeros(2, 2, 8, 8, 8), torch.ones(2, 2)
    target[0, 0, 3, 4, 5] = target[1, 1, 0, 7, 0] = 1
    single = [kind()(head, coarser(target, head.shape[2:]), known) for head in heads]
    found = kind(head_weights=(0.0, 0.0, 1.0, 3.0))(heads, target, known)
    torch.testing.assert_close(found, (single[2] + 3 * single[3]) / 4)
    # A network of fewer heads: the weights of the coarsest find none.
    fewer = kind(head_weights=(5.0, 5.0, 1.0, 3.0))(heads[2:], target, known)
    torch.testing.assert_close(fewer, (single[2] + 3 * single[3]) / 4)
    at_inference = kind(head_weights=(0.0, 0.0, 1.0, 3.0))(heads[3], target, known)
    torch.testing.assert_close(at_inference, single[3])


def test_a_coarser_target_keeps_every_particle():
    target = torch.zeros(1, 1, 8, 8, 8)
    target[0, 0, 5, 2, 7] = 1
    assert torch.nonzero(coarser(target, torch.Size((2, 2, 2)))[0, 0]).tolist() == [[1, 0, 1]]
    assert coarser(target, target.shape[2:]) is target


@pytest.mark.parametrize("background", ["first", "last"])
def test_shares_of_the_classes(background):
    target = torch.tensor([0.0, 0.3, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]).reshape(1, 2, 4, 1, 1)
    # Cells: (0, 0), (0.3, 0), (1, 0), (1, 1).
    found = distribution(target, torch.ones(1, 2), background).flatten(1)[0].reshape(3, 4)
    nothing, objects = (found[0], found[1:]) if background == "first" else (found[2], found[:2])
    torch.testing.assert_close(nothing, torch.tensor([1.0, 0.7, 0.0, 0.0]))
    torch.testing.assert_close(objects, torch.tensor([[0.0, 0.3, 1.0, 0.5], [0.0, 0.0, 0.0, 0.5]]))


@pytest.mark.parametrize("background", ["first", "last"])
def test_what_is_not_known_counts_as_background(background):
    logits = torch.tensor([1.0, 2.0, 3.0]).log().reshape(1, 3, 1, 1, 1)  # shares of 1/6, 2/6, 3/6
    known = torch.tensor([[1.0, 0.0]])
    found = marginal(logits, known, background).flatten()
    wanted = {"first": [4 / 6, 2 / 6, 1.0], "last": [1 / 6, 1.0, 5 / 6]}[background]
    torch.testing.assert_close(found.exp(), torch.tensor(wanted))


@pytest.mark.parametrize(
    "loss", [DenseCrossEntropy(), DenseCrossEntropy(background="first"), DiceCrossEntropy()], ids=str
)
def test_without_its_label_an_object_might_as_well_not_be_there(loss):
    logits, target, known = case(loss, 1)
    index = 2 if loss.background == "first" else 1  # where a second object's channel lies
    unseen = torch.full_like(logits[:, :1], -50.0)
    more = torch.cat([logits[:, :index], unseen, logits[:, index:]], dim=1)
    both, labelled = torch.cat([target, torch.zeros_like(target)], dim=1), torch.tensor([[1.0, 0.0]] * 2)
    torch.testing.assert_close(loss(more, both, labelled), loss(logits, target, known))


def test_weighted_squares_by_hand():
    prediction = torch.tensor([0.5, 0.5]).reshape(1, 1, 2, 1, 1)
    target = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1)
    one = torch.ones(1, 1)
    assert HeatmapWeightedMSE(0.1)(prediction, target, one) == pytest.approx((0.25 * 1.1 + 0.25 * 0.1) / 2)
    prediction = torch.tensor([0.5, 0.2, 0.4]).reshape(1, 1, 3, 1, 1)
    target = torch.tensor([1.0, 0.0, 0.5]).reshape(1, 1, 3, 1, 1)
    particles, background = (0.25 + 0.5 * 0.01) / 1.5, (0.04 + 0.5 * 0.01) / 1.5
    for alpha in (1.0, 10.0):
        found = ReweightedMSE(alpha)(prediction, target, one)
        assert found == pytest.approx(particles + alpha * background, rel=1e-5)
    hard = ReweightedMSE(10.0, hard=True)(prediction, target, one)
    assert hard == pytest.approx((0.25 + 0.01) / 2 + 10 * 0.04, rel=1e-5)
    logit = math.log(0.2 / 0.8)
    found = ReweightedMSE(1.0, sigmoid=True)(torch.full((1, 1, 1, 1, 1), logit), torch.zeros(1, 1, 1, 1, 1), one)
    assert found == pytest.approx(0.04, rel=1e-4)


def test_cross_entropy_by_hand():
    logits = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 2.0]]).log().T.reshape(1, 3, 2, 1, 1)
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 2, 1, 1)  # an object, and background
    known = torch.ones(1, 2)
    # Both cells give their class 2 of 4; the mean runs over both, the weights are not divided out.
    found = DenseCrossEntropy(256.0, 1.0, "last")(logits, target, known)
    assert found == pytest.approx((256 * math.log(2) + math.log(2)) / 2, rel=1e-5)
    smooth = DenseCrossEntropy(1.0, 1.0, "last", 0.3)(logits, target, known)
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2]).reshape(1, 2, 1, 1), label_smoothing=0.3)
    torch.testing.assert_close(smooth, wanted)
    moved = DenseCrossEntropy(1.0, 1.0, "first", 0.3)(logits.roll(1, dims=1), target, known)
    torch.testing.assert_close(moved, wanted)


def test_dice_by_hand():
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log().reshape(1, 2, 2, 1, 1)  # background 3/4 then 1/4
    target = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1, 1)
    # Each class: overlap 3/4, sizes 1 + 1; cross-entropy -ln(3/4) in both cells.
    found = DiceCrossEntropy(eps=0.0)(logits, target, torch.ones(1, 1))
    assert found == pytest.approx(1 - 2 * 0.75 / 2 - math.log(0.75), rel=1e-5)
    absent = DiceCrossEntropy(entropy=0.0)(torch.tensor([50.0, 0.0]).reshape(1, 2, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1),
                                           torch.ones(1, 1))  # fmt: skip
    assert absent == pytest.approx(0.0, abs=1e-6)


def test_tversky_by_hand():
    p = torch.tensor([0.8, 0.5, 0.0]).reshape(1, 1, 3, 1, 1).clamp(1e-9)
    target = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 1, 3, 1, 1)
    index = 0.8 / (0.8 + 0.3 * 0.5**2 + 0.7 * 0.2**2)
    found = FocalTversky()(p.logit(), target, torch.ones(1, 1))
    assert found == pytest.approx((1 - index) ** 1.33, rel=1e-4)
    # A missed particle costs more than one too many.
    missed, false = (torch.tensor(v).reshape(1, 1, 3, 1, 1).logit() for v in ([0.3, 0.1, 0.1], [0.9, 0.7, 0.1]))
    assert FocalTversky()(missed, target, torch.ones(1, 1)) > FocalTversky()(false, target, torch.ones(1, 1))


def batch_of(n=6):
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(n, 1, 4, 4, 4, generator=generator)
    target = torch.rand(n, 2, 4, 4, 4, generator=generator)
    known = torch.ones(n, 2)
    known[:3, 1] = 0
    return Batch(volume, target, known)


@pytest.mark.parametrize("per_patch", [False, True])
def test_mixed_patches(per_patch):
    batch = batch_of()
    mixture = Mixture.draw(SupervisedSpec(mixup=1.0, mixup_per_patch=per_patch), 6, step=4)
    mine, other = mixture(batch)
    assert len(set(mixture.share)) == (6 if per_patch else 1) and sorted(mixture.order) == list(range(6))
    for i, (j, share) in enumerate(zip(mixture.order, mixture.share.tolist())):
        torch.testing.assert_close(mine.volume[i], share * batch.volume[i] + (1 - share) * batch.volume[j])
        own, its = batch.target[i], batch.target[j]
        if per_patch:
            torch.testing.assert_close(mine.target[i], share * own + (1 - share) * its)
        else:
            assert torch.equal(mine.target[i], own) and torch.equal(other.target[i], its)
        # Where either patch might hold what nobody labelled, nothing is known.
        assert torch.equal(mine.known[i], batch.known[i] * batch.known[j])
    assert torch.equal(mine.volume, other.volume)


def test_mixtures_follow_from_the_step_alone():
    spec = SupervisedSpec(mixup=0.5, mixup_alpha=1.0)
    made = [Mixture.draw(spec, 4, step) for step in range(400)]
    again = [Mixture.draw(spec, 4, step) for step in range(400)]
    mixed = [m for m in made if m is not None]
    assert 160 < len(mixed) < 240
    shares = [m.share[0] for m in mixed]
    assert 0.4 < sum(shares) / len(shares) < 0.6 and min(shares) < 0.05 and max(shares) > 0.95
    assert [m and m.share[0] for m in made] == [m and m.share[0] for m in again]
    assert all(Mixture.draw(SupervisedSpec(), 4, step) is None for step in range(20))
    assert Mixture.draw(SupervisedSpec(mixup=1.0), 1, 0) is None


class Line(torch.nn.Module):
    """A network whose two outputs are the volume times a weight, after a dropout."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.weight, self.dropout = torch.nn.Parameter(torch.tensor(0.5)), torch.nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout((x * self.weight).expand(-1, 2, -1, -1, -1))


def state_of(network, step=0):
    state = TrainState.start(network, TrainSpec(), torch.device("cpu"))
    state.step = step
    return state


def test_the_loss_of_a_mixture():
    batch, loss, spec = batch_of(), HeatmapWeightedMSE(), SupervisedSpec(mixup=1.0)
    state, mixture = state_of(Line(), 7), Mixture.draw(spec, 6, 7)
    found = spec.build(loss).loss(state, batch)
    mine, other = mixture(batch)
    logits, share = state.network(mine.volume), float(mixture.share[0])
    wanted = share * loss(logits, mine.target, mine.known) + (1 - share) * loss(logits, other.target, other.known)
    torch.testing.assert_close(found, wanted)
    plain = SupervisedSpec().build(loss).loss(state, batch)
    torch.testing.assert_close(plain, loss(state.network(batch.volume), batch.target, batch.known))


@pytest.mark.parametrize("spec", [ResidualUNetSpec((4, 6), (2,)), BPDUNetSpec((2, 3, 4))], ids=str)
def test_a_patch_too_small_to_normalise(spec):
    edge = spec.multiple
    batch = Batch(torch.randn(1, 1, *[edge] * 3), torch.zeros(1, 2, *[edge] * 3), torch.ones(1, 2))
    state = state_of(spec.build(2).train())
    objective = SupervisedSpec().build(DiceCrossEntropy())
    with pytest.raises(RecipeError, match=rf"batches of 1 patch of {edge},{edge},{edge} leave a single value"):
        objective.loss(state, batch)
    larger = Batch(*(t.repeat(1, 1, 2, 2, 2) if t.ndim == 5 else t for t in batch))
    assert torch.isfinite(objective.loss(state, larger))


def test_what_else_goes_wrong_in_a_network_is_not_explained_away():
    class Broken(Line):
        def forward(self, x):
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        SupervisedSpec().build(HeatmapWeightedMSE()).loss(state_of(Broken()), batch_of())


def test_dropout_follows_from_the_step_and_disturbs_nothing_else():
    batch, objective = batch_of(), SupervisedSpec().build(HeatmapWeightedMSE())
    network = Line(dropout=0.5).train()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    found = [objective.loss(state_of(network, step), batch).item() for step in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    "made",
    [
        lambda: DenseCrossEntropy(background="middle"),
        lambda: DiceCrossEntropy(background=""),
        lambda: DenseCrossEntropy(label_smoothing=1.0),
        lambda: DenseCrossEntropy(head_weights=(1.0, 0.0)),
        lambda: DiceCrossEntropy(head_weights=(-1.0, 1.0)),
    ],
)
def test_impossible_losses(made):
    with pytest.raises(RecipeError, match=r"^loss\."):
        made()


@pytest.mark.parametrize(
    ("loss", "raised"),
    [
        # By how much the odds of a doubtful cell are raised, of k = 10 particles among N = 1000 cells.
        (ReweightedMSE(alpha=10.0, sigmoid=True), 990 / 10 / 10),
        (ReweightedMSE(alpha=1.0, sigmoid=True), 990 / 10),
        (HeatmapWeightedMSE(floor=0.1), 1.1 / 0.1),
        (DenseCrossEntropy(particle=64.0, nothing=1.0), 64.0),
    ],
    ids=str,
)
def test_what_is_doubtful_is_raised_by_as_much_as_background_counts_less(loss, raised):
    """Cells that look alike and are a particle in one of five, p = 0.2: the best answer has the odds p / (1 - p) times
    `raised` (docs/semisupervised.md)."""
    target = torch.zeros(1, 1, 10, 10, 10)
    doubtful = torch.zeros_like(target)
    doubtful.view(-1)[:50], target.view(-1)[:10] = 1, 1
    odds = 0.25 * raised
    height = torch.tensor(odds / (1 + odds))
    linear = isinstance(loss, HeatmapWeightedMSE)
    answer = (height if linear else torch.logit(height)).requires_grad_()
    nothing = torch.tensor(0.0 if linear else -30.0)
    logits = doubtful * answer + (1 - doubtful) * nothing
    if hasattr(loss, "background"):
        logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
    value = loss(logits, target, torch.ones(1, 1))
    (slope,) = torch.autograd.grad(value, answer)
    assert abs(slope.item()) < 1e-5 * value.item()
