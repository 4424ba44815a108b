"""Volumes read a few sections at a time, for those who look at one and need not hold it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.types import Grid, Vector
from .mrc import mrc_layout
from .omezarr import open_level, read_levels

_AT_ONCE = 2**26  # bytes of sections that are read at a time


@dataclass(frozen=True)
class Slabs:
    """A volume whose sections are read when they are asked for.

    Attributes:
        grid: where its voxels lie.
        read: (first, last) -> sections first to last - 1 along z, (n, y, x) float32; what is not finite is as it is.
    """

    grid: Grid
    read: Callable[[int, int], np.ndarray]

    def around(self, position: np.ndarray, half: float) -> tuple[np.ndarray, Grid]:
        """Voxels (z, y, x) float32 within `half` Å of a position, zyx [Å], along each axis; and where they lie."""
        n = np.array(self.grid.shape)
        centre, reach = self.grid.indices(position[None])[0], half / self.grid.voxel_spacing
        first = np.clip(np.floor(centre - reach).astype(int), 0, n - 1)
        last = np.clip(np.ceil(centre + reach).astype(int) + 1, first + 1, n)
        values = self.read(int(first[0]), int(last[0]))[:, first[1] : last[1], first[2] : last[2]]
        return np.ascontiguousarray(values), self.grid.crop(first.tolist(), (last - first).tolist())

    def means(self, centre: Vector, thickness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Along z, y, x: the mean over the planes of a slab, at least one; nan where no voxel is finite.

        The volume is read a few sections at a time.

        Args:
            centre: of the three slabs, zyx [Å].
            thickness: of each [Å].
        """
        shape, spans = self.grid.shape, []
        for axis, n in enumerate(shape):
            ends = (centre[axis] + np.array([-0.5, 0.5]) * thickness - self.grid.origin[axis]) / self.grid.voxel_spacing
            start = int(np.clip(math.ceil(ends[0]), 0, n - 1))
            spans.append(slice(start, int(np.clip(math.floor(ends[1]) + 1, start + 1, n))))
        totals = [np.zeros(shape[:axis] + shape[axis + 1 :]) for axis in range(3)]
        counts = [np.zeros(total.shape, dtype=np.int64) for total in totals]
        step = max(1, _AT_ONCE // (4 * shape[1] * shape[2]))
        for first in range(0, shape[0], step):
            last = min(first + step, shape[0])
            values = self.read(first, last)
            inside = slice(max(0, spans[0].start - first), max(0, spans[0].stop - first))
            for axis, (rows, span) in enumerate(((slice(None), inside), *((slice(first, last), s) for s in spans[1:]))):
                block = values[(slice(None),) * axis + (span,)]
                finite = np.isfinite(block)
                counts[axis][rows] += finite.sum(axis=axis)
                totals[axis][rows] += np.where(finite, block, 0).sum(axis=axis, dtype=np.float64)
        z, y, x = (np.divide(t, n, out=np.full(t.shape, np.nan), where=n > 0) for t, n in zip(totals, counts))
        return z, y, x


def array_slabs(values: np.ndarray, grid: Grid) -> Slabs:
    """Of a volume that is in memory."""
    return Slabs(grid, lambda first, last: values[first:last])


def volume_slabs(path: Path, level: int = 0, voxel_spacing: float | None = None) -> Slabs:
    """Of an MRC file (a gzipped one is held whole) or of a level of an OME-Zarr in a folder.

    Raises:
        ReadError: no volume, truncated, or without a voxel size.
    """
    if path.suffix.lower() == ".zarr":
        return zarr_slabs(path, str(path), level, voxel_spacing)
    if path.suffix.lower() == ".gz":
        from .volumes import read_volume

        return array_slabs(*read_volume(path, level, voxel_spacing))
    grid, offset, dtype = mrc_layout(path, voxel_spacing)
    return Slabs(grid, _MrcReader(path, grid, offset, dtype))


def zarr_slabs(store: Any, where: str, level: int = 0, voxel_spacing: float | None = None) -> Slabs:
    """Of a level of an OME-Zarr in a folder or store."""
    chosen = read_levels(store, where, voxel_spacing)[level]
    array = open_level(store, chosen, where)

    def read(first: int, last: int) -> np.ndarray:
        values = np.asarray(array[first:last], dtype=np.float32)
        array.require_whole()
        return values

    return Slabs(chosen.grid, read)


@dataclass(frozen=True)
class _MrcReader:
    """Not a memory map: what is looked at once would stay in memory."""

    path: Path
    grid: Grid
    offset: int
    dtype: np.dtype[Any]

    def __call__(self, first: int, last: int) -> np.ndarray:
        _, height, width = self.grid.shape
        size = height * width * self.dtype.itemsize
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), (last - first) * size, self.offset + first * size)
        if len(data) != (last - first) * size:
            raise ReadError(f"{self.path}: ends before its voxels do; expected a whole file, so copy it again")
        return np.frombuffer(data, self.dtype).reshape(-1, height, width).astype(np.float32)
