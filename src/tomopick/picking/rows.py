"""Rows of heatmap -> strips with halos, whole heatmaps, several members' mean, picks; never more than is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..core.arrays import Array, concatenated, copied, is_tensor, to_host, zeros
from ..core.types import Grid, Heatmap, PickableObject, Picks
from .peaks import PeakFinder
from .resample import onto

BYTES_AT_ONCE = 2**26  # bytes of heatmap in which peaks are looked for at a time
TENSOR_AT_ONCE = 2**32  # the same on a device, which is slow over little


def decode_rows(
    rows: Iterable[Heatmap],
    peaks: PeakFinder,
    objects: Sequence[PickableObject],
    thresholds: Mapping[str, float],
    run: str,
) -> Picks:
    """Rows of heatmap -> picks, best first; holds a strip at a time."""
    strips = with_halo(rows, lambda grid: peaks.halo(objects, grid))
    return peaks.gather(strips, objects, thresholds, run)


def with_halo(rows: Iterable[Heatmap], halo_of: Callable[[Grid], int]) -> Iterator[Heatmap]:
    """Finished rows -> strips that overlap on either side; `core` is what each answers for.

    Args:
        rows: as `predict_rows` gives them.
        halo_of: how many rows of a grid a strip needs beside its core.
    """
    pending: list[Heatmap] = []
    before = 0  # rows at the head of `pending` that an earlier strip answered for
    for strip in _lower(rows, halo_of):
        halo = halo_of(strip.grid)
        pending = [_join([*pending, strip])]
        del strip
        n = pending[0].grid.shape[1]
        stop = n - halo  # the rows behind are still missing their halo
        if stop > before:
            yield _strip(pending[0], 0, n, slice(before, stop))
            keep = min(max(0, stop - halo), n - 1)
            pending = [_copy(_strip(pending[0], keep, n, None))]  # lets go of the strip it is a part of
            before = stop - keep
    if pending:
        n = pending[0].grid.shape[1]
        if n > before:
            yield _strip(pending[0], 0, n, slice(before, n))


def _lower(rows: Iterable[Heatmap], halo_of: Callable[[Grid], int]) -> Iterator[Heatmap]:
    """The same rows in strips that take little memory; lower than their halo, they would be looked at too often."""
    for strip in rows:
        n = strip.grid.shape[1]
        most = TENSOR_AT_ONCE if is_tensor(strip.values) else BYTES_AT_ONCE
        step = max(halo_of(strip.grid), most // strip.values[:, :, 0].nbytes, 1)
        for first in range(0, n, step):
            yield _strip(strip, first, min(n, first + step), None)
        del strip


def join_rows(rows: Iterable[Heatmap]) -> Heatmap:
    """The whole heatmap, for those who want it all in memory."""
    return _join(list(rows))


def on_host(rows: Iterable[Heatmap]) -> Iterator[Heatmap]:
    """The same rows in the host's memory."""
    return (replace(strip, values=to_host(strip.values)) for strip in rows)


def watched(rows: Iterable[Heatmap], keep: Callable[[Heatmap], None]) -> Iterator[Heatmap]:
    """The same rows, each shown to `keep` in the host's memory first."""
    for strip in rows:
        keep(replace(strip, values=to_host(strip.values)))
        yield strip


def on_one_grid(members: Sequence[Iterable[Heatmap]]) -> Iterator[list[Heatmap]]:
    """Several members' rows, strip by strip on the grid of the finest; still strips, never a whole heatmap.

    Args:
        members: rows of each, as `predict_rows` gives them.
    """
    readers = [_RowReader(rows) for rows in members]
    finest = min(range(len(readers)), key=lambda i: readers[i].first.grid.voxel_spacing)
    for strip in readers[finest].rest():
        yield [
            strip if i == finest else Heatmap(strip.run, r.onto(strip.grid), strip.grid, r.first.objects)
            for i, r in enumerate(readers)
        ]


def average(strips: Sequence[Heatmap], weights: Sequence[Mapping[str, float]]) -> Heatmap:
    """Weighted mean of heatmaps on one grid; of an object, over those that know it.

    Args:
        strips: one a member.
        weights: one a member, by object.
    """
    objects = tuple(dict.fromkeys(name for strip in strips for name in strip.objects))
    first = strips[0]
    total = zeros((len(objects), *first.grid.shape), first.values)  # (object, z, y, x)
    for name, channel in zip(objects, total):  # (z, y, x)
        known = [(s.values[s.objects.index(name)], w[name]) for s, w in zip(strips, weights) if name in s.objects]
        for values, weight in known:
            if weight:
                channel += weight * values
        channel /= max(sum(weight for _, weight in known), 1e-12)
    return Heatmap(first.run, total, first.grid, objects)


class _RowReader:
    """One member's rows, read just as far as they are needed."""

    def __init__(self, rows: Iterable[Heatmap]):
        self._rows = iter(rows)
        self.first = next(self._rows)
        self._held = self.first

    def rest(self) -> Iterator[Heatmap]:
        yield self.first
        yield from self._rows

    def onto(self, grid: Grid) -> Array:
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
        return onto(held.values, held.grid, grid, smooth=True).clip(0)


def _strip(heatmap: Heatmap, start: int, stop: int, core: slice | None) -> Heatmap:
    z, _, x = heatmap.grid.shape
    grid = heatmap.grid.crop((0, start, 0), (z, stop - start, x))
    return Heatmap(heatmap.run, heatmap.values[:, :, start:stop], grid, heatmap.objects, core)


def _copy(heatmap: Heatmap) -> Heatmap:
    return replace(heatmap, values=copied(heatmap.values))


def _join(strips: Sequence[Heatmap]) -> Heatmap:
    if len(strips) == 1:
        return strips[0]
    values = concatenated([s.values for s in strips], axis=2)
    first = strips[0].grid
    grid = Grid((first.shape[0], values.shape[2], first.shape[2]), first.voxel_spacing, first.origin)
    return Heatmap(strips[0].run, values, grid, strips[0].objects)
