"""Local maxima of heatmaps on a device; only what was found comes down. The twins for arrays are in `peaks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch.nn import functional

_AT_ONCE = 2**22  # cells that are up-sampled, or compared with all their neighbours, together


@dataclass(frozen=True)
class FoundMaxima:
    """Maxima of one object's heatmap, in the host's memory.

    Attributes:
        voxels: (n, 3) where they are, in the order of z, y, x.
        indices: (n, 3) refined.
        heights: (n,) refined.
        values: (n,) of the voxels.
    """

    voxels: np.ndarray
    indices: np.ndarray
    heights: np.ndarray
    values: np.ndarray


def largest_around(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Maximum over the cube of edge 2 * radius + 1 around every voxel of (z, y, x); beyond the border counts as absent.

    Running maxima by doubling shifts along one axis after the other.
    """
    for axis in range(3):
        n = values.shape[axis]
        sides = [0, 0] * (2 - axis) + [radius, radius]
        found = functional.pad(values, sides, value=-float("inf"))
        width, window = 1, 2 * radius + 1
        while width < window:  # found[i] is the maximum of `width` entries from i on
            shift = min(width, window - width)
            length = found.shape[axis] - shift
            found = torch.maximum(found.narrow(axis, 0, length), found.narrow(axis, shift, length))
            width += shift
        values = found.narrow(axis, 0, n)
    return values


def maxima_of(
    values: torch.Tensor, radius: int, lowest: float, rows: slice, reach: float, max_curvature: float
) -> FoundMaxima:
    """See `peaks.maxima` and `peaks.refine`, which the arguments are those of."""
    start, stop, _ = rows.indices(values.shape[1])
    low, high = max(0, start - radius), min(values.shape[1], stop + radius)
    part = values[:, low:high]  # (z, rows, x)
    highest = (part == largest_around(part, radius)) & (part > lowest)
    voxels = torch.argwhere(highest[:, start - low : stop - low])  # (n, 3)
    voxels[:, 1] += start
    indices, heights = refined(values, voxels, max_curvature)  # (n, 3), (n,)
    keep = (heights >= reach) | ~_lone(values, voxels)
    found = (voxels[keep], indices[keep], heights[keep])
    own = values[tuple(found[0].T)].double()
    # One transfer for all of it.
    table = torch.cat([found[0].double(), found[1], found[2][:, None], own[:, None]], dim=1).cpu().numpy()  # (m, 8)
    return FoundMaxima(table[:, :3].astype(np.intp), table[:, 3:6], table[:, 6], table[:, 7])


def _lone(values: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    """(n,) whether nothing beside a maximum equals it."""
    steps = [step for step in product((-1, 0, 1), repeat=3) if any(step)]
    around = torch.tensor(steps, device=values.device).T[:, None]  # (3, 1, 26)
    lone = []
    for part in voxels.tensor_split(1 + len(voxels) * len(steps) // _AT_ONCE):
        # What lies beyond the border is moved onto it.
        z, y, x = ((part[:, k, None] + around[k]).clamp(0, n - 1) for k, n in enumerate(values.shape))
        lone.append((values[z, y, x] < values[tuple(part.T)][:, None]).all(dim=1))
    return torch.cat(lone)


def refined(values: torch.Tensor, peaks: torch.Tensor, max_curvature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """See `peaks.refine`: (n, 3) fractional indices and (n,) heights of (n, 3) maxima."""
    centre = values[tuple(peaks.T)].double()
    shifts = torch.zeros(peaks.shape, dtype=torch.float64, device=values.device)
    factor, term = torch.ones_like(centre), torch.zeros_like(centre)
    for axis in range(3):
        last = values.shape[axis] - 1
        at = list(peaks.T)
        inside = (at[axis] > 0) & (at[axis] < last)
        sides = []
        for step in (-1, 1):
            moved = [*at]
            moved[axis] = (at[axis] + step).clamp(0, last)
            sides.append(values[tuple(moved)].double())
        below, above = sides
        positive = (below > 0) & (above > 0) & (centre > 0)
        positive &= below.log() - 2 * centre.log() + above.log() >= -max_curvature
        a, b, c = (torch.where(positive, v.log(), v) for v in (below, centre, above))
        curvature = a - 2 * b + c
        shift = torch.where(curvature < 0, 0.5 * (a - c) / curvature, 0.0).nan_to_num().clamp(-0.5, 0.5)
        rise = (0.25 * (c - a) * shift).clamp(min=0)
        shifts[:, axis] = torch.where(inside, shift, 0.0)
        factor = torch.where(inside & positive, factor * rise.exp(), factor)
        term = torch.where(inside & ~positive, term + rise, term)
    return peaks + shifts, centre * factor + term


def near_threshold(heat: torch.Tensor, nothing: torch.Tensor, odds: Sequence[tuple[int, float]]) -> torch.Tensor:
    """(n, 3) cells whose odds against the background reach those of a channel, and the cells around them.

    Args:
        heat: (channel, z, y, x).
        nothing: (z, y, x) share of the background.
        odds: channels, and what is to be reached.
    """
    near = torch.zeros(nothing.shape, dtype=torch.bool, device=heat.device)
    for channel, least in odds:
        near |= heat[channel] >= least * nothing
    return torch.argwhere(largest_around(near.float(), 1) > 0)


def doubled(
    logits: torch.Tensor, cells: torch.Tensor, channels: Sequence[int]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """See `decoders._doubled`: (8 n, 3) voxels and the (8 n,) softmax there of each channel wanted."""
    last = [n - 1 for n in logits.shape[1:]]
    at, heights = [cells.new_zeros((0, 3))], [[logits.new_zeros(0)] for _ in channels]
    for part in torch.tensor_split(cells, 1 + len(cells) // _AT_ONCE):
        for child in product((0, 1), repeat=3):
            total = logits.new_zeros((logits.shape[0], len(part)))  # (channel, n)
            for corner in product((0, 1), repeat=3):
                weight = float(np.float32(np.prod([0.25 if c else 0.75 for c in corner])))
                steps = [c * (2 * side - 1) for c, side in zip(corner, child)]
                neighbour = [(part[:, k] + step).clamp(0, last[k]) for k, step in enumerate(steps)]
                z, y, x = neighbour
                total.add_(logits[:, z, y, x], alpha=weight)
            share = total.softmax(dim=0)
            at.append(2 * part + torch.tensor(child, device=part.device))
            for found, channel in zip(heights, channels):
                found.append(share[channel])
    return torch.cat(at), [torch.cat(found) for found in heights]
