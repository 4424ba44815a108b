"""Training patches: cut, turned and labelled from volumes in memory, a function of (seed, step, index) alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..core.errors import RecipeError
from ..core.types import Grid, PickableObject, Picks, Shape
from .augment import Augmentation, move_points, sample_patch
from .targets import Target

_COARSE = 4  # voxels between the places in a volume's specimen from which patches are drawn


@dataclass(frozen=True)
class LabelledVolume:
    """A normalised volume with its truth.

    Attributes:
        values: (z, y, x) normalised; float32, or a memory map (of halves too) where volumes exceed the memory.
        grid: where its voxels lie.
        picks: the truth.
        known: names of the objects that are labelled here; the loss ignores the others.
        void: (z, y, x) bool, where there is no specimen; None: nowhere.
    """

    values: np.ndarray
    grid: Grid
    picks: Picks
    known: frozenset[str]
    void: np.ndarray | None = None


class Batch(NamedTuple):
    """Patches for one step.

    Attributes:
        volume: (b, 1, z, y, x).
        target: (b, object, z/stride, y/stride, x/stride).
        known: (b, object), 1 where the object is labelled.
        pairs: (b, 2, z, y, x), unlabelled patches as they are and strongly augmented; (b, 0) where none are drawn.
    """

    volume: torch.Tensor
    target: torch.Tensor
    known: torch.Tensor
    pairs: torch.Tensor = torch.empty(0)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(t.to(device, non_blocking=True) for t in self))


class Sampler(Protocol):
    """Draws patches."""

    def __call__(self, step: int, index: int) -> Batch:
        """Patch `index` of step `step`, without the batch axis."""


@dataclass(frozen=True)
class PatchSpec:
    """What a training patch is.

    Attributes:
        shape: (z, y, x) [voxels].
        around_particles: share of patches that hold a particle; of an object drawn with equal chances, so that rare
            ones (in a volume, or among volumes) are seen as often as common ones. The others lie anywhere.
        jitter: how far from the patch's centre that particle may lie, as a fraction of half the patch.
    """

    shape: Shape = (64, 64, 64)
    around_particles: float = 0.75
    jitter: float = 0.7

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not 0 <= self.around_particles <= 1 or not 0 <= self.jitter <= 1:
            raise RecipeError(
                f"patch needs positive edges, and around_particles and jitter between 0 and 1, not {self}"
            )


@dataclass(frozen=True)
class PatchSampler:
    """Draws labelled patches.

    Attributes:
        volumes: in memory or mapped into it, shared by the workers.
        objects: in channel order.
        patch, target, augment: from the recipe.
        stride: of the network's output.
        seed: of all random numbers.
    """

    volumes: Sequence[LabelledVolume]
    objects: tuple[PickableObject, ...]
    patch: PatchSpec
    target: Target
    augment: Augmentation
    stride: int
    seed: int

    def __call__(self, step: int, index: int) -> Batch:
        """Patch `index` of step `step`, without the batch axis."""
        rng = np.random.default_rng((self.seed, step, index))
        shape = self.patch.shape
        volume, centre = self._place(rng)
        matrix = self.augment.matrix(rng)
        values = self.augment.colour(sample_patch(volume.values, centre, shape, matrix), rng)
        # In the patch's own frame: index i is centred at i voxels, and the target's grid follows from it.
        grid = Grid(shape, volume.grid.voxel_spacing)
        indices = move_points(volume.grid.indices(volume.picks.positions), centre, shape, matrix)
        picks = Picks(volume.picks.run, grid.positions(indices), volume.picks.names)
        target = self.target(picks, grid.downsample(self.stride), self.objects)
        known = np.array([o.name in volume.known for o in self.objects], dtype=np.float32)
        return Batch(torch.from_numpy(values)[None], torch.from_numpy(target.values), torch.from_numpy(known))

    @cached_property
    def _held(self) -> list[list[tuple[LabelledVolume, np.ndarray]]]:
        """Of each object that is anywhere: the volumes that have it, and the (n, 3) voxel indices of its particles."""
        found = []
        for obj in self.objects:
            own = [(v, v.grid.indices(v.picks.of(obj.name).positions)) for v in self.volumes]
            found.append([(volume, indices) for volume, indices in own if len(indices)])
        return [volumes for volumes in found if volumes]

    @cached_property
    def _specimens(self) -> list[np.ndarray | None]:
        """Of each volume: (n, 3) voxel indices all over its specimen; None where that is everywhere."""
        every = (slice(None, None, _COARSE),) * 3
        return [None if v.void is None else np.argwhere(~np.asarray(v.void[every])) * _COARSE for v in self.volumes]

    def _place(self, rng: np.random.Generator) -> tuple[LabelledVolume, np.ndarray]:
        """A volume, and the voxel index of the patch's centre in it."""
        around, chosen = rng.random() < self.patch.around_particles, rng.random(3)
        offset, anywhere = rng.uniform(-1, 1, 3), rng.random(3)
        shape = np.asarray(self.patch.shape)
        # First the object, then a volume that has it: else one that is rare among volumes would be seen rarely.
        if self._held and around:
            held = self._held[int(chosen[0] * len(self._held))]
            volume, indices = held[int(chosen[1] * len(held))]
            index = indices[int(chosen[2] * len(indices))]
            start = index - (shape - 1) / 2 + offset * self.patch.jitter * shape / 2
        else:
            number = int(chosen[1] * len(self.volumes))
            volume, specimen = self.volumes[number], self._specimens[number]
            if specimen is None or not len(specimen):
                start = anywhere * (np.asarray(volume.grid.shape) - shape)
            else:  # what holds no specimen is not shown as background: the middle lies in it
                middle = specimen[int(anywhere[0] * len(specimen))] + np.floor(anywhere[::-1] * _COARSE)
                start = middle - (shape - 1) / 2
        # Inside the volume where it is large enough, centred on it where it is not.
        room = np.asarray(volume.grid.shape) - shape
        start = np.where(room > 0, np.clip(np.rint(start), 0, np.maximum(room, 0)), room // 2)
        return volume, start + (shape - 1) / 2


class _StepDataset(Dataset[Batch]):
    """Maps batch numbers to batches, so that a loader's workers may make them in any order."""

    def __init__(self, sampler: Sampler, batch_size: int, first: int, stop: int):
        self.sampler, self.batch_size, self.first, self.stop = sampler, batch_size, first, stop

    def __len__(self) -> int:
        return self.stop - self.first

    def __getitem__(self, i: int) -> Batch:
        patches = [self.sampler(self.first + i, index) for index in range(self.batch_size)]
        return Batch(*(torch.stack(tensors) for tensors in zip(*patches)))


def _deaf(_worker: int) -> None:
    """Ctrl-C goes to the workers too; whether to stop is the main process's decision, after the step it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(sampler: Sampler, batch_size: int, first: int, stop: int, workers: int = 0) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`, in order; what they hold does not depend on `workers`."""
    dataset = _StepDataset(sampler, batch_size, first, stop)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_deaf,
    )
    yield from loader
