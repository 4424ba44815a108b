"""Volumes on a device: how they get there, and what normalising and resampling do to them there.

Each function answers as its twin for arrays does, in `normalize` and `resample`, to rounding; tests hold them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..core.arrays import alike, taken
from ..core.types import Grid, Tomogram
from ..core.void import find_void
from .memory import free_memory

STAGE = 2**24  # bytes that go up at a time: large enough for the bus, small enough to stay in the processor's cache
_BLOCKS = 4096  # that are looked at together
_SECTIONS = 16  # of a volume that are looked at together
FEWEST = 0.1  # of a block's voxels from which its statistics are taken
ROOM = 6  # volumes of float32 that have to fit into free memory: as read, normalised, those of the next run, and spare


def fits(grid: Grid, device: torch.device) -> bool:
    """Whether a device has room for a volume and what is made of it."""
    return ROOM * 4 * math.prod(grid.shape) < free_memory(device)


def uploaded(tomogram: Tomogram, device: torch.device) -> Tomogram:
    """The tomogram with its values on a device, in the type that they were read in; its void stays on the host."""
    values = _sent(tomogram.values, device)
    if "void" not in vars(tomogram):  # looking for what is not finite is a pass over the volume, and short there
        finite = not values.is_floating_point() or bool(torch.isfinite(values).all())
        vars(tomogram)["void"] = find_void(tomogram.values, finite)
    return tomogram.changed(values, tomogram.grid, tomogram.void)


def _sent(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on a device, by way of pinned memory: one part is copied there while the one before goes up."""
    source = torch.from_numpy(np.ascontiguousarray(values))
    if device.type != "cuda":
        return source.to(device)
    target = torch.empty_like(source, device=device)
    flat, out = source.view(-1), target.view(-1)
    step = STAGE // source.element_size()
    stages = [torch.empty(min(step, len(flat)), dtype=source.dtype, pin_memory=True) for _ in range(2)]
    sent, stream = [torch.cuda.Event() for _ in stages], torch.cuda.current_stream(device)
    for i, first in enumerate(range(0, len(flat), step)):
        part, stage, event = flat[first : first + step], stages[i % 2], sent[i % 2]
        event.synchronize()  # of one that was never recorded: at once
        stage[: len(part)].copy_(part)
        out[first : first + len(part)].copy_(stage[: len(part)], non_blocking=True)
        event.record(stream)
    stream.synchronize()  # before the stages are given back
    return target


# -- grey values ---------------------------------------------------------------------------------------------


def block_statistics(
    values: torch.Tensor, edges: Sequence[int], counts: Sequence[int], left_out: np.ndarray | None
) -> np.ndarray:
    """Mean, deviation, smallest and largest finite value of each block of a volume, (4, n).

    Args:
        values: (z, y, x).
        edges, counts: of the blocks, along z, y, x.
        left_out: (z, y, x) bool of the voxels that are; None: none is.
    """
    rows = []
    for i in range(counts[0]):
        here = np.s_[i * edges[0] : (i + 1) * edges[0], : counts[1] * edges[1], : counts[2] * edges[2]]
        row = values[here].double()
        if left_out is not None and left_out[here].any():
            row = row.masked_fill(alike(left_out[here], values), float("nan"))
        blocks = row.reshape(edges[0], counts[1], edges[1], counts[2], edges[2]).permute(1, 3, 0, 2, 4)
        rows.append(_statistics(blocks.reshape(counts[1] * counts[2], -1)))
    return np.asarray(torch.cat(rows, dim=1).cpu().numpy())


def statistics_within(
    values: torch.Tensor, edges: Sequence[int], places: np.ndarray, low: float, high: float, left_out: np.ndarray | None
) -> np.ndarray:
    """Mean and deviation of (m, 3) blocks over their voxels from `low` to `high`, (2, m)."""
    if len(places) > _BLOCKS:
        halves = np.array_split(places, 2)
        return np.concatenate([statistics_within(values, edges, h, low, high, left_out) for h in halves], axis=1)
    z, y, x = (alike(place, values) for place in places.T.astype(np.int64))
    blocks = values
    for axis, edge in enumerate(edges):
        blocks = blocks.unfold(axis, edge, edge)
    chosen = blocks[z, y, x].double()  # (m, edges)
    if left_out is not None:
        boxes = [tuple(slice(k * e, (k + 1) * e) for k, e in zip(place, edges)) for place in places]
        chosen = chosen.masked_fill(alike(np.stack([left_out[box] for box in boxes]), values), float("nan"))
    inside = torch.where((chosen >= low) & (chosen <= high), chosen, float("nan"))
    return np.asarray(_statistics(inside.reshape(len(places), -1))[:2].cpu().numpy())


def _statistics(blocks: torch.Tensor) -> torch.Tensor:
    """(n, voxels) -> mean, deviation, smallest and largest finite value (4, n)."""
    finite = torch.isfinite(blocks)
    n = finite.sum(dim=1).double()
    n = torch.where(n < FEWEST * blocks.shape[1], float("nan"), n)
    mean = torch.where(finite, blocks, 0.0).sum(dim=1) / n
    variance = torch.where(finite, blocks - mean[:, None], 0.0).square().sum(dim=1) / n
    smallest = torch.where(finite, blocks, math.inf).amin(dim=1)
    largest = torch.where(finite, blocks, -math.inf).amax(dim=1)
    return torch.stack([mean, torch.where(smallest == largest, 0.0, variance.sqrt()), smallest, largest])


def moments(values: torch.Tensor, left_out: np.ndarray | None) -> tuple[float, float]:
    """Mean and deviation of the finite voxels that are not left out."""
    sections = range(0, len(values), _SECTIONS)  # in double precision, and never a second volume beside them
    counted = [_counted(values, left_out, slice(z, z + _SECTIONS)) for z in sections]
    n = torch.stack([part.sum() for part in counted]).sum()
    parts = [torch.where(c, values[z : z + _SECTIONS].double(), 0.0).sum() for z, c in zip(sections, counted)]
    mean = torch.stack(parts).sum() / n
    squares = [
        torch.where(c, values[z : z + _SECTIONS].double() - mean, 0.0).square().sum() for z, c in zip(sections, counted)
    ]
    return float(mean), float((torch.stack(squares).sum() / n).sqrt())


def _counted(values: torch.Tensor, left_out: np.ndarray | None, z: slice) -> torch.Tensor:
    finite = torch.isfinite(values[z])
    return finite if left_out is None else finite & ~alike(left_out[z], values)


def extremes(tomogram: Tomogram) -> list[tuple[float, float]]:
    """Smallest and largest of the finite voxels that hold specimen; empty where there is none."""
    values = torch.as_tensor(tomogram.values)
    counted = torch.isfinite(values)
    if tomogram.void is not None:
        counted &= ~alike(tomogram.void, values)
    low = float(torch.where(counted, values.float(), math.inf).min())
    high = float(torch.where(counted, values.float(), -math.inf).max())
    return [(low, high)] if low <= high else []


def scaled(tomogram: Tomogram, zero: float, one: float, blank: float) -> torch.Tensor:
    """(values - zero) / one, a new tensor; without specimen `blank`, and what else is not finite 0."""
    out = torch.as_tensor(tomogram.values).to(torch.float32, copy=True).sub_(zero).div_(one)
    out.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    return out if tomogram.void is None else out.masked_fill_(alike(tomogram.void, out), blank)


def compressed(tomogram: Tomogram, mean: float, deviation: float, soft: float, clip: float) -> torch.Tensor:
    """See `RobustNormalization`; a new tensor."""
    out = torch.as_tensor(tomogram.values).to(torch.float32, copy=True).sub_(mean).div_(deviation)
    out.nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)
    out.div_(soft).asinh_().mul_(soft).clamp_(-clip, clip)
    return out if tomogram.void is None else out.masked_fill_(alike(tomogram.void, out), 0.0)


# -- other grids ---------------------------------------------------------------------------------------------


def smoothed(values: torch.Tensor, sigma: float) -> torch.Tensor:
    """A (z, y, x) volume after a Gaussian of three deviations; beyond the border the border's value."""
    reach = int(3.0 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    for axis in range(3):
        at = np.arange(values.shape[axis])
        parts = zip(steps.tolist(), (kernel / kernel.sum()).tolist())
        total = torch.zeros_like(values)
        for step, weight in parts:
            total.add_(taken(values, np.clip(at + step, 0, len(at) - 1), axis), alpha=weight)
        values = total
    return values


def filled(tomogram: Tomogram, blank: float) -> torch.Tensor:
    """(z, y, x) float32 values of a tomogram on a device, those without specimen `blank`."""
    values: torch.Tensor = torch.as_tensor(tomogram.values).float()
    return values if tomogram.void is None else values.masked_fill(alike(tomogram.void, values), blank)


def specimen_mean(tomogram: Tomogram) -> float:
    """Mean of the grey values that hold specimen."""
    values = torch.as_tensor(tomogram.values)
    if tomogram.void is None:
        return float(values.mean(dtype=torch.float64))
    held = ~alike(tomogram.void, values)
    return float(torch.where(held, values.double(), 0.0).sum() / held.sum())
