"""Patches made on a device, on the CPU as one: to rounding those of the host."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from small import BALL, RING, recipe, tomogram
from tomopick import Grid, recipes
from tomopick.core.types import Picks
from tomopick.training.augment import Augmentation, Blur, DrawnBatch, DropBlock, Flip, Noise, Rot90, Rotate, ScaleShift
from tomopick.training.layers import Particles
from tomopick.training.mean_teacher import MeanTeacherSpec
from tomopick.training.patches import LabelledVolume, PatchSampler, PatchSpec, batches
from tomopick.training.targets import BallTarget, FixedGaussianTarget, GaussianTarget, VoxelTarget
from tomopick.training.tensor_patches import batches_on, made_on

CPU = torch.device("cpu")
OBJECTS = (BALL, RING)
TARGETS = [
    GaussianTarget(), GaussianTarget(0.02), FixedGaussianTarget(25.0), BallTarget(), BallTarget(0.05),
    BallTarget(0.9, exclusive=True), VoxelTarget(),
]  # fmt: skip


def volumes(dtype=np.float32):
    """Two volumes of unlike shapes, in one of which an object is not labelled, and one smaller than a patch."""
    made = []
    for seed, (shape, known) in enumerate([((40, 64, 56), {"ball", "ring"}), ((20, 70, 48), {"ball"})]):
        t, picks = tomogram(str(seed), seed, shape, 10, OBJECTS)
        made.append(LabelledVolume(t.values.astype(dtype), t.grid, picks, dict.fromkeys(known)))
    return made


def test_parts_that_are_labelled_are_those_of_the_host():
    first, second = volumes()
    mask = np.zeros(first.values.shape, dtype=bool)
    mask[:, 10:50, 5:40] = True
    made = replace(sampler(), volumes=[replace(first, known={"ball": mask, "ring": None}), second])
    for one, other in zip(batches(made, 4, 0, 3), made_on(CPU, made, 4, 0, 3)):
        assert one.known.dim() == 5
        assert_alike(other, one)


def sampler(shape=(24, 32, 32), target=None, augment=None, stride=2, **more) -> PatchSampler:
    augment = augment or Augmentation(intensity=(ScaleShift(p=0.5), Blur(p=0.5), Noise(p=0.5), DropBlock(p=0.5)))
    return PatchSampler(volumes(**more), OBJECTS, PatchSpec(shape), target or GaussianTarget(), augment, stride, 7)


def assert_alike(one, other, atol=2e-4):
    for name, a, b in zip(one._fields, one, other):
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=atol, err_msg=name)


@pytest.mark.parametrize("shape", [(24, 32, 32), (48, 16, 31), (16, 15, 16)])
@pytest.mark.parametrize("spatial", [(), (Flip(), Rot90(1.0)), (Flip(), Rot90(), Rotate(p=1.0))], ids=len)
def test_patches_are_cut_as_on_the_host(shape, spatial):
    # Edges that differ let a quarter turn meet the volume between its voxels.
    made = sampler(shape, augment=Augmentation(spatial, ()), stride=1)
    for one, other in zip(batches(made, 3, 5, 9), made_on(CPU, made, 3, 5, 9)):
        assert_alike(other, one)
        if Rotate(p=1.0) not in spatial and shape[1] == shape[2]:  # then nothing is interpolated
            np.testing.assert_array_equal(other.volume.numpy(), one.volume.numpy())


@pytest.mark.parametrize("workers", [0, 2])
def test_patches_are_coloured_as_on_the_host(workers):
    made = sampler()
    pairs = list(zip(batches(made, 4, 0, 4), made_on(CPU, made, 4, 0, 4, workers), strict=True))
    assert len(pairs) == 4
    for one, other in pairs:
        assert_alike(other, one)
    assert {tuple(row) for one, _ in pairs for row in one.known.tolist()} == {(1.0, 1.0), (1.0, 0.0)}


def test_volumes_of_halves():
    made = sampler(dtype=np.float16)
    assert_alike(next(made_on(CPU, made, 2, 0, 1)), next(batches(made, 2, 0, 1)))


@pytest.mark.parametrize("target", TARGETS, ids=repr)
@pytest.mark.parametrize("stride", [1, 2])
def test_targets_are_drawn_as_on_the_host(target, stride):
    made = sampler(target=target, augment=Augmentation((Flip(), Rot90(), Rotate(p=1.0)), ()), stride=stride)
    for one, other in zip(batches(made, 4, 0, 3), made_on(CPU, made, 4, 0, 3)):
        np.testing.assert_allclose(other.target.numpy(), one.target.numpy(), atol=1e-6)
        assert one.target.max() > 0


@given(st.lists(st.tuples(*[st.floats(-6, 16)] * 3), max_size=8), st.sampled_from(TARGETS))
@settings(max_examples=60)
def test_particles_anywhere_are_drawn_as_on_the_host(centres, target):
    grid = Grid((10, 11, 12), 20.0)
    picks = Picks("A", grid.positions(np.array(centres).reshape(-1, 3)), np.array(["ball", "ring"] * 4)[: len(centres)])
    wanted = target(picks, grid, OBJECTS).values
    found = target.particles(picks, grid, OBJECTS)
    table = np.column_stack([np.zeros(len(found)), found])
    drawn = target.drawn(Particles.on(CPU, torch.from_numpy(table)), (1, 2, *grid.shape))
    np.testing.assert_allclose(drawn[0].numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("step", [Noise(p=1.0), ScaleShift(p=1.0), Blur(1.5, p=1.0), DropBlock(), DropBlock(0.01, 5)])
def test_changes_of_a_batch_are_those_of_its_patches(step):
    values = np.random.default_rng(0).standard_normal((4, 9, 10, 11), dtype=np.float32)
    drawn = [step.draw(values.shape[1:], np.random.default_rng(seed)) for seed in range(2)]
    fields = [d.field for d in drawn if d.field is not None]
    stacked = DrawnBatch(
        torch.tensor([3, 1]),
        torch.tensor([d.numbers for d in drawn], dtype=torch.float64),
        torch.from_numpy(np.stack(fields)) if fields else torch.zeros(0),
    )
    found = step.change_batch(torch.from_numpy(values), stacked).numpy()
    for i, d in zip((3, 1), drawn):
        np.testing.assert_allclose(found[i], step.change(values[i], d), atol=1e-5)
    np.testing.assert_array_equal(found[[0, 2]], values[[0, 2]])


def test_pairs_are_made_as_on_the_host():
    spec = MeanTeacherSpec(burn_in=0.5)
    made = spec.sampler(sampler(), volumes(), 4)
    for one, other in zip(batches(made, 3, 0, 4), made_on(CPU, made, 3, 0, 4), strict=True):
        assert_alike(other, one)
    assert other.pairs.shape == (3, 2, 24, 32, 32)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_taught_on_a_device(name):
    method = recipes.get(name).override(["patch.shape=32,32,32"])
    made = PatchSampler(
        volumes(), OBJECTS, method.patch, method.target, method.augment, method.network.stride, 3
    )  # fmt: skip
    assert_alike(next(made_on(CPU, made, 2, 0, 1)), next(batches(made, 2, 0, 1)))


def test_the_cpu_and_what_does_not_fit_keep_to_the_host(monkeypatch, told):
    made = sampler()
    assert_alike(next(batches_on(CPU, made, 2, 0, 1)), next(batches(made, 2, 0, 1)), 0)
    monkeypatch.setattr("tomopick.training.tensor_patches.free_memory", lambda device: 1000)
    assert_alike(next(batches_on(torch.device("cuda"), made, 2, 0, 1)), next(batches(made, 2, 0, 1)), 0)
    assert any("patches are made on the host" in line for line in told)


def test_what_is_drawn_is_what_the_host_draws():
    made = replace(sampler(), seed=11)
    patch = made.drawn(3, 1)
    assert patch.known.tolist() in ([1.0, 1.0], [1.0, 0.0])
    assert patch.matrix.shape == (3, 3) and len(patch.changes) == 4
    assert recipe().augment.intensity  # the shared small recipe colours too
