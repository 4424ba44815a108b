"""Tomogram -> strips of heatmap. A strip spans z and x; what is held never grows with the volume's length in y."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .engines import Engine
from .losses import Loss
from .resample import onto
from .tiling import TilingSpec, cut
from .types import Grid, Heatmap

# A view is the axes to flip before the network and back behind it.
View = tuple[int, ...]
VIEWS: dict[str, tuple[View, ...]] = {
    "none": ((),),
    "flips": ((), (0,), (1,), (2,)),
    "all": ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)),
}


@dataclass(frozen=True)
class Predictor:
    """A network ready to run over volumes.

    Attributes:
        engine: runs the network on a tile.
        loss: says how logits become a heatmap.
        tiling: how volumes are cut.
        stride, multiple: of the network.
        objects: names in channel order.
        views: flips whose heatmaps are averaged (test-time augmentation).
        progress: called with the number of tiles done and of all tiles, after each.
    """

    engine: Engine
    loss: Loss
    tiling: TilingSpec
    stride: int
    multiple: int
    objects: tuple[str, ...]
    views: tuple[View, ...] = ((),)
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)

    def tile(self, values: np.ndarray) -> np.ndarray:
        """(z, y, x) normalised tile -> heatmap (object, z/stride, y/stride, x/stride), mean over the views."""
        total: np.ndarray | None = None
        for view in self.views:
            logits = self.engine(np.flip(values, view))
            heat = self.loss.activate(torch.from_numpy(logits)).numpy()
            heat = np.flip(heat, tuple(a + 1 for a in view))
            total = heat.astype(np.float32) if total is None else np.add(total, heat, out=total)
        assert total is not None
        return total / np.float32(len(self.views))

    def output_grid(self, grid: Grid) -> Grid:
        """Where the cells of the heatmap of a volume lie: as many as cover it."""
        padded = tuple(-(-n // self.stride) * self.stride for n in grid.shape)
        return grid.crop((0, 0, 0), padded).downsample(self.stride)


def predict_rows(predictor: Predictor, run: str, values: np.ndarray, grid: Grid) -> Iterator[Heatmap]:
    """Finished rows of heatmap, in order and without overlap: each strip goes on where the last one ended.

    Args:
        predictor: the network and how to run it.
        run: name of the run.
        values: (z, y, x) normalised volume.
        grid: of `values`.
    """
    stride = predictor.stride
    out = predictor.output_grid(grid)
    edges, starts = predictor.tiling.plan(grid.shape, predictor.multiple)
    cells = [e // stride for e in edges]
    wz, wy, wx = (predictor.tiling.window(n) for n in cells)
    weight = wz[:, None, None] * wy[:, None] * wx
    # The buffers reach beyond the volume where the last tiles do; what lies there is never given out.
    size = [max(n, axis[-1] // stride + c) for n, axis, c in zip(out.shape, starts, cells)]
    heat = np.zeros((len(predictor.objects), size[0], cells[1], size[2]), dtype=np.float32)
    mass = np.zeros((size[0], cells[1], size[2]), dtype=np.float32)
    done, total = 0, len(starts[0]) * len(starts[1]) * len(starts[2])
    for row, y in enumerate(starts[1]):
        for z in starts[0]:
            for x in starts[2]:
                tile = predictor.tile(cut(values, (z, y, x), edges))
                box = np.s_[z // stride : z // stride + cells[0], :, x // stride : x // stride + cells[2]]
                heat[:, *box] += tile * weight
                mass[box] += weight
                done += 1
                predictor.progress(done, total)
        first = y // stride
        last = starts[1][row + 1] // stride if row + 1 < len(starts[1]) else out.shape[1]
        ready = last - first  # rows that no later tile reaches
        strip = (heat[:, :, :ready] / mass[:, :ready])[:, : out.shape[0], :, : out.shape[2]]
        strip_grid = out.crop((0, first, 0), (out.shape[0], ready, out.shape[2]))
        yield Heatmap(run, np.ascontiguousarray(strip), strip_grid, predictor.objects)
        heat[:, :, : cells[1] - ready] = heat[:, :, ready:].copy()
        mass[:, : cells[1] - ready] = mass[:, ready:].copy()
        heat[:, :, cells[1] - ready :] = 0
        mass[:, cells[1] - ready :] = 0


def with_halo(rows: Iterable[Heatmap], halo_of: Callable[[Grid], int]) -> Iterator[Heatmap]:
    """Finished rows -> strips that overlap on either side; `core` is what each answers for.

    Args:
        rows: as `predict_rows` gives them.
        halo_of: how many rows of a grid a strip needs beside its core.
    """
    pending: list[Heatmap] = []
    before = 0  # rows at the head of `pending` that an earlier strip answered for
    for strip in rows:
        halo = halo_of(strip.grid)
        pending = [_join([*pending, strip])]
        n = pending[0].grid.shape[1]
        stop = n - halo  # the rows behind are still missing their halo
        if stop > before:
            yield _strip(pending[0], 0, n, slice(before, stop))
            keep = min(max(0, stop - halo), n - 1)
            pending = [_strip(pending[0], keep, n, None)]
            before = stop - keep
    if pending:
        n = pending[0].grid.shape[1]
        if n > before:
            yield _strip(pending[0], 0, n, slice(before, n))


def _strip(heatmap: Heatmap, start: int, stop: int, core: slice | None) -> Heatmap:
    z, _, x = heatmap.grid.shape
    grid = heatmap.grid.crop((0, start, 0), (z, stop - start, x))
    return Heatmap(heatmap.run, heatmap.values[:, :, start:stop], grid, heatmap.objects, core)


def _join(strips: Sequence[Heatmap]) -> Heatmap:
    if len(strips) == 1:
        return strips[0]
    values = np.concatenate([s.values for s in strips], axis=2)
    first = strips[0].grid
    grid = Grid((first.shape[0], values.shape[2], first.shape[2]), first.voxel_spacing, first.origin)
    return Heatmap(strips[0].run, values, grid, strips[0].objects)


def join_rows(rows: Iterable[Heatmap]) -> Heatmap:
    """The whole heatmap, for those who want it all in memory."""
    return _join(list(rows))


def average_rows(members: Sequence[Iterable[Heatmap]], weights: Sequence[float] | None = None) -> Iterator[Heatmap]:
    """Weighted mean of several members' rows, on the finest member's grid; still strips, never a whole heatmap.

    An object's heatmap is the mean over the members that know it.

    Args:
        members: rows of each, as `predict_rows` gives them.
        weights: one a member; equal where None.
    """
    weights = weights or [1.0] * len(members)
    readers = [_RowReader(rows) for rows in members]
    finest = min(range(len(readers)), key=lambda i: readers[i].first.grid.voxel_spacing)
    objects = tuple(dict.fromkeys(name for reader in readers for name in reader.first.objects))
    for strip in readers[finest].rest():
        total = np.zeros((len(objects), *strip.grid.shape), dtype=np.float32)
        mass = np.zeros(len(objects), dtype=np.float32)
        for i, reader in enumerate(readers):
            values = strip.values if i == finest else reader.onto(strip.grid)
            for channel, name in enumerate(reader.first.objects):
                k = objects.index(name)
                total[k] += np.float32(weights[i]) * values[channel]
                mass[k] += weights[i]
        total /= np.maximum(mass, 1e-12)[:, None, None, None]
        yield Heatmap(strip.run, total, strip.grid, objects)


class _RowReader:
    """One member's rows, read just as far as they are needed."""

    def __init__(self, rows: Iterable[Heatmap]):
        self._rows = iter(rows)
        self.first = next(self._rows)
        self._held = self.first

    def rest(self) -> Iterator[Heatmap]:
        yield self.first
        yield from self._rows

    def onto(self, grid: Grid) -> np.ndarray:
        """(object, z, y, x) of this member on `grid`, whose rows only ever go forward."""
        held = self._held
        last = grid.origin[1] + (grid.shape[1] - 1) * grid.voxel_spacing
        # Interpolation wants three rows on either side.
        while held.grid.origin[1] + (held.grid.shape[1] - 3) * held.grid.voxel_spacing < last:
            following = next(self._rows, None)
            if following is None:
                break
            held = _join([held, following])
        drop = int((grid.origin[1] - held.grid.origin[1]) // held.grid.voxel_spacing) - 3
        if drop > 0:
            held = _strip(held, min(drop, held.grid.shape[1] - 1), held.grid.shape[1], None)
        self._held = held
        return np.maximum(onto(held.values, held.grid, grid, smooth=True), 0)
