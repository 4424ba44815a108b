"""Grey values: the normalisations of training and picking."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from ..core.arrays import Array, is_tensor
from ..core.errors import ReadError, RecipeError
from ..core.types import Tomogram
from ..core.void import beside
from . import tensors

FLAT = 0.01  # part of the strong blocks' deviation below which a block is padding


class Normalization(Protocol):
    """Grey values of any scale -> those that a network learns from.

    Voxels without specimen (`Tomogram.void`) have no say, and become the mean of the others. What lies on a device is
    normalised there.
    """

    def __call__(self, tomogram: Tomogram) -> Array:
        """(z, y, x) float32, a new array without NaN.

        Raises:
            ReadError: the volume is constant, or nothing in it is finite.
        """


@dataclass(frozen=True)
class RobustNormalization:
    """Zero mean and unit deviation of the part of the volume that has structure.

    Mean and deviation are taken over small blocks, and then the median of those blocks whose deviation lies
    between two quantiles. Empty ice and constant padding fall below the band; gold and carbon fall above it, so
    neither decides the scale. (A z-score over the whole volume is ruled by the empty ice above and below a thin
    specimen.) Non-finite voxels are left out and become 0.

    Voxels more than `outlier` deviations out have no say: where gold is plentiful it lies in too many blocks for the
    band to leave it out.

    What lies far out is then compressed, `soft * asinh(value / soft)`: how strong a particle is against that scale
    differs tenfold between a crowded and a sparse specimen, and gold is stronger than anything else.

    Attributes:
        block: edge of a block [Å].
        low, high: quantiles of the blocks' deviations that bound the band.
        outlier: voxels beyond this many deviations are left out of mean and deviation.
        soft: where compression sets in [deviations].
        clip: largest absolute value of the result.
    """

    block: float = 160.0
    low: float = 0.85
    high: float = 0.99
    outlier: float = 25.0
    soft: float = 2.0
    clip: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1 or min(self.block, self.outlier, self.soft, self.clip) <= 0:
            raise RecipeError(f"normalize needs 0 <= low <= high <= 1 and the others above 0, not {self}")

    def statistics(self, tomogram: Tomogram) -> tuple[float, float]:
        """Mean and deviation, in the volume's own grey values.

        Raises:
            ReadError: the volume is constant, or nothing in it is finite.
        """
        edge = max(4, round(self.block / tomogram.grid.voxel_spacing))
        blocks = _Blocks.of(tomogram.values, edge, _left_out(tomogram))
        valid = blocks.deviations > 0  # NaN is not
        if not valid.any():
            raise _nothing_in(tomogram)
        # Padding that was interpolated or denoised is not quite constant; next to the specimen it still is nothing.
        strong = np.quantile(blocks.deviations[valid], 0.98, method="lower")
        blocks = blocks.of_deviation(FLAT * strong)
        valid = blocks.deviations > 0
        # From below, for from above plentiful gold would justify itself: which voxels are outliers follows from the
        # deviation, and that from the voxels left. It rises (or falls) to the first that agrees with itself.
        mean = float(np.quantile(blocks.means[valid], 0.5, method="lower"))
        deviation = float(np.quantile(blocks.deviations[valid], 0.25))
        for _ in range(20):
            reach = self.outlier * deviation
            means, deviations = blocks.without(tomogram.values, mean - reach, mean + reach)
            before = deviation
            deviation = self._band(tomogram.run, means, deviations)[1]
            if np.isclose(deviation, before, rtol=1e-4):
                break
        return self._band(tomogram.run, means, deviations)

    def _band(self, run: str, means: np.ndarray, deviations: np.ndarray) -> tuple[float, float]:
        valid = deviations > 0
        means, deviations = means[valid], deviations[valid]
        if not len(means):
            raise _without_scale(run)
        # The quantiles are blocks themselves: between interpolated ones a small volume may have none.
        low = np.quantile(deviations, self.low, method="lower")
        high = np.quantile(deviations, self.high, method="higher")
        band = (deviations >= low) & (deviations <= high)
        return float(np.median(means[band])), float(np.median(deviations[band]))

    def __call__(self, tomogram: Tomogram) -> Array:
        """(z, y, x) float32, a new array."""
        mean, deviation = self.statistics(tomogram)
        if is_tensor(tomogram.values):
            return tensors.compressed(tomogram, mean, deviation, self.soft, self.clip)
        # One copy of the volume and no temporaries beside it: volumes are the largest thing in memory.
        values = np.empty(tomogram.values.shape, dtype=np.float32)

        def plane(z: int) -> None:  # it stays in the processor's cache, and NumPy works on several side by side
            out = values[z]
            np.subtract(tomogram.values[z], np.float32(mean), out=out, dtype=np.float32)
            out /= np.float32(deviation)
            np.nan_to_num(out, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
            out /= np.float32(self.soft)
            np.arcsinh(out, out=out)
            out *= np.float32(self.soft)
            np.clip(out, -self.clip, self.clip, out=out)
            if tomogram.void is not None:
                out[tomogram.void[z]] = 0.0

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            deque(pool.map(plane, range(len(values))), maxlen=0)  # raises what a plane raised
        return values


@dataclass(frozen=True)
class ZScore:
    """Zero mean and unit deviation of the whole volume, empty ice included.

    Non-finite voxels are left out and become 0.

    Source: MONAI's NormalizeIntensity, with which TopCUP and the Ensemble 3D U-Net Soup train and pick.
    """

    def statistics(self, tomogram: Tomogram) -> tuple[float, float]:
        """Mean and deviation, in the volume's own grey values.

        Raises:
            ReadError: the volume is constant, or nothing in it is finite.
        """
        planes = partial(_finite_planes, tomogram, _left_out(tomogram))
        _check_range(tomogram, planes)
        if is_tensor(tomogram.values):
            return tensors.moments(tomogram.values, _left_out(tomogram))
        n = sum(plane.size for plane in planes())
        mean = sum(float(plane.sum(dtype=np.float64)) for plane in planes()) / n
        squares = sum(float(np.square(plane - mean).sum()) for plane in planes())
        return mean, float(np.sqrt(squares / n))

    def __call__(self, tomogram: Tomogram) -> Array:
        """(z, y, x) float32, a new array."""
        mean, deviation = self.statistics(tomogram)
        return _scaled(tomogram, mean, deviation, 0.0)


@dataclass(frozen=True)
class FixedLimits:
    """Grey values `low` to `high` become 0 to 1, the same in every volume; values beyond go beyond.

    For published weights that were trained so, on tomograms whose grey values have their scale; anything that is
    trained anew does better with limits taken from each volume. `low` and `high` - `low` may as well be the mean and
    the deviation of a data set. NaN becomes 0.

    Attributes:
        low, high: in the volume's own grey values.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite([self.low, self.high]).all() or not self.low < self.high:
            raise RecipeError(f"normalize.low is {self.low:g} and normalize.high {self.high:g}; expected low < high")

    def __call__(self, tomogram: Tomogram) -> Array:
        """(z, y, x) float32, a new array.

        Raises:
            ReadError: the volume is constant, or nothing in it is finite.
        """
        _check_range(tomogram, partial(_finite_planes, tomogram, tomogram.void))
        scale = self.high - self.low
        mean = 0.0 if tomogram.void is None else (ZScore().statistics(tomogram)[0] - self.low) / scale
        return _scaled(tomogram, self.low, scale, mean)


def _scaled(tomogram: Tomogram, zero: float, one: float, blank: float) -> Array:
    """(values - zero) / one as float32, a new array; without specimen `blank`, and what else is not finite 0."""
    if is_tensor(tomogram.values):
        return tensors.scaled(tomogram, zero, one, blank)
    out = np.subtract(tomogram.values, np.float32(zero), dtype=np.float32)
    out /= np.float32(one)
    np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if tomogram.void is not None:
        out[tomogram.void] = blank
    return out


def _left_out(tomogram: Tomogram) -> np.ndarray | None:
    """(z, y, x) bool of the voxels that have no say; None: all have."""
    if tomogram.void is None:
        return None
    left_out = beside(tomogram.void)
    return tomogram.void if left_out.all() else left_out


def _finite_planes(tomogram: Tomogram, left_out: np.ndarray | None) -> Iterator[np.ndarray]:
    """The grey values that have a say plane by plane, in double precision, yet never a second volume in memory."""
    for z, plane in enumerate(tomogram.values):
        counted = np.isfinite(plane) if left_out is None else np.isfinite(plane) & ~left_out[z]
        yield plane[counted].astype(np.float64)


def _check_range(tomogram: Tomogram, planes: Callable[[], Iterable[np.ndarray]]) -> None:
    """Raises `ReadError` where all finite grey values are the same, or there is none."""
    if is_tensor(tomogram.values):
        ranges = tensors.extremes(tomogram)
    else:
        ranges = [(plane.min(), plane.max()) for plane in planes() if plane.size]
    if not ranges or min(low for low, _ in ranges) == max(high for _, high in ranges):
        raise _nothing_in(tomogram)


def _without_scale(run: str) -> ReadError:
    return ReadError(
        f"run {run}: its grey values have no scale: where they vary, it is by a few voxels far from all others; "
        "expected a tomogram: check the file or make it again"
    )


def _nothing_in(tomogram: Tomogram) -> ReadError:
    return ReadError(
        f"run {tomogram.run}: every voxel has the same value or is not finite; expected a tomogram: "
        "check the file or make it again"
    )


@dataclass(frozen=True)
class _Blocks:
    """Statistics of the cubes of a volume that are whole; those with hardly a voxel are NaN, constant ones 0.

    Attributes:
        edges, counts: of the blocks, along z, y, x.
        means, deviations, smallest, largest: (n,) of each block.
        left_out: (z, y, x) bool of the voxels that are; None: none is.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    means: np.ndarray
    deviations: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    left_out: np.ndarray | None

    @classmethod
    def of(cls, values: Array, edge: int, left_out: np.ndarray | None) -> _Blocks:
        """The blocks of a (z, y, x) volume."""
        edges = tuple(min(edge, n) for n in values.shape)
        counts = tuple(n // e for n, e in zip(values.shape, edges))
        if is_tensor(values):
            means, deviations, smallest, largest = tensors.block_statistics(values, edges, counts, left_out)
            return cls(edges, counts, means, deviations, smallest, largest, left_out)
        rows = []
        for i in range(counts[0] * counts[1]):  # one row of blocks at a time stays in the processor's cache
            z, y = (k * e for k, e in zip(divmod(i, counts[1]), edges))
            here = np.s_[z : z + edges[0], y : y + edges[1], : counts[2] * edges[2]]
            row = values[here]
            if left_out is not None and left_out[here].any():
                row = np.where(left_out[here], np.float32(np.nan), row)
            blocks = row.reshape(edges[0], edges[1], counts[2], edges[2])
            rows.append(_statistics(blocks.transpose(2, 0, 1, 3).reshape(counts[2], -1)))
        means, deviations, smallest, largest = np.concatenate(rows, axis=1)
        return cls(edges, counts, means, deviations, smallest, largest, left_out)

    def of_deviation(self, least: float) -> _Blocks:
        """The blocks as they are, with those that deviate less counted as constant."""
        return replace(self, deviations=np.where(self.deviations < least, 0.0, self.deviations))

    def without(self, values: Array, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """(n,) means and deviations over the voxels from `low` to `high`; only what changes is computed again."""
        means, deviations = self.means.copy(), self.deviations.copy()
        affected = np.flatnonzero((self.smallest < low) | (self.largest > high))
        if is_tensor(values):
            affected = affected[deviations[affected] > 0]
            if not len(affected):
                return means, deviations
            places = np.stack(np.unravel_index(affected, self.counts), axis=1)
            within = tensors.statistics_within(values, self.edges, places, low, high, self.left_out)
            means[affected], deviations[affected] = within
            return means, deviations
        for i in affected:
            place = np.unravel_index(i, self.counts)
            here = tuple(slice(k * e, (k + 1) * e) for k, e in zip(place, self.edges))
            block = values[here]
            inside = np.where((block >= low) & (block <= high), block, np.nan)
            if self.left_out is not None:
                inside[self.left_out[here]] = np.nan
            if self.deviations[i] > 0:
                means[i], deviations[i] = _statistics(inside.reshape(1, -1))[:2, 0]
        return means, deviations


def _statistics(blocks: np.ndarray) -> np.ndarray:
    """(n, voxels) -> mean, deviation, smallest and largest finite value (4, n)."""
    blocks = blocks.astype(np.float64)
    finite = np.isfinite(blocks)
    if finite.all():
        mean, smallest, largest = blocks.mean(axis=1), blocks.min(axis=1), blocks.max(axis=1)
        blocks -= mean[:, None]
        variance = np.einsum("ij,ij->i", blocks, blocks) / blocks.shape[1]
    else:
        n = finite.sum(axis=1).astype(np.float64)
        n[n < tensors.FEWEST * blocks.shape[1]] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(finite, blocks, 0.0).sum(axis=1) / n
            variance = (np.where(finite, blocks - mean[:, None], 0.0) ** 2).sum(axis=1) / n
        smallest = np.where(finite, blocks, np.inf).min(axis=1)
        largest = np.where(finite, blocks, -np.inf).max(axis=1)
    # Rounding leaves a little variance in a constant block of large values.
    return np.stack([mean, np.where(smallest == largest, 0.0, np.sqrt(variance)), smallest, largest])
