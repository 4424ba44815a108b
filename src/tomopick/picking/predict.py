"""Tomogram -> strips of heatmap. A strip spans z and x; what is held never grows with the volume's length in y."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product, zip_longest
from typing import NamedTuple

import numpy as np
import torch

from ..core.arrays import Array, alike, concatenated, flipped, functions_of, is_tensor, zeros
from ..core.errors import ModelError, RecipeError
from ..core.types import Grid, Heatmap, Shape
from ..networks.activations import Activation
from ..networks.engines import Engine
from .tiling import Starts, Tiling, cut


@dataclass(frozen=True)
class View:
    """A look at a tile: flipped along some axes, and before that turned over so that x and y change places.

    Attributes:
        flips: axes (0 z, 1 y, 2 x) of what the network sees.
        swapped: x and y change places.
    """

    flips: tuple[int, ...] = ()
    swapped: bool = False

    def of(self, tile: Array) -> Array:
        """(z, y, x) as the network sees it."""
        return flipped(tile.swapaxes(1, 2) if self.swapped else tile, self.flips)

    def back(self, heat: Array) -> Array:
        """(channel, z, y, x) that the network gave -> as the tile lies."""
        heat = flipped(heat, [axis + 1 for axis in self.flips])
        return heat.swapaxes(2, 3) if self.swapped else heat

    def indices_back(self, indices: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """(n, 3) indices in what the network sees of a volume of `shape` -> in the volume."""
        edges = np.array(shape)[[0, 2, 1] if self.swapped else [0, 1, 2]]
        flipped = list(self.flips)
        found = indices.copy()
        found[:, flipped] = edges[flipped] - 1 - found[:, flipped]
        return found[:, [0, 2, 1]] if self.swapped else found


_FLIPS = (View(), View((0,)), View((1,)), View((2,)))
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(),),
    "opposite": (View(), View((0, 1, 2))),  # topcup's
    "flips": _FLIPS,
    "mirrors": (View(), View((1,)), View((2,)), View(swapped=True)),  # the Soup's
    "turns": (*_FLIPS, View((1,), swapped=True), View((1, 2)), View((2,), swapped=True)),  # BPD's
    "all": (*_FLIPS, View((0, 1)), View((0, 2)), View((1, 2)), View((0, 1, 2))),
}


SLAB = 2**22  # bytes of logits that become heatmap at a time, in the processor's cache


@dataclass(frozen=True)
class Predictor:
    """A network ready to run over volumes.

    Attributes:
        engine: runs the network on a tile.
        activation: how logits become a heatmap.
        tiling: how volumes are cut.
        stride, multiple: of the network.
        objects: names in channel order.
        views: whose heatmaps are averaged (test-time augmentation).
        progress: called with the number of tiles done and of all tiles, after each.
        wanted: told the first and last corner of a tile [Å], whether it is worth it; None: all are.
    """

    engine: Engine
    activation: Activation
    tiling: Tiling
    stride: int
    multiple: int
    objects: tuple[str, ...]
    views: tuple[View, ...] = VIEWS["none"]
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    wanted: Callable[[np.ndarray, np.ndarray], bool] | None = None

    def tile(self, values: np.ndarray) -> np.ndarray:
        """(z, y, x) normalised tile -> heatmap (object, z/stride, y/stride, x/stride), mean over the views."""
        total = np.zeros((self.channels, *(n // self.stride for n in values.shape)), dtype=np.float32)
        for rows, heat in self.parts(values):
            total[:, rows] += heat
        return self.activated(total)

    @property
    def of_logits(self) -> bool:
        """Whether logits are averaged over tiles and views, and not heatmaps."""
        return self.tiling.of_logits

    @property
    def channels(self) -> int:
        """Of what is averaged: the network's background is among its logits."""
        return len(self.objects) + int(self.of_logits and bool(self.activation.background))

    def activated(self, mean: Array) -> Array:
        """What was averaged, (channel, z, y, x) -> heatmap (object, z, y, x)."""
        if not self.of_logits:
            return mean
        if is_tensor(mean):
            return self.activation(mean)
        found = np.empty((len(self.objects), *mean.shape[1:]), dtype=np.float32)
        step = max(1, SLAB // mean[:, 0].nbytes)
        for first in range(0, mean.shape[1], step):
            slab = torch.from_numpy(np.ascontiguousarray(mean[:, first : first + step]))
            found[:, first : first + step] = self.activation(slab).numpy()
        return found

    def parts(self, values: Array) -> Iterator[tuple[slice, Array]]:
        """What is averaged of a tile in slabs of z, each a summand: one a view, so that no whole one is copied.

        On a device a slab is the tile: it is made of passes over the whole there.
        """
        for view in self.views:
            logits = self.engine(view.of(values))
            n = logits.shape[1]
            step = n if is_tensor(logits) else max(1, SLAB // logits[:, 0].nbytes)
            for first in range(0, n, step):
                last = min(n, first + step)
                heat = view.back(self._averaged(logits[:, first:last])) / len(self.views)
                yield slice(n - last, n - first) if 0 in view.flips else slice(first, last), heat

    def _averaged(self, logits: Array) -> Array:
        """(channel, z, y, x) -> of what the mean is taken."""
        if is_tensor(logits):
            return logits if self.of_logits else self.activation(logits)
        heat = np.ascontiguousarray(logits)
        return heat if self.of_logits else self.activation(torch.from_numpy(heat)).numpy()

    def output_grid(self, grid: Grid) -> Grid:
        """Where the cells of the heatmap of a volume lie: as many as cover it."""
        padded = tuple(-(-n // self.stride) * self.stride for n in grid.shape)
        return grid.crop((0, 0, 0), padded).downsample(self.stride)


def predict_rows(predictor: Predictor, run: str, values: Array, grid: Grid) -> Iterator[Heatmap]:
    """Finished rows of heatmap, in order and without overlap: each strip goes on where the last one ended.

    Args:
        predictor: the network and how to run it.
        run: name of the run.
        values: (z, y, x) normalised volume; the rows lie where it does, on the host or on a device.
        grid: of `values`.
    """
    out, stride, window = predictor.output_grid(grid), predictor.stride, predictor.tiling.window
    edges, starts = predictor.tiling.plan(grid.shape, predictor.multiple)
    _require_covered(predictor, grid, edges, starts)
    cells = (edges[0] // stride, edges[1] // stride, edges[2] // stride)
    along_z, along_y, along_x = (
        [place._replace(weights=alike(place.weights, values)) for place in _places(axis, window(edge), stride, n)]
        for axis, edge, n in zip(starts, cells, out.shape)
    )
    weights = predictor.tiling.weights(cells)  # (z, y, x) of a tile, or None
    whole = None if weights is None else alike(weights, values)
    # Weights that are no product are summed beside what they weigh.
    rows = _Rows(predictor.channels + int(whole is not None), out.shape, values)
    done, total = 0, len(along_z) * len(along_y) * len(along_x)
    for y, following in zip_longest(along_y, along_y[1:]):
        ready = (following.cell if following else out.shape[1]) - y.cell  # rows that no later tile reaches
        rows.begin(ready, len(y.weights))
        for z, x in product(along_z, along_x):
            start = z.voxel, y.voxel, x.voxel
            # Logits of 0 are no heatmap of 0, so that tiles of these are never left out.
            if not predictor.wanted or predictor.of_logits or predictor.wanted(*_corners(grid, start, edges)):
                tile = cut(values, start, edges)
                for first, heat in _weighted(predictor, tile, whole, (z.weights, y.weights, x.weights)):
                    rows.add(heat, z.cell + first, x.cell)
            done += 1
            predictor.progress(done, total)
        finished = rows.take()  # ([channel, or channel + 1,] z, ready, x)
        # Where no tile was worth it there are no weights either.
        mean = finished if whole is None else finished[:-1] / (finished[-1:] + (finished[-1:] == 0))
        strip_grid = out.crop((0, y.cell, 0), (out.shape[0], ready, out.shape[2]))
        heat = predictor.activated(mean)  # (object, z, ready, x)
        _require_finite(heat, run)
        yield Heatmap(run, heat, strip_grid, predictor.objects)
        del finished, mean, heat  # before the next are made


def _corners(grid: Grid, start: Sequence[int], edges: Shape) -> np.ndarray:
    """(2, 3) the centres of a tile's first and last voxel [Å]."""
    return grid.positions(np.array([start, np.add(start, edges) - 1]))


class _Rows:
    """Rows of heatmap under construction, (channel, z, y, x) with z and x whole: the sum of what tiles brought so far.

    Along y they are those that no tile behind the present ones reaches, which are then taken, and behind these those
    that the next tiles reach too, which are carried on.
    """

    def __init__(self, channels: int, shape: Shape, beside: Array):
        self._channels, self._z, self._x, self._beside = channels, shape[0], shape[2], beside
        self._finished = self._carried = self._zeros(0)

    def begin(self, ready: int, height: int) -> None:
        """Goes on to the next tiles along y, `height` rows of which `ready` will be finished by them."""
        before = self._carried  # (channel, z, rows that these tiles share with those before, x)
        self._finished, self._carried = self._zeros(ready), self._zeros(height - ready)
        shared = before.shape[2]
        self._finished[:, :, :shared] = before[:, :, :ready]
        self._carried[:, :, : max(0, shared - ready)] = before[:, :, ready:]

    def add(self, heat: Array, z: int, x: int) -> None:
        """Adds (channel, z, height, x) of a tile, the first of whose cells is the one at z and x."""
        ready = self._finished.shape[2]
        box = np.s_[:, z : z + heat.shape[1], :, x : x + heat.shape[3]]
        self._finished[box] += heat[:, :, :ready]
        self._carried[box] += heat[:, :, ready:]

    def take(self) -> Array:
        """The finished rows, (channel, z, ready, x); they are let go of."""
        finished, self._finished = self._finished, self._zeros(0)
        return finished

    def _zeros(self, rows: int) -> Array:
        return zeros((self._channels, self._z, rows, self._x), self._beside)


class _Place(NamedTuple):
    """Where a tile lies along an axis.

    Attributes:
        voxel, cell: its first, of the volume and of the heatmap.
        weights: (n,) of its cells, as many as the heatmap has there; over all tiles they sum to 1 in every cell.
    """

    voxel: int
    cell: int
    weights: Array


def _places(starts: Sequence[int], window: np.ndarray, stride: int, n: int) -> list[_Place]:
    """Tiles along an axis of n cells, from their first voxels and the (n,) window of their weights."""
    cells = [start // stride for start in starts]
    return [_Place(*place) for place in zip(starts, cells, _shares(window, cells, n))]


def _require_covered(predictor: Predictor, grid: Grid, edges: Shape, starts: Starts) -> None:
    """Raises `RecipeError` where the last tiles end before the volume's last cells."""
    stride, cells = predictor.stride, predictor.output_grid(grid).shape
    if any(axis[-1] // stride + edge // stride < n for axis, edge, n in zip(starts, edges, cells)):
        kind, size = type(predictor.tiling).__name__, "x".join(map(str, grid.shape))
        raise RecipeError(
            f"tiling {kind} leaves the end of a volume of {size} voxels uncovered where a cell measures {stride}; "
            "take another: tiling=TilingSpec"
        )


def _require_finite(heat: Array, run: str) -> None:
    """Raises `ModelError` where a network answered with what is no number."""
    if not math.isfinite(heat.sum(dtype=functions_of(heat).float64)):
        raise ModelError(
            f"run {run}: the network's answer is not finite: its weights are damaged or diverged in training, or "
            "its numbers exceed half precision; try `precision=f32`, or another model"
        )


def _weighted(
    predictor: Predictor, tile: Array, whole: Array | None, along: tuple[Array, Array, Array]
) -> Iterator[tuple[int, Array]]:
    """What a tile adds: first z of a slab in it, and the slab's (channel, z, y, x), no further than the heatmap goes.

    Args:
        predictor: runs the network.
        tile: (z, y, x) normalised.
        whole: (z, y, x) weights of its cells that are no product, or None; they come out as one channel more.
        along: (n,) weights along z, y and x.
    """
    wz, wy, wx = along
    for slab, heat in predictor.parts(tile):  # (channel, z of the slab, y, x)
        heat = heat[:, : max(0, len(wz) - slab.start), : len(wy), : len(wx)]
        if whole is not None:
            heat = _weighed(heat, whole[slab], 1 / len(predictor.views))  # (channel + 1, z of the slab, y, x)
        heat *= wz[slab, None, None] * wy[:, None] * wx
        yield slab.start, heat


def _weighed(heat: Array, weight: Array, share: float) -> Array:
    """(channel, z, y, x) times the weight of each cell, and behind it the weights themselves times a share."""
    _, z, y, x = heat.shape
    weight = weight[:z, :y, :x]
    return concatenated([heat * weight, weight[None] * share], 0)


def _shares(window: np.ndarray, starts: Sequence[int], n: int) -> list[np.ndarray]:
    """Weights of each tile along an axis of n cells, which sum to 1 in every cell; what lies beyond it is left out."""
    total = np.zeros(max(n, starts[-1] + len(window)), dtype=np.float32)
    for start in starts:
        total[start : start + len(window)] += window
    return [(window / total[start : start + len(window)])[: n - start] for start in starts]
