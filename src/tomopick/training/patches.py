"""Training patches: cut, turned and labelled from volumes in memory, a function of (seed, step, index) alone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..core.errors import RecipeError
from ..core.types import Grid, PickableObject, Picks, Shape, holds
from .augment import Augmentation, Drawn, move_points, sample_patch
from .targets import BallTarget, Target

NEGATIVE = 5.0  # what a cell counts within a radius of a place that is known to be none
BATCHES_AHEAD = 4  # batches that each process makes before they are asked for
_COARSE = 4  # voxels between the places in a volume's specimen from which patches are drawn


@dataclass(frozen=True)
class LabelledVolume:
    """A normalised volume with its truth.

    Attributes:
        values: (z, y, x) normalised; float32, or a memory map (of halves too) where volumes exceed the memory.
        grid: where its voxels lie.
        picks: the truth.
        known: by object that is labelled here, (z, y, x) bool where that is; None: everywhere. The loss ignores the
            rest.
        void: (z, y, x) bool, where there is no specimen; None: nowhere.
        negatives: places that somebody looked at and where the named object is not; None: nobody did.
    """

    values: np.ndarray
    grid: Grid
    picks: Picks
    known: Mapping[str, np.ndarray | None]
    void: np.ndarray | None = None
    negatives: Picks | None = None

    @property
    def partial(self) -> bool:
        """Whether what is known is not the same all over it."""
        return self.negatives is not None or any(mask is not None for mask in self.known.values())

    def labelled_at(self, picks: Picks) -> np.ndarray:
        """(n,) bool: whether each pick's object is labelled where it lies, in the specimen."""
        found = holds(self.grid, self.void, picks.positions) & np.isin(picks.names, list(self.known))
        for name, mask in self.known.items():
            if mask is not None:
                found &= (picks.names != name) | holds(self.grid, ~mask, picks.positions)
        return found


class Batch(NamedTuple):
    """Patches for one step.

    Attributes:
        volume: (b, 1, z, y, x).
        target: (b, object, z/stride, y/stride, x/stride).
        known: (b, object), 1 where the object is labelled; where volumes are labelled in parts
            (b, object, z/stride, y/stride, x/stride), and `NEGATIVE` around places that somebody said are none.
        pairs: (b, 2, z, y, x), unlabelled patches as they are and strongly augmented; (b, 0) where none are drawn.
    """

    volume: torch.Tensor
    target: torch.Tensor
    known: torch.Tensor
    pairs: torch.Tensor = torch.empty(0)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(t.to(device, non_blocking=True) for t in self))


class DrawnPatch(NamedTuple):
    """What was drawn at random for a patch.

    Attributes:
        volume: number of the volume that it shows.
        centre: (3,) voxel index there that its centre shows.
        matrix: (3, 3) offsets in the patch -> offsets in the volume.
        changes: of its grey values, one for each step of the augmentation.
        particles: (n, 5) that its target shows, see `Target.particles`.
        known: as in a `Batch`, of the one patch.
    """

    volume: int
    centre: np.ndarray
    matrix: np.ndarray
    changes: tuple[Drawn | None, ...]
    particles: np.ndarray
    known: np.ndarray


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
        around_negatives: share of patches that hold a place that is known to be none, where there are such places.
    """

    shape: Shape = (64, 64, 64)
    around_particles: float = 0.75
    jitter: float = 0.7
    around_negatives: float = 0.15

    def __post_init__(self) -> None:
        shares = self.around_particles, self.jitter, self.around_negatives
        if min(self.shape) < 1 or not all(0 <= share <= 1 for share in shares):
            raise RecipeError(
                "patch needs positive edges, and around_particles, jitter and around_negatives between 0 and 1, "
                f"not {self}"
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
        number, centre, matrix = self._view(rng)
        volume = self.volumes[number]
        values = self.augment.colour(sample_patch(volume.values, centre, self.patch.shape, matrix), rng)
        picks, grid = self._truth(volume, centre, matrix)
        target = self.target(picks, grid, self.objects)
        known = torch.from_numpy(self._known(volume, grid, centre, matrix))
        return Batch(torch.from_numpy(values)[None], torch.from_numpy(target.values), known)

    def drawn(self, step: int, index: int) -> DrawnPatch:
        """What the call draws for the same patch, before anything is made of it."""
        rng = np.random.default_rng((self.seed, step, index))
        number, centre, matrix = self._view(rng)
        volume = self.volumes[number]
        changes = tuple(change.draw(self.patch.shape, rng) for change in self.augment.intensity)
        picks, grid = self._truth(volume, centre, matrix)
        particles = self.target.particles(picks, grid, self.objects)
        known = self._known(volume, grid, centre, matrix)
        return DrawnPatch(number, centre, matrix, changes, particles, known)

    def _view(self, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
        """The number of a volume, the voxel index of the patch's centre in it, and how the patch lies there."""
        volume, centre = self._place(rng)
        return self._numbers[id(volume)], centre, self.augment.matrix(rng)

    def _truth(self, volume: LabelledVolume, centre: np.ndarray, matrix: np.ndarray) -> tuple[Picks, Grid]:
        """The picks of a volume in the patch's own frame, and the target's grid there."""
        shape = self.patch.shape
        # Index i is centred at i voxels, and the target's grid follows from it.
        grid = Grid(shape, volume.grid.voxel_spacing)
        indices = move_points(volume.grid.indices(volume.picks.positions), centre, shape, matrix)
        picks = Picks(volume.picks.run, grid.positions(indices), volume.picks.names)
        return picks, grid.downsample(self.stride)

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(volume): number for number, volume in enumerate(self.volumes)}

    @cached_property
    def _partial(self) -> bool:
        return any(v.partial for v in self.volumes)

    def _known(self, volume: LabelledVolume, cells: Grid, centre: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """(object,) or, where any volume is labelled in parts, (object, z, y, x) on the patch's `cells`."""
        whole = np.array([o.name in volume.known for o in self.objects], dtype=np.float32)
        if not self._partial:
            return whole
        known = np.empty((len(self.objects), *cells.shape), dtype=np.float32)
        known[:] = whole[:, None, None, None]
        seen: dict[int, np.ndarray] = {}
        for channel, o in enumerate(self.objects):
            mask = volume.known.get(o.name)
            if mask is not None:
                if id(mask) not in seen:  # objects share masks
                    seen[id(mask)] = self._cells_within(mask, centre, matrix)
                known[channel] = seen[id(mask)]
        if volume.negatives is not None:
            indices = move_points(volume.grid.indices(volume.negatives.positions), centre, self.patch.shape, matrix)
            places = Picks("", indices * volume.grid.voxel_spacing, volume.negatives.names)
            around = BallTarget(radius_factor=1.0)(places, cells, self.objects)
            known[around.values > 0] = NEGATIVE
        return known

    def _cells_within(self, mask: np.ndarray, centre: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """(z, y, x) 1 where all that a cell covers lies in the mask of a volume."""
        inside = sample_patch(mask, centre, self.patch.shape, matrix) > 0.5
        z, y, x = (n // self.stride for n in self.patch.shape)
        blocks = inside.reshape(z, self.stride, y, self.stride, x, self.stride)
        return np.asarray(blocks.all(axis=(1, 3, 5)), dtype=np.float32)

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
        places = [_worth_seeing(v) for v in self.volumes]
        return [None if there is None else np.argwhere(there) * _COARSE for there in places]

    @cached_property
    def _hard(self) -> list[tuple[LabelledVolume, np.ndarray]]:
        """Volumes with places that are known to be none, and (n, 3) voxel indices of these."""
        names = [o.name for o in self.objects]
        found = [(v, v.negatives.among(names)) for v in self.volumes if v.negatives is not None]
        return [(v, v.grid.indices(places.positions)) for v, places in found if len(places)]

    def _place(self, rng: np.random.Generator) -> tuple[LabelledVolume, np.ndarray]:
        """A volume, and the voxel index of the patch's centre in it."""
        around, chosen = rng.random() < self.patch.around_particles, rng.random(3)
        offset, anywhere = rng.uniform(-1, 1, 3), rng.random(3)
        shape = np.asarray(self.patch.shape)
        hard = bool(self._hard) and rng.random() < self.patch.around_negatives
        # First the object, then a volume that has it: else one that is rare among volumes would be seen rarely.
        if hard or (self._held and around):
            held = self._hard if hard else self._held[int(chosen[0] * len(self._held))]
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


def _worth_seeing(volume: LabelledVolume) -> np.ndarray | None:
    """(z, y, x) bool on every `_COARSE`th voxel, where something is known of the specimen; None: everywhere."""
    every = (slice(None, None, _COARSE),) * 3
    masks = list(volume.known.values())
    regions = [mask[every] for mask in masks if mask is not None]
    within = np.asarray(np.any(regions, axis=0)) if masks and len(regions) == len(masks) else None
    if volume.void is None:
        return within
    specimen: np.ndarray = ~np.asarray(volume.void[every])
    return specimen if within is None else specimen & within


class _StepDataset(Dataset[Any]):
    """Maps batch numbers to batches, so that a loader's workers may make them in any order."""

    def __init__(self, make: Callable[[int], Any], first: int, stop: int):
        self.make, self.first, self.stop = make, first, stop

    def __len__(self) -> int:
        return self.stop - self.first

    def __getitem__(self, i: int) -> Any:
        return self.make(self.first + i)


def _deaf(_worker: int) -> None:
    """Ctrl-C goes to the workers too; whether to stop is the main process's decision, after the step it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(sampler: Sampler, size: int | range, first: int, stop: int, workers: int = 0) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`, in order; what they hold does not depend on `workers`.

    Args:
        sampler: draws the patches.
        size: how many there are in each, or the numbers of those that are a rank's share.
        first, stop: steps.
        workers: processes that make them.
    """
    yield from loaded(partial(_batch, sampler, numbers_of(size)), first, stop, workers)


def numbers_of(size: int | range) -> range:
    """The numbers of a batch's patches, of which there may only be a share."""
    return range(size) if isinstance(size, int) else size


def _batch(sampler: Sampler, numbers: range, step: int) -> Batch:
    patches = [sampler(step, index) for index in numbers]
    return Batch(*(torch.stack(tensors) for tensors in zip(*patches)))


def loaded(make: Callable[[int], Any], first: int, stop: int, workers: int) -> Iterator[Any]:
    """What `make` gives for the steps `first` to `stop`, in order, made by so many processes ahead of time."""
    loader = DataLoader(
        _StepDataset(make, first, stop),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_deaf,
    )
    yield from loader
