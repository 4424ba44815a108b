"""Patches that are cut, turned, coloured and labelled on a device; only what was drawn at random comes from the host.

A patch is to rounding what its sampler makes on the host: the same function of seed, step and index.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..core.types import Shape
from ..picking.memory import free_memory
from .augment import Drawn, DrawnBatch, IntensityStep
from .boxes import Particles
from .mean_teacher import PairSampler
from .patches import Batch, DrawnPatch, PatchSampler, Sampler, batches, loaded

log = logging.getLogger("tomopick")

_SHARE = 0.4  # of a device's free memory that volumes may take; the rest is the network's


class Drawing(NamedTuple):
    """What was drawn for the patches of a batch, as tensors that travel together.

    Attributes:
        places: (b, 13) number of the volume, where the patch's first voxel lies in it, and the matrix; they stay on the
            host, which says what is launched.
        known: (b, object).
        particles: (n, 6), see `boxes.Particles`.
        changes: of each intensity step.
    """

    places: torch.Tensor
    known: torch.Tensor
    particles: torch.Tensor
    changes: tuple[DrawnBatch, ...]

    @classmethod
    def of(cls, patches: Sequence[DrawnPatch], shape: Shape) -> Drawing:
        """From its patches, of so many voxels."""
        middle = (np.asarray(shape) - 1) / 2
        places = [[p.volume, *(p.centre - p.matrix @ middle), *p.matrix.ravel()] for p in patches]
        particles = [np.column_stack([np.full(len(p.particles), i), p.particles]) for i, p in enumerate(patches)]
        table = np.concatenate(particles)
        changes = [_stacked(step) for step in zip(*(p.changes for p in patches))]
        return cls(
            torch.tensor(np.array(places, dtype=np.float64)),
            torch.from_numpy(np.stack([p.known for p in patches])),
            torch.from_numpy(table[np.argsort(table[:, 5], kind="stable")]),
            tuple(changes),
        )


def _stacked(drawn: Sequence[Drawn | None]) -> DrawnBatch:
    """What one step drew for each patch of a batch, None where nothing."""
    changed = [(i, d) for i, d in enumerate(drawn) if d is not None]
    fields = [d.field for _, d in changed if d.field is not None]
    return DrawnBatch(
        torch.tensor([i for i, _ in changed], dtype=torch.int64),
        torch.tensor([d.numbers for _, d in changed], dtype=torch.float64),
        torch.from_numpy(np.stack(fields)) if fields else torch.zeros(0),
    )


class DrawnPairs(NamedTuple):
    """What was drawn for labelled patches and, where there are some, for the unlabelled ones beside them.

    Attributes:
        labelled: patches.
        unlabelled: patches; None where none are drawn yet.
        strong: what the student sees changed of the unlabelled ones.
    """

    labelled: Drawing
    unlabelled: Drawing | None = None
    strong: tuple[DrawnBatch, ...] = ()


def cut_patch(values: torch.Tensor, place: np.ndarray, shape: Shape) -> torch.Tensor:
    """A patch of a (z, y, x) volume, on its device; as `augment.sample_patch`, to rounding.

    Args:
        values: the volume.
        place: (12,) where the patch's first voxel lies in it, and the matrix of the patch's axes there.
        shape: of the patch.
    """
    first, matrix = place[:3], place[3:].reshape(3, 3)
    last = first + matrix @ (np.asarray(shape) - 1)
    # The box that it shows, with a voxel to spare for interpolation, as far as there is a volume.
    corners = first + np.array(list(product(*((0, n - 1) for n in shape)))) @ matrix.T
    low = np.maximum(np.ceil(corners.min(axis=0) - 1e-6).astype(int) - 1, 0)
    high = np.minimum(np.floor(corners.max(axis=0) + 1e-6).astype(int) + 2, values.shape)
    if (low >= high).any():
        return torch.zeros(shape, device=values.device)
    permuted = np.abs(matrix).max() == 1 and np.count_nonzero(matrix) == 3
    if permuted and (np.abs(first - np.rint(first)) < 1e-6).all():
        return _turned(values, np.rint(np.stack([first, last])).astype(int), matrix, shape)
    box = values[tuple(slice(a, b) for a, b in zip(low, high))].float()
    axes = [torch.arange(n, device=values.device, dtype=torch.float64) for n in shape]
    z, y, x = axes[0][:, None, None], axes[1][:, None], axes[2]
    grid = []
    for start, row, n in zip(first - low, matrix, box.shape):
        at = float(start) + float(row[0]) * z + float(row[1]) * y + float(row[2]) * x  # voxel of the box
        grid.append(((2 * at + 1) / n - 1).float())  # -1 and 1 are its faces
    found = functional.grid_sample(box[None, None], torch.stack(grid[::-1], dim=-1)[None], align_corners=False)
    return found[0, 0]


def _turned(values: torch.Tensor, ends: np.ndarray, matrix: np.ndarray, shape: Shape) -> torch.Tensor:
    """A patch whose voxels are the volume's, from the (2, 3) voxels that its first and last are."""
    axes = np.abs(matrix).argmax(axis=0)  # patch axis j runs along volume axis axes[j]
    low, high = ends.min(axis=0), ends.max(axis=0) + 1
    inner = [(max(a, 0), min(b, n)) for a, b, n in zip(low, high, values.shape)]
    box = values[tuple(slice(a, b) for a, b in inner)].permute(*axes.tolist())
    flips = [j for j, axis in enumerate(axes) if matrix[axis, j] < 0]
    target = []
    for j, axis in enumerate(axes):
        (a, b), start, stop = inner[axis], low[axis], high[axis]
        target.append(slice(stop - b, stop - a) if j in flips else slice(a - start, b - start))
    patch = torch.zeros(shape, device=values.device)
    patch[tuple(target)] = box.flip(flips).float()
    return patch


@dataclass(frozen=True)
class PatchMaker:
    """Makes the batches of a sampler on a device.

    Attributes:
        sampler: whose they are.
        volumes: its volumes there.
        device: where.
    """

    sampler: PatchSampler
    volumes: Sequence[torch.Tensor]
    device: torch.device

    @classmethod
    def on(cls, device: torch.device, sampler: PatchSampler) -> PatchMaker:
        """With the volumes sent there."""
        return cls(sampler, [torch.from_numpy(np.array(v.values)).to(device) for v in sampler.volumes], device)

    @torch.no_grad()
    def __call__(self, drawing: Drawing) -> Batch:
        """The batch of what was drawn."""
        shape, stride = self.sampler.patch.shape, self.sampler.stride
        places = drawing.places.numpy()
        patches = [cut_patch(self.volumes[int(place[0])], place[1:], shape) for place in places]
        values = changed(torch.stack(patches), self.sampler.augment.intensity, drawing.changes)
        cells = [max(1, n // stride) for n in shape]
        particles = Particles.on(self.device, drawing.particles)
        target = self.sampler.target.drawn(particles, (len(places), len(self.sampler.objects), *cells))
        known = drawing.known.to(self.device, non_blocking=True)
        return Batch(values[:, None], target, known, values.new_zeros((len(places), 0)))


def changed(values: torch.Tensor, steps: Sequence[IntensityStep], drawn: Sequence[DrawnBatch]) -> torch.Tensor:
    """(b, z, y, x) values through intensity steps, as they were drawn."""
    for step, own in zip(steps, drawn):
        if len(own.which):
            there = DrawnBatch(*(tensor.to(values.device, non_blocking=True) for tensor in own))
            values = step.change_batch(values, there)
    return values


def batches_on(
    device: torch.device, sampler: Sampler, batch_size: int, first: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`, made on a GPU where there is one and its memory holds the volumes."""
    if device.type != "cuda" or not isinstance(sampler, PatchSampler | PairSampler):
        return batches(sampler, batch_size, first, stop, workers)
    parts = (sampler.labelled, sampler.unlabelled) if isinstance(sampler, PairSampler) else (sampler,)
    voxels = sum(int(np.prod(v.values.shape)) for part in parts for v in part.volumes)
    if 4 * voxels > _SHARE * free_memory(device):
        log.info(f"the training volumes do not fit into the memory of {device}: patches are made on the host")
        return batches(sampler, batch_size, first, stop, workers)
    return made_on(device, sampler, batch_size, first, stop, workers)


def made_on(
    device: torch.device, sampler: PatchSampler | PairSampler, batch_size: int, first: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`, in order; `workers` processes draw what is random in them."""
    if isinstance(sampler, PatchSampler):
        make = PatchMaker.on(device, sampler)
        for drawing in loaded(partial(_drawing, sampler, batch_size), first, stop, workers):
            yield make(drawing)
        return
    labelled, unlabelled = PatchMaker.on(device, sampler.labelled), PatchMaker.on(device, sampler.unlabelled)
    for pairs in loaded(partial(_drawn_pairs, sampler, batch_size), first, stop, workers):
        batch = labelled(pairs.labelled)
        if pairs.unlabelled is not None:
            weak = unlabelled(pairs.unlabelled).volume[:, 0]
            strong = changed(weak, sampler.strong.intensity, pairs.strong)
            batch = batch._replace(pairs=torch.stack([weak, strong], dim=1))
        yield batch


def _drawing(sampler: PatchSampler, batch_size: int, step: int) -> Drawing:
    return Drawing.of([sampler.drawn(step, index) for index in range(batch_size)], sampler.patch.shape)


def _drawn_pairs(sampler: PairSampler, batch_size: int, step: int) -> DrawnPairs:
    labelled = _drawing(sampler.labelled, batch_size, step)
    if step < sampler.first:
        return DrawnPairs(labelled)
    strong = [sampler.drawn_strong(step, index) for index in range(batch_size)]
    return DrawnPairs(
        labelled, _drawing(sampler.unlabelled, batch_size, step), tuple(_stacked(change) for change in zip(*strong))
    )
