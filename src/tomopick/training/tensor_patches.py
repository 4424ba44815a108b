"""Patches that are cut, turned, coloured and labelled on a device; only what was drawn at random comes from the host.

A patch is to rounding what its sampler makes on the host: the same function of seed, step and index.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from ..core.types import Shape
from ..picking.memory import free_memory
from .augment import Drawn, DrawnBatch, IntensityStep
from .layers import Particles
from .mean_teacher import PairSampler
from .patches import Batch, DrawnPatch, LabelledVolume, PatchSampler, Sampler, batches, loaded, numbers_of

log = logging.getLogger("tomopick")

_SHARE = 0.4  # of a device's free memory that volumes may take; the rest is the network's
_AT_ONCE = 2**22  # voxels of patches that are cut together


class Drawing(NamedTuple):
    """What was drawn for the patches of a batch, as tensors that travel together.

    Attributes:
        places: (b, 13) number of the volume, where the patch's first voxel lies in it, and the matrix.
        known: (b, object).
        particles: (n, 6), see `layers.Particles`.
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
        changes = [_stacked(step) for step in zip(*(p.changes for p in patches))]
        return cls(
            torch.tensor(np.array(places, dtype=np.float64)),
            torch.from_numpy(np.stack([p.known for p in patches])),
            torch.from_numpy(np.concatenate(particles)),
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


@dataclass(frozen=True)
class Volumes:
    """Volumes on a device, one behind the other.

    Attributes:
        values: (voxels,) of all.
        first: (volume,) where each begins.
        shapes: (volume, 3).
    """

    values: torch.Tensor
    first: torch.Tensor
    shapes: torch.Tensor

    @classmethod
    def on(cls, device: torch.device, volumes: Sequence[LabelledVolume]) -> Volumes:
        """Copies volumes to a device, one after the other."""
        sizes = [int(np.prod(v.values.shape)) for v in volumes]
        kinds = {v.values.dtype for v in volumes}
        dtype = torch.float16 if kinds == {np.dtype(np.float16)} else torch.float32
        values = torch.empty(sum(sizes), dtype=dtype, device=device)
        first = np.concatenate([[0], np.cumsum(sizes)])
        for volume, start, n in zip(volumes, first, sizes):
            values[start : start + n] = torch.from_numpy(np.array(volume.values).reshape(-1)).to(device)
        shapes = torch.tensor([v.values.shape for v in volumes], dtype=torch.int64, device=device)
        return cls(values, torch.from_numpy(first[:-1]).to(device), shapes)

    def sampled(self, places: torch.Tensor, shape: Shape) -> torch.Tensor:
        """(b, z, y, x) patches, linear between voxels; outside of the volume 0.

        Args:
            places: (b, 13) as in `Drawing`, on the device.
            shape: of a patch.
        """
        number = places[:, 0].long()
        first, edges = self.first[number, None], self.shapes[number, :, None]  # (b, 1), (b, 3, 1)
        axes = [torch.arange(n, device=places.device, dtype=torch.float64) for n in shape]
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij")).view(3, -1)
        at = torch.baddbmm(places[:, 1:4, None], places[:, 4:].view(-1, 3, 3), cells.expand(len(places), -1, -1))
        below = at.floor()  # (b, 3, voxel) voxel index of the volume
        share = (at - below).float()
        sides = torch.stack([below, below + 1]).long()  # (2, b, 3, voxel)
        inside = (sides >= 0) & (sides < edges)
        weights = torch.stack([1 - share, share]) * inside
        z, y, x = sides.clamp_(min=0).minimum(edges - 1).unbind(2)
        wz, wy, wx = weights.unbind(2)
        # What lies side by side in x is fetched for both sides of z and of y at once.
        line = first + (z[:, None] * edges[:, 1] + y) * edges[:, 2]  # (2, 2, b, voxel)
        weight = wz[:, None] * wy
        found = [(self.values[line + x[c]].float() * (weight * wx[c])).sum(dim=(0, 1)) for c in (0, 1)]
        return (found[0] + found[1]).view(len(places), *shape)


@dataclass(frozen=True)
class PatchMaker:
    """Makes the batches of a sampler on a device.

    Attributes:
        sampler: whose they are.
        volumes: its volumes there.
        device: where.
    """

    sampler: PatchSampler
    volumes: Volumes
    device: torch.device

    @classmethod
    def on(cls, device: torch.device, sampler: PatchSampler) -> PatchMaker:
        """With the volumes sent there."""
        return cls(sampler, Volumes.on(device, sampler.volumes), device)

    @torch.no_grad()
    def __call__(self, drawing: Drawing) -> Batch:
        """The batch of what was drawn."""
        shape, stride = self.sampler.patch.shape, self.sampler.stride
        places = drawing.places.to(self.device, non_blocking=True)
        step = max(1, _AT_ONCE // int(np.prod(shape)))
        parts = [self.volumes.sampled(places[i : i + step], shape) for i in range(0, len(places), step)]
        values = changed(torch.cat(parts), self.sampler.augment.intensity, drawing.changes)
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
    device: torch.device, sampler: Sampler, size: int | range, first: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`, made on a GPU where there is one and its memory holds the volumes.

    `size` is as for `batches`.
    """
    if device.type != "cuda" or not isinstance(sampler, PatchSampler | PairSampler):
        return batches(sampler, size, first, stop, workers)
    parts = (sampler.labelled, sampler.unlabelled) if isinstance(sampler, PairSampler) else (sampler,)
    voxels = sum(int(np.prod(v.values.shape)) for part in parts for v in part.volumes)
    if 4 * voxels > _SHARE * free_memory(device):
        log.info(f"the training volumes do not fit into the memory of {device}: patches are made on the host")
        return batches(sampler, size, first, stop, workers)
    return made_on(device, sampler, size, first, stop, workers)


def made_on(
    device: torch.device,
    sampler: PatchSampler | PairSampler,
    size: int | range,
    first: int,
    stop: int,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`, in order; `workers` processes draw what is random in them.

    `size` is as for `batches`.
    """
    if isinstance(sampler, PatchSampler):
        make = PatchMaker.on(device, sampler)
        for drawing in loaded(partial(_drawing, sampler, numbers_of(size)), first, stop, workers):
            yield make(drawing)
        return
    labelled, unlabelled = PatchMaker.on(device, sampler.labelled), PatchMaker.on(device, sampler.unlabelled)
    for pairs in loaded(partial(_drawn_pairs, sampler, numbers_of(size)), first, stop, workers):
        batch = labelled(pairs.labelled)
        if pairs.unlabelled is not None:
            weak = unlabelled(pairs.unlabelled).volume[:, 0]
            strong = changed(weak, sampler.strong.intensity, pairs.strong)
            batch = batch._replace(pairs=torch.stack([weak, strong], dim=1))
        yield batch


def _drawing(sampler: PatchSampler, numbers: range, step: int) -> Drawing:
    return Drawing.of([sampler.drawn(step, index) for index in numbers], sampler.patch.shape)


def _drawn_pairs(sampler: PairSampler, numbers: range, step: int) -> DrawnPairs:
    labelled = _drawing(sampler.labelled, numbers, step)
    if step < sampler.first:
        return DrawnPairs(labelled)
    strong = [sampler.drawn_strong(step, index) for index in numbers]
    return DrawnPairs(
        labelled, _drawing(sampler.unlabelled, numbers, step), tuple(_stacked(change) for change in zip(*strong))
    )
